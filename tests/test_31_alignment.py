"""Alignment against the truth: an analytic field, rendered on many grids, must come back where it was."""

from __future__ import annotations

import functools
import itertools
import logging

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import reproject

import geomm
from geomm.catalog import Grid
from geomm.cube.locate import source_coordinates
from geomm.cube.resample import resample
from geomm.radiometry import from_db, to_db

LOG = logging.getLogger(__name__)  # figures: pytest --log-cli-level=INFO
LON, LAT = 11.98, 46.02  # beside the border of zones 32 and 33, where grids are turned most
TO_DEGREES = {code: Transformer.from_crs(code, "EPSG:4326", always_xy=True) for code in ("EPSG:32632", "EPSG:32633")}
LOCAL = Transformer.from_crs("EPSG:4326", "+proj=aeqd +lat_0=46.02 +lon_0=11.98 +datum=WGS84", always_xy=True)


def _grid(crs: str, size: float, shift: tuple[float, float] = (0.0, 0.0), pixels: int = 240) -> GeoBox:
    """A grid about the point, its corner at a fraction ``shift`` of a pixel from a multiple of the pixel size."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(LON, LAT)
    left = np.floor(x / size - pixels / 2) * size + shift[0] * size
    top = np.floor(y / size + pixels / 2) * size + shift[1] * size
    return GeoBox((pixels, pixels), Affine(size, 0, left, 0, -size, top), crs)


GRIDS = {
    "utm10": _grid("EPSG:32632", 10.0),
    "utm10 offset": _grid("EPSG:32632", 10.0, (0.37, 0.61)),
    "utm20": _grid("EPSG:32632", 20.0, pixels=120),
    "utm20 offset": _grid("EPSG:32632", 20.0, (0.5, 0.25), pixels=120),
    "neighbour10": _grid("EPSG:32633", 10.0, (0.2, 0.9)),
    "degrees": _grid("EPSG:4326", 1e-4),
}


def field(x, y):
    """Waves of 240 to 280 m over metres east and north of the point."""
    return (
        1000
        + 90 * np.sin(2 * np.pi * (x / 330.0 + y / 700.0))
        + 70 * np.cos(2 * np.pi * (y / 250.0 - x / 900.0))
        + 40 * np.sin(2 * np.pi * (x + y) / 400.0)
    )


@functools.cache
def truth(geobox: GeoBox) -> np.ndarray:
    """What a sensor would see: the field's mean over every pixel (6 x 6 points), by pyproj on every point."""
    row, column = np.mgrid[: geobox.shape[0] * 6, : geobox.shape[1] * 6] / 6 + 1 / 12
    x, y = geobox.affine * (column, row)
    lon, lat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
    height, width = geobox.shape
    return field(*LOCAL.transform(lon, lat)).reshape(height, 6, width, 6).mean(axis=(1, 3))


