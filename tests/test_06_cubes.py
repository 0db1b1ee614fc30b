"""Cubes that were cut, turned or put together, and arrays, targets and dates of another kind."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import xarray as xr

import geomm
from geomm.cube.items import items_of, told_items
from geomm.errors import ContractError, GeommError
from geomm.package import InputContract, check_cube

CLASSES = (geomm.ClassSpec(3, "dry", "#aa8855"), geomm.ClassSpec(7, "water", "#3355aa"))


@pytest.fixture
def at(cube, landsat):
    class At:
        scenes = landsat.search()

    At.cube, At.grid = cube, geomm.common_geobox(At.scenes)
    At.array = cube["thermal"].to_dataset()["data"].isel(time=0, drop=True)
    return At


WRONG = {
    "rows that go north": (lambda a: geomm.ChipDataset(a.cube.isel(y=slice(None, None, -1)), [], ["optical"]), r"isel\(y="),
    "chosen columns": (lambda a: geomm.cube.geobox_of(a.cube.isel(x=[0, 5, 7, 50])), "every n-th"),
    "one column": (lambda a: geomm.cube.geobox_of(a.cube.isel(x=5)), r"isel\(x=slice\(5, 6\)\)"),
    "south before north": (lambda a: geomm.cube.geobox_of(a.cube.isel(y=slice(0, 0))), "slice.north, south"),
    "chosen columns of an array": (lambda a: geomm.from_xarray({"t": a.array.isel(x=[0, 1, 50])}, time="2020"), "every n-th"),
    "a row of an array": (lambda a: geomm.from_xarray({"t": a.array.isel(y=3)}, time="2020"), r"isel\(y=slice"),
    "a number for a time": (lambda a: geomm.from_xarray({"t": a.array}, time=2020), '"2024-05-31T10:00Z"'),
    "a coordinate's name": (lambda a: geomm.from_xarray({"time": a.array}, time="2020"), "name it otherwise"),
    "a path for a name": (lambda a: geomm.from_xarray({"a/b": a.array}, time="2020"), "plain name"),
    "a calibration alone": (
        lambda a: geomm.from_xarray({"t": a.array}, time="2020", calibration=geomm.Calibration(0.1)), "calibration={"
    ),
    "clouds by name": (lambda a: geomm.cube.arguments.check_codes(["cloud"], geomm.QualityRule("SCL", "scl")), "0 to 11"),
    "a bit too far": (lambda a: geomm.cube.arguments.check_codes([99], geomm.QualityRule("Q", "qa_pixel")), "0 to 15"),
    "quality of the scene": (lambda a: geomm.load_cube(geomm.scenes_frame(a.scenes), a.grid), "the scenes themselves"),
    "all sites": (lambda a: geomm.load_cube(geomm.cube.group_sites(a.scenes), a.grid), "choose one site"),
    "a zone far away": (lambda a: geomm.common_geobox(a.scenes, crs="EPSG:32755"), "crs='utm'"),
    "heights": (lambda a: geomm.common_geobox(a.scenes, crs="EPSG:5773", resolution=30), "crs='utm'"),
    "names for values": (lambda a: geomm.Target("label", ("dry", "water")), "values=.0, 1, 2"),
    "text for values": (lambda a: geomm.Target("label", "01"), "values=.0, 1, 2"),
    "one value": (lambda a: geomm.Target("label", 3), "values=.0, 1, 2"),
    "bands without an order": (lambda _: geomm.Modality("sentinel2-l2a", {"B04", "B03"}), "B4.*for all"),
    "bands before the sensor": (lambda _: geomm.Modality(("B2",), "landsat-oli-l1"), "write Modality"),
    "a record for a sensor": (lambda _: geomm.Modality(geomm.SENSORS["landsat-bqa"]), r'Modality\("landsat-bqa"'),
    "a year as a number": (lambda a: geomm.composite(a.cube, "nearest", date=2020), "'2024-05-31'"),
    "days as text": (lambda a: geomm.composite(a.cube, "best", date="2020-06-01", within="10d"), "within=10"),
    "no time left": (lambda a: geomm.composite(a.cube.sel(time=slice("2026", "2027")), "best"), "times that the cube has"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_message_names_the_fix(at, name):
    do, fix = WRONG[name]
    with pytest.raises(GeommError, match=fix):
        do(at)


def test_a_model_takes_its_own_sensor_only(cube):
    contract = InputContract.of(cube, ["optical"], CLASSES)
    check_cube(contract, cube)
    other = cube.copy()
    other["optical"].attrs = cube["optical"].attrs | {"sensor": "landsat-tm-l1"}
    with pytest.raises(ContractError, match="load optical from sensor landsat-oli-l1"):
        check_cube(contract, other)


def test_a_target_takes_classes_for_their_values():
    assert geomm.Target("label", CLASSES) == geomm.Target("label", (3, 7)) == geomm.Target("label", np.array([3, 7]))


def test_whole_numbers_with_nan_for_nodata_are_calibrated_as_the_whole_numbers(at, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    at.array.astype("uint16").rio.to_raster(tmp_path / "stored.tif")
    sensors = {"t": geomm.Modality("landsat-tirs-l1", ("B10", "B11"))}
    both = [
        geomm.calibrated(geomm.from_xarray({"t": array}, sensors, time=np.datetime64("2020-06-01")))["t"]["data"]
        for array in (
            rioxarray.open_rasterio(tmp_path / "stored.tif"),
            rioxarray.open_rasterio(tmp_path / "stored.tif", masked=True),
        )
    ]
    np.testing.assert_array_equal(*both)
    assert 200 < float(both[1].mean()) < 400  # kelvin


def test_what_is_nodata_is_said_so_that_others_know(cube):
    data = cube["optical"]["data"]
    assert data.rio.nodata == data.odc.nodata == 0
    assert "nodata" not in geomm.calibrated(cube)["optical"]["data"].attrs
    again = geomm.from_xarray({"optical": data}, {"optical": "landsat-oli-l1"})
    np.testing.assert_array_equal(again["optical"]["valid"], cube["optical"]["valid"])


@pytest.fixture
def series():
    """A node of classes at three times."""
    codes = np.array([[2, 9, 4], [9, 9, 5], [2, 4, 0]], np.uint8).reshape(3, 1, 1, 3)
    valid = codes[:, 0] > 0
    times = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[ns]")
    table = {
        k: (("time", "band"), np.full((3, 1), v))
        for k, v in {"scale": 1.0, "offset": 0.0, "k1": np.nan, "k2": np.nan}.items()
    }
    node = xr.Dataset(
        {"data": (("time", "band", "y", "x"), codes), "valid": (("time", "y", "x"), valid), "status": (("time", "y", "x"), valid * np.uint8(4))},
        coords={"time": times, "band": ["class"], "y": [0.0], "x": [0.0, 1.0, 2.0], **table},
        attrs={"kind": "class", **told_items([["a"], ["b", "c"], ["d"]], times)},
    )  # fmt: skip
    return xr.DataTree.from_dict({"/": xr.Dataset(coords={"y": [0.0], "x": [0.0, 1.0, 2.0]}), "label": node})


def test_of_classes_the_most_frequent_is_taken(series):
    found = geomm.composite(series, "median")["label"]
    assert found["data"].to_numpy().ravel().tolist() == [2, 9, 4]
    assert found.attrs["items"] == [["a", "b", "c", "d"]]
    assert items_of(found.to_dataset()) == [["a", "b", "c", "d"]]


def test_items_follow_their_times(series):
    node = series["label"].to_dataset()
    assert items_of(node) == [["a"], ["b", "c"], ["d"]]
    assert items_of(node.isel(time=[2, 0])) == [["d"], ["a"]]
    assert items_of(node.sel(time=slice("2020-01-02", None))) == [["b", "c"], ["d"]]
    later = node.isel(time=[0]).assign_coords(time=np.array(["2021-01-01"], "datetime64[ns]"))
    both = xr.concat([node, later], "time")
    assert items_of(both) == [["a"], ["b", "c"], ["d"], []]
    whole = xr.DataTree.from_dict({"/": series.to_dataset(), "label": both})
    assert geomm.composite(whole, "best")["label"].sizes["time"] == 1
    alone = geomm.composite(series.sel(time="2020-01-02"), "median")["label"]
    assert alone.attrs["items"] == [["b", "c"]]
    assert alone["data"].to_numpy().ravel().tolist() == [9, 9, 5]


def test_a_moment_is_a_date_too(series):
    for date in ("2020-01-02", dt.date(2020, 1, 2), dt.datetime(2020, 1, 2), np.datetime64("2020-01-02")):  # noqa: DTZ001
        assert geomm.composite(series, "nearest", date=date)["label"]["data"].to_numpy().ravel().tolist() == [9, 9, 5]
