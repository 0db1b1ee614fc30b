"""Writing that survives a power cut, and what the system says where it fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomm.errors import GeommError, OutputError
from geomm.whole import sync

_FIXES = {
    errno.ENOSPC: "make room, and run the same again",
    errno.EDQUOT: "make room, and run the same again",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "mount it writable, or name another folder",
    errno.EXDEV: "stage on the file system of the archive: below its .geomm",
}


@contextmanager
def explained(what: str, where: Path) -> Iterator[None]:
    """Turn what the system says into an :class:`OutputError` that names the path and the reason."""
    try:
        yield
    except GeommError:
        raise
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        paths = " to ".join(str(f) for f in (error.filename, error.filename2) if f is not None)
        raise OutputError(
            what,
            where=paths or str(where),
            why=f"{name}: {error.strerror or error}",
            fix=_FIXES.get(error.errno or 0, "run the same again"),
        ) from error


def sync_tree(folder: Path) -> None:
    """Bring all files and names of a folder to the disk, what is inside first."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in sorted(files):
            sync(Path(place) / name)
        sync(Path(place))


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder below a root, and bring the names of all folders on the way to the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in reversed(folder.relative_to(root).parents):
        sync(root / part)
