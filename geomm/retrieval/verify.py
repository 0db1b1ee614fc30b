"""Check every byte of an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomm.errors import PackageError
from geomm.retrieval.files import FileRecord
from geomm.retrieval.manifest import NAME, Manifest, folder_of
from geomm.types import Progress, silent

if TYPE_CHECKING:
    from geomm.retrieval.index import Index


def verify_index(folder: str | Path | Index, *, progress: Progress = silent) -> list[str]:
    """Compare every file of an index with its digest.

    Args:
        folder: of the index, or the index.
        progress: told how many files are checked.

    Returns:
        What is damaged or missing, one line each, by the name of the file. What no manifest names, such as the work
        of a killed writer, is no part of the index and not looked at.

    Raises:
        PackageError: there is no index.
    """
    root = folder_of(folder)
    try:
        manifest = Manifest.load(root)
    except PackageError as error:
        if not (root / NAME).is_file():
            raise
        return [f"{error.where}: {error.why or error.what}"]
    files = [(root / part.name / name, record) for part in manifest.parts for name, record in part.files.items()]
    found = []
    for number, (path, record) in enumerate(files, start=1):
        try:
            if FileRecord.of(path) != record:
                found.append(f"{path}: its content has changed")
        except FileNotFoundError:
            found.append(f"{path}: the file is missing")
        except OSError as error:
            found.append(f"{path}: it cannot be read: {error}")
        progress("verify files", number, len(files))
    return found
