"""Tables of geopandas in and out: areas in any CRS, labels, chips, scenes, notes."""

from __future__ import annotations

import datetime as dt

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio.features
import shapely
import xarray as xr
from predicting import CLASSES

import geomm
from geomm.annotations import COLUMNS, Annotations
from geomm.cube import geobox_of
from geomm.errors import CatalogError, ConfigError, GridError


@pytest.fixture(scope="module")
def grid(cube):
    return geobox_of(cube)


def place(grid, y0, x0, y1, x1):
    """The outline of some pixels."""
    part = grid[y0:y1, x0:x1]
    return shapely.box(*part.boundingbox.bbox)


def test_areas_in_any_crs(landsat, grid):
    inside = geopandas.GeoDataFrame(
        geometry=[place(grid, 10, 20, 30, 60), place(grid, 28, 50, 40, 64)], crs=grid.crs.proj
    )
    scenes = landsat.search(aoi=inside)
    assert [s.id for s in scenes] == [s.id for s in landsat.search()]
    assert geomm.common_geobox(scenes, aoi=inside) == grid[10:40, 20:64]
    for other in ("EPSG:4326", "EPSG:3035"):
        moved = inside.to_crs(other)
        found = geomm.common_geobox(landsat.search(aoi=moved), aoi=moved)
        assert abs(found.shape[0] - 30) <= 2
        assert abs(found.shape[1] - 44) <= 2
        assert geomm.common_geobox(scenes, aoi=moved.union_all() if other == "EPSG:4326" else moved.geometry) == found
    far = inside.translate(1e6)
    with pytest.raises(CatalogError, match=r"0 items|nothing|no "):
        geomm.common_geobox(landsat.search(aoi=far))
    with pytest.raises(GridError, match="does not overlap"):
        geomm.common_geobox(scenes, aoi=far)
    with pytest.raises(CatalogError, match="no CRS"):
        landsat.search(aoi=inside.set_crs(None, allow_override=True))
    with pytest.raises(CatalogError, match="empty"):
        landsat.search(aoi=inside.iloc[:0])


def test_polygons_become_a_node_to_learn_from(cube, grid):
    drawn = [
        place(grid, 0, 0, 40, 64),
        place(grid, 40, 0, 96, 64),
        place(grid, 30, 40, 50, 64),
        place(grid, 0, 100, 9, 128),
    ]
    frame = geopandas.GeoDataFrame(
        {"kind": ["class 1", "class 3", "class 3", "old"]}, geometry=drawn, crs=grid.crs.proj
    )
    when = dt.datetime(2020, 6, 1, tzinfo=dt.UTC)
    node = geomm.rasterize_labels(frame, CLASSES, grid, column="kind", ignore=["old"], time=when)
    assert node["data"].chunks is not None
    burnt = [
        rasterio.features.rasterize(frame.geometry[frame["kind"] == f"class {k}"], grid.shape, transform=grid.affine)
        for k in (1, 3)
    ]
    valid = (burnt[0] + burnt[1]) == 1  # what two classes claim is nobody's
    np.testing.assert_array_equal(node["valid"].to_numpy()[0], valid)
    np.testing.assert_array_equal(node["data"].to_numpy()[0, 0], np.where(valid, burnt[0] + 3 * burnt[1], 255))
    assert node.odc.geobox == grid
    mine = cube.assign({"drawn": xr.DataTree(node)})
    target = geomm.Target("drawn", tuple(c.value for c in CLASSES))
    sample = geomm.ChipDataset(mine, geomm.ChipGrid(grid.shape, 32), ["optical"], target=target)[0]
    assert set(np.unique(sample.target)) == {1}
    geographic = geomm.rasterize_labels(frame.to_crs("EPSG:4326"), CLASSES, grid, column="kind", ignore=["old"])
    assert (geographic["data"].to_numpy() != node["data"].to_numpy()).mean() < 0.01
    with pytest.raises(ConfigError, match=r"not named.*old \(1\)"):
        geomm.rasterize_labels(frame, CLASSES, grid, column="kind")
    with pytest.raises(ConfigError, match="no column 'class'"):
        geomm.rasterize_labels(frame, CLASSES, grid)
    with pytest.raises(GridError, match="no polygon lies on the grid"):
        geomm.rasterize_labels(frame.set_geometry(frame.translate(1e5)), CLASSES, grid, column="kind", ignore=["old"])
    with pytest.raises(ConfigError, match="not polygons"):
        geomm.rasterize_labels(frame.set_geometry(frame.centroid), CLASSES, grid, column="kind")


