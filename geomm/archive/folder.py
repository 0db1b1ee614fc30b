"""An archive in a folder: units are renamed into place, which a file system does at once or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geomm.archive.durable import explained, make_folder, sync_tree
from geomm.archive.manifest import Manifest, sha256_of
from geomm.archive.places import FAILED, STAGING, checked, conflict, is_item, require_whole
from geomm.errors import OutputError, TargetUnavailableError
from geomm.whole import sync, write_whole

PATIENCE = 60.0
"""Seconds to wait while other processes rename; nobody holds the lock for longer than a few renames."""


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A folder; units are staged below its ``.geomm``.

    Publishing is: hash the staged files, bring them to the disk, put the item aside, rename the folder into place,
    rename the item into it. Whatever stops it in between, no item is there, or a whole unit. Renaming happens under a
    lock (``flock``), which the system frees when its holder is killed; on network file systems without such locks,
    only one process may publish.
    """

    root: str
    """The folder; it is made when something is published."""

    def publish(self, staged: Path, place: str, manifest: Manifest) -> bool:
        """Publish a unit, see :meth:`geomm.archive.Target.publish`."""
        final = Path(self.root) / checked(place)
        aside = staged.with_name(f"{staged.name}.item")
        with explained(FAILED, final):
            if _finished(final, manifest):
                return _drop(staged, aside)
            if staged.is_dir():
                _put_back(aside, staged / manifest.item)
                require_whole(manifest, staged)
                sync_tree(staged)
            with self._alone():
                if _finished(final, manifest):  # somebody was faster
                    return _drop(staged, aside)
                if staged.is_dir():
                    self._discard(final)  # what a killed publisher left
                    make_folder(final.parent, Path(self.root))
                    (staged / manifest.item).replace(aside)
                    staged.rename(final)
                    sync(final.parent)
                else:
                    _require_rest(final, aside, manifest, staged)
                aside.replace(final / manifest.item)
                sync((final / manifest.item).parent)
        return True

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, or None."""
        place = Path(self.root) / checked(path)
        with explained("a file of the archive cannot be read", place):
            return place.read_bytes() if place.is_file() else None

    def replace(self, path: str, content: bytes) -> None:
        """Write a small file at once."""
        self.update(path, lambda _: content)

    def update(self, path: str, change: Callable[[bytes | None], bytes]) -> None:
        """Change a small file; writers take turns."""
        place = Path(self.root) / checked(path)
        with explained("a file of the archive cannot be written", place), self._alone() as staging:
            present = self.read(path)
            content = change(present)
            if content != present:
                make_folder(place.parent, Path(self.root))
                write_whole(place, content, aside=staging / f"write-{uuid.uuid4().hex}")

    def check(self, place: str, manifest: Manifest, *, deep: bool) -> list[str]:
        """Return what is missing or damaged of a unit."""
        return manifest.problems(Path(self.root) / checked(place), deep=deep)

    def places(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all STAC items below a folder."""
        root = Path(self.root)
        start = root / checked(prefix) if prefix else root
        for folder, inner, files in os.walk(start):
            inner[:] = sorted(name for name in inner if Path(folder, name) != root / STAGING)
            for path in (Path(folder, name) for name in sorted(files) if name.endswith(".json")):
                with explained("a file of the archive cannot be read", path):
                    if is_item(path.read_bytes()):
                        yield path.relative_to(root).as_posix()

    def remove(self, place: str) -> None:
        """Remove a unit or a small file; it is gone at once."""
        path = Path(self.root) / checked(place)
        with explained("it cannot be removed from the archive", path):
            if path.exists():
                with self._alone():
                    self._discard(path)
                    sync(path.parent)

    @contextmanager
    def _alone(self) -> Iterator[Path]:
        """Hold the lock of the archive; give its staging folder."""
        from filelock import FileLock, Timeout

        staging = Path(self.root) / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        lock = FileLock(staging / "lock", timeout=PATIENCE)
        try:
            lock.acquire()
        except Timeout as error:
            raise TargetUnavailableError(
                "another process keeps the archive locked",
                where=str(staging / "lock"),
                why=f"it did not let go for {PATIENCE:g} s",
                fix="look for a process that hangs, and run the same again",
            ) from error
        try:
            yield staging
        finally:
            lock.release()

    def _discard(self, path: Path) -> None:
        """Make something vanish at once, if it is there, and remove it afterwards."""
        trash = Path(self.root) / STAGING / f"trash-{uuid.uuid4().hex}"
        if path.exists():
            path.rename(trash)
            if trash.is_dir():
                shutil.rmtree(trash, ignore_errors=True)
            else:
                trash.unlink()


def _put_back(aside: Path, item: Path) -> None:
    """Undo the first step of an earlier call that was stopped after it."""
    if item.exists():
        aside.unlink(missing_ok=True)
    elif aside.exists():
        aside.replace(item)


def _drop(staged: Path, aside: Path) -> bool:
    """Remove a staged unit that is not needed; return False, as nothing is published."""
    shutil.rmtree(staged, ignore_errors=True)
    aside.unlink(missing_ok=True)
    return False


def _finished(final: Path, manifest: Manifest) -> bool:
    """Return whether the same unit is there already, now durable.

    Raises:
        NondeterminismError: another finished unit is there.
        OutputError: a file is there.
    """
    try:
        mode = final.stat().st_mode  # once: other processes publish at the same time
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISDIR(mode):
        raise OutputError(
            "a file stands where a unit goes",
            where=str(final),
            fix="move the file to another folder, then run the same command",
        )
    named = {record.name for record in manifest.files}
    others = [
        f"{path}: the item of another unit"
        for path in sorted(final.glob("*.json"))
        if path.name not in named and _holds_item(path)
    ]
    there = (final / manifest.item).exists()
    problems = others + (manifest.problems(final) if there else [])
    if problems:
        raise conflict(str(final), problems)
    if there:
        sync((final / manifest.item).parent)
        sync(final.parent)
    return there


def _holds_item(path: Path) -> bool:
    try:
        return is_item(path.read_bytes())
    except FileNotFoundError:  # somebody removed what a killed publisher left
        return False


def _require_rest(final: Path, aside: Path, manifest: Manifest, staged: Path) -> None:
    """Check what an earlier call, stopped before the last step, has put into place.

    Raises:
        OutputError: it did not get so far, or something is damaged.
    """
    rest = Manifest(tuple(r for r in manifest.files if r.name != manifest.item), manifest.item)
    problems = rest.problems(final)
    item = next(r for r in manifest.files if r.name == manifest.item)
    if not aside.exists() or sha256_of(aside) != item.sha256:
        problems.append(f"{staged}: missing")
    if problems:
        raise OutputError(
            "the staged unit is not there",
            where=str(staged),
            why="; ".join(problems[:5]),
            fix="run the same command again: it makes the unit anew",
        )