def _write(path, geobox, values, nodata=None):
    with rasterio.open(
        path, "w", driver="GTiff", height=geobox.shape[0], width=geobox.shape[1], count=1, dtype=values.dtype,
        crs=str(geobox.crs), transform=geobox.affine, nodata=nodata, tiled=True, blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(values, 1)


def _shift(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Displacement of ``b`` from ``a`` in pixels by phase correlation: slope of the cross spectrum's phase."""
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    fa, fb = (np.fft.fft2((v - v.mean()) * window) for v in (a, b))
    cross = fa * np.conj(fb)
    fy, fx = np.meshgrid(np.fft.fftfreq(a.shape[0]), np.fft.fftfreq(a.shape[1]), indexing="ij")
    strong = np.abs(cross) > 1e-3 * np.abs(cross).max()
    weight = np.sqrt(np.abs(cross[strong]))
    design = 2 * np.pi * np.stack([fy[strong], fx[strong]], axis=1) * weight[:, None]
    found, *_ = np.linalg.lstsq(design, np.angle(cross[strong]) * weight, rcond=None)
    return float(found[0]), float(found[1])


def test_the_ruler_measures():
    a = truth(GRIDS["utm10"])
    for dy, dx in ((0.0, 0.0), (0.05, -0.1), (0.5, 0.25)):
        moved = GeoBox(GRIDS["utm10"].shape, GRIDS["utm10"].affine * Affine.translation(dx, dy), GRIDS["utm10"].crs)
        assert _shift(a, truth(moved)) == pytest.approx((-dy, -dx), abs=0.01) or _shift(a, truth(moved)) == (
            pytest.approx((dy, dx), abs=0.01)
        )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("field")
    scenes = {}
    for name, geobox in GRIDS.items():
        (folder / name).mkdir()
        _write(folder / name / "field.tif", geobox, truth(geobox).astype("float32"))
        (scenes[name],) = geomm.build_catalog(folder / name, folder / f"c-{name}", datetime="2020-06-01").search()
    return scenes


def _bound(source: GeoBox, target: GeoBox, expected: np.ndarray) -> float:
    """RMSE of textbook bilinear sampling at pyproj's exact coordinates."""
    stored = truth(source)
    to_source = Transformer.from_crs(str(target.crs), str(source.crs), always_xy=True)

    def at(row, column):
        x, y = to_source.transform(*(target.affine * (column, row)))
        column, row = ~source.affine * (np.asarray(x), np.asarray(y))
        return row - 0.5, column - 0.5

    def bilinear(row, column):
        r, c = np.floor(row).astype(int), np.floor(column).astype(int)
        inside = (r >= 0) & (c >= 0) & (r < stored.shape[0] - 1) & (c < stored.shape[1] - 1)
        r, c = np.where(inside, r, 0), np.where(inside, c, 0)
        v, u = row - r, column - c
        value = (stored[r, c] * (1 - u) + stored[r, c + 1] * u) * (1 - v) + (
            stored[r + 1, c] * (1 - u) + stored[r + 1, c + 1] * u
        ) * v
        return np.where(inside, value, np.nan)

    row, column = np.mgrid[: target.shape[0], : target.shape[1]] + 0.5
    return float(np.sqrt(np.nanmean((bilinear(*at(row, column)) - expected) ** 2)))


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(GRIDS, 2)))
def test_field_comes_back_in_place(rendered, source, target):
    grid = GRIDS[target]
    node = geomm.load_cube([rendered[source]], grid, chunks=64)["generic"].to_dataset().compute()
    got, valid, expected = node.data.to_numpy()[0, 0], node.valid.to_numpy()[0], truth(grid)
    inner = np.s_[20:-20, 20:-20]
    if not valid[inner].all():  # compare the largest common square of the two footprints
        rows, columns = np.nonzero(valid)
        inner = np.s_[rows.min() + 12 : rows.max() - 12, columns.min() + 12 : columns.max() - 12]
    assert valid[inner].all()
    assert got[inner].size > 1500
    dy, dx = _shift(got[inner], expected[inner])
    assert np.hypot(dy, dx) <= 0.05
    rmse = float(np.sqrt(np.mean((got[inner] - expected[inner]) ** 2)))
    bound = max(_bound(GRIDS[source], grid, expected), 1e-3)
    LOG.info("%s -> %s: shift %.4f px, rmse %.3f x bilinear", source, target, np.hypot(dy, dx), rmse / bound)
    assert rmse <= 1.2 * bound


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    zone=st.integers(1, 60),
    south=st.booleans(),
    lat=st.floats(0.5, 80.0),
    across=st.floats(-4.5, 4.5),
    size=st.sampled_from([2.5, 10.0, 20.0, 30.0, 100.0, 600.0]),
    target_crs=st.sampled_from(["same", "next", "degrees", "mercator"]),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    cut=st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(1, 120), st.integers(1, 120)),
)
def test_pixel_centres_lie_where_pyproj_says(zone, south, lat, across, size, target_crs, corner, cut):
    code = f"EPSG:{(32700 if south else 32600) + zone}"
    lon = zone * 6 - 183 + across
    crs = {
        "same": code,
        "next": f"EPSG:{(32700 if south else 32600) + zone % 60 + 1}",
        "degrees": "EPSG:4326",
        "mercator": "EPSG:3857",
    }[target_crs]
    lat = -lat if south else lat
    x, y = Transformer.from_crs("EPSG:4326", code, always_xy=True).transform(lon, lat)
    source = Grid(code, (size, 0.0, x - 150 * size, 0.0, -size, y + 150 * size), (300, 300))
    tx, ty = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    pixel = size / 111_000.0 if target_crs == "degrees" else size
    target = GeoBox(
        (256, 256), Affine(pixel, 0, tx - (128 + corner[0]) * pixel, 0, -pixel, ty + (128 + corner[1]) * pixel), crs
    )
    top, left, height, width = cut
    height, width = min(height, 256 - top), min(width, 256 - left)
    window = target[top : top + height, left : left + width]
    rows, columns = source_coordinates(window, source)
    row, column = np.mgrid[:height, :width] + 0.5
    px, py = Transformer.from_crs(crs, code, always_xy=True).transform(*(window.affine * (column, row)))
    true_columns, true_rows = ~Affine(*source.transform) * (np.asarray(px), np.asarray(py))
    known = np.isfinite(true_rows) & np.isfinite(true_columns)
    error = np.hypot(rows - true_rows, columns - true_columns)[known]
    assert error.size == 0 or error.max() <= 0.01  # the issue asks for 0.5
    whole_rows, whole_columns = source_coordinates(target, source)
    part = np.s_[top : top + height, left : left + width]
    np.testing.assert_allclose(rows, whole_rows[part], atol=2.5e-4)  # one step of rounding
    np.testing.assert_allclose(columns, whole_columns[part], atol=2.5e-4)