def test_chips_and_splits_as_tables(grid):
    shape = tuple(map(int, grid.shape))
    frame = geomm.chips_frame(geomm.ChipGrid(shape, 40, 8), grid)
    assert frame.crs.to_epsg() == 32632
    assert "split" not in frame
    assert frame.geometry.union_all().equals(place(grid, 0, 0, *shape))
    assert frame.area.sum() == pytest.approx(frame.geometry.union_all().area)
    assert frame.geometry[1].equals(place(grid, 0, 40, 40, 80))
    split = geomm.SpatialSplit.draw(shape, {"train": 0.5, "test": 0.5}, block=32, buffer=4)
    blocks = geomm.chips_frame(split, grid)
    assert blocks.groupby("split").size().to_dict() == {"train": 6, "test": 6}
    lists = {n: split.random_chips(n, 16, 5, seed=0) for n in split.names}
    both = geomm.chips_frame(lists, grid)
    assert both["split"].tolist() == ["train"] * 5 + ["test"] * 5
    joined = both.set_geometry(both.centroid).sjoin(blocks, lsuffix="chip", rsuffix="block")
    inside = [w.split_chip == w.split_block for w in joined.itertuples()]
    assert sum(inside) > 8  # chips that the edge of the grid cuts have another centre
    timed = geomm.chips_frame(
        [geomm.Chip(3, *[geomm.Window(0, 0, 4, 4)] * 2, dt.datetime(2020, 1, 1, tzinfo=dt.UTC))], grid
    )
    assert timed["datetime"][0] == pd.Timestamp("2020-01-01", tz="UTC")
    assert geomm.chips_frame([], grid).empty


def test_scenes_as_a_table(landsat):
    scenes = landsat.search()
    frame = geomm.scenes_frame(scenes)
    assert frame["sensor"].tolist() == [s.sensor for s in scenes]
    assert frame["bands"][0] == ",".join(scenes[0].bands)
    assert frame["datetime"][0] == pd.Timestamp(scenes[0].time)
    np.testing.assert_allclose(frame.total_bounds, scenes[0].bbox, atol=1e-6)
    assert landsat.search(aoi=frame)
    assert geomm.scenes_frame([]).crs.to_epsg() == 4326


def test_notes_go_in_and_out_of_tables():
    shapes = [shapely.box(0, 0, 1, 1), shapely.Point(5, 5), None]
    frame = geopandas.GeoDataFrame(
        {"note": ["a lake", "a town", "lost"], "seen": ["2020-06-01", None, None]}, geometry=shapes, crs="EPSG:4326"
    ).to_crs("EPSG:3857")
    notes = Annotations.of(frame, text="note", time="seen", source="field trip")
    assert len(notes) == 2
    assert notes.at((0, 0, 1, 1)) == ("a lake",)
    assert tuple(notes.table.columns) == COLUMNS
    assert notes.table["source"].tolist() == ["field trip"] * 2
    again = Annotations.of(notes.table, time="datetime")
    pd.testing.assert_frame_equal(again.table, notes.table)
    with pytest.raises(CatalogError, match="no column 'text'"):
        Annotations.of(frame)
    with pytest.raises(CatalogError, match="no CRS"):
        Annotations.of(frame.set_crs(None, allow_override=True), text="note")
    with pytest.raises(CatalogError, match="cannot be understood"):
        Annotations.of(frame.assign(seen="soon"), text="note", time="seen")
