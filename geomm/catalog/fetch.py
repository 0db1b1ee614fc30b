"""Fetch remote files into a folder: whole and checked, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from geomm.catalog.checksum import compare, hasher, parsed, verify
from geomm.catalog.names import safe_name
from geomm.catalog.policy import check, shown
from geomm.catalog.scene import BandSource, Scene
from geomm.catalog.sign import signed
from geomm.catalog.source import naming
from geomm.catalog.web import TIMEOUT, answer_of, refusal
from geomm.errors import ChecksumError, GeommError, LimitError, OutputError, ReadError, UnavailableError
from geomm.whole import whole_file

_PIECE = 2**18
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How long to wait, and for how much."""

    timeout: float = TIMEOUT
    """Seconds that a server may be silent."""
    longest: float = 3600.0
    """Seconds that one file may take."""
    most: int = 2**36
    """Bytes that one file may have."""
    tries: int = 3
    """How often the rest of a file is asked for, where its body ends too early."""


SETTINGS = FetchSettings()


def fetch(source: BandSource, folder: str | Path, *, settings: FetchSettings = SETTINGS) -> Path:
    """Fetch the file of a band into a folder.

    It is written aside and renamed once it is whole: as long as the server said, and of the checksum and size that the
    catalog states. A file that is there already and has that checksum is not fetched again; a local one stays where it
    is, and is checked.

    Args:
        source: the band; its policy says where redirects may lead.
        folder: where files are put, under names made of item, asset and a hash of the address.
        settings: how long to wait, and for how much.

    Returns:
        The local file.

    Raises:
        UnsafeSourceError: its address, or one that it leads to, is not allowed.
        UnavailableError: there was no answer, or not in full; ``retry_after`` says for how long, where the server does.
        ChecksumError: it is not the file that the catalog means.
        LimitError: it is too large.
        ReadError: the server refuses.
        OutputError: the folder cannot be written to.
    """
    with naming(source):
        address = check(source.href, source.policy)
        if address.kind == "local":
            verify(Path(address.name), source.checksum, source.size)
            return Path(address.name)
        if address.kind != "web":
            raise ReadError(
                "files in object stores are read in place, not fetched",
                where=shown(source.href),
                fix="fetch it with the store's own tool, or name its https address",
            )
        target = Path(folder) / _name(source)
        try:
            if _is_there(target, source):
                return target
            with whole_file(target, suffix=".part") as aside, aside.open("wb") as file:
                _download(source, file, settings)
        except OSError as error:
            if isinstance(error, GeommError):
                raise
            raise OutputError(
                "the file cannot be written",
                where=str(target),
                why=str(error),
                fix="free space on the disk of the cache, or choose another folder for it",
            ) from error
        return target


def fetched_scene(scene: Scene, folder: str | Path, *, settings: FetchSettings = SETTINGS) -> Scene:
    """Fetch all files of a scene, each once.

    Returns:
        The scene with the local files, which may be opened in that folder and nowhere else.

    Raises:
        ReadError: as :func:`fetch` does; what was fetched before stays.
        OutputError: the folder cannot be written to.
    """
    files: dict[tuple[str, str, int | None], Path] = {}
    bands = {}
    for name, source in scene.bands.items():
        key = (source.href, source.checksum, source.size)
        if key not in files:
            files[key] = fetch(source, folder, settings=settings)
        moved = check(source.href, source.policy).kind != "local"
        policy = dataclasses.replace(source.policy, local=True, roots=(str(Path(folder).resolve()),))
        changes: dict[str, Any] = {"signer": "", "policy": policy} if moved else {}
        bands[name] = dataclasses.replace(source, href=str(files[key].resolve()), **changes)
    return dataclasses.replace(scene, bands=bands)


def _name(source: BandSource) -> str:
    """Return a file name that no other address has."""
    plain = source.href.partition("?")[0]
    suffix = Path(plain).suffix.lower()
    mark = hashlib.sha256(source.href.encode()).hexdigest()[:12]
    stem = "-".join(part for part in (source.item, source.asset) if part) or Path(plain).stem
    return f"{safe_name(stem)}-{mark}{suffix if suffix in ('.tif', '.tiff', '.jp2') else ''}"


