"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from geomm.errors import OutputError


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the path, bring it to the disk, and give it its name; what fails leaves the older file.

    The file aside has another extension: collectors that take all files with one never see half of it.

    Raises:
        OutputError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutputError("a file cannot be written", where=str(path), why=str(error)) from error
    finally:
        with suppress(OSError):
            aside.unlink()
