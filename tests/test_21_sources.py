"""Catalogs that are no static JSON: a live STAC API on loopback, stac-geoparquet, public definitions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import requests
import shapely
from rasterio.shutil import copy as copy_raster

import geomm
from geomm.catalog import sign
from geomm.catalog.definition import find_definition
from geomm.catalog.interpret import Customs
from geomm.catalog.parquet import write_parquet
from geomm.catalog.search import Catalog, open_catalog
from geomm.catalog.static import StaticSource
from geomm.errors import CatalogError, ConfigError, ReadError
from geomm.testing import write_scene

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A STAC API with seven Sentinel-2 scenes as COGs; yields its address and the folder."""
    folder = tmp_path_factory.mktemp("server")
    items = []
    for k in range(7):
        files = write_scene(folder / "raw", "sentinel2-l2a", item=f"s{k}", bands=["B04", "B08", "SCL"], resolution=10,
                            shape=(600, 600), seed=k)  # fmt: skip
        for path in files:
            copy_raster(path, folder / path.name, driver="COG", blocksize=256)
        with rasterio.open(files[0]) as file:
            grid = {"proj:epsg": 32632, "proj:transform": list(file.transform), "proj:shape": list(file.shape)}
        west, south, east, north = 9.0, 36.08, 9.07, 36.15
        items.append(
            {
                "type": "Feature", "stac_version": "1.0.0", "id": f"s{k}", "collection": "sentinel-2-l2a",
                "geometry": shapely.geometry.mapping(shapely.box(west, south, east, north)), "links": [],
                "bbox": [west, south, east, north],
                "properties": {"datetime": f"2023-0{k + 1}-10T10:00:00Z", "s2:processing_baseline": "05.09",
                               "eo:cloud_cover": 10.0 * k, "proj:epsg": 32632,
                               "earthsearch:boa_offset_applied": k % 2 == 0},
                "assets": {
                    key: {"href": f"s{k}_{band}.tif", "roles": ["data"], "type": pystac.MediaType.COG, **grid,
                          **({"raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": -0.1}]}
                             if band != "SCL" else {})}
                    for key, band in (("red", "B04"), ("nir", "B08"), ("scl", "SCL"))
                },
            }
        )  # fmt: skip
    (folder / "items.json").write_text(json.dumps(items))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-W", "ignore", str(HERE / "stac_server.py"), str(folder), str(port)])
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(600):
            try:
                requests.get(url, timeout=60)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield url, folder
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_api_search_pages_retries_and_reads_ranges(server):
    url, folder = server
    scenes = geomm.open_catalog(url).search(
        (9.0, 36.1, 9.05, 36.12), "2023-01-01/2023-06-30", sensors=["sentinel2-l2a"]
    )
    assert [s.id for s in scenes] == [f"s{k}" for k in range(6)]  # three pages of two, after a first answer of 503
    assert [s.bands["B04"].calibration.offset for s in scenes] == [0.0, -0.1] * 3  # applied already in every other one
    assert scenes[0].properties["eo:cloud_cover"] == 0.0
    grid = geomm.common_geobox(scenes[:1])
    streams = {"optical": geomm.Modality("sentinel2-l2a", ("B04", "B08"))}
    window = grid[100:140, 200:240]
    over_http = geomm.load_cube(scenes[:2], window, streams)["optical"].to_dataset().compute()
    for k in range(2):
        with rasterio.open(folder / f"s{k}_B08.tif") as file:
            np.testing.assert_array_equal(over_http.data.to_numpy()[k, 1], file.read(1)[100:140, 200:240])
    counts = requests.get(url + "counts", timeout=60).json()
    assert counts["range"] > 0
    assert counts["search"] >= 4


def test_api_filters(server):
    catalog = geomm.open_catalog(server[0])
    assert [s.id for s in catalog.search(ids=["s3"])] == ["s3"]
    assert [s.id for s in catalog.search(cloud_cover=15)] == ["s0", "s1"]
    assert catalog.search((20.0, 0.0, 21.0, 1.0)) == []
    polygon = {"type": "Polygon", "coordinates": [[[9.0, 36.1], [9.02, 36.1], [9.0, 36.12], [9.0, 36.1]]]}
    assert len(catalog.search(polygon, "2023-02-01/..")) == 6
    assert pickle.loads(pickle.dumps(catalog.search())) == catalog.search()


