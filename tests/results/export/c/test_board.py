"""Programs on the emulated board: losses there, bytes of the ELF, and what does not fit."""

import re
import subprocess

import pytest
from programs import PACKAGES, device, need

import tinysearch as ts
from tinysearch.devices.profile import load_device
from tinysearch.results.export import MANIFEST, Manifest
from tinysearch.results.export.c.board import find_pieces
from tinysearch.spaces import methods
from tinysearch.testing.networks import SmallNet, make, traced

TOOLS = ("make", "arm-none-eabi-gcc", "qemu-system-arm")


def make_target(folder, target, *settings, check=True):
    return subprocess.run(
        ["make", "-C", folder, target, *settings], capture_output=True, text=True, check=check, timeout=300
    )


@pytest.fixture
def folder(tmp_path):
    need(*TOOLS)
    levers = {"line_by_line": True, "image": "lines", "fused_updates": True, "by_channels": True}
    policy = methods.tinytl(traced(SmallNet), variant="L+B")
    ts.export(policy, make(SmallNet), to="c", out=tmp_path / "out", name="tiny", device=device(**levers))
    return tmp_path / "out"


@pytest.mark.slow
def test_a_program_trains_in_the_emulator(folder):
    done = make_target(folder, "qemu")
    assert "warning" not in done.stderr + done.stdout
    said = done.stdout + done.stderr
    assert "pass: tiny, worst difference" in said
    used, size = map(int, re.search(r"stack: (\d+) of (\d+) bytes used", said).groups())
    assert 100 < used < size / 2
    # Statics and arena of the ELF are the plan's, to the byte.
    symbols = subprocess.run(
        ["arm-none-eabi-nm", "-S", folder / "build/board/tiny.o"], capture_output=True, text=True, check=True
    ).stdout
    sizes = {name: int(size, 16) for size, name in re.findall(r"^\w+ (\w+) [bBdDC] (\w+)$", symbols, re.MULTILINE)}
    predicted = Manifest.load(folder / MANIFEST).predicted_bytes
    assert sizes == {"arena": predicted["arena"], "state": predicted["static"]}
    kernels = subprocess.run(
        ["arm-none-eabi-size", folder / "build/board/ts_kernels.o"], capture_output=True, text=True, check=True
    ).stdout
    assert kernels.splitlines()[1].split()[1:3] == ["0", "0"]  # data and bss


@pytest.mark.slow
def test_what_exceeds_the_ram_does_not_link_and_what_exceeds_the_stack_is_told(folder):
    done = make_target(folder, "qemu", "QEMU_RAM=8K", check=False)
    assert done.returncode != 0
    assert "region `RAM' overflowed" in done.stderr
    done = make_target(folder, "qemu", "CROSS_LDFLAGS=-Wl,--defsym=stack_size=128", check=False)
    assert done.returncode != 0
    assert "stack overflow" in done.stdout + done.stderr
    firmware = make_target(folder, "firmware")
    assert "RAM:" in firmware.stdout


def test_regions_of_boards():
    (piece,) = find_pieces(load_device("cortex-m7"))
    assert (piece.name, piece.origin, piece.size) == ("DTCM, SRAM1, SRAM2", 0x2000_0000, 320 << 10)
    pieces = find_pieces(load_device("stm32h743"))
    assert [piece.origin for piece in pieces] == [0x2000_0000, 0x2400_0000, 0x3000_0000, 0x3800_0000]
    assert PACKAGES
