"""Open the file of a band: allowed, whole, of a size that can be read, and with errors that name it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geomm.catalog.checksum import verify
from geomm.catalog.policy import check, local_path, plain, shown
from geomm.catalog.probe import mistrust, open_dataset, reason
from geomm.catalog.scene import BandSource
from geomm.catalog.sign import signed
from geomm.errors import GeommError, ReadError, UnavailableError

_TRANSIENT = re.compile(
    r"HTTP (?:error|response) code ?: ?(?:408|425|429|5\d\d)\b|response_code=(?:0|408|425|429|5\d\d)\b"
    r"|timed? ?out|timeout|could ?n[o']t resolve|could ?n[o']t connect|failed to connect"
    r"|connection (?:reset|refused|died)|recv failure|send failure|empty reply|transfer closed|partial file"
    r"|ssl_read|unexpected eof|got \d+ bytes, expected \d+",
    re.IGNORECASE,
)
"""What GDAL and libcurl say of trouble that passes."""


def open_source(source: BandSource) -> Any:
    """Open the file of a band with rasterio.

    Read from it under ``rasterio.Env(**GDAL_SETTINGS)``, and close it.

    Raises:
        UnsafeSourceError: its address is not allowed.
        UnavailableError: its server does not answer for now.
        ChecksumError: it is not the file that the catalog means.
        LimitError: it claims more than is read.
        ReadError: it cannot be opened.
    """
    with naming(source):
        address = check(source.href, source.policy)
        if address.kind == "local":
            verify(Path(address.name), source.checksum, source.size)
        return open_dataset(signed(source.href, source.signer), source.policy)


@contextmanager
def naming(source: BandSource) -> Iterator[None]:
    """Name the item and the asset in every error of a source."""
    try:
        yield
    except GeommError as error:
        locate(error, source)
        if type(error) is not ReadError or not passing(source, error.why):
            raise
        raise UnavailableError(
            error.what, where=error.where, why=error.why, fix="try again later", about=error.about
        ) from error


def locate(
    error: GeommError,
    source: BandSource,
    *,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> None:
    """Say in an error which item, asset and window it is about, as far as it does not say so."""
    here = place(source, rows=rows, columns=columns)
    if here["about"].keys() - error.about.keys():
        error.where, error.about = here["where"], {**error.about, **here["about"]}


def place(
    source: BandSource,
    *,
    indexes: Sequence[int] = (),
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return ``where`` and ``about`` of an error: item, asset, file, and the window where there is one."""
    window = f"rows {rows[0]} to {rows[1]}, columns {columns[0]} to {columns[1]}" if rows and columns else ""
    about = {"item": source.item, "asset": source.asset, "window": window}
    named = (
        f"item {plain(source.item)}" if source.item else "",
        f"asset {plain(source.asset)}" if source.asset else "",
        shown(source.href),
        f"bands {', '.join(map(str, indexes))}" if indexes else "",
        window,
    )
    return {"where": ", ".join(n for n in named if n), "about": {k: v for k, v in about.items() if v}}


def unread(
    source: BandSource,
    error: BaseException,
    *,
    indexes: Sequence[int],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> ReadError:
    """Return the error for pixels that could not be decoded; whether it may pass is told from what GDAL said."""
    why, about = reason(error), place(source, indexes=indexes, rows=rows, columns=columns)
    if local_path(source.href) is None:
        mistrust(signed(source.href, source.signer))
    if passing(source, why):
        return UnavailableError("the source did not answer, or not in full", why=why, fix="try again later", **about)
    fix = "fetch the file again; gdalinfo -checksum FILE shows whether it decodes"
    return ReadError("the source cannot be read", why=why, fix=fix, **about)


def passing(source: BandSource, why: str) -> bool:
    """Tell whether trouble with a source may pass: it is remote, and its server or the way to it is to blame."""
    return local_path(source.href) is None and _TRANSIENT.search(why) is not None
