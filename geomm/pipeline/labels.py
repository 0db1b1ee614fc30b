"""Labels drawn as polygons: read, checked, and put on a site's grid."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import xarray as xr
from numpy.typing import NDArray

from geomm.config import LabelConfig
from geomm.config.parts import ClassConfig
from geomm.cube import coords_of
from geomm.cube.calibrate import CALIBRATION
from geomm.cube.plots.flags import flags_of
from geomm.errors import ConfigError, GridError, SourceWarning
from geomm.types import INVALID_CLASS, ClassSpec, check_classes

AREA = "polygon"
"""Variable of the label node that numbers the labelled areas: ``(y, x)``, negative where there is none."""

NONE, DISPUTED = -1, -2
"""Numbers of a pixel in no area, and in areas of different classes."""

CHUNK = 512
"""Height and width of what is rasterised at once."""


def read_polygons(label: LabelConfig, root: Path) -> Any:
    """Read labelled polygons.

    Args:
        label: file, column and classes.
        root: folder that the file's path is relative to.

    Returns:
        GeoDataFrame of areas in the file's CRS, numbered from 0: ``kind``, the index of the class, and ``geometry``, a
        polygon. Polygons of one class that touch are one area, the parts of a multipolygon several.

    Raises:
        ConfigError: the file cannot be read, lacks the column, holds other shapes than polygons, or classes that the
            recipe does not know.
        GridError: it has no CRS.
    """
    assert label.polygons is not None
    path = root / label.polygons
    table = _table(path, label.column)
    return areas_of(table, label.column, label.classes, label.ignore, where=str(path))


def areas_of(
    table: Any, column: str, classes: Sequence[ClassConfig | ClassSpec], ignore: Collection[str], *, where: str
) -> Any:
    """Return the areas of labelled polygons, see :func:`read_polygons`.

    Raises:
        ConfigError: classes that nobody knows, or no polygon.
    """
    import geopandas

    names = table[column].convert_dtypes().astype("string").fillna("").str.strip()
    known = {c.name: k for k, c in enumerate(classes)}
    unknown = names[~names.isin([*known, *ignore])].value_counts().sort_index()
    if len(unknown):
        raise ConfigError(
            "the polygons hold classes that are not named",
            where=f"{where}, column {column}",
            why=f"{_listed(unknown)}; named are {', '.join(known)}",
            fix="add them to the classes (label.classes of a recipe), or to what is left out (label.ignore)",
        )
    shapes = geopandas.GeoSeries(table.geometry.make_valid(method="structure", keep_collapsed=False))
    merged = {k: shapes[(names == name) & ~shapes.is_empty].union_all() for name, k in known.items()}
    areas = geopandas.GeoDataFrame({"kind": list(merged)}, geometry=list(merged.values()), crs=table.crs)
    areas = areas[~areas.is_empty].explode(ignore_index=True)
    areas = areas[areas.geom_type == "Polygon"].reset_index(drop=True)
    if areas.empty:
        raise ConfigError(
            "there is no polygon of any class",
            where=where,
            why=f"named are {', '.join(known)}",
            fix="check the column and the classes: label.column and label.classes of a recipe",
        )
    return areas


def _table(path: Path, column: str) -> Any:
    """Read a vector file and check its shape."""
    import geopandas

    if not path.is_file():
        raise ConfigError(
            "the label polygons do not exist", where=str(path), fix="label.polygons is relative to the recipe's folder"
        )
    try:
        table = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            "the label polygons cannot be read",
            where=str(path),
            why=str(error),
            fix="ogrinfo FILE shows whether it can be read; GeoPackage, GeoJSON and GeoParquet are",
        ) from error
    return _checked(table, column, str(path))


def _checked(table: Any, column: str, where: str) -> Any:
    """Return the rows of a table that have a place, and check what they are."""
    import geopandas

    if not isinstance(table, geopandas.GeoDataFrame):
        raise ConfigError(
            "the label polygons have no geometry",
            where=where,
            fix="give a vector file with polygons: GeoPackage, GeoJSON or GeoParquet; or, in Python, what "
            "geopandas.read_file(FILE) returns",
        )
    columns = [str(c) for c in table.columns if c != table.geometry.name]
    if column not in columns:
        raise ConfigError(
            f"the label polygons have no column {column!r}",
            where=where,
            why=f"they have {', '.join(columns) or 'none'}",
            fix="name it in label.column",
        )
    if table.crs is None:
        raise GridError("the label polygons have no CRS", where=where, fix="set one with GeoDataFrame.set_crs")
    table = table[table.geometry.notna() & ~table.geometry.is_empty]
    others = table.geom_type[~table.geom_type.isin(["Polygon", "MultiPolygon"])].value_counts().sort_index()
    if len(others):
        raise ConfigError(
            "the labels are not polygons",
            where=where,
            why=_listed(others),
            fix="draw areas; points say nothing of the pixel around them",
        )
    return table


def _listed(counts: Any) -> str:
    return ", ".join(f"{name or '(empty)'} ({count})" for name, count in counts.items())


def check_places(areas: Any, geoboxes: Mapping[str, Any], label: LabelConfig) -> None:
    """Warn of areas that lie outside every site.

    Raises:
        GridError: all of them do.
    """
    touched = np.zeros(len(areas), bool)
    for geobox in geoboxes.values():
        touched |= areas.to_crs(geobox.crs.proj).intersects(geobox.extent.geom).to_numpy()
    if touched.all():
        return
    outside = areas["kind"][~touched].map(lambda k: label.classes[k].name).value_counts(sort=False)
    if not touched.any():
        raise GridError(
            "no polygon lies in any site",
            where=str(label.polygons),
            why=f"they cover {_degrees(areas)}; the sites are {', '.join(geoboxes)}",
            fix="check the CRS of the file, or search for imagery of that place",
        )
    warnings.warn(
        f"{(~touched).sum()} of {len(areas)} labelled areas of {label.polygons} lie outside every site: "
        f"{_listed(outside)}.",
        SourceWarning,
        stacklevel=3,
    )


def _degrees(areas: Any) -> str:
    west, south, east, north = areas.to_crs("EPSG:4326").total_bounds
    return f"{west:.4f}, {south:.4f}, {east:.4f}, {north:.4f} (west, south, east, north)"


def label_node(areas: Any, geobox: Any, label: LabelConfig, time: dt.datetime) -> xr.Dataset:
    """Put areas on a grid, lazily, in the form of a node of a cube.

    A pixel gets the class of the area that holds its centre; without one, or within areas of different classes, it is
    not ``valid``.

    Args:
        areas: see :func:`read_polygons`.
        geobox: the grid.
        label: gives the codes of the classes.
        time: of the only time step.

    Returns:
        ``data (time, band, y, x)`` uint8, ``valid (time, y, x)``, and :data:`AREA`.
    """
    assert label.polygons is not None
    return _node(areas, geobox, label.classes, time, label.polygons)


def rasterize_labels(
    frame: Any,
    classes: Sequence[ClassSpec],
    geobox: Any,
    *,
    column: str = "class",
    ignore: Collection[str] = (),
    time: dt.datetime | None = None,
) -> xr.Dataset:
    """Put labelled polygons on a grid, as a node of a cube: ``cube["label"] = xr.DataTree(rasterize_labels(...))``.

    A pixel gets the class of the polygon that holds its centre; without one, or within polygons of different classes,
    it is not ``valid``.

    Args:
        frame: GeoDataFrame of polygons in any CRS.
        classes: the classes.
        geobox: the grid.
        column: holds the name of the class.
        ignore: names that are left out.
        time: of the labels; default 1970, as a time step has one.

    Returns:
        Lazy ``data (time, band, y, x)`` uint8 with the values of the classes, 255 where there is none, and ``valid``;
        for a :class:`geomm.Target` of ``[c.value for c in classes]``.

    Raises:
        ConfigError: no such column, a class that is not among ``classes``, or other shapes than polygons.
        GridError: the frame has no CRS, or nothing of it lies on the grid.
    """
    if isinstance(ignore, str):
        raise ConfigError("names that are left out are a list", where=f"ignore {ignore!r}", fix=f"ignore=[{ignore!r}]")
    if not all(isinstance(c, ClassSpec) for c in classes):
        fix = 'rasterize_labels(frame, [ClassSpec(1, "maize", "#e6b800")], grid)'
        raise ConfigError("classes are a list of ClassSpec", where=repr(classes)[:80], fix=fix)
    check_classes(classes)
    moment: Any = time or dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    if not hasattr(geobox, "geographic_extent") or not isinstance(moment, dt.datetime):
        fix = "give a GeoBox, such as common_geobox(scenes), and a datetime"
        raise ConfigError("labels need a grid and a time", where=f"{geobox!r}"[:60], why=f"time {time!r}", fix=fix)
    table = _checked(frame, column, "the frame")
    areas = areas_of(table, column, classes, ignore, where="the frame")
    if not areas.to_crs(geobox.crs.proj).intersects(geobox.extent.geom).any():
        raise GridError(
            "no polygon lies on the grid",
            why=f"they cover {_degrees(areas)}; the grid {geobox.geographic_extent.boundingbox.bbox}",
            fix="check the CRS of the frame",
        )
    moment = moment.astimezone(dt.UTC) if moment.tzinfo else moment
    return _node(areas, geobox, classes, moment, "labels").assign_coords(coords_of(geobox))


def _node(areas: Any, geobox: Any, classes: Sequence[Any], time: dt.datetime, source: str) -> xr.Dataset:
    import dask.array as da

    placed = areas.to_crs(geobox.crs.proj)
    chunks = da.core.normalize_chunks(CHUNK, geobox.shape)
    area = da.map_blocks(
        _numbers, chunks=chunks, dtype="int32", meta=np.empty((0, 0), "int32"), areas=placed, geobox=geobox
    )
    # Looked up by number, from the end of the list where there is none.
    values = [classes[k].value for k in placed["kind"]]
    codes = np.array([*values, INVALID_CLASS, INVALID_CLASS], np.uint8)
    data = area.map_blocks(codes.take, dtype="uint8")
    plain = dict(zip(CALIBRATION, (1.0, 0.0, np.nan, np.nan), strict=True))
    return xr.Dataset(
        {
            "data": (("time", "band", "y", "x"), data[None, None], flags_of(classes)),
            "valid": (("time", "y", "x"), (area >= 0)[None]),
            AREA: (("y", "x"), area),
        },
        coords={
            "time": ("time", np.array([time.replace(tzinfo=None)], "datetime64[ns]")),
            "band": ["class"],
            **{key: (("time", "band"), np.full((1, 1), value)) for key, value in plain.items()},
        },
        attrs={"sensor": "landcover", "units": "class", "kind": "class", "items": [[]], "sources": [source]},
    )


def _numbers(areas: Any, geobox: Any, block_info: Any = None) -> NDArray[np.int32]:
    """Number the pixels of a block by the area that holds their centre."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    part = geobox[top:bottom, left:right]
    out = np.full(part.shape, NONE, np.int32)
    near = areas.iloc[np.sort(areas.sindex.query(part.extent.geom))]
    for _, same in near.groupby("kind"):
        mine = rasterio.features.rasterize(
            list(zip(same.geometry, same.index, strict=True)),
            part.shape,
            fill=NONE,
            transform=part.affine,
            dtype="int32",
        )
        out = np.where(mine == NONE, out, np.where(out == NONE, mine, DISPUTED))
    return out.astype(np.int32)
