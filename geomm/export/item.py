"""What a product says of itself: its STAC item."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from geomm._version import __version__
from geomm.errors import ConfigError
from geomm.types import LayerSpec

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a product comes from."""

    time: dt.datetime
    """Time of the imagery, UTC; products carry no other clock, so that the same inputs give the same bytes."""
    derived_from: tuple[str, ...] = ()
    """Hrefs of the source items."""
    model: str = ""
    """Href of the model package's ``mlm.json``."""
    model_sha256: str = ""
    """Hash of the model's weights."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """What the model was asked, JSON types: words or prompts; empty for models that know what to map."""
    identity: str = ""
    """Hash of all that decides the product, see :func:`published`; empty where it is not known."""

    def __post_init__(self) -> None:
        time: Any = self.time
        sources: Any = self.derived_from
        if not isinstance(time, dt.datetime):
            fix = "Provenance(scenes[0].time), or datetime.datetime(2024, 5, 31, tzinfo=datetime.UTC)"
            raise ConfigError("the time of a product is a datetime", where=repr(time)[:60], fix=fix)
        if isinstance(sources, str):
            fix = f"derived_from=({sources!r},)"
            raise ConfigError("hrefs of sources are a list", where=sources[:80], fix=fix)


def stac_item(
    layers: Sequence[tuple[LayerSpec, Path]],
    geobox: GeoBox,
    *,
    name: str,
    source: Provenance,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Describe products as a STAC 1.1 item, with hrefs relative to it; ``extra`` are assets beside the layers."""
    geometry, bbox = footprint_of(geobox)
    code = geobox.crs.epsg if geobox.crs is not None else None
    links = [{"rel": "derived_from", "href": href, "type": _type_of(href)} for href in source.derived_from if href]
    if source.model:
        links.append({"rel": "mlm:model", "href": source.model, "type": "application/json"})
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": name,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {
            "datetime": source.time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"proj:code": f"EPSG:{code}"} if code else {"proj:wkt2": str(geobox.crs)}),
            "proj:shape": [int(v) for v in geobox.shape],
            "proj:transform": list(geobox.affine[:6]),
            "processing:software": {"geomm": __version__},
            "processing:lineage": f"predicted by the model {source.model_sha256[:12] or 'unnamed'}",
            **({"geomm:asked": dict(source.asked)} if source.asked else {}),
            **({"geomm:identity": source.identity} if source.identity else {}),
        },
        "links": links,
        "assets": {layer.name: _asset(layer, path) for layer, path in layers}
        | {
            f"{layer.name}-style": {
                "href": f"./{path.stem}.qml",
                "title": f"QGIS style of {layer.name}",
                "type": "application/xml",
                "roles": ["metadata"],
            }
            for layer, path in layers
        }
        | dict(extra or {}),
    }


def footprint_of(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid in degrees as GeoJSON, and its bounds; both cut at the antimeridian (RFC 7946)."""
    from shapely.geometry import MultiPolygon, box, mapping

    from geomm.catalog import Grid, degrees_of

    height, width = (int(n) for n in geobox.shape)
    west, south, east, north = degrees_of(Grid(str(geobox.crs), tuple(geobox.affine[:6]), (height, width)))
    if west > east:
        parts = MultiPolygon([box(west, south, 180.0, north), box(-180.0, south, east, north)])
        return dict(mapping(parts)), [round(v, 9) for v in (west, south, east, north)]
    if east - west >= 360.0:  # around a pole, or around the earth
        return dict(mapping(box(west, south, east, north))), [west, south, east, north]
    outline = geobox.footprint("EPSG:4326", buffer=0, npoints=8)
    return outline.json, [round(v, 9) for v in outline.boundingbox.bbox]


def digest_of(path: Path) -> str:
    """Return the multihash of a file: SHA-256."""
    with path.open("rb") as file:
        return f"1220{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _type_of(href: str) -> str:
    """Return the media type of a source: an item, or a file that nobody catalogued."""
    return "image/tiff; application=geotiff" if href.lower().endswith((".tif", ".tiff")) else "application/geo+json"


def file_of(path: Path, title: str, kind: str, roles: list[str]) -> dict[str, Any]:
    """Return the asset of a file."""
    size = {"file:size": path.stat().st_size, "file:checksum": digest_of(path)}
    return {"href": f"./{path.name}", "title": title, "type": kind, "roles": roles, **size}


def _asset(layer: LayerSpec, path: Path) -> dict[str, Any]:
    classes = [{"value": c.value, "name": c.name, "color_hint": c.color[1:].upper()} for c in layer.classes]
    nodata: float | str = "nan" if math.isnan(layer.nodata) else layer.nodata
    scale = {} if layer.scale == 1.0 else {"raster:scale": layer.scale, "raster:offset": 0.0}
    bands = [
        {"name": b, "description": b, "data_type": layer.dtype, "nodata": nodata, "unit": layer.unit, **scale}
        for b in layer.bands
    ]
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    return {
        **file_of(path, f"{layer.name} map", kind, ["data"]),
        "bands": bands,
        **({"classification:classes": classes} if layer.kind == "class" else {}),
    }
