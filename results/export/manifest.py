"""The manifest of an export: what was exported from what, with a digest of every file."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from ...core.files import read_text, write_atomically
from ...core.formats import Format

#: The manifest's file in the folder of an export.
MANIFEST = "manifest.json"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExportedFile(_Record):
    """A file of an export.

    Attributes:
        path: Where it lies in the folder, with forward slashes.
        bytes: Its size.
        sha256: SHA-256 of its bytes, as hex digits.
    """

    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Digest

    @classmethod
    def of(cls, folder: Path, file: Path) -> Self:
        """What a manifest says of a file of a folder."""
        data = file.read_bytes()
        return cls(path=file.relative_to(folder).as_posix(), bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Manifest(_Record):
    """The content of a manifest.

    Attributes:
        exporter: Name of the exporter.
        origin: The package that brings it.
        versions: Versions of the packages that had a part in it, by name.
        policy_hash: Hash of the policy.
        policy_sha256: SHA-256 of the policy's JSON text.
        base_sha256: Digest of the backbone's values, as in a delta.
        files: The files, by path; the manifest is not among them.
        predicted_bytes: What they take on the device, by what it is for; empty where the exporter does not know.
    """

    FORMAT: ClassVar[Format] = Format("tinysearch.export", 1, "manifest of an export")

    exporter: str
    origin: str
    versions: dict[str, str]
    policy_hash: str
    policy_sha256: Digest
    base_sha256: Digest
    files: tuple[ExportedFile, ...]
    predicted_bytes: dict[str, Annotated[int, Field(ge=0)]] = {}

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values, with its format and version."""
        return self.FORMAT.values(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """The manifest as JSON text."""
        return self.FORMAT.text(self.to_dict())

    @classmethod
    def from_json(cls, text: str, origin: str = "manifest") -> Self:
        """Read a manifest back.

        Raises:
            InputError: It is none, or one of its fields is wrong; the field is named.
        """
        return cls.FORMAT.read(cls, text, origin)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a manifest's file.

        Raises:
            InputError: The file is missing, too large, or no manifest.
        """
        return cls.from_json(read_text(Path(path)), str(path))

    def save(self, path: str | Path) -> Path:
        """Write the manifest as a file, whose folder must exist, and return its path."""
        return write_atomically(Path(path), self.to_json())
