"""Linker scripts: the memory of a board, and that of the emulated one."""

from dataclasses import dataclass

from ....core.text import in_comment
from ....devices.profile import DeviceProfile
from .templating import render

#: Bytes of the stack; the generated code and its kernels take less than half.
STACK_BYTES = 8192
#: Where RAM and flash begin if the profile does not say: as in STM32 parts.
RAM_ORIGIN, FLASH_ORIGIN = 0x2000_0000, 0x0800_0000
#: The emulated board (mps2-an500): memory at 0 that holds the program, and at 0x60000000.
QEMU_FLASH, QEMU_EXTERNAL = 4 << 20, (0x6000_0000, 16 << 20)
#: What of its flash the program may need besides constants.
QEMU_CODE = 256 << 10
#: Where constants lie that the first piece of flash does not hold.
_CONSTANTS = "    .constants : { *_data.o(.rodata*) } > EXTERNAL\n"


@dataclass(frozen=True)
class Piece:
    """Regions of RAM that follow one another.

    Attributes:
        name: Theirs.
        origin: Address.
        size: Bytes.
    """

    name: str
    origin: int
    size: int


def find_pieces(profile: DeviceProfile) -> list[Piece]:
    """The RAM of a board as the linker sees it: regions whose addresses adjoin are one, whatever bus they lie at.

    Where a profile does not say the address of a region, it adjoins the one before only if the profile says that.
    """
    found: list[Piece] = []
    place = RAM_ORIGIN
    for region in profile.memory.regions:
        place = place if region.origin is None else region.origin
        adjoins = region.adjoins or region.origin is not None
        if found and adjoins and found[-1].origin + found[-1].size == place:
            last = found[-1]
            found[-1] = Piece(f"{last.name}, {region.name}", last.origin, last.size + region.size)
        else:
            found.append(Piece(region.name, place, region.size))
        place += region.size
    return found or [Piece("RAM", RAM_ORIGIN, profile.memory.capacity.value)]


def ram(profile: DeviceProfile) -> Piece:
    """The piece that a program is linked into: the largest."""
    return max(find_pieces(profile), key=lambda piece: piece.size)


def board_script(profile: DeviceProfile, constant_bytes: int) -> str:
    """For the board itself.

    Args:
        profile: The board.
        constant_bytes: What the program's constants take: they lie in the first piece of flash that holds them.
    """
    piece, flash = ram(profile), profile.flash.regions
    first, *more = flash or (None,)
    size = profile.flash.capacity.value if first is None else first.size
    regions = [_region("FLASH (rx)", FLASH_ORIGIN if first is None else first.origin or FLASH_ORIGIN, str(size))]
    external = constant_bytes + profile.flash.code.value > size
    holds = next((each for each in more if each is not None and each.size >= constant_bytes), None)
    if external and holds is not None:
        regions.append(_region("EXTERNAL (r)", holds.origin or 0, str(holds.size)) + f" /* {in_comment(holds.name)} */")
    regions += [
        _region("RAM (rwx)", piece.origin, str(piece.size)) + f" /* {in_comment(piece.name)} */",
    ]
    others = [other for other in find_pieces(profile) if other != piece]
    regions += [
        f"    /* {in_comment(other.name)}: {other.size} bytes at {other.origin:#010x}, left to you */"
        for other in others
    ]
    return render(
        "board/sections.ld",
        {
            "WHAT": f"{in_comment(profile.description)}, from the profile {profile.name}: "
            "check addresses with the part's manual.",
            "REGIONS": "\n".join(regions),
            "EXTERNAL": _CONSTANTS if external and holds is not None else "",
            "STACK_BYTES": STACK_BYTES,
        },
    )


def qemu_script(profile: DeviceProfile, constant_bytes: int) -> str:
    """For the emulated mps2-an500, with no more RAM than the board has.

    Args:
        profile: The board.
        constant_bytes: What the program's constants take: they lie in other memory where the flash is too small.
    """
    external = constant_bytes > QEMU_FLASH - QEMU_CODE
    size = ram(profile).size
    regions = [
        _region("FLASH (rx)", 0, f"{QEMU_FLASH >> 20}M"),
        _region("RAM (rwx)", RAM_ORIGIN, f"DEFINED(ram_size) ? ram_size : {size}"),
    ]
    if external:
        regions.append(_region("EXTERNAL (r)", QEMU_EXTERNAL[0], f"{QEMU_EXTERNAL[1] >> 20}M"))
    return render(
        "board/sections.ld",
        {
            "WHAT": f"QEMU's mps2-an500, with as much RAM as {in_comment(profile.description)} has.",
            "REGIONS": "\n".join(regions),
            "EXTERNAL": _CONSTANTS if external else "",
            "STACK_BYTES": STACK_BYTES,
        },
    )


def _region(name: str, origin: int, length: str) -> str:
    return f"    {name} : ORIGIN = {origin:#010x}, LENGTH = {length}"
