"""Files and folders that appear whole or not at all: made aside, brought to the disk, then given their name."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CANNOT = (errno.EINVAL, errno.ENOTSUP)
"""What some network file systems say of folders."""


@contextmanager
def whole_file(path: Path, *, suffix: str = "", aside: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of a file when the block ends; what fails leaves the older file.

    Args:
        path: of the file; its folder is made.
        suffix: of the path that is yielded, for drivers that go by it; without it, collectors that take all files with
            an extension never see half of one.
        aside: the path itself, on the same file system, that nobody else uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside or path.with_name(f".{path.name}.{threading.get_native_id()}{suffix}")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def write_whole(path: Path, content: bytes, *, aside: Path | None = None) -> None:
    """Write a file with :func:`whole_file`."""
    with whole_file(path, aside=aside) as place:
        place.write_bytes(content)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside another, whose place it takes when the block ends; what fails leaves the older one.

    What processes left that were killed at the same is removed.
    """
    aside = folder.with_name(f".{folder.name}.staging-{os.getpid()}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.glob(f".{glob.escape(folder.name)}.staging-*"):
        number = other.name.rpartition("-")[2]
        if number.isdecimal() and (other == aside or not _alive(int(number))):
            shutil.rmtree(other, ignore_errors=True)
    try:
        aside.mkdir()
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, where its file system can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
