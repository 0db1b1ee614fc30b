"""A scene: one item of one sensor, with everything a loader needs and nothing of STAC left in it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomm.errors import GridError, MissingBandError
from geomm.radiometry import Calibration
from geomm.types import BBox


@dataclass(frozen=True, slots=True)
class BandSource:
    """Where the pixels of one band lie and what they mean."""

    href: str
    """File path or URL."""
    index: int
    """Band number in the file, from 1."""
    dtype: str
    """Stored dtype."""
    nodata: float | None
    """Stored value of a missing pixel; None where every pixel of the file counts."""
    calibration: Calibration
    """Stored number to physical value."""
    crs: str
    """CRS as authority code or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients a, b, c, d, e, f: corner of the upper left pixel, no rotation assumed."""
    shape: tuple[int, int]
    """Height and width of the file in pixels."""

    @property
    def fill(self) -> tuple[str, float]:
        """Dtype and value that tell missing pixels apart after loading, without touching a stored value."""
        if self.nodata is not None:
            return self.dtype, self.nodata
        kind = np.dtype(self.dtype)
        if kind.kind == "f":
            return self.dtype, float("nan")
        wider = {1: "int16", 2: "int32", 4: "int64"}.get(kind.itemsize, "float64")
        return wider, float(np.iinfo(kind).min - 1) if kind.itemsize < 8 else float("nan")


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
    """West, south, east, north in degrees."""
    footprint: Mapping[str, Any]
    """GeoJSON geometry in WGS 84."""
    bands: Mapping[str, BandSource]
    """Band name to source."""
    href: str = ""
    """Where the item itself lies, for provenance."""
    text: str = ""
    """Description of the item, if it has one."""

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
        """Return the scene with just these bands, in this order."""
        return dataclasses.replace(self, bands={name: self.source(name) for name in bands})


def to_stac_items(scenes: Sequence[Scene], bands: Sequence[str]) -> tuple[list[Any], dict[str, str]]:
    """Turn scenes of one sensor back into the smallest STAC items that odc-stac can plan from.

    Returns:
        The items, and for every band the name under which odc-stac addresses it.

    Raises:
        GridError: a band is stored at different band numbers or dtypes in different scenes.
    """
    import pystac

    layout = {name: scenes[0].source(name) for name in bands}
    groups: dict[str, list[str]] = {}
    for name, source in layout.items():
        groups.setdefault(source.href, []).append(name)
    assets = {href: f"file{k}" for k, href in enumerate(groups)}
    address = {name: f"{assets[s.href]}.{s.index}" for name, s in layout.items()}

    items = []
    for scene in scenes:
        item = pystac.Item(scene.id, dict(scene.footprint), list(scene.bbox), scene.time, {}, collection="geomm")
        for names in groups.values():
            sources = [scene.source(n) for n in names]
            first = sources[0]
            if [(s.index, s.fill) for s in sources] != [(layout[n].index, layout[n].fill) for n in names]:
                raise GridError(
                    "scenes of one modality store a band differently",
                    where=f"items {scenes[0].id} and {scene.id}, bands {', '.join(names)}",
                    why="band number, dtype or nodata differ",
                    fix="load them as separate cubes",
                )
            entries: list[dict[str, Any]] = [{} for _ in range(max(s.index for s in sources))]
            for source in sources:
                dtype, nodata = source.fill
                entries[source.index - 1] = {"data_type": dtype, "nodata": "nan" if np.isnan(nodata) else nodata}
            for entry in entries:
                entry.setdefault("data_type", first.fill[0])
            item.add_asset(
                assets[layout[names[0]].href],
                pystac.Asset(
                    first.href,
                    media_type=pystac.MediaType.GEOTIFF,
                    roles=["data"],
                    extra_fields={
                        "raster:bands": entries,
                        "proj:code": first.crs,
                        "proj:transform": list(first.transform),
                        "proj:shape": list(first.shape),
                    },
                ),
            )
        item.stac_extensions = [
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        ]
        items.append(item)
    return items, address
