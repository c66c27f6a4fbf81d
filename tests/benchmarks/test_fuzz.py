"""Every reader of users' files reads what is damaged, or refuses it as an error of ours, in one line."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import TinySearchError

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"
KINDS = (
    *("policy", "front", "request", "results", "manifest", "profile", "config", "delta", "weights", "pth"),
    *("npz", "zip", "tar", "targz", "image", "cifar", "study"),
)

#: A change of some bytes: where, as a share of the file; how many are taken away; and what is put there.
changes = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 8),
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"\xff" * 8, b"\0" * 8, b"[" * 300, b"9" * 5000, b"1e999", b"\xed\xa0\x80", b'"\\ud800"', b"!!"]
        ),
    ),
)


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import fuzz

        yield fuzz
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("fuzz", "hostile", "hostile_files", "mutations")
    ]:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def corpus(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    fuzz.write_corpus(folder)
    return folder


def test_every_kind_is_here(fuzz: ModuleType) -> None:
    assert tuple(fuzz.ENDINGS) == KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_read_or_refused(kind: str, fuzz: ModuleType, corpus: Path, tmp_path: Path) -> None:
    read: Callable[[Path], object] = fuzz.reader(kind)
    seeds = [path.read_bytes() for path in sorted((corpus / kind).iterdir())]
    path = tmp_path / f"file{fuzz.ENDINGS[kind]}"

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), st.lists(changes, max_size=4))
    def check(data: bytes, made: list[tuple[float, int, bytes]]) -> None:
        for share, gone, put in made:
            at = int(share * len(data))
            data = data[:at] + put + data[at + gone :]
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = ""
            try:
                read(path)
            except TinySearchError as error:
                said = str(error)
            assert "\n" not in said

    check()