def test_api_that_is_not_there_or_fails():
    with pytest.raises(CatalogError, match=r"STAC API cannot be opened.*127.0.0.1"):
        geomm.open_catalog("http://127.0.0.1:9/stac").search()


def test_an_api_without_search_is_refused(server, monkeypatch):
    from geomm.catalog import api

    client = api._client.__wrapped__(server[0])
    client.remove_conforms_to("ITEM_SEARCH")
    monkeypatch.setattr(api, "_client", lambda url: client)
    with pytest.raises(CatalogError, match=r"did not answer the search.*DoesNotConformTo"):
        geomm.open_catalog(server[0]).search()


def test_a_source_that_vanishes_over_http_is_reported(server):
    url, _ = server
    scene = geomm.open_catalog(url).search(ids=["s5"])[0]
    grid = geomm.common_geobox([scene])[:64, :64]
    gone = {n: dataclasses.replace(b, href=url + "files/nowhere.tif") for n, b in scene.bands.items()}
    broken = dataclasses.replace(scene, bands=gone)
    with pytest.warns(UserWarning, match="unreadable"):
        node = (
            geomm.load_cube([broken], grid, {"o": geomm.Modality("sentinel2-l2a", ("B04",))})["o"]
            .to_dataset()
            .compute()
        )
    assert (node.status == 3).all()


# stac-geoparquet ------------------------------------------------------------------------------------------------------


def _items(number, seed=0):
    generator = np.random.default_rng(seed)
    for k in range(number):
        west, south = generator.uniform(-179, 178), generator.uniform(-80, 79)
        bbox = [west, south, west + 1.0, south + 1.0]
        when = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=int(generator.integers(0, 24 * 365 * 3)))
        item = pystac.Item(f"i{k}", shapely.geometry.mapping(shapely.box(*bbox)), bbox, when,
                           {"s2:processing_baseline": "03.00", "proj:epsg": 32632}, collection="sentinel-2-l2a")  # fmt: skip
        for key in ("red", "nir", "scl")[: 2 + k % 2]:
            item.add_asset(
                key,
                pystac.Asset(
                    f"https://example.org/{k}/{key}.tif", media_type=pystac.MediaType.COG, roles=["data"],
                    extra_fields={"proj:transform": [10, 0, 5e5, 0, -10, 5e6], "proj:shape": [100, 100]},
                ),
            )  # fmt: skip
        yield item


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    items = list(_items(1000))
    return items, write_parquet(items, tmp_path_factory.mktemp("parquet") / "items.parquet")


@pytest.mark.parametrize(
    ("aoi", "when"),
    [
        ((-20.0, 10.0, 60.0, 50.0), "2020-06-01/2021-06-30"),
        ((170.0, -40.0, -150.0, 40.0), None),
        (None, "2022-03-05"),
        ((5.0, 5.0, 6.0, 6.0), "../2021-01-01"),
    ],
)
def test_parquet_finds_what_static_files_find(thousand, aoi, when):
    items, path = thousand
    plain = Catalog("memory", StaticSource.of(*items)).search(aoi, when, sensors=["sentinel2-l2a"])
    found = open_catalog(path).search(aoi, when, sensors=["sentinel2-l2a"])
    assert [s.id for s in found] == [s.id for s in plain]
    assert all(a.bands == b.bands and a.time == b.time for a, b in zip(found, plain, strict=True))
    assert len(found) > 0 or aoi == (5.0, 5.0, 6.0, 6.0)


def test_parquet_ids_folders_and_refusals(thousand, tmp_path):
    items, path = thousand
    assert [s.id for s in open_catalog(path.parent).search(ids=["i7"])] == ["i7"]
    assert len(open_catalog(path).items()) == len(items)
    odd = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"a": [1]}), odd)
    with pytest.raises(CatalogError, match=r"cannot be read.*odd.parquet.*no column assets"):
        open_catalog(odd).search()
    odd.write_bytes(b"no parquet")
    with pytest.raises(CatalogError, match="cannot be read"):
        open_catalog(odd).search()
    name = "x'; DROP TABLE y; --"
    assert open_catalog(path).search(ids=[name]) == []


