"""An archive in an object store: no renames; the item comes last, and is created only if it is not there."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from geomm.archive.manifest import FileRecord, Manifest
from geomm.archive.places import FAILED, checked, conflict, is_item, require_whole
from geomm.archive.remote import explained
from geomm.errors import TargetUnavailableError

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

WHOLE = 32 << 20
"""Bytes up to which a file goes in one request, which can be conditional; larger ones go in parts."""
PART = 8 << 20
"""Bytes of a part: at most 10,000 make one object of S3, so 80 GB."""
TRIES = 20
"""Times a change of a small file is made again because another writer was faster."""
_TYPES = {
    ".json": "application/json",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".parquet": "application/vnd.apache.parquet",
    ".xml": "application/xml",
    ".html": "text/html",
    ".png": "image/png",
    ".gpkg": "application/geopackage+sqlite3",
}


@dataclass(frozen=True, slots=True)
class ObjectTarget:
    """A bucket, or a prefix of one.

    Every file carries its SHA-256 as metadata. Files go to their final keys, if nothing is there yet; what a killed
    publisher left is kept where it is the same, and overwritten where it is not, as long as there is no item. Two
    publishers of one unit with the same bytes publish it once. Where their bytes differ, one of them at least fails,
    and the published unit may be of both: ``check`` finds it. Let one process at a time publish a unit. The store has
    to honour ``If-None-Match`` and ``If-Match``, as S3, Google Cloud Storage and Azure do.
    """

    root: str
    """URL such as ``s3://bucket/prefix``."""
    store: ObjectStore = field(repr=False, compare=False)
    """The opened store, at the prefix."""

    def publish(self, staged: Path, place: str, manifest: Manifest) -> bool:
        """Publish a unit, see :meth:`geomm.archive.Target.publish`.

        Where the answer to the last request is lost, it is sent again, and the unit counts as there already.
        """
        where = self._name(checked(place))
        with explained(FAILED, where):
            published = False
            if not self._finished(place, manifest):
                require_whole(manifest, staged)
                *rest, item = manifest.in_order()
                for record in rest:
                    self._upload(staged, place, record, manifest.item)
                problems = self._problems(place, rest, deep=False)
                if problems:  # another publisher is at the same unit, with other bytes
                    raise conflict(where, problems)
                published = self._create(f"{place}/{item.name}", staged / item.name, item)
                if not published and not self._finished(place, manifest):
                    raise TargetUnavailableError(FAILED, where=where, why="somebody removes it", fix="try again later")
            shutil.rmtree(staged, ignore_errors=True)
        return published

    def read(self, path: str) -> bytes | None:
        """Return the content of a small object, or None."""
        return self._load(path)[0]

    def replace(self, path: str, content: bytes) -> None:
        """Write a small object at once."""
        self.update(path, lambda _: content)

    def update(self, path: str, change: Callable[[bytes | None], bytes]) -> None:
        """Change a small object on the condition that nobody else has changed it since it was read."""
        for attempt in range(TRIES):
            present, version = self._load(path)
            content = change(present)
            if content == present or self._swap(path, content, version):
                return
            # Full jitter: writers that met once shall not meet again.
            time.sleep(random.uniform(0.0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311 no secret
        raise TargetUnavailableError(
            "a file of the archive cannot be written",
            where=self._name(path),
            why=f"other writers were faster {TRIES} times",
            fix="try again later",
        )

    def check(self, place: str, manifest: Manifest, *, deep: bool) -> list[str]:
        """Return what is missing or damaged of a unit; deep, by loading every object."""
        with explained("the unit cannot be checked", self._name(checked(place))):
            return self._problems(place, manifest.files, deep=deep)

    def places(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all STAC items below a prefix; every JSON file there is loaded."""
        with explained("the archive cannot be listed", self._name(prefix)):
            for key in self._keys(checked(prefix) if prefix else ""):
                if key.endswith(".json") and is_item(self.read(key) or b""):
                    yield key

    def remove(self, place: str) -> None:
        """Remove a unit, its item first, or a small object."""
        import obstore

        with explained("it cannot be removed from the archive", self._name(checked(place))):
            keys = [place, *self._keys(place)]
            for key in sorted(keys, key=lambda key: (not key.endswith(".json"), key)):
                with suppress(FileNotFoundError):
                    obstore.delete(self.store, key)

    def _name(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}" if key else self.root

    def _keys(self, prefix: str) -> Iterator[str]:
        import obstore

        for page in obstore.list(self.store, prefix=prefix or None):
            yield from (meta["path"] for meta in page)

    def _finished(self, place: str, manifest: Manifest) -> bool:
        """Return whether the same unit is there already.

        Raises:
            NondeterminismError: another finished unit is there.
        """
        keys = set(self._keys(place))
        named = {f"{place}/{record.name}" for record in manifest.files}
        problems = [
            f"{self._name(key)}: the item of another unit"
            for key in sorted(keys - named)
            if key.endswith(".json") and is_item(self.read(key) or b"")
        ]
        there = f"{place}/{manifest.item}" in keys
        if there:
            problems += self._problems(place, manifest.files, deep=False)
        if problems:
            raise conflict(self._name(place), problems)
        return there

    def _upload(self, staged: Path, place: str, record: FileRecord, item: str) -> None:
        """Bring a file to its key, over what a killed publisher left there; never over a file of a finished unit."""
        import obstore

        key, path = f"{place}/{record.name}", staged / record.name
        if record.size <= WHOLE and self._create(key, path, record):
            return
        if self._problem(key, record, deep=False) and self._state(f"{place}/{item}") is None:
            attributes = _attributes(key, record.sha256)
            obstore.put(self.store, key, path, attributes=attributes, chunk_size=PART, max_concurrency=4)

    def _create(self, key: str, path: Path, record: FileRecord) -> bool:
        """Bring a file to a key where nothing is; return False if something is there."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self.store, key, path, mode="create", attributes=_attributes(key, record.sha256))
        except AlreadyExistsError:
            return False
        return True

    def _load(self, path: str) -> tuple[bytes | None, UpdateVersion | None]:
        """Return the content of an object and which version it is."""
        import obstore

        with explained("a file of the archive cannot be read", self._name(checked(path))):
            try:
                found = obstore.get(self.store, path)
            except FileNotFoundError:
                return None, None
            version: UpdateVersion = {}
            if found.meta["e_tag"]:
                version["e_tag"] = found.meta["e_tag"]
            if found.meta["version"]:
                version["version"] = found.meta["version"]
            return bytes(found.bytes()), version

    def _swap(self, path: str, content: bytes, version: UpdateVersion | None) -> bool:
        """Write an object if it is still of this version, or still not there; return whether it was."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        attributes = _attributes(path, hashlib.sha256(content).hexdigest())
        with explained("a file of the archive cannot be written", self._name(path)):
            try:
                obstore.put(self.store, path, content, mode=version or "create", attributes=attributes)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def _state(self, key: str) -> tuple[int, str] | None:
        """Return size and stored hash of an object, empty if there is none; None if it is not there."""
        import obstore

        try:
            found = obstore.get(self.store, key, options={"head": True})
        except FileNotFoundError:
            return None
        return found.meta["size"], found.attributes.get("sha256", "")

    def _problem(self, key: str, record: FileRecord, *, deep: bool) -> str:
        """Return what is wrong with an object; empty if nothing."""
        import obstore

        state = self._state(key)
        if state is None:
            return f"{self._name(key)}: missing"
        size, digest = state
        if size != record.size:
            return f"{self._name(key)}: {size} bytes, not {record.size}"
        if deep or not digest:
            content = hashlib.sha256()
            for block in obstore.get(self.store, key).stream(min_chunk_size=PART):
                content.update(block)
            digest = content.hexdigest()
        return "" if digest == record.sha256 else f"{self._name(key)}: its content has changed"

    def _problems(self, place: str, files: Sequence[FileRecord], *, deep: bool) -> list[str]:
        found = (self._problem(f"{place}/{record.name}", record, deep=deep) for record in files)
        return [line for line in found if line]


def _attributes(key: str, sha256: str) -> dict[str, str]:
    kind = _TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")
    return {"Content-Type": kind, "sha256": sha256}
