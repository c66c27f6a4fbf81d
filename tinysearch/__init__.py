"""TinySearch: search update policies for on-device transfer learning."""

from pathlib import Path

# In a checkout the subpackages are the repository's top-level folders: make them importable without
# an install, whatever the clone's folder is called.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))

__version__ = "0.1.0"
