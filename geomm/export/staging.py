"""Where products are made before they appear: folders that are gone afterwards, or kept for the run that goes on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geomm.errors import OutputError


def identity_of(parts: Any) -> str:
    """Return a hash of JSON types: of all that decides what the blocks of a map hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def staged(target: Path, name: str, resume: str) -> Iterator[tuple[Path, Path]]:
    """Make a folder for blocks and one for products; remove them, or keep whole blocks if the work fails.

    Args:
        target: folder of the products.
        name: of the product; one process at a time makes it.
        resume: identity of the blocks; empty for a folder of this process alone.

    Raises:
        OutputError: another process is at the same.
    """
    fresh = [p for p in (target, *target.parents) if not p.exists()]
    root = target / f".staging-{name}-{resume or os.getpid()}"
    with ExitStack() as stack:
        stack.callback(_remove_empty, fresh)
        target.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_alone(target, name))
        blocks, products = root / "blocks", root / "products"
        try:
            shutil.rmtree(products if resume else root, ignore_errors=True)
            blocks.mkdir(parents=True, exist_ok=True)
            products.mkdir()
            yield blocks, products
        except BaseException:
            shutil.rmtree(products, ignore_errors=True)
            if not resume or not any(blocks.glob("*.done")):
                shutil.rmtree(root, ignore_errors=True)
            raise
        for left in (root, *_left(target, name)):  # also of stopped runs with other settings
            shutil.rmtree(left, ignore_errors=True)


def tidy(target: Path, name: str) -> None:
    """Remove what a run left that was killed after it had published a product, unless a process is at that product."""
    if _lock_of(target, name).exists() or _left(target, name):
        with suppress(OutputError, OSError), _alone(target, name):
            for left in _left(target, name):
                shutil.rmtree(left, ignore_errors=True)


def _left(target: Path, name: str) -> list[Path]:
    """Return the folders in which a product is or was made."""
    pattern = re.compile(rf"\.staging-{re.escape(name)}-([0-9a-f]{{16}}|[0-9]+)")
    return [path for path in target.glob(f".staging-{name}-*") if pattern.fullmatch(path.name)]


def _lock_of(target: Path, name: str) -> Path:
    return target / f".{name}.lock"


@contextmanager
def _alone(target: Path, name: str) -> Iterator[None]:
    """Hold the lock of a product; its file is gone afterwards."""
    path = _lock_of(target, name)
    try:
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except Timeout as error:
        raise OutputError(
            "another process is writing this map", where=f"{target}, {name}", fix="wait for it, or name another"
        ) from error


def _remove_empty(folders: list[Path]) -> None:
    for path in folders:  # of a failed run, nothing remains: not even the folders it made
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
