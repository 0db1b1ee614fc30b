"""Scenes and chips as tables with footprints, for maps and for a GIS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geomm.catalog import Scene
from geomm.chips import Chip, SpatialSplit
from geomm.errors import ConfigError
from geomm.types import Window

if TYPE_CHECKING:
    import geopandas


def scenes_frame(scenes: Sequence[Scene]) -> geopandas.GeoDataFrame:
    """Return scenes as a table.

    Returns:
        GeoDataFrame in EPSG:4326 with ``id``, ``sensor``, ``collection``, ``datetime`` (UTC), ``bands`` (names,
        separated by commas), ``href``, and what the items say besides, such as ``cloud_cover``.
    """
    import geopandas
    import pandas as pd
    from shapely.geometry import shape

    if not isinstance(scenes, Sequence) or not all(isinstance(s, Scene) for s in scenes):
        raise ConfigError(
            "scenes are a list of Scene", where=type(scenes).__name__, fix="give what catalog.search() found"
        )
    extra = list(dict.fromkeys(k for s in scenes for k in s.properties))
    rows: dict[str, Any] = {
        "id": [s.id for s in scenes],
        "sensor": [s.sensor for s in scenes],
        "collection": [s.collection for s in scenes],
        "datetime": pd.to_datetime([s.time for s in scenes], utc=True),
        "bands": [",".join(s.bands) for s in scenes],
        "href": [s.href for s in scenes],
    }
    rows |= {k: [s.properties.get(k) for s in scenes] for k in extra if k not in rows}
    return geopandas.GeoDataFrame(rows, geometry=[shape(s.footprint) for s in scenes], crs="EPSG:4326")


def chips_frame(
    chips: Iterable[Chip] | Mapping[str, Iterable[Chip]] | SpatialSplit, geobox: Any
) -> geopandas.GeoDataFrame:
    """Return where chips lie as a table, or the blocks of a split.

    Args:
        chips: such as a :class:`geomm.ChipGrid`; lists of them by the name of their split; or a split, for its blocks.
        geobox: the grid.

    Returns:
        GeoDataFrame in the CRS of the grid with ``index``, ``y``, ``x``, ``height`` and ``width`` in pixels (of what is
        written, without margins), ``datetime`` (where chips have one) and ``split`` (where there is one).
    """
    import geopandas
    import pandas as pd
    import shapely

    if not hasattr(geobox, "affine"):
        fix = "chips_frame(chips, grid), where grid is that of common_geobox, or cube.odc.geobox"
        raise ConfigError("the grid is no GeoBox", where=type(geobox).__name__, fix=fix)
    rows = list(_rows(chips))
    windows = [w for _, _, w, _ in rows]
    grid = geobox.affine
    corners = [(grid @ (w.x, w.y), grid @ (w.x + w.width, w.y + w.height)) for w in windows]
    columns: dict[str, Any] = {"index": [k for k, _, _, _ in rows]}
    columns |= {n: [getattr(w, n) for w in windows] for n in ("y", "x", "height", "width")}
    if any(time is not None for _, _, _, time in rows):
        columns["datetime"] = pd.to_datetime([time for _, _, _, time in rows], utc=True)
    if isinstance(chips, (Mapping, SpatialSplit)):
        columns["split"] = [split for _, split, _, _ in rows]
    shapes = [shapely.box(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])) for a, b in corners]
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=None if geobox.crs is None else geobox.crs.proj)


def _rows(
    chips: Iterable[Chip] | Mapping[str, Iterable[Chip]] | SpatialSplit,
) -> Iterator[tuple[int, str, Window, Any]]:
    """Return number, split, window and time of everything."""
    if isinstance(chips, SpatialSplit):
        for name in chips.names:
            yield from ((k, name, window, None) for k, window in enumerate(chips.blocks(name)))
        return
    lists: Mapping[str, Any] = chips if isinstance(chips, Mapping) else {"": chips}
    for name, some in lists.items():
        if not isinstance(some, Iterable) or isinstance(some, str) or not all(isinstance(c, Chip) for c in some):
            fix = 'give a ChipGrid, a list of chips, or {"train": chips}'
            raise ConfigError("these are no chips", where=type(chips).__name__, fix=fix)
        yield from ((chip.index, name, chip.write, chip.time) for chip in some)