def _is_there(target: Path, source: BandSource) -> bool:
    """Tell whether a file was fetched already, as far as its checksum tells."""
    if not source.checksum or parsed(source.checksum) is None or not target.is_file() or target.is_symlink():
        return False
    try:
        verify(target, source.checksum, source.size)
    except ChecksumError:
        return False
    return True


@dataclass(slots=True)
class _Part:
    """What has come of a file."""

    file: BinaryIO
    """Where it goes."""
    digest: Any
    """Its hash so far."""
    done: int = 0
    """Bytes so far."""
    total: int | None = None
    """Bytes that the server promised."""
    tag: str = ""
    """Its version, as the server names it."""


def _download(source: BandSource, file: BinaryIO, settings: FetchSettings) -> None:
    """Write the body of a file; where it ends too early, ask for the rest of the same version."""
    part = _Part(file, hasher(source.checksum))
    until = time.monotonic() + settings.longest
    for left in reversed(range(settings.tries)):
        try:
            _receive(source, part, settings, until)
            break
        except UnavailableError as error:
            # Without a version nobody knows whether the rest is of the same file; a server that is busy is let alone.
            if not left or not part.tag or not part.done or "retry_after" in error.about or time.monotonic() > until:
                raise
    compare(shown(source.href), source.checksum, source.size, (part.digest.hexdigest(), part.done))


def _receive(source: BandSource, part: _Part, settings: FetchSettings, until: float) -> None:
    """Receive a file, or what is missing of it."""
    url = signed(source.href, source.signer)
    headers = {"Range": f"bytes={part.done}-", "If-Range": part.tag} if part.done else {}
    with answer_of(url, source.policy, headers=headers, timeout=settings.timeout) as answer:
        refused = refusal(answer, url)
        if refused is not None:
            raise refused
        _agree(answer, part, url)
        if part.total is not None:
            _fits(part.total, settings, url)
            if source.size is not None and part.total != source.size:
                compare(shown(url), "", source.size, ("", part.total))
        for piece in answer.iter_content(_PIECE):
            _write(part.file, piece)
            part.digest.update(piece)
            part.done += len(piece)
            _fits(part.done, settings, url)
            if time.monotonic() > until:
                raise _broken(url, f"it takes longer than {settings.longest:g} s")
        if part.total is not None and part.done != part.total:
            raise _broken(url, f"{part.done} of {part.total} bytes came")


def _write(file: BinaryIO, piece: bytes) -> None:
    try:
        file.write(piece)
    except OSError as error:  # of the disk, not of the server
        raise OutputError(
            "the file cannot be written",
            where=str(file.name),
            why=str(error),
            fix="free space on the disk of the cache, or choose another folder for it",
        ) from error


def _agree(answer: Any, part: _Part, url: str) -> None:
    """Check that an answer is what was asked for: a whole file, or the rest of the same one."""
    tag, length = answer.headers.get("ETag", ""), answer.headers.get("Content-Length", "")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ReadError(
            "the server changes the file on its way",
            where=shown(url),
            why="it compresses it unasked",
            fix="have the server send files as they are (no Content-Encoding), or copy the file by hand",
        )
    if not part.done:
        if answer.status_code != 200:
            raise _broken(url, f"the server answered {answer.status_code} where the whole file was asked for")
        part.total = int(length) if length.isdigit() else None
        part.tag = tag if tag.startswith('"') else ""  # weak ones do not mean the same bytes
        return
    if answer.status_code == 200 or tag != part.tag:
        raise _changed(url)
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status_code != 206 or found is None or int(found[1]) != part.done:
        raise _broken(url, f"bytes from {part.done} on were asked for, the server sent another part")
    if int(found[3]) != part.total:
        raise _changed(url)


def _fits(size: int, settings: FetchSettings, url: str) -> None:
    if size > settings.most:
        raise LimitError(
            "the file is too large",
            where=shown(url),
            why=f"it has {size} bytes or more, at most {settings.most} are fetched",
            fix="if it is what it should be, allow more: fetch(..., settings=geomm.catalog.FetchSettings(most=...))",
        )


def _broken(url: str, why: str) -> UnavailableError:
    return UnavailableError("the source did not come in full", where=shown(url), why=why, fix="try again later")


def _changed(url: str) -> UnavailableError:
    return UnavailableError(
        "the source changed while it was fetched", where=shown(url), why="its version is another", fix="try again"
    )
