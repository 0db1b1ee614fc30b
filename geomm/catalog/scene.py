"""A scene: one item of one sensor, with everything a loader needs and nothing of STAC left in it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomm.catalog.policy import POLICY, ReadPolicy
from geomm.errors import ConfigError, MissingBandError
from geomm.radiometry import Calibration
from geomm.types import BBox


@dataclass(frozen=True, slots=True)
class Grid:
    """How the pixels of a file lie on the ground."""

    crs: str
    """CRS as authority code or WKT, of the transform or of the ground control points."""
    transform: tuple[float, float, float, float, float, float] | None
    """Affine coefficients a to f of the upper left corner; None where ground control points place the file."""
    shape: tuple[int, int]
    """Height and width in pixels."""
    gcps: tuple[tuple[float, float, float, float], ...] = ()
    """Ground control points as row, column, x, y."""


@dataclass(frozen=True, slots=True)
class BandSource:
    """Where the pixels of one band lie and what they mean."""

    href: str
    """File path or URL."""
    index: int = 1
    """Band number in the file, from 1."""
    dtype: str | None = None
    """Stored dtype; None where the catalog does not say: the loader then looks into the file."""
    nodata: tuple[float, ...] = ()
    """Stored values that mean a missing pixel, besides those that the file itself declares."""
    valid_range: tuple[float, float] | None = None
    """Least and greatest stored value that is a measurement."""
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    """Stored number to physical value."""
    grid: Grid | None = None
    """None where the catalog does not say: the loader then looks into the file."""
    signer: str = ""
    """Address that hands out access tokens for the file, or empty."""
    item: str = ""
    """Id of the item that names the file, for messages."""
    asset: str = ""
    """Key of its asset."""
    checksum: str = ""
    """Hexadecimal multihash of the whole file (``file:checksum``); empty where the catalog does not say."""
    size: int | None = None
    """Bytes of the whole file (``file:size``)."""
    policy: ReadPolicy = dataclasses.field(default=POLICY, repr=False)
    """What may be opened; that of the catalog, unless made by hand."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition of one sensor."""

    id: str
    """Item id."""
    sensor: str
    """Name in the table of sensors."""
    time: dt.datetime
    """Acquisition (or start of the interval), UTC."""
    bbox: BBox
    """West, south, east, north in degrees; west is greater than east where it crosses the antimeridian."""
    footprint: Mapping[str, Any]
    """GeoJSON geometry in WGS 84."""
    bands: Mapping[str, BandSource]
    """Band name to source."""
    href: str = ""
    """Where the item itself lies, for provenance."""
    text: str = ""
    """Description of the item, if it has one."""
    collection: str = ""
    """Collection of the item, or empty."""
    properties: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else tells acquisitions apart: platform, orbit direction, sun elevation, cloud cover, where known."""

    def __repr__(self) -> str:
        return f"Scene({self.id!r}, {self.sensor}, {self.time:%Y-%m-%dT%H:%MZ}, bands={'/'.join(self.bands)})"

    def source(self, band: str) -> BandSource:
        """Return the source of one band.

        Raises:
            MissingBandError: the item does not offer it.
        """
        if band not in self.bands:
            raise MissingBandError(
                f"band {band} is missing",
                where=f"item {self.id}, sensor {self.sensor}",
                why=f"the item offers {', '.join(self.bands) or 'no band of this sensor'}",
                fix="choose another item, or leave the band out of the modality",
            )
        return self.bands[band]

    def only(self, bands: Sequence[str]) -> Scene:
        """Return the scene with just these bands, in this order.

        Raises:
            ConfigError: the bands are one text.
            MissingBandError: the item does not offer one of them.
        """
        if isinstance(bands, str):
            raise ConfigError("bands is one text", where=f"bands {bands!r}", fix=f"give a list: [{bands!r}]")
        return dataclasses.replace(self, bands={name: self.source(name) for name in bands})