def test_a_search_of_100000_items_reads_little(tmp_path):
    """Counted, not timed: see benchmarks/catalog_search.py for seconds and memory."""
    number = 100_000
    generator = np.random.default_rng(0)
    west, south = np.sort(generator.uniform(-179, 178, number)), generator.uniform(-80, 79, number)
    when = np.datetime64("2020-01-01", "us") + generator.integers(0, 3 * 365 * 86400, number) * np.timedelta64(1, "s")
    boxes = shapely.box(west, south, west + 1, south + 1)
    href = pa.array([f"https://example.org/{k}.tif" for k in range(number)])
    asset = pa.StructArray.from_arrays([href, pa.array(["image/tiff"] * number)], names=["href", "type"])
    table = pa.table(
        {
            "id": [f"i{k}" for k in range(number)],
            "collection": ["sentinel-2-l2a"] * number,
            "geometry": pa.array(shapely.to_wkb(boxes)),
            "bbox": pa.StructArray.from_arrays(
                [pa.array(v) for v in (west, south, west + 1, south + 1)], names=["xmin", "ymin", "xmax", "ymax"]
            ),
            "datetime": pa.array(when).cast(pa.timestamp("us", tz="UTC")),
            "s2:processing_baseline": ["05.00"] * number,
            "assets": pa.StructArray.from_arrays([asset], names=["red"]),
        }
    )
    pq.write_table(table, tmp_path / "many.parquet")
    scenes = open_catalog(tmp_path / "many.parquet").search((10.0, 40.0, 15.0, 45.0), "2021-01-01/2021-12-31")
    inside = (west <= 15.0) & (west + 1 >= 10.0) & (south <= 45.0) & (south + 1 >= 40.0)
    year = (when >= np.datetime64("2021-01-01")) & (when < np.datetime64("2022-01-01"))
    assert {s.id for s in scenes} == {f"i{k}" for k in np.flatnonzero(inside & year)}
    assert {s.bands["B04"].calibration.offset for s in scenes} == {-0.1}
    assert dask.base.tokenize(scenes) == dask.base.tokenize(pickle.loads(pickle.dumps(scenes)))


# public catalogs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["earth_search", "planetary-computer"])
def test_definitions_that_come_with_geomm(name):
    definition = find_definition(name)
    assert definition.api.startswith("https://")
    assert "sentinel-2-l2a" in definition.collections
    assert geomm.open_catalog(name).href == definition.api  # nothing is asked for before the search


