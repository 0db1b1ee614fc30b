"""Names in an archive, what may stand there, and whether a staged unit may go there."""

from __future__ import annotations

import json
from pathlib import Path

from geomm.archive.manifest import Manifest
from geomm.errors import NondeterminismError, OutputError

STAGING = ".geomm"
"""Folder below the root for what is not published, such as the ledger of a batch: on the same file system."""

FAILED = "the unit cannot be published"


def checked(path: str) -> str:
    """Return a path relative to the root, with ``/``, that stays below the root and outside the staging.

    Raises:
        OutputError: it does not.
    """
    parts = path.split("/")
    odd = any(p in {"", ".", ".."} or p != p.strip() for p in parts) or any(ord(c) < 32 or c == "\\" for c in path)
    if odd or parts[0] == STAGING:
        raise OutputError(
            "the name leads out of the archive",
            where=repr(path),
            why="names are relative, such as maps/2024-06/scene",
            fix="give the stage or the item a name without '..' and without a leading slash",
        )
    return path


def is_item(content: bytes) -> bool:
    """Return whether the content of a file is a STAC item."""
    try:
        record = json.loads(content)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("type") == "Feature" and "stac_version" in record


def require_whole(manifest: Manifest, staged: Path) -> None:
    """Read the files of a staged unit again, before they are published.

    Raises:
        OutputError: they are not what the manifest says, or there are more.
    """
    problems = manifest.problems(staged)
    named = {record.name for record in manifest.files}
    for path in sorted(staged.rglob("*")):
        if path.is_symlink():
            problems.append(f"{path}: a link, not a file")
        elif path.is_file() and path.relative_to(staged).as_posix() not in named:
            problems.append(f"{path}: not in the manifest")
    if problems:
        raise OutputError(
            "the staged unit is not what was made",
            where=str(staged),
            why="; ".join(problems[:5]),
            fix="run the same command again: it makes the unit anew",
        )


def conflict(where: str, problems: list[str]) -> NondeterminismError:
    """Return the error for a finished unit that is not the one to publish."""
    return NondeterminismError(
        "the same unit gave other bytes",
        where=where,
        why="; ".join(problems[:5]),
        fix="if the published unit is damaged, remove it and run again; else find out which input, model, setting or "
        "version changed without changing the unit's name",
    )
