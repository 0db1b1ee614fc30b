"""Choosing among times: the naive loop over pixels is the oracle."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import rasterio
from affine import Affine

import geomm
from geomm.cube.plan import STATUS
from geomm.errors import CatalogError, ConfigError
from geomm.testing import ORIGIN

DATES = ("2020-05-01", "2020-06-01", "2020-07-01", "2020-08-01")
SIDE = 140


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Four dates of one band in kelvin-like DN with random blobs of nodata; returns cube and plain arrays."""
    folder = tmp_path_factory.mktemp("series")
    generator = np.random.default_rng(0)
    stack = generator.integers(100, 4000, (4, SIDE, SIDE)).astype("uint16")
    for k in range(4):
        for _ in range(12):
            y, x = generator.integers(0, SIDE, 2)
            stack[k, y : y + 25, x : x + 30] = 0
    stack[:, :5, :5] = 0
    for date, values in zip(DATES, stack, strict=True):
        with rasterio.open(
            folder / f"s{date}_B04.tif", "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint16",
            crs="EPSG:32632", transform=Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]),
        ) as file:  # fmt: skip
            file.write(values, 1)
    definition = {
        "items": [
            {"sensor": "sentinel2-l1c", "pattern": f"s{d}_{{band}}.tif".replace("s2020", "{id}2020"), "datetime": d,
             "id": f"i{d}"} for d in DATES
        ],
        "properties": {"*": {"geomm:s2_offset": -100}},
    }  # fmt: skip
    scenes = geomm.build_catalog(folder, folder / "c", definition=definition).search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), {"red": geomm.Modality("sentinel2-l1c")}, chunks=50)
    physical = np.where(stack > 0, (stack - 100.0) * 1e-4, np.nan)
    return cube, physical


def test_nearest_valid_to_a_date(series):
    cube, physical = series
    lazy = geomm.composite(cube, "nearest", date="2020-06-20")["red"].to_dataset()
    assert dask.is_dask_collection(lazy.data.data)
    node = lazy.compute()
    expected, when = np.full(physical.shape[1:], np.nan), np.full(physical.shape[1:], -1)
    for k in (2, 1, 3, 0):  # 11, 19, 42 and 50 days away
        take = (when < 0) & np.isfinite(physical[k])
        expected[take], when[take] = physical[k][take], k
    np.testing.assert_allclose(node.data.to_numpy()[0, 0], expected, atol=1e-6)
    dates = np.array([*DATES, "NaT"], "datetime64[ns]")
    np.testing.assert_array_equal(node.observed.to_numpy()[0], dates[when])
    np.testing.assert_array_equal(node["count"].to_numpy()[0], np.isfinite(physical).sum(axis=0))
    assert not node.valid.to_numpy()[0, :5, :5].any()
    assert (node.status.to_numpy()[0, :5, :5] == STATUS["nodata"]).all()
    assert node.attrs["units"] == "reflectance"


def test_tolerance(series):
    cube, physical = series
    node = geomm.composite(cube, "nearest", date="2020-06-20", within=12)["red"].to_dataset().compute()
    np.testing.assert_array_equal(node.valid.to_numpy()[0], np.isfinite(physical[2]))
    with pytest.raises(CatalogError, match=r"no observation is near enough.*2020-05-01, 2020-06-01"):
        geomm.composite(cube, "nearest", date="2021-06-20", within=12)
    with pytest.raises(ConfigError, match="the date is missing"):
        geomm.composite(cube, "nearest")


def test_median(series):
    cube, physical = series
    node = geomm.composite(cube, "median")["red"].to_dataset().compute()
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanmedian(physical, axis=0)
    np.testing.assert_allclose(node.data.to_numpy()[0, 0], expected, atol=1e-6)


def test_best_keeps_away_from_clouds(series):
    cube, physical = series
    from scipy.ndimage import distance_transform_edt

    node = geomm.composite(cube, "best")["red"].to_dataset().compute()
    score = np.stack([np.minimum(distance_transform_edt(np.isfinite(p)), 50) for p in physical])
    expected = np.take_along_axis(physical, score.argmax(axis=0)[None], 0)[0]
    np.testing.assert_allclose(node.data.to_numpy()[0, 0], expected, atol=1e-6)


def test_a_composite_is_a_cube(series):
    cube, _ = series
    once = geomm.composite(cube, "median")
    again = geomm.calibrated(once)["red"]["data"].to_numpy()
    np.testing.assert_allclose(again, once["red"]["data"].to_numpy(), atol=1e-7)
    assert "140 x 140 pixels" in repr(once)
    assert "once computed" in repr(once)
    assert " %" in repr(once.compute())