@pytest.mark.parametrize("target", list(GRIDS))
@pytest.mark.parametrize("chunks", [37, 64, 113])
def test_lazy_equals_eager_for_any_chunking(rendered, target, chunks):
    for source in ("utm10 offset", "neighbour10", "degrees"):
        whole, cut = (geomm.load_cube([rendered[source]], GRIDS[target], chunks=c)["generic"] for c in (1000, chunks))
        np.testing.assert_array_equal(cut["status"].to_numpy(), whole["status"].to_numpy())
        np.testing.assert_array_equal(cut["data"].to_numpy(), whole["data"].to_numpy())


def test_classes_hold_no_value_that_the_source_lacks(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.choice([1, 2, 4, 5, 9], (120, 120)).astype("uint8")
    _write(tmp_path / "a_class.tif", GRIDS["utm20"], labels)
    scenes = geomm.build_catalog(tmp_path, tmp_path / "c", sensors=["landcover"], datetime="2020-06-01").search()
    for name, grid in {**GRIDS, "coarse": _grid("EPSG:32633", 70.0, pixels=30)}.items():
        node = geomm.load_cube(scenes, grid)["landcover"].to_dataset().compute()
        assert set(np.unique(node.data.to_numpy()[0, 0][node.valid[0]])) <= {1, 2, 4, 5, 9}, name


def test_mode_is_the_most_frequent_class():
    labels = np.array([[3, 3, 7, 7], [3, 5, 7, 5]], "uint8")
    corners = np.meshgrid([0.0, 2.0], [0.0, 2.0, 4.0], indexing="ij")
    got, valid = resample(labels, np.ones_like(labels, bool), *corners, "mode")
    assert got.tolist() == [[3, 7]]
    assert valid.all()
    tie, _ = resample(
        labels[:, 1:3], np.ones((2, 2), bool), *np.meshgrid([0.0, 2.0], [0.0, 2.0], indexing="ij"), "mode"
    )
    assert tie.tolist() == [[7]]


def test_quality_bits_are_kept_by_any_part_of_a_pixel():
    flags = np.array([[1, 0], [8, 0]], "uint16")
    corners = np.meshgrid([0.0, 2.0], [0.0, 1.0, 2.0], indexing="ij")
    got, _ = resample(flags, np.ones_like(flags, bool), *corners, "or")
    assert got.tolist() == [[9, 0]]


def test_backscatter_is_averaged_as_power(tmp_path):
    generator = np.random.default_rng(1)
    power = generator.gamma(4.4, 0.05 / 4.4, (240, 240)).astype("float32")
    for name, stored in (("power", power), ("db", to_db(power))):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "a_VV.tif", GRIDS["utm10"], stored.astype("float32"))
    coarse = GeoBox((24, 24), GRIDS["utm10"].affine * Affine.scale(10), "EPSG:32632")
    exact = to_db(power.astype(float).reshape(24, 10, 24, 10).mean(axis=(1, 3)))
    for name, sensor in (("power", "sentinel1-rtc"), ("db", "sentinel1-rtc-db")):
        scenes = geomm.build_catalog(
            tmp_path / name, tmp_path / f"c-{name}", sensors=[sensor], datetime="2020-06-01"
        ).search()
        got = geomm.load_cube(scenes, coarse)[sensor]["data"].to_numpy()[0, 0]
        in_db = to_db(got) if name == "power" else got
        assert np.abs(in_db - exact).max() <= 0.02
    wrong = to_db(power).reshape(24, 10, 24, 10).mean(axis=(1, 3))
    assert np.abs(wrong - exact).mean() > 0.3  # what averaging decibels would have cost
    assert from_db(to_db(0.25)) == pytest.approx(0.25)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_point_sampling_equals_gdal_with_exact_transforms(method):
    """GDAL's warper with tolerance 0 is the oracle, nodata included."""
    generator = np.random.default_rng(3)
    source, target = GRIDS["neighbour10"], GRIDS["utm10"]
    values = generator.integers(1, 4000, source.shape).astype("float32")
    values[60:90, 100:130] = 0
    values[generator.random(values.shape) < 0.02] = 0
    expected = np.zeros(target.shape, "float32")
    reproject(
        values, expected, src_transform=source.affine, src_crs=str(source.crs), src_nodata=0, dst_nodata=0,
        dst_transform=target.affine, dst_crs=str(target.crs), resampling=rasterio.enums.Resampling[method], tolerance=0,
    )  # fmt: skip
    grid = Grid(str(source.crs), tuple(source.affine[:6]), tuple(source.shape))
    got, valid = resample(values, values != 0, *source_coordinates(target, grid), method)
    both = valid & (expected != 0)
    assert (valid != (expected != 0)).mean() < 1e-3
    close = np.isclose(got[both], expected[both], atol=2.0)
    assert close.mean() > 0.999


