"""Interpolated integers against float64 truth: pyproj's coordinates of every pixel, SciPy's bilinear interpolation."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import map_coordinates

import geomm
from geomm.catalog import BandSource, Scene
from geomm.errors import ConfigError
from geomm.sensors import get_sensor

STEEP = 60  # DN by which neighbouring pixels differ at most; the imagery of benchmarks/chips.py, noise and all
DEGREE = 111_000.0


def box(crs, lon, lat, size, pixels, corner=(0.0, 0.0)):
    """A grid around a place, its corner moved by parts of a pixel; sizes in metres."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    size = size / DEGREE if crs == "EPSG:4326" else size
    left, top = x - size * (pixels / 2 + corner[0]), y + size * (pixels / 2 + corner[1])
    return GeoBox((pixels, pixels), Affine(size, 0, left, 0, -size, top), crs)


def scene_of(path, geobox, values, sensor="landsat-tirs-l1", band="B10", nodata=0):
    """A scene of one band."""
    with rasterio.open(
        path, "w", driver="GTiff", height=geobox.shape[0], width=geobox.shape[1], count=1, dtype=values.dtype,
        crs=str(geobox.crs), transform=geobox.affine, nodata=nodata, tiled=True, blockxsize=64, blockysize=64,
        compress="deflate", predictor=2,
    ) as file:  # fmt: skip
        file.write(values, 1)
    source = BandSource(str(path), 1, None, (nodata,), calibration=get_sensor(sensor).band(band).calibration)
    west, south, east, north = geobox.geographic_extent.boundingbox.bbox
    shape = {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, south]]]}
    return Scene("a", sensor, datetime(2024, 7, 1, tzinfo=UTC), (west, south, east, north), shape, {band: source})


parts = st.tuples(st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.tuples(st.floats(6.2, 11.8), st.floats(-65, 65)),
    source=st.sampled_from([("EPSG:32632", 20.0), ("EPSG:32632", 10.0), ("EPSG:32633", 30.0), ("EPSG:4326", 25.0)]),
    target=st.sampled_from([("EPSG:32632", 10.0), ("EPSG:32631", 10.0), ("EPSG:32632", 7.3), ("EPSG:4326", 11.0)]),
    corners=st.tuples(parts, parts),
    seed=st.integers(0, 999),
)
def test_interpolated_integers_err_by_a_twentieth_at_most(tmp_path, place, source, target, corners, seed):
    (lon, lat), generator = place, np.random.default_rng(seed)
    coarse = box(source[0], lon, lat, source[1], 192, corners[0])
    fine = box(target[0], lon, lat, target[1], 70, corners[1])
    stored = (generator.integers(2000, 60000) + generator.integers(0, STEEP, (192, 192))).astype("uint16")
    cube = geomm.load_cube([scene_of(tmp_path / "a.tif", coarse, stored)], fine, dtype="float64")
    node = cube["landsat-tirs-l1"]
    row, column = np.mgrid[:70, :70] + 0.5
    x, y = fine.affine * (column, row)
    x, y = Transformer.from_crs(str(fine.crs), str(coarse.crs), always_xy=True).transform(x, y)
    column, row = ~coarse.affine * (np.asarray(x), np.asarray(y))
    truth = map_coordinates(stored.astype(float), [row - 0.5, column - 0.5], order=1, mode="nearest")
    inside = (row >= 0) & (row < 192) & (column >= 0) & (column < 192)
    np.testing.assert_array_equal(node["valid"].to_numpy()[0], inside)
    error = np.abs(node["data"].to_numpy()[0, 0] - truth)[inside].max()
    logging.getLogger(__name__).info("largest error %.5f DN", error)
    assert error <= 0.05


def test_floats_on_request_and_nothing_is_nan(tmp_path):
    coarse, fine = box("EPSG:32632", 9, 48, 20, 64), box("EPSG:32632", 9, 48, 10, 300)
    values = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    scene = scene_of(tmp_path / "a.tif", coarse, values)
    stored, floats = (geomm.load_cube([scene], fine, dtype=d)["landsat-tirs-l1"] for d in (None, "float32"))
    assert (stored["data"].dtype, floats["data"].dtype) == ("uint16", "float32")
    np.testing.assert_array_equal(stored["status"], floats["status"])
    good = stored["valid"].to_numpy()[0]
    assert (np.isnan(floats["data"].to_numpy()[0, 0]) == ~good).all()
    np.testing.assert_array_equal(
        np.rint(floats["data"].to_numpy()[0, 0][good]), stored["data"].to_numpy()[0, 0][good]
    )  # fmt: skip
    with pytest.raises(ConfigError, match="dtype"):
        geomm.load_cube([scene], fine, dtype="uint8")


def test_classes_stay_classes(tmp_path):
    grid = box("EPSG:32632", 9, 48, 20, 64)
    scene = scene_of(tmp_path / "a.tif", grid, np.ones((64, 64), "uint8"), "landcover", "class", nodata=0)
    assert geomm.load_cube([scene], grid, dtype="float32")["landcover"]["data"].dtype == "uint8"
