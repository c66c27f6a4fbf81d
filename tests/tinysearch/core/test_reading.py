"""Whatever reads a file of a user goes through the one place that bounds it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FOLDERS = ("tinysearch", "spaces", "devices", "results", "search")
#: What opens, unpacks or parses by itself, by the last part of its name and, where others have that too, what it is of:
#: functions of these names of the project's own are called by themselves, methods of paths are not.
READERS: dict[str, set[str] | None] = {
    "open": {"", "os", "io", "gzip", "tarfile", "Image", "path", "Path"},
    **dict.fromkeys(("read_text", "read_bytes", "ZipFile", "GzipFile", "safe_open", "load_file", "safe_load"), None),
    **dict.fromkeys(("genfromtxt", "fromfile", "loadtxt", "memmap", "copyfile"), None),
    "load": {"np", "numpy", "torch", "json", "yaml", "pickle"},
    "loads": {"json", "pickle", "yaml", "marshal", "tomllib"},
    "compose": {"yaml"},
    "parse": {"yaml"},
    "connect": {"sqlite3"},
}
#: Where that may be, and why.
ALLOWED = {
    "tinysearch/core/files.py": "the one place that opens, and the one that writes",
    "tinysearch/core/archives.py": "the one place that unpacks",
    "tinysearch/core/formats.py": "the one place that parses JSON",
    "tinysearch/core/yaml_text.py": "the one place that parses YAML",
    "spaces/tensor_files.py": "the one place that reads what torch.save writes, within bounds",
    "search/data/images.py": "the one place that decodes images, of a stream that is bounded",
    "results/study.py": "SQLite opens files by itself: their kind, size and tables are checked first",
    "results/journal.py": "adds to a file, and parses lines whose checksum was right",
    "results/restoring.py": "keeps a copy of a record that is damaged, and was read within bounds",
    "tinysearch/testing/exporters.py": "reads what the suite has just written",
    "tinysearch/testing/proxies.py": "unpickles what the suite has just pickled",
    "tinysearch/cli.py": "opens the null device",
    "devices/calibrate/machine.py": "reads what its own process has just written",
    "devices/calibrate/worker.py": "reads what its parent has just written",
    "devices/calibrate/standalone.py": "runs alone on a board, on what its user copied there",
    "devices/profile/reader.py": "reads the package's own profiles, and those that other packages bring",
    "results/export/manifest.py": "reads what an exporter has just written",
    "results/export/c/templating.py": "reads the package's own templates",
    "results/identity.py": "parses what it has just made",
    "results/rundir.py": "compares a file with what it is to hold",
    "search/ground_truth/records.py": "reads the package's own data",
    "search/distributed/worker.py": "unpickles what its parent has just pickled",
}


def reads(of: str, name: str) -> bool:
    kinds = READERS.get(name, set())
    return of in kinds if kinds is not None else bool(of) or name not in ("read_text", "read_bytes")


def readings(path: Path) -> list[str]:
    """The calls in a file that read by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            of = ast.unparse(node.func.value).split(".")[-1] if isinstance(node.func, ast.Attribute) else ""
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            if reads(of, name):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:60]}")
    return found


def test_nothing_reads_by_itself_but_for_reasons() -> None:
    sources = {path.relative_to(ROOT).as_posix(): path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    by_itself = {name: found for name, path in sources.items() if (found := readings(path))}
    assert {name: found for name, found in by_itself.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) - set(by_itself) == set()  # reasons of what is no more are taken away


def test_a_reader_is_found(tmp_path: Path) -> None:
    file = ROOT / "tests" / "tinysearch" / "core" / "test_files.py"
    assert any("read_bytes()" in line for line in readings(file))
    for of, name in (("", "open"), ("path", "open"), ("np", "load"), ("json", "loads"), ("zipfile", "ZipFile")):
        assert reads(of, name)
    assert not reads("", "read_text")