def test_partial_pixels_keep_sums_and_ranges():
    """Conservative averages: the sum over the area stays, no value beyond the neighbours' arises, planes are exact."""
    generator = np.random.default_rng(5)
    for values in (generator.gamma(1.0, 1.0, (40, 40)), np.add.outer(np.arange(40.0), 3 * np.arange(40.0))):
        edge = np.linspace(0.0, 40.0, 17)  # 2.5 source pixels each
        got, valid = resample(
            values, np.ones_like(values, bool), *np.meshgrid(edge, edge, indexing="ij"), "conservative"
        )
        assert valid.all()
        assert got.mean() == pytest.approx(values.mean(), rel=1e-9)
        assert values.min() <= got.min() <= got.max() <= values.max()
    middle = (edge[:-1] + edge[1:]) / 2 - 0.5
    np.testing.assert_allclose(got[1:-1, 1:-1], np.add.outer(middle, 3 * middle)[1:-1, 1:-1])


@pytest.mark.parametrize("lon", [-45.0, -20.0, 0.0, 15.0, 30.0, 44.0])
def test_areas_of_turned_pixels(lon):
    """10 m UTM pixels at 75 N onto 60 m of a polar grid, turned by up to 90 degrees; the truth is sampled 30 x 30."""
    zone = int((lon + 180) // 6) + 1
    utm, polar = f"EPSG:{32600 + zone}", "EPSG:3413"
    x, y = Transformer.from_crs("EPSG:4326", utm, always_xy=True).transform(lon, 75.0)
    source = Grid(utm, (10.0, 0.0, x - 3000, 0.0, -10.0, y + 3000), (600, 600))
    px, py = Transformer.from_crs("EPSG:4326", polar, always_xy=True).transform(lon, 75.0)
    target = GeoBox((30, 30), Affine(60, 0, px - 900, 0, -60, py + 900), polar)
    generator = np.random.default_rng(0)
    values = generator.random((600, 600))
    labels = generator.integers(1, 5, (600, 600)).astype("uint8")
    flags = (generator.random((600, 600)) < 0.005).astype("uint16")
    valid = np.ones((600, 600), bool)
    corners = source_coordinates(target, source, corners=True)
    row, column = np.mgrid[:900, :900] / 30 + 1 / 60
    east, north = target.affine * (column, row)
    sx, sy = Transformer.from_crs(polar, utm, always_xy=True).transform(east, north)
    c, r = (np.asarray(v).astype(int) for v in ~Affine(*source.transform) * (np.asarray(sx), np.asarray(sy)))
    truth_mean = values[r, c].reshape(30, 30, 30, 30).mean(axis=(1, 3))
    got, good = resample(values, valid, *corners, "average")
    assert good.all()
    assert np.corrcoef(got.ravel(), truth_mean.ravel())[0, 1] > 0.97
    shares = np.stack([(labels[r, c] == k).reshape(30, 30, 30, 30).mean(axis=(1, 3)) for k in range(1, 5)])
    modes, good = resample(labels, valid, *corners, "mode")
    assert good.all()
    chosen = np.take_along_axis(shares, modes[None].astype(int) - 1, 0)[0]
    assert (shares.max(axis=0) - chosen).max() < 0.08  # the most frequent, or as good as that
    flagged = flags[r, c].reshape(30, 30, 30, 30).max(axis=(1, 3)) > 0
    bits, _ = resample(flags, valid, *corners, "or")
    assert (bits[flagged] > 0).all()  # none is lost


def test_angles_and_scaled_decibels_are_averaged_as_what_they_are(tmp_path):
    stored = np.full((40, 40), 3500, "uint16")
    stored[:, 20:] = 3700
    _write(tmp_path / "s_incidence.tif", _grid("EPSG:32632", 10.0, pixels=40), stored)
    scenes = geomm.build_catalog(
        tmp_path, tmp_path / "c", sensors=["sentinel1-incidence"], datetime="2020-06-01"
    ).search()
    moved = _grid("EPSG:32632", 10.0, (0.5, 0.5), pixels=40)
    angle = geomm.calibrated(geomm.load_cube(scenes, moved))["sentinel1-incidence"]["data"].to_numpy()[0, 0]
    assert angle[10, 5] == pytest.approx(35.0, abs=0.011)
    assert angle[10, 30] == pytest.approx(37.0, abs=0.011)
    assert np.nanmin(angle) > 34.9


def test_longitudes_count_modulo_360(tmp_path):
    field360 = np.add.outer(np.arange(20.0), np.arange(40.0)).astype("float32")
    beyond = GeoBox((20, 40), Affine(0.5, 0, 190, 0, -0.5, 10), "EPSG:4326")  # 170 to 150 W
    _write(tmp_path / "f.tif", beyond, field360)
    scenes = geomm.build_catalog(tmp_path, tmp_path / "c", datetime="2020-06-01").search()
    assert scenes[0].bbox == pytest.approx((-170.0, 0.0, -150.0, 10.0))
    ours = GeoBox((20, 40), Affine(0.5, 0, -170, 0, -0.5, 10), "EPSG:4326")
    np.testing.assert_array_equal(geomm.load_cube(scenes, ours)["generic"]["data"].to_numpy()[0, 0], field360)


def test_windows_agree_where_the_lattice_gives_way():
    """Near a pole some cells are transformed pixel by pixel: the same ones whatever the window."""
    source = Grid("EPSG:4326", (0.1, 0.0, -180.0, 0.0, -0.1, 90.0), (300, 3600))
    target = GeoBox((200, 200), Affine(2000, 0, -200_000, 0, -2000, 200_000), "EPSG:3413")
    whole = source_coordinates(target, source)
    for y in range(0, 200, 23):
        for x in range(0, 200, 31):
            part = source_coordinates(target[y : min(y + 23, 200), x : min(x + 31, 200)], source)
            for a, b in zip(part, whole, strict=True):
                np.testing.assert_array_equal(a, b[y : y + 23, x : x + 31])


def test_average_equals_gdal_on_the_same_lattice():
    generator = np.random.default_rng(4)
    values = generator.integers(1, 4000, (96, 96)).astype("float64")
    values[10:40, 10:40] = 0
    expected = np.zeros((12, 12))
    step = Affine(10, 0, 5e5, 0, -10, 4e6)
    reproject(
        values, expected, src_transform=step, src_crs="EPSG:32632", src_nodata=0, dst_nodata=0,
        dst_transform=step * Affine.scale(8), dst_crs="EPSG:32632", resampling=rasterio.enums.Resampling.average,
    )  # fmt: skip
    corners = np.meshgrid(np.arange(13) * 8.0, np.arange(13) * 8.0, indexing="ij")
    got, valid = resample(values, values != 0, *corners, "average")
    share = (values != 0).reshape(12, 8, 12, 8).mean(axis=(1, 3))
    np.testing.assert_array_equal(valid, share >= 0.5)
    np.testing.assert_allclose(got[valid], expected[valid], rtol=1e-12)
