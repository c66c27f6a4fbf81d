"""The C kernels compile without a warning everywhere, and their tests pass under the sanitizers of the host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_calls import KERNELS, SANITIZERS, STRICT

CORTEX_M7 = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"]


@pytest.mark.parametrize("level", ["-O2", "-O3"])
@pytest.mark.parametrize(
    ("name", "package", "flags"),
    [("gcc", "gcc", []), ("clang", "clang", []), ("arm-none-eabi-gcc", "gcc-arm-none-eabi", CORTEX_M7)],
)
def test_no_warning(name, package, flags, level, tmp_path):
    if shutil.which(name) is None:
        pytest.skip(f"no {name}: install it (Debian: apt-get install {package})")
    command = [name, *STRICT, *flags, level, "-c", str(KERNELS / "ts_kernels.c"), "-o", str(tmp_path / "kernels.o")]
    subprocess.run(command, check=True)


def test_the_header_is_enough_for_cpp(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++: install it (Debian: apt-get install g++)")
    source = tmp_path / "user.cpp"
    source.write_text('#include "ts_kernels.h"\nint main() { return ts_crc32(0, "", 0) != 0; }\n')
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{KERNELS}", str(source)], check=True)


@pytest.mark.slow
def test_the_other_tests_pass_under_sanitizers(compiler, tmp_path):
    """In a process of its own, which the address sanitizer must be loaded into first."""
    probe = tmp_path / "probe.c"
    probe.write_text("int nothing;\n")
    command = [compiler, *SANITIZERS, "-shared", "-fPIC", str(probe), "-o", str(tmp_path / "probe.so")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} has no sanitizers: install them (Debian: apt-get install libasan8 libubsan1)")
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:malloc_context_size=1:quarantine_size_mb=8",
        "TINYSEARCH_TEST_SANITIZERS": "1",
    }
    folder = Path(__file__).parent
    tests = [str(folder / name) for name in ("test_kernels.py", "test_rows.py")]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-x", "-p", "no:cacheprovider", *tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
