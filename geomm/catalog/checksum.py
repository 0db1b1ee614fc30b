"""Whether a file is the one that its catalog means: TIFF itself tells almost nothing that went wrong."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

from geomm.errors import ChecksumError, ReadError, SourceWarning

_KINDS = {0x11: ("sha1", 20), 0x12: ("sha256", 32), 0x13: ("sha512", 64)}
"""Hash functions by their number in a multihash, and the bytes that they give."""
_REMEMBERED = 100_000

_whole: OrderedDict[tuple[Any, ...], None] = OrderedDict()
_lock = threading.Lock()


@lru_cache(maxsize=65536)
def parsed(checksum: str) -> tuple[str, str] | None:
    """Return name and hexadecimal digest of a multihash; None for a function that is not known here.

    >>> parsed("1114da39a3ee5e6b4b0d3255bfef95601890afd80709")
    ('sha1', 'da39a3ee5e6b4b0d3255bfef95601890afd80709')
    """
    try:
        raw = bytes.fromhex(checksum)
    except ValueError:
        return None
    name, length = _KINDS.get(raw[0], ("", 0)) if raw else ("", 0)
    return (name, raw[2:].hex()) if name and len(raw) == 2 + length and raw[1] == length else None


def hasher(checksum: str) -> Any:
    """Return what computes the hash that a multihash holds, SHA-256 where it is of another kind."""
    known = parsed(checksum) if checksum else None
    return hashlib.new(known[0] if known else "sha256", usedforsecurity=False)


def state_files(item: Any) -> None:
    """State SHA-256 and size of the local files of a STAC item, by the file extension."""
    item.stac_extensions.append("https://stac-extensions.github.io/file/v2.1.0/schema.json")
    for asset in item.assets.values():
        with Path(asset.href).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        asset.extra_fields |= {"file:checksum": f"1220{digest}", "file:size": Path(asset.href).stat().st_size}


def compare(where: str, checksum: str, size: int | None, found: tuple[str, int]) -> None:
    """Compare hexadecimal digest (of :func:`hasher`) and size of a file with what its catalog says.

    Raises:
        ChecksumError: they differ.
    """
    digest, length = found
    if size is not None and length != size:
        raise _other(where, f"{size} bytes", f"{length} bytes")
    known = parsed(checksum) if checksum else None
    if checksum and known is None:
        warnings.warn(
            f"The checksum {checksum[:24]!r} of {where} is of a kind that is not known here: the file is not checked.",
            SourceWarning,
            stacklevel=2,
        )
    elif known is not None and digest != known[1]:
        raise _other(where, f"{known[0]} {known[1]}", digest)


def verify(path: Path, checksum: str, size: int | None) -> None:
    """Check a local file against its catalog, once for every state of the file.

    Raises:
        ChecksumError: it is another file, or a damaged one.
        ReadError: it cannot be read.
    """
    if not checksum and size is None:
        return
    try:
        about = path.stat()
        key = (str(path), about.st_mtime_ns, about.st_size, about.st_ino, about.st_dev, checksum, size)
        with _lock:
            if key in _whole:
                return
        if size is not None and about.st_size != size:
            raise _other(str(path), f"{size} bytes", f"{about.st_size} bytes")
        digest = ""
        if checksum and parsed(checksum) is not None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hasher(checksum)).hexdigest()
                after = os.fstat(file.fileno())
            if (after.st_mtime_ns, after.st_size, after.st_ino) != key[1:4]:
                raise ReadError("the file changes while it is read", where=str(path), fix="wait until it is written")
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(
            "the raster cannot be opened",
            where=str(path),
            why=error.strerror or str(error),
            fix="check the path, and that you may read the file: ls -l FILE",
        ) from error
    compare(str(path), checksum, size, (digest, about.st_size))
    with _lock:
        _whole[key] = None
        while len(_whole) > _REMEMBERED:
            _whole.popitem(last=False)


def _other(where: str, stated: str, found: str) -> ChecksumError:
    return ChecksumError(
        "the file is not the one that its catalog means",
        where=where,
        why=f"catalog: {stated}; file: {found}",
        fix="fetch the file again; if it is right, correct file:checksum and file:size of its entry",
    )
