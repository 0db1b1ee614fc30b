"""What a finished unit of work consists of: its files with their hashes, and the STAC item that is published last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from geomm.errors import OutputError


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a unit."""

    name: str
    """Path relative to the unit's folder, with ``/``."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a unit."""

    files: tuple[FileRecord, ...]
    """Sorted by name."""
    item: str
    """Name of the STAC item among them: what is published last, so that its presence says that the unit is whole."""

    @classmethod
    def of(cls, folder: Path, item: str) -> Manifest:
        """Read every file of a folder.

        Raises:
            OutputError: there is no such item.
        """
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        found = tuple(
            FileRecord(p.relative_to(folder).as_posix(), p.stat().st_size, sha256_of(p)) for p in paths
        )  # fmt: skip
        if item not in {f.name for f in found}:
            raise OutputError(
                "the unit has no STAC item",
                where=str(folder),
                why=f"{item} is not there",
                fix="run the same `geomm run` again: it makes the unit anew",
            )
        return cls(found, item)

    @property
    def digest(self) -> str:
        """Hash of all names and contents."""
        lines = "".join(f"{f.sha256}  {f.name}\n" for f in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def in_order(self) -> tuple[FileRecord, ...]:
        """Return the files in the order in which they are published: the item last."""
        return tuple(sorted(self.files, key=lambda f: (f.name == self.item, f.name)))

    def problems(self, folder: Path, *, deep: bool = True) -> list[str]:
        """Return what is missing or damaged in a folder, one line each.

        Args:
            folder: where the files lie.
            deep: whether to hash every file; else only sizes are compared.
        """
        return list(_problems(self, folder, deep=deep))

    def to_dict(self) -> dict[str, object]:
        """Return JSON types."""
        return {"item": self.item, "files": [[f.name, f.size, f.sha256] for f in self.files]}

    @classmethod
    def from_dict(cls, content: dict[str, object]) -> Manifest:
        """Read what :meth:`to_dict` wrote."""
        rows = content["files"]
        assert isinstance(rows, list)
        return cls(tuple(FileRecord(str(n), int(s), str(h)) for n, s, h in rows), str(content["item"]))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problems(manifest: Manifest, folder: Path, *, deep: bool) -> Iterable[str]:
    root = str(folder)
    for record in manifest.files:
        path = f"{root}/{record.name}"
        try:
            size = os.stat(path).st_size  # noqa: PTH116 - of thousands of files, making paths takes most of the time
            if size != record.size:
                yield f"{path}: {size} bytes, not {record.size}"
            elif deep and sha256_of(Path(path)) != record.sha256:
                yield f"{path}: its content has changed"
        except FileNotFoundError:
            yield f"{path}: missing"
        except OSError as error:
            yield f"{path}: {error.strerror or error}"
