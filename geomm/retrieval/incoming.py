"""What a caller wants appended, checked and brought into the form of a segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError
from geomm.retrieval.segment import FILTER, Rows, key_of

NEVER = np.iinfo(np.int64).min
"""The time of a row that has none."""
_FIX = "correct the batch and append it again; nothing of it was written"


def incoming(
    vectors: Any, table: Any, dimension: int, *, pictures: Sequence[bytes] | None = None, cells: Any | None = None
) -> Rows:
    """Check a batch; see :meth:`geomm.retrieval.Index.append` for the arguments.

    Raises:
        ConfigError: something does not fit.
    """
    try:
        values = np.asarray(vectors, np.float32)
        len(table)
    except (TypeError, ValueError) as error:
        fix = "vectors come first: index.append(vectors, table)"
        raise ConfigError("vectors are numbers, and a table has rows", why=str(error)[:160], fix=fix) from error
    if values.ndim != 2 or values.shape[1] != dimension or len(values) != len(table):
        why = f"vectors {values.shape} for a dimension of {dimension}, table of {len(table)} rows"
        raise ConfigError("an index needs one vector per row", why=why, fix=_FIX)
    return Rows(
        unit(values).astype(np.float16),
        _arrow(table),
        *_filters(table),
        None if pictures is None else _pictures(pictures, len(values)),
        None if cells is None else _cells(cells, values.shape),
    )


def unit(vectors: NDArray[Any], fix: str = _FIX) -> NDArray[np.float32]:
    """Scale rows to unit length.

    Raises:
        ConfigError: a vector of length zero, or one that is not finite.
    """
    exact = vectors.astype(np.float64)
    most = np.abs(exact).max(1, initial=0.0)
    if not (np.isfinite(most) & (most > 0)).all():
        row = int(np.argmin(np.isfinite(most) & (most > 0)))
        why = f"row {row} has length zero" if most[row] == 0 else f"row {row} is not finite"
        raise ConfigError("a vector of length zero or without numbers has no direction", why=why, fix=fix)
    exact /= most[:, None]  # the squares of neither huge nor tiny entries leave the range
    return (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)


def _arrow(table: Any) -> Any:
    """Return the Arrow table of a GeoDataFrame."""
    import pandas as pd
    import pyarrow as pa
    import shapely

    if "id" not in table or not hasattr(table, "crs") or table.crs is None:
        why = f"columns {', '.join(map(str, table.columns))}; CRS {getattr(table, 'crs', None)}"
        raise ConfigError("rows need an id and a geometry with a CRS", why=why, fix=_FIX)
    place = table.geometry.to_crs("EPSG:4326")
    placed = np.isfinite(place.bounds.to_numpy()).all(axis=1)  # neither missing, nor empty, nor of NaN
    if not placed.all():
        raise ConfigError("a row has no place", where=f"row {int(np.argmin(placed))}", fix=_FIX)
    plain = pd.DataFrame(table.drop(columns=table.geometry.name))
    if "geometry" in plain or not all(isinstance(i, str) and i for i in plain["id"]):
        raise ConfigError("ids are texts, and only the place is called geometry", fix=_FIX)
    if "datetime" in plain:
        plain["datetime"] = _times(plain)
    try:
        found = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
        for k, column in enumerate(found.schema):
            if pa.types.is_large_string(column.type) or column.name in {"id", "sensors"}:
                found = found.set_column(k, column.name, found.column(k).cast(pa.string()))
    except pa.ArrowException as error:
        raise ConfigError("a column cannot be stored", why=str(error), fix=_FIX) from error
    return found.append_column("geometry", pa.array(shapely.to_wkb(place.to_numpy()), pa.binary()))


def _times(table: Any) -> Any:
    """Return the column ``datetime`` as UTC; texts are read as ISO 8601, never as some country writes them."""
    import pandas as pd

    try:
        return pd.to_datetime(table["datetime"], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    except (ValueError, TypeError) as error:
        why = str(error).splitlines()[0]
        fix = "write them as 2020-06-01 or 2020-06-01T10:10:00Z: pandas.to_datetime(..., dayfirst=True)"
        raise ConfigError("the times cannot be understood", where="column datetime", why=why, fix=fix) from error


def _filters(table: Any) -> tuple[NDArray[Any], tuple[str, ...], NDArray[np.uint64]]:
    import pandas as pd

    identifiers = table["id"].tolist()
    if len(set(identifiers)) < len(identifiers):
        twice = pd.Series(identifiers)[lambda s: s.duplicated()].iloc[0]
        raise ConfigError("an id occurs twice in a batch", where=repr(twice), fix=_FIX)
    found = np.empty(len(table), FILTER)
    boxes = table.geometry.to_crs("EPSG:4326").bounds.to_numpy()
    for k, (name, outward) in enumerate((("west", -1), ("south", -1), ("east", 1), ("north", 1))):
        near = boxes[:, k].astype(np.float32)
        farther = np.nextafter(near, np.float32(outward * np.inf))
        found[name] = np.where((near - boxes[:, k]) * outward < 0, farther, near)
    found["time"] = NEVER
    if "datetime" in table:
        times = _times(table)
        found["time"] = np.where(times.isna(), NEVER, times.astype("int64"))
    texts = table["sensors"].fillna("").astype(str).tolist() if "sensors" in table else [""] * len(table)
    number = {text: k for k, text in enumerate(dict.fromkeys(texts))}
    found["sensors"] = [number[t] for t in texts]
    return found, tuple(number), key_of(identifiers)


def _pictures(pictures: Sequence[bytes], rows: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if len(pictures) != rows or not all(isinstance(p, bytes) for p in pictures):
        raise ConfigError("there is one picture per row, of bytes", why=f"{len(pictures)} for {rows} rows", fix=_FIX)
    ends = np.cumsum([len(p) for p in pictures], dtype=np.int64)
    return np.frombuffer(b"".join(pictures), np.uint8), ends


def _cells(cells: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    values = np.asarray(cells, np.float32)
    side = values.shape[1] if values.ndim == 4 else 0
    if values.shape != (shape[0], side, side, shape[1]) or not side or not np.isfinite(values).all():
        why = f"got {values.shape} for {shape[0]} rows of {shape[1]}"
        raise ConfigError("cells are finite numbers (rows, side, side, dimension)", why=why, fix=_FIX)
    scales = (np.abs(values).max(-1) / 127).astype(np.float32)
    steps = np.where(scales > 0, scales, np.float32(1))
    return np.rint(values / steps[..., None]).astype(np.int8), scales