def test_definitions_are_checked(tmp_path):
    assert find_definition("no_such_catalog") is None
    (tmp_path / "a.yaml").write_text("api: https://x\ncollectionz: {}")
    with pytest.raises(ConfigError, match="collections, sentinel2_offset, signer, title"):
        open_catalog(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("api: https://x\ncollections: {c: [sentinel3]}")
    with pytest.raises(LookupError, match="unknown sensor 'sentinel3'"):
        open_catalog(tmp_path / "b.yaml")


def test_tokens_go_to_the_storage_they_are_for_and_are_kept_while_they_last(monkeypatch):
    asked = []

    class Answer:
        def raise_for_status(self):
            pass

        def json(self):
            return {"token": "sig=1", "msft:expiry": (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()}

    monkeypatch.setattr(requests, "get", lambda url, timeout: asked.append(url) or Answer())
    monkeypatch.setattr(sign, "_tokens", {})
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/V/x.tif"
    assert [sign.signed(href, "https://pc/token") for _ in range(3)] == [f"{href}?sig=1"] * 3
    assert asked == ["https://pc/token/sentinel2l2a01/sentinel2-l2"]
    for plain in ("https://elsewhere.org/a.tif", "/data/a.tif", f"{href}?sig=mine"):
        assert sign.signed(plain, "https://pc/token") == plain
    assert sign.signed(href, "") == href

    def fail(url, timeout):
        raise requests.ConnectionError("down")

    monkeypatch.setattr(requests, "get", fail)
    monkeypatch.setattr(sign, "_tokens", {})
    with pytest.raises(ReadError, match="no access token"):
        sign.signed(href, "https://pc/token")


PUBLIC = {
    "LC08_L2SP_047027_20201204_02_T1": {"landsat-oli-l2": 8, "landsat-tirs-l2": 2},
    "LC09_L2SP_010065_20220129_02_T1": {"landsat-oli-l2": 8, "landsat-tirs-l2": 2},
    "LE07_L2SP_021030_20100109_02_T1": {"landsat-etm-l2": 7, "landsat-etm-thermal-l2": 2},
    "LT04_L2SP_002026_19830110_02_T1": {"landsat-tm-l2": 7, "landsat-tm-thermal-l2": 2},
    "LT05_L2SP_010067_19860424_02_T2": {"landsat-tm-l2": 7, "landsat-tm-thermal-l2": 2},
    "LM04_L1GS_001001_19830527_02_T2": {},
    "LC08_L2SP_028030_20200114_20200824_02_T1_SR": {"landsat-oli-l2": 8},
    "LC08_L2SR_081119_20200101_20200823_02_T2": {"landsat-oli-l2": 8},
    "LE07_L2SP_044033_20210329_20210424_02_T1_SR": {"landsat-etm-l2": 7},
    "S2A_28QCH_20200714_0_L2A": {"sentinel2-l2a": 13},
    "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531": {"sentinel2-l2a": 13},
    "S2A_T01LAC_20200717T221944_L1C": {"sentinel2-l1c": 13},
    "S2A_T07HFE_20190212T192646_L2A": {"sentinel2-l2a": 13},
    "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549": {"sentinel1-grd": 2},
    "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13": {"sentinel1-grd": 2},
    "S1A_20200103_17RMJ_ASC": {"sentinel1-incidence": 1, "sentinel1-rtc": 2},
    "S1B_20161121_12SYJ_ASC": {"sentinel1-incidence": 1, "sentinel1-rtc": 2},
    "S1A_IW_SL1__1_SH_20141031T095929_20141031T100002_003072_003842": {},
    "ga_ls8c_ard_3-1-0_088080_2020-05-25_final.stac-item": {},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLIC)
def test_real_items_of_public_catalogs(shared, name):
    path = next((shared / "stac_items").rglob(f"{name}.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # items without a sensor are told of
        scenes = open_catalog(path).search()
    assert {s.sensor: len(s.bands) for s in scenes} == PUBLIC[name]
    for scene in scenes:
        for band, source in scene.bands.items():
            spec = geomm.SENSORS[scene.sensor].band(band)
            if scene.sensor.endswith("-l2") and spec.kind == "reflectance":
                assert (source.calibration.scale, source.calibration.offset) == (2.75e-5, -0.2)
            if spec.unit == "kelvin_surface_temperature":
                assert (source.calibration.scale, source.calibration.offset) == (0.00341802, 149.0)
            if scene.sensor.startswith("sentinel2") and spec.kind == "reflectance":
                assert source.calibration.offset == 0.0  # baselines 02.xx
    if name == "S2A_T01LAC_20200717T221944_L1C":  # across the antimeridian
        assert [len(open_catalog(path).search(box)) for box in (
            (179.5, -16.0, 179.8, -15.8), (-179.9, -16.0, -179.8, -15.8), (178.0, -16.0, -179.0, -15.0), (0.0, -16.0, 1.0, -15.0)
        )] == [1, 1, 1, 0]  # fmt: skip


@pytest.mark.shared
def test_public_customs_decide_the_offset(shared):
    path = next((shared / "stac_items").rglob("S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json"))
    item = pystac.Item.from_file(str(path))

    def offset(customs=Customs(), catalog_override=None, **properties):  # noqa: B008
        mine = item.clone()
        mine.properties |= properties
        (scene,) = Catalog("memory", StaticSource.of(mine), customs).search(
            sensors=["sentinel2-l2a"], sentinel2_offset=catalog_override
        )
        return round(scene.bands["B04"].calibration.offset * 1e4)

    new = {"s2:processing_baseline": "04.00"}
    assert offset() == 0
    assert offset(**new) == -1000  # Planetary Computer: files as delivered
    assert offset(**new, **{"earthsearch:boa_offset_applied": True}) == 0  # Earth Search: applied in the files
    assert offset(Customs(sentinel2_offset=0.0), **new) == 0
    assert offset(catalog_override=-1000) == -1000
