"""What a stranger does first, and gets wrong: the message says what to write."""

from __future__ import annotations

import datetime as dt

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from matplotlib import pyplot as plt

import geomm
from geomm.errors import GeommError, GridError

CLASSES = [geomm.ClassSpec(0, "clear", "#3f7f4f"), geomm.ClassSpec(1, "cloud", "#f7f7f7")]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def at(cube, landsat):
    """A cube, a map on its grid, chips and a table of labels."""
    grid = cube.to_dataset().odc.geobox
    flags = {
        "flag_values": np.array([0, 1], np.uint8),
        "flag_meanings": "clear cloud",
        "flag_colors": "#3f7f4f #f7f7f7",
    }
    values = np.random.default_rng(0).integers(0, 2, tuple(grid.shape)).astype(np.uint8)
    maps = xr.Dataset({"class": (("y", "x"), values, flags)}, {n: cube[n] for n in ("y", "x", "spatial_ref")})
    array = geomm.calibrated(cube)["thermal"]["data"][0].odc.assign_crs(grid.crs)
    frame = geopandas.GeoDataFrame(
        {"class": ["clear"]}, geometry=[shapely.box(*grid.boundingbox.bbox)], crs=str(grid.crs)
    )

    class At:
        pass

    At.cube, At.maps, At.grid, At.array, At.frame, At.scenes = cube, maps, grid, array, frame, landsat.search()
    At.split = geomm.SpatialSplit.draw(tuple(grid.shape), {"train": 0.5, "test": 0.5}, block=32, buffer=0)
    return At


