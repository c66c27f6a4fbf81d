"""Write docs/modules.md: every module of the package in a line, the first of its docstring.

Run: python docs/modules.py
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The floors, low to high, and what each is for.
FLOORS = {
    "tinysearch/core": "what knows nothing of the subject",
    "spaces": "WHAT may be updated",
    "devices": "WHAT it costs there",
    "results": "WHAT came out",
    "search": "HOW it is found",
    "tinysearch": "the front door",
}


def text() -> str:
    """The page."""
    lines = [
        "# Every module in a line",
        "",
        "Written by `python docs/modules.py` from the modules' docstrings. What each floor may import is told in",
        "[architecture.md](architecture.md).",
    ]
    for floor, purpose in FLOORS.items():
        lines += ["", f"## {floor}: {purpose}"]
        for folder in sorted({path.parent for path in _sources(floor)}):
            name = folder.relative_to(ROOT).as_posix()
            lines += ["", f"**{name}/** {_first_line(folder / '__init__.py')}", ""]
            lines += ["| module | what it is |", "| --- | --- |"]
            modules = (path for path in sorted(folder.glob("*.py")) if path.stem not in ("__init__", "__main__"))
            lines += [f"| [{path.name}](../{name}/{path.name}) | {_first_line(path)} |" for path in modules]
            if lines[-1].startswith("| ---"):
                del lines[-3:]
    return "\n".join(lines) + "\n"


def _sources(floor: str) -> Iterator[Path]:
    """The files of a floor; those of a floor within it are its own."""
    for path in (ROOT / floor).rglob("*.py"):
        if floor != "tinysearch" or not path.is_relative_to(ROOT / "tinysearch/core"):
            yield path


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0].removesuffix(".")


if __name__ == "__main__":
    (ROOT / "docs" / "modules.md").write_text(text(), encoding="utf-8")
