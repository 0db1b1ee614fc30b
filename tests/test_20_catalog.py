"""Catalogs: built from folders, opened, searched."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os

import numpy as np
import pytest
import rasterio

import geomm
from geomm.catalog.criteria import parse_interval
from geomm.errors import (
    CatalogError,
    ChecksumError,
    ConfigError,
    GridError,
    MissingBandError,
    OutputError,
    ReadError,
    UnknownNameError,
)
from geomm.testing import write_scene

ALL = ("landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa")


def test_one_item_holds_several_sensors(landsat):
    scenes = landsat.search()
    assert [(s.id, s.sensor, tuple(s.bands)) for s in scenes] == [
        ("scene", "landsat-bqa", ("BQA",)),
        ("scene", "landsat-oli-l1", ("B2", "B3", "B4")),
        ("scene", "landsat-tirs-l1", ("B10", "B11")),
    ]
    assert {s.time for s in scenes} == {dt.datetime(2020, 6, 1, 10, tzinfo=dt.UTC)}


def test_catalog_moves_with_its_data(tmp_path):
    write_scene(tmp_path / "a" / "data", "landsat-bqa")
    geomm.build_catalog(tmp_path / "a" / "data", tmp_path / "a" / "cat", sensors=["landsat-bqa"], datetime="2020-01-01")
    os.rename(tmp_path / "a", tmp_path / "b")
    (scene,) = geomm.open_catalog(tmp_path / "b" / "cat").search()
    assert os.path.samefile(scene.bands["BQA"].href, tmp_path / "b" / "data" / "scene_BQA.tif")


def test_a_catalog_with_checksums_knows_its_files(tmp_path):
    files = write_scene(tmp_path / "data", "sentinel1-rtc", item="s1")
    options = {"sensors": ["sentinel1-rtc"], "datetime": "2020-06-01"}
    plain = geomm.build_catalog(tmp_path / "data", tmp_path / "plain", **options)
    catalog = geomm.build_catalog(tmp_path / "data", tmp_path / "catalog", checksums=True, **options)
    (before,), (scene,) = plain.search(), catalog.search()
    for file in files:
        band = scene.bands[file.stem.rpartition("_")[2]]
        assert band.checksum == f"1220{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert {b.checksum for b in before.bands.values()} == {""}
    damaged = bytearray(files[0].read_bytes())
    damaged[-40] ^= 1  # a pixel: the file opens as before
    files[0].write_bytes(damaged)
    geobox = geomm.common_geobox([scene])
    assert geomm.load_cube([before], geobox, errors="raise").compute()
    with pytest.raises(ChecksumError, match="not the one"):
        geomm.load_cube([scene], geobox, errors="raise").compute()


def test_search_by_place_and_time(landsat):
    west, south, east, north = landsat.search()[0].bbox
    assert len(landsat.search((west, south, east, north))) == 3
    assert landsat.search((west + 5, south, east + 5, north)) == []
    assert len(landsat.search(datetime="2020-06-01")) == 3
    assert len(landsat.search(datetime="2020-05-01/..")) == 3
    assert landsat.search(datetime="2020-06-02/2020-07-01") == []
    assert len(landsat.search(sensors=["landsat-tirs-l1"])) == 1
    assert landsat.search(ids=["other"]) == []


def test_interval_ends_cover_whole_days():
    start, end = parse_interval("2020-01-01/2020-01-31")
    assert start == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert dt.datetime(2020, 1, 31, 23, 59, 59, tzinfo=dt.UTC) < end < dt.datetime(2020, 2, 1, tzinfo=dt.UTC)


def test_search_refuses_nonsense(landsat):
    with pytest.raises(CatalogError, match="longitude before latitude"):
        landsat.search((36.0, 120.0, 37.0, 121.0))
    with pytest.raises(CatalogError, match="cannot be understood"):
        landsat.search(datetime="June")
    with pytest.raises(UnknownNameError, match="known: .*sentinel2-l2a"):
        landsat.search(sensors=["sentinel-2"])


def test_scene_names_the_missing_band(landsat):
    scene = landsat.search(sensors=["landsat-oli-l1"])[0]
    with pytest.raises(MissingBandError, match=r"band B7 is missing.*item scene.*offers B2, B3, B4"):
        scene.only(["B2", "B7"])


def test_multi_band_files_by_definition(tmp_path):
    (tmp_path / "s2").mkdir()
    pixels = np.stack([np.full((8, 8), 100 * k, np.int16) for k in range(3)])
    with rasterio.open(
        tmp_path / "s2" / "p1.tif",
        "w",
        driver="GTiff",
        height=8,
        width=8,
        count=3,
        dtype="int16",
        crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as file:
        file.write(pixels)
    definition = {
        "datetime": "2021-07-01",
        "items": [{"sensor": "sentinel2-l2a", "pattern": "s2/{id}.tif", "bands": ["B02", "B03", "B04"]}],
        "properties": {"*": {"geomm:s2_offset": 0}, "p1": {"geomm:s2_offset": -1000}},
    }
    (scene,) = geomm.build_catalog(tmp_path, tmp_path / "cat", definition=definition).search()
    assert [(n, s.index) for n, s in scene.bands.items()] == [("B02", 1), ("B03", 2), ("B04", 3)]
    assert scene.bands["B02"].calibration.offset == pytest.approx(-0.1)
    node = geomm.load_cube([scene], geomm.common_geobox([scene]))["sentinel2-l2a"]
    assert node["data"].dtype == np.int16
    assert node["data"].isel(time=0, y=0, x=0).to_numpy().tolist() == [0, 100, 200]


def test_unknown_baselines_are_told_once_with_their_items(tmp_path):
    write_scene(tmp_path / "d", "sentinel2-l1c", bands=("B02",), resolution=10)
    catalog = geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=["sentinel2-l1c"], datetime="2021-07-01")
    with pytest.warns(UserWarning, match=r"baseline is unknown of 1 items \(scene\)"):
        catalog.search()


def test_generic_files_keep_every_value(tmp_path):
    with rasterio.open(
        tmp_path / "x.tif",
        "w",
        driver="GTiff",
        height=4,
        width=4,
        count=1,
        dtype="uint8",
        crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as file:
        file.write(np.arange(16, dtype=np.uint8).reshape(1, 4, 4) * 17)
    (scene,) = geomm.build_catalog(tmp_path, tmp_path / "c", datetime="2021-07-01").search()
    node = geomm.load_cube([scene], geomm.common_geobox([scene])).children["generic"]
    assert node["valid"].to_numpy().all()
    assert node["data"].to_numpy().ravel().tolist() == [k * 17 for k in range(16)]


def _no_crs(folder):
    return write_scene(folder, "landsat-bqa", crs=None)


def _garbage(folder):
    folder.mkdir()
    (folder / "scene_BQA.tif").write_bytes(b"<VRTDataset/>")


def _truncated_header(folder):
    folder.mkdir()
    (folder / "scene_BQA.tif").write_bytes(b"II*\0\x08\0")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (_no_crs, GridError, r"not georeferenced.*scene_BQA.tif.*no CRS.*gdal_edit"),
        (_garbage, ReadError, r"format that geomm does not open.*scene_BQA.tif.*neither TIFF nor JPEG 2000"),
        (_truncated_header, ReadError, r"cannot be opened.*scene_BQA.tif"),
        (lambda folder: folder.mkdir(), CatalogError, "no file fits"),
        (lambda folder: None, CatalogError, "does not exist"),
    ],
)
def test_bad_folders_are_refused_and_leave_nothing(tmp_path, make, error, message):
    make(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        geomm.build_catalog(tmp_path / "data", tmp_path / "cat", sensors=["landsat-bqa"], datetime="2020-01-01")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_item_needs_a_date(tmp_path):
    write_scene(tmp_path / "d", "landsat-bqa")
    with pytest.raises(CatalogError, match=r"no date.*--datetime"):
        geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=["landsat-bqa"])
    write_scene(tmp_path / "e", "landsat-bqa", item="LC08_20200131")
    (scene,) = geomm.build_catalog(tmp_path / "e", tmp_path / "c", sensors=["landsat-bqa"]).search()
    assert scene.time == dt.datetime(2020, 1, 31, tzinfo=dt.UTC)


def test_a_folder_with_other_things_is_not_replaced(tmp_path, landsat_folder):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        geomm.build_catalog(landsat_folder, tmp_path, sensors=ALL, datetime="2020-01-01")
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_definition_refuses_unknown_keys(tmp_path, landsat_folder):
    with pytest.raises(ConfigError, match="unknown"):
        geomm.build_catalog(landsat_folder, tmp_path / "c", definition={"itms": []})


def test_open_refuses_what_is_no_catalog(tmp_path):
    with pytest.raises(CatalogError, match="geomm catalog build"):
        geomm.open_catalog(tmp_path)
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Nothing"}))
    with pytest.raises(CatalogError, match="cannot be read"):
        geomm.open_catalog(tmp_path)
    with pytest.raises(CatalogError, match="cannot be read"):
        geomm.open_catalog(tmp_path / "missing.json")


def test_a_longer_band_name_is_never_taken_for_a_shorter_one(tmp_path):
    write_scene(tmp_path / "d", "landsat-tirs-l2", bands=("ST_B10",))
    with pytest.raises(CatalogError, match="no file fits"):
        geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=["landsat-tirs-l1"], datetime="2020-01-01")
    (scene,) = geomm.build_catalog(
        tmp_path / "d", tmp_path / "c", sensors=["landsat-tirs-l2"], datetime="2020-01-01"
    ).search()
    assert (scene.id, tuple(scene.bands)) == ("scene", ("ST_B10",))


def test_a_catalog_never_replaces_imagery(tmp_path):
    write_scene(tmp_path / "d" / "sub", "landsat-bqa")
    (tmp_path / "d" / "catalog.json").write_text("{}")
    for out in (tmp_path / "d", tmp_path / "d" / "sub", tmp_path):
        folder = tmp_path / "d" / "sub" if out != tmp_path else tmp_path / "d"
        with pytest.raises(OutputError, match=r"cannot lie where the imagery lies|something else than a catalog"):
            geomm.build_catalog(folder, out, sensors=["landsat-bqa"], datetime="2020-06-01")
    assert (tmp_path / "d" / "sub" / "scene_BQA.tif").is_file()
    good = tmp_path / "cat"
    for _ in range(2):  # a catalog replaces a catalog
        geomm.build_catalog(tmp_path / "d", good, sensors=["landsat-bqa"], datetime="2020-06-01")


def test_files_of_one_name_in_several_folders_are_kept_apart(tmp_path):
    for folder, seed in (("a", 1), ("b", 2)):
        write_scene(tmp_path / "d" / folder, "landsat-bqa", item="x", seed=seed)
    generic = geomm.build_catalog(tmp_path / "d", tmp_path / "c", datetime="2020-06-01").search()
    assert sorted(s.id for s in generic) == ["a-x_BQA", "b-x_BQA"]
    assert len({b.href for s in generic for b in s.bands.values()}) == 2
    named = geomm.build_catalog(
        tmp_path / "d", tmp_path / "c2", sensors=["landsat-bqa"], datetime="2020-06-01"
    ).search()
    assert sorted(s.id for s in named) == ["a-x", "b-x"]
    (tmp_path / "d" / "a" / "x-BQA.tif").write_bytes((tmp_path / "d" / "a" / "x_BQA.tif").read_bytes())
    with pytest.raises(CatalogError, match="two files are the same band"):
        geomm.build_catalog(tmp_path / "d", tmp_path / "c3", sensors=["landsat-bqa"], datetime="2020-06-01")


def test_dates_that_are_none_and_names_before_tags(tmp_path):
    (path,) = write_scene(tmp_path / "d", "landsat-bqa", item="s_20240231_20160209")
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2023:01:02 03:04:05")
    (scene,) = geomm.build_catalog(tmp_path / "d", tmp_path / "c", sensors=["landsat-bqa"]).search()
    assert f"{scene.time:%Y-%m-%d}" == "2023-01-02"  # the first date of the name is none
    (path,) = write_scene(tmp_path / "e", "landsat-bqa", item="s_20160209")
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2023:01:02 03:04:05")
    (scene,) = geomm.build_catalog(tmp_path / "e", tmp_path / "c", sensors=["landsat-bqa"]).search()
    assert f"{scene.time:%Y-%m-%d}" == "2016-02-09"  # the tag is the day of processing


def test_definitions_state_bands_by_number_and_calibration(tmp_path):
    with rasterio.open(
        _folder(tmp_path / "d") / "s.tif", "w", driver="GTiff", height=8, width=8, count=4, dtype="float32",
        crs="EPSG:32632", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6),
    ) as file:  # fmt: skip
        file.write(np.stack([np.full((8, 8), v, "float32") for v in (0.1, 0.2, 0.3, 0.4)]))
    definition = {
        "items": [
            {"sensor": "landsat-oli-l2", "pattern": "{id}.tif", "bands": {"B2": 1, "B3": 2}, "scale": 1.0, "id": "{id}-x",
             "datetime": "2024-06-01"}
        ]
    }  # fmt: skip
    (scene,) = geomm.build_catalog(tmp_path / "d", tmp_path / "c", definition=definition).search()
    assert (scene.id, list(scene.bands)) == ("s-x", ["B2", "B3"])
    node = geomm.calibrated(geomm.load_cube([scene], geomm.common_geobox([scene])))["landsat-oli-l2"]
    np.testing.assert_allclose(node["data"].to_numpy()[0, :, 0, 0], [0.1, 0.2], rtol=1e-6)


def _folder(path):
    path.mkdir()
    return path


def test_item_collections_heights_and_items_without_place(landsat, tmp_path):
    import pystac

    item = landsat.items()[0].clone()
    item.make_asset_hrefs_absolute()
    west, south, east, north = item.bbox
    item.bbox = [west, south, 0.0, east, north, 900.0]
    nowhere = item.clone()
    nowhere.id, nowhere.geometry, nowhere.bbox = "nowhere", None, None
    records = [i.to_dict(include_self_link=False, transform_hrefs=False) for i in (item, nowhere)]
    for record in records:
        record["links"] = []
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))
    scenes = geomm.open_catalog(path).search()
    assert {s.id for s in scenes} == {"scene"}
    assert scenes[0].bbox == pytest.approx((west, south, east, north))
    assert isinstance(geomm.open_catalog(path).items()[0], pystac.Item)


def test_search_refuses_what_cannot_be_meant(landsat):
    with pytest.raises(CatalogError, match="ends before it begins"):
        landsat.search(None, "2020-07-01/2020-06-01")
    with pytest.raises(CatalogError, match="ids is one text"):
        landsat.search(ids="scene")
    west, south, east, north = landsat.search()[0].bbox
    ring = [[west, south], [east, south], [east, north], [west, south]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    assert landsat.search(feature) == landsat.search({"type": "FeatureCollection", "features": [feature]}) != []


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_exchanged_longitude_and_latitude_are_noticed(landsat, tmp_path, kind):
    from geomm.catalog.parquet import write_parquet

    west, south, east, north = landsat.search()[0].bbox
    found = (
        landsat if kind == "json" else geomm.open_catalog(write_parquet(landsat.source.items, tmp_path / "all.parquet"))
    )
    with pytest.warns(UserWarning, match="longitude and latitude exchanged"):
        assert found.search((south, west, north, east)) == []
    assert found.search((west, south, east, north)) != []


def test_index_of_mixed_items(tmp_path):
    from geomm.catalog.parquet import write_parquet

    for k, nodata in enumerate((float("nan"), -9999.0, None)):
        with rasterio.open(
            (_folder(tmp_path / f"d{k}")) / f"s{k}.tif", "w", driver="GTiff", height=8, width=8, count=1, dtype="float32",
            crs="EPSG:32632", transform=rasterio.Affine(30, 0, 5e5, 0, -30, 4e6), nodata=nodata,
        ) as file:  # fmt: skip
            file.write(np.ones((1, 8, 8), "float32"))
    catalogs = [geomm.build_catalog(tmp_path / f"d{k}", tmp_path / f"c{k}", datetime="2020-06-01") for k in range(3)]
    path = write_parquet([i for c in catalogs for i in c.items()], tmp_path / "all.parquet")
    scenes = geomm.open_catalog(path).search()
    assert [next(iter(s.bands.values())).nodata for s in scenes] == [(), (-9999.0,), ()]
    assert scenes == [s for c in catalogs for s in c.search()] or [s.bands for s in scenes] == [
        s.bands for c in catalogs for s in c.search()
    ]