WRONG = {
    "a cube for a layer": (lambda a: a.maps.geomm.plot(a.cube), "over=cube"),
    "opacity in percent": (lambda a: a.maps.geomm.plot(over=a.cube, opacity=50), "opacity=0.5"),
    "opacity as text": (lambda a: a.maps.geomm.explore(opacity="50%"), "opacity=0.5"),
    "averaged classes": (lambda a: a.maps.coarsen(x=4, y=4).mean(keep_attrs=True).geomm.plot(), "every n-th pixel"),
    "a list for a cube": (lambda a: a.maps.geomm.plot(over=a.scenes), "no cube"),
    "a node for a cube": (lambda a: a.cube["optical"].geomm.plot(), r'cube.geomm.plot\("optical"\)'),
    "a node as a map": (lambda a: a.cube["optical"].to_dataset().geomm.plot(), "cube"),
    "no such day": (lambda a: a.cube.geomm.plot(time=dt.datetime(1999, 1, 1, tzinfo=dt.UTC)), "2020-06-01"),
    "no such position": (lambda a: a.cube.geomm.plot(time=99), "position from 0 to 0"),
    "a list of modalities": (lambda a: a.cube.geomm.plot.rgb(["optical"]), "optical"),
    "chips of a cube": (lambda a: geomm.chips_frame(a.cube, a.grid), "ChipGrid"),
    "chips on a CRS": (lambda a: geomm.chips_frame(geomm.ChipGrid((9, 9), 3), "EPSG:32616"), "common_geobox"),
    "one scene": (lambda a: geomm.scenes_frame(a.scenes[0]), "search"),
    "an array alone": (lambda a: geomm.from_xarray(a.array, time="2020"), r'\{"optical": array\}'),
    "a sensor alone": (lambda a: geomm.from_xarray({"heat": a.array}, "landsat-tirs-l1"), r'\{"optical": array\}'),
    "misspelt in sensors": (lambda a: geomm.from_xarray({"heat": a.array}, {"haet": "generic"}, time="2020"), "mean 'heat'"),
    "one name to ignore": (lambda a: geomm.rasterize_labels(a.frame, CLASSES, a.grid, ignore="clear"), r"\['clear'\]"),
    "names for classes": (lambda a: geomm.rasterize_labels(a.frame, ["clear"], a.grid), "ClassSpec"),
    "a misspelt split": (
        lambda a: geomm.ChipDataset(a.cube, a.split.tiles("train", 16), ["optical"], split=(a.split, "trian")), "mean 'train'"
    ),
    "a map for blocks": (lambda a: geomm.to_xarray(a.maps, a.grid), "predict_map"),
    "one source as text": (lambda a: geomm.Provenance(a.scenes[0].time, "abc"), r"\('abc',\)"),
    "a date as text": (lambda a: geomm.Provenance("2020-01-01"), "datetime"),
    "a path for an index": (lambda a: geomm.gallery("places", "sea"), "open_index"),
    "a name for a sensor": (lambda _: geomm.register_sensor("mine"), "SensorSpec.*CONTRIBUTING"),
    "names for classes of texts": (lambda a: geomm.derive_annotations([[1.0]], [a.grid], ["sea"]), "'sea' is no ClassSpec"),
    "texts without windows": (lambda _: geomm.derive_annotations([[0.4, 0.6]], [], CLASSES), "window for each row"),
    "a class too many": (lambda a: geomm.derive_annotations([[0.4]], [a.grid], CLASSES), r"rows of \[1\]"),
    "a cube for a grid of labels": (lambda a: geomm.rasterize_labels(a.frame, CLASSES, a.cube), "common_geobox"),
    "a time of labels as text": (lambda a: geomm.rasterize_labels(a.frame, CLASSES, a.grid, time="2020-06-01"), "and a datetime"),
    "a file of labels": (lambda a: geomm.rasterize_labels("fields.gpkg", CLASSES, a.grid), "read_file"),
    "names for classes of chips": (
        lambda a: geomm.ChipDataset(a.cube, a.split.tiles("train", 16), ["optical"]).plot(2, classes=["a"]), "ClassSpec"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_message_names_the_fix(at, name):
    do, fix = WRONG[name]
    with pytest.raises(GeommError, match=fix):
        do(at)


def test_another_grid_is_told_apart_in_a_few_words(at):
    with pytest.raises(GridError, match="pixels of 30 from") as caught:
        at.maps.isel(y=slice(3, 50)).geomm.plot(over=at.cube)
    assert len(str(caught.value)) < 400


def test_sensors_of_an_index_are_guessed(tmp_path):
    index = geomm.Index.create(tmp_path / "places", 2)
    rows = geopandas.GeoDataFrame(
        {"id": ["a"], "sensors": ["sentinel2-l1c"]}, geometry=[shapely.box(9, 45, 10, 46)], crs=4326
    )
    index.append(np.ones((1, 2), np.float32), rows)
    with pytest.raises(LookupError, match="did you mean 'sentinel2-l1c'"):
        index.search(np.ones(2), sensors=["sentinel2-l1d"])
    with pytest.warns(UserWarning, match="its rows are of sentinel2-l1c") as told:
        assert len(index.search(np.ones(2), sensors=["sentinel2-l2a"])) == 0  # known, and not there
    assert told[0].filename == __file__
    assert len(index.search(np.ones(2), aoi=(20, 45, 21, 46))) == 0  # there or exchanged: nothing
    for swapped in ((45.2, 9.2, 45.8, 9.8), shapely.box(45.2, 9.2, 45.8, 9.8)):
        with pytest.warns(UserWarning, match=r"Did you swap them\? Search \(9.2, 45.2, 9.8, 45.8\)") as told:
            assert len(index.search(np.ones(2), aoi=swapped)) == 0
        assert told[0].filename == __file__


def test_labels_of_no_class_are_not_counted():
    labels = np.array([[-1, 0], [1, 2]], np.int16)
    assert geomm.label_counts(labels, 2, 2).tolist() == [[[1, 1]]]


def test_what_is_natural_works(at, cube):
    when = at.scenes[0].time
    assert "2020-06-01" in cube.geomm.plot.rgb(time=when).get_title()
    assert "2020-06-01" in cube.geomm.plot.rgb(time=cube["optical"]["time"].to_numpy()[0]).get_title()
    assert len(cube.geomm.plot("thermal")) == 2
    assert "B4" in cube.geomm.plot.rgb("optical", bands="B4").get_title()
    one = cube.isel(time=0)
    assert "B4 B3 B2" in one.geomm.plot.rgb().get_title()
    chips = geomm.ChipGrid((9, 9), 3)
    assert chips[:3] == [chips[0], chips[1], chips[2]]
    assert "optical" in repr(geomm.ChipDataset(cube, chips, ["optical"]))
    assert repr(geomm.explain("E301")).startswith("GEOMM-E301")


def test_labels_keep_names_and_colours(at):
    cube = at.cube.copy()
    cube["fields"] = xr.DataTree(geomm.rasterize_labels(at.frame, CLASSES, at.grid))
    ax = cube.geomm.plot("fields")
    ax = ax if not isinstance(ax, np.ndarray) else ax.ravel()[0]
    legend = next(a.get_legend() for a in ax.figure.axes if a.get_legend() is not None)
    assert [t.get_text() for t in legend.get_texts()] == ["clear"]
    assert ax.images[0].get_array()[48, 64, :3].tolist() == [0x3F, 0x7F, 0x4F]
