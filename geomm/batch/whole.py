"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from geomm.archive.durable import explained, write


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the path, bring it to the disk, and give it its name; what fails leaves the older file.

    The file aside has another extension: collectors that take all files with one never see half of it.

    Raises:
        OutputError: it cannot be written.
    """
    with explained("a file cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content, path.with_name(f".{path.name}.{os.getpid()}"))
