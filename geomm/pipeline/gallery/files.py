"""Hits as a file for a GIS or a table: GeoJSON, GeoPackage, GeoParquet."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomm.errors import ConfigError, OutputError
from geomm.export.symbols import add_style, ranked_qml
from geomm.pipeline.gallery.hits import read_hits
from geomm.whole import whole_file, write_whole


def write_hits(path: str | Path, hits: Any) -> Path:
    """Write hits as the extension says; the file appears whole, an older one is replaced.

    Args:
        path: ``.geojson`` or ``.json`` (RFC 7946: degrees, times as text, lists as arrays), ``.gpkg`` (lists as JSON
            text) or ``.parquet`` (GeoParquet). QGIS colours hits by their score and labels them by their rank: a
            GeoPackage carries the style, a ``.geojson`` has it beside it as ``.qml``.
        hits: GeoDataFrame in EPSG:4326, best first; all columns are written, and ``rank``, from 1.

    Returns:
        The path.

    Raises:
        ConfigError: another extension, or another CRS.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise ConfigError(
            "hits cannot be written as such a file",
            where=str(path),
            why=f"extensions: {', '.join(_WRITERS)}",
            fix="end the name with one of these",
        )
    read_hits(hits)
    ranked = hits.reset_index(drop=True).set_crs("EPSG:4326", allow_override=True)
    if "rank" not in ranked:
        ranked.insert(0, "rank", np.arange(1, len(hits) + 1))
    try:
        write(target, ranked)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise OutputError(
            "the hits cannot be written",
            where=str(path),
            why=str(error),
            fix="name a file in a folder that you may write to",
        ) from error
    return target


def _geojson(path: Path, hits: Any) -> None:
    import shapely

    names = [c for c in hits.columns if c != hits.geometry.name]
    shapes = shapely.orient_polygons(shapely.force_2d(hits.geometry.to_numpy()))
    features = []
    for k, shape in enumerate(shapes):
        cells = {n: _json(hits[n].iloc[k]) for n in names}
        known = shape is not None and not shape.is_empty
        outline = _rounded(shapely.geometry.mapping(shape)) if known else None
        feature = {"type": "Feature", "geometry": outline, "properties": cells}
        features.append(feature if cells.get("id") is None else {"id": cells["id"], **feature})
    whole = {"type": "FeatureCollection", "features": features}
    content = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    write_whole(path, content.encode())
    if path.suffix.lower() == ".geojson":
        write_whole(path.with_suffix(".qml"), _style(hits).encode())


def _geopackage(path: Path, hits: Any) -> None:
    def text(cell: object) -> object:
        return (
            json.dumps(_json(cell), ensure_ascii=False)
            if isinstance(cell, list | tuple | np.ndarray | Mapping)
            else cell
        )

    names = [c for c in hits.columns if c != hits.geometry.name and hits[c].dtype == object]
    flat = hits.assign(**{n: hits[n].map(text) for n in names})
    with whole_file(path, suffix=path.suffix) as aside:
        flat.to_file(aside, driver="GPKG", layer="hits", engine="pyogrio")
        add_style(aside, "hits", _style(hits))


def _style(hits: Any) -> str:
    """Return how QGIS draws hits: by score, labelled by rank."""
    scores = np.asarray(hits["score"], np.float64) if "score" in hits else np.zeros(0)
    known = scores[np.isfinite(scores)]
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return ranked_qml("score", limits, "rank")


def _parquet(path: Path, hits: Any) -> None:
    with whole_file(path) as aside:
        hits.to_parquet(aside)


_WRITERS: dict[str, Callable[[Path, Any], None]] = {
    ".geojson": _geojson,
    ".json": _geojson,
    ".gpkg": _geopackage,
    ".parquet": _parquet,
}


def _rounded(outline: Mapping[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON geometry with 7 digits, a centimetre (RFC 7946, section 11.2)."""

    def short(part: Any) -> Any:
        return round(part, 7) if isinstance(part, float | int) else [short(p) for p in part]

    return {
        name: [_rounded(g) for g in value] if name == "geometries" else short(value) if name == "coordinates" else value
        for name, value in outline.items()
    }


def _json(value: Any) -> Any:
    """Return a cell as JSON type: times as text, arrays as lists, what is missing as null."""
    import pandas as pd

    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_json(v) for v in value]
    if value is None or pd.isna(value):
        return None
    if isinstance(value, np.datetime64 | dt.datetime):
        moment = pd.Timestamp(value)
        moment = moment.tz_localize(dt.UTC) if moment.tzinfo is None else moment.tz_convert(dt.UTC)
        return moment.isoformat().replace("+00:00", "Z")
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    return plain if isinstance(plain, str | int | float | bool) else str(plain)
