"""What an index consists of: one sealed record, replaced as a whole; what it does not name is not part of the index."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomm.errors import ConfigError, PackageError
from geomm.retrieval.files import FileRecord, seal, unseal
from geomm.whole import write_whole

MODEL = "model"
"""Folder of the package whose model made the vectors, if the index keeps it; its checksums are its own."""
NAME = "index.json"
LOCK = ".lock"
FORMAT = {"format": "geomm index", "version": 1}


def folder_of(index: Any) -> Path:
    """Return the folder of an index that is given by it, or opened.

    Raises:
        PackageError: it is something else.
    """
    folder = getattr(index, "folder", index)
    if not isinstance(folder, (str, Path)):
        fix = 'name the folder of an index: Index.open("places")'
        raise PackageError("this is not an index", where=" ".join(repr(index).split())[:80], fix=fix)
    return Path(folder)


def folders_of(indexes: Any) -> list[Path]:
    """Return the folders of several indexes that are given by them, or opened.

    Raises:
        ConfigError: there is none, or they are no list.
        PackageError: one is something else.
    """
    if isinstance(indexes, (str, Path)) or not isinstance(indexes, Iterable):
        fix = (
            f"give a list: [{str(indexes)!r}]" if isinstance(indexes, (str, Path)) else 'give a list: ["one", "other"]'
        )
        raise ConfigError("folders of indexes are a list", where=repr(indexes)[:80], fix=fix)
    folders = [folder_of(one) for one in indexes]
    if not folders:
        raise ConfigError("there is no index", fix="name at least one folder")
    return folders


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of files that are never changed."""

    name: str
    """Path of the folder in the index, such as ``segments/000001``."""
    rows: int
    """How many rows it holds, deleted ones too."""
    files: Mapping[str, FileRecord]
    """By name."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Of a segment the sets of sensors (``sensors``, list of texts); of lists how they were made."""

    @classmethod
    def parse(cls, about: Mapping[str, Any]) -> Part:
        """Read what :func:`dataclasses.asdict` made."""
        files = {name: FileRecord(**record) for name, record in about["files"].items()}
        return cls(about["name"], about["rows"], files, about["about"])


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that an index consists of."""

    dimension: int
    """Length of the vectors."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the caller wants kept; ``model_sha256`` says what made the vectors."""
    segments: tuple[Part, ...] = ()
    """In the order of their rows."""
    deleted: Part | None = None
    """The numbers of deleted rows."""
    ann: Part | None = None
    """Lists of the first rows, for approximate search."""
    jobs: Mapping[str, Any] = field(default_factory=dict)
    """Name of a job -> whatever its builder wants to know when it resumes."""
    pictures: bool | None = None
    """Whether rows have pictures; None while there is no row."""
    cells: int | None = None
    """Cells along a side of the rows' grids; 0 for none; None while there is no row."""
    generation: int = 0
    """How often it was replaced; parts are numbered by it."""

    @property
    def rows(self) -> int:
        """How many rows there are, deleted ones too."""
        return sum(part.rows for part in self.segments)

    @property
    def parts(self) -> Iterator[Part]:
        """All parts."""
        yield from self.segments
        yield from (part for part in (self.deleted, self.ann) if part is not None)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            PackageError: there is none, it is of another format, or damaged.
        """
        path = folder / NAME
        try:
            content = path.read_bytes()
        except OSError as error:
            fix = "name the folder of an index, or build one"
            raise PackageError("this is not an index", where=str(folder), why=str(error), fix=fix) from error
        try:
            about = unseal(content)
        except ValueError as error:
            raise _damaged(path, error) from error
        found = {key: about.pop(key, None) for key in FORMAT}
        if found != FORMAT:
            fix = "open it with the version of geomm that wrote it"
            raise PackageError("the index has another format", where=str(path), why=str(found), fix=fix)
        about.pop("sha256")
        try:
            about["segments"] = tuple(Part.parse(p) for p in about["segments"])
            about |= {key: about[key] and Part.parse(about[key]) for key in ("deleted", "ann")}
            return cls(**about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error

    def save(self, folder: Path) -> Manifest:
        """Replace the manifest of a folder, and return it as it is there."""
        new = dataclasses.replace(self, generation=self.generation + 1)
        write_whole(folder / NAME, seal({**FORMAT, **dataclasses.asdict(new)}))
        return new

    def sweep(self, folder: Path) -> None:
        """Remove what is no part of the index: the work of a killed writer, and what was replaced."""
        for stale in self.strangers(folder):
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)

    def strangers(self, folder: Path) -> list[Path]:
        """Return files and folders that are no part of the index."""
        mine = {part.name: set(part.files) for part in self.parts}
        known = {name.partition("/")[0] for name in mine} | {NAME, LOCK}
        found = [p for p in folder.iterdir() if p.name not in known | {MODEL}]
        for kind in sorted(known - {NAME, LOCK}):
            for path in (folder / kind).iterdir():
                names = mine.get(f"{kind}/{path.name}")
                found += [path] if names is None else [p for p in path.iterdir() if p.name not in names]
        return sorted(found)


def _damaged(path: Path, why: object) -> PackageError:
    fix = "restore it from a copy, or build the index again"
    return PackageError("the manifest of the index is damaged", where=str(path), why=str(why), fix=fix)
