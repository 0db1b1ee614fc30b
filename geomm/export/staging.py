"""Where products are made before they appear: folders that are gone afterwards, or kept for the run that goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
        name: of the product.
        resume: identity of the blocks; empty for a folder of this process alone.

    Raises:
        OutputError: another process is at the same.
    """
    fresh = [p for p in (target, *target.parents) if not p.exists()]
    root = target / f".staging-{name}-{resume or os.getpid()}"
    with ExitStack() as stack:
        stack.callback(_remove_empty, fresh)
        root.mkdir(parents=True, exist_ok=bool(resume))
        if resume:
            stack.enter_context(_alone(root, name))
        blocks, products = root / "blocks", root / "products"
        try:
            blocks.mkdir(exist_ok=True)
            shutil.rmtree(products, ignore_errors=True)
            products.mkdir()
            yield blocks, products
        except BaseException:
            shutil.rmtree(products, ignore_errors=True)
            if not resume or not any(blocks.glob("*.done")):
                shutil.rmtree(root, ignore_errors=True)
            raise
        shutil.rmtree(root, ignore_errors=True)
        for other in target.glob(f".staging-{name}-*"):
            if len(other.name) == len(root.name) and resume:
                _remove_unused(other)


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    lock = FileLock(root / "lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise OutputError(
            "another process is writing this map", where=f"{root.parent}, {name}", fix="wait for it, or name another"
        ) from error


def _remove_unused(folder: Path) -> None:
    """Remove what a stopped run of other settings left, unless somebody is at it."""
    try:
        with FileLock(folder / "lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return


def _remove_empty(folders: list[Path]) -> None:
    for path in folders:  # of a failed run, nothing remains: not even the folders it made
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
