"""Where units are published: one protocol, and the door to a folder or an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from geomm.archive.manifest import Manifest
from geomm.errors import ConfigError

SCHEMES = ("s3", "gs", "az", "memory")
"""Of the addresses of object stores."""


class Target(Protocol):
    """An archive of units. All paths are relative to its root, with ``/``."""

    @property
    def root(self) -> str:
        """Folder, or URL such as ``s3://bucket/prefix``."""

    def publish(self, staged: Path, place: str, manifest: Manifest) -> bool:
        """Verify a staged unit and make it appear as a whole, its item last.

        When this returns, the unit is there and durable, and the staged folder is gone. After an error or a kill, the
        same call goes on where it stopped, and so does one with the same unit staged anew.

        Args:
            staged: folder of the unit; it belongs to this call alone.
            place: where the unit goes, such as ``maps/2024-06/scene-1a2b3c4d``.
            manifest: the files as they were made.

        Returns:
            True if it was published now, False if the same unit was there already.

        Raises:
            NondeterminismError: a finished unit with other content is there; it stays as it is.
            OutputError: the staged files are not what the manifest says, or cannot be written.
            TargetUnavailableError: the same may succeed later.
        """

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file, such as an item or a catalog; None if it is not there."""

    def replace(self, path: str, content: bytes) -> None:
        """Write a small file at once: readers see the old content or the new."""

    def update(self, path: str, change: Callable[[bytes | None], bytes]) -> None:
        """Change a small file so that no writer at the same time is overwritten.

        Args:
            path: of the file.
            change: makes the new content from the present one, None if there is none. It may be called again with newer
                content, also after its own work was written, so applying it twice must do no harm.
        """

    def check(self, place: str, manifest: Manifest, *, deep: bool) -> list[str]:
        """Return what is missing or damaged of a unit, one line each.

        Args:
            place: where it was published.
            manifest: what it consists of.
            deep: whether to read every file; else only sizes are compared, and hashes that the store keeps.
        """

    def places(self, prefix: str) -> Iterator[str]:
        """Yield the paths of all STAC items below a folder, empty for all, in no particular order."""

    def remove(self, place: str) -> None:
        """Remove a unit, its item first, or a small file; nothing happens if it is not there."""


def open_target(root: str | Path) -> Target:
    """Open an archive; nothing is read or written yet.

    Args:
        root: a folder, which need not exist; or a URL: ``s3://bucket/prefix``, ``gs://...``, ``az://...``, with what
            the environment says (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...); or ``memory://``, which is empty
            every time it is opened.

    Raises:
        ConfigError: another kind of URL.
        DependencyError: object stores need ``geomm[objects]``.
    """
    scheme, found, _ = str(root).partition("://")
    if not found:
        from geomm.archive.folder import FolderTarget

        return FolderTarget(str(root))
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            "the archive cannot be opened",
            where=str(root),
            why=f"known are folders and {known}",
            fix="give --out a folder such as maps, or s3://bucket/folder",
        )
    from geomm.archive.objects import ObjectTarget
    from geomm.archive.remote import open_store

    return ObjectTarget(str(root).rstrip("/") if scheme != "memory" else str(root), open_store(str(root)))
