"""What a cube costs: tasks in proportion to blocks, each source block decoded once, the same name for the same inputs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import dask
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import geomm
from geomm.catalog import BandSource, Grid
from geomm.testing import CountingReader, full_tile, scene_without_files

TILE, STREAMS, SCENES = full_tile()
SIDE = TILE.shape[0]


@pytest.mark.parametrize("chunk", [2048, 1024, 512])
def test_tasks_grow_with_blocks_not_with_bands(chunk):
    cube = geomm.load_cube(SCENES, TILE, STREAMS, chunks=chunk)
    graph = {}
    for node in cube.children.values():
        graph.update(dict(node["data"].data.__dask_graph__()))
        graph.update(dict(node["valid"].data.__dask_graph__()))
    blocks = 3 * int(np.ceil(SIDE / chunk)) ** 2
    assert len(graph) <= 4 * blocks + 3  # a read, its data, its status, valid; and one plan per modality
    assert len(pickle.dumps(graph)) < 2000 * blocks


def test_plans_touch_no_file_and_names_follow_inputs():
    scenes = SCENES
    names = [geomm.load_cube(scenes, TILE, STREAMS)["optical"]["data"].data.name for _ in range(2)]
    assert names[0] == names[1]
    copied = pickle.loads(pickle.dumps(scenes))
    assert copied == scenes
    assert geomm.load_cube(copied, TILE, STREAMS)["optical"]["data"].data.name == names[0]
    assert dask.base.tokenize(copied) == dask.base.tokenize(scenes)
    others = [
        geomm.load_cube(scenes, TILE, STREAMS, chunks=1024),
        geomm.load_cube(scenes, TILE[:500, :500], STREAMS),
        geomm.load_cube(scenes, TILE, STREAMS, quality="ignore", errors="raise"),
        geomm.load_cube([*scenes, scene_without_files("sentinel2-l2a", STREAMS["optical"].bands,
                                         [s.grid for s in scenes[0].bands.values()], "uint16", day=2)], TILE, STREAMS),
    ]  # fmt: skip
    assert len({names[0], *(c["optical"]["data"].data.name for c in others)}) == 5


def test_names_are_the_same_in_another_process():
    code = (
        "import geomm; from geomm.testing import full_tile; tile, streams, scenes = full_tile();"
        "print(geomm.load_cube(scenes, tile, streams)['sar']['data'].data.name)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert out == geomm.load_cube(SCENES, TILE, STREAMS)["sar"]["data"].data.name


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    """Three sensors over one place: 10 and 20 m, an offset origin, the neighbouring zone; blocks of several kinds."""
    folder = tmp_path_factory.mktemp("overlapping")
    generator = np.random.default_rng(0)
    layout = {
        "s_B04": ("EPSG:32632", 10, (600000, 5200020), 1100, "uint16", {"tiled": True, "blockxsize": 256, "blockysize": 256}),
        "s_B11": ("EPSG:32632", 20, (600000, 5200020), 550, "uint16", {"tiled": True, "blockxsize": 512, "blockysize": 512}),
        "s_VV": ("EPSG:32632", 10, (599993, 5200033), 1104, "float32", {"blockysize": 7}),
        "s_B10": ("EPSG:32633", 30, (139000, 5210000), 800, "uint16", {"tiled": True, "blockxsize": 128, "blockysize": 128}),
    }  # fmt: skip
    for name, (crs, size, corner, side, dtype, blocks) in layout.items():
        values = generator.integers(1, 3000, (side, side)).astype(dtype)
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", height=side, width=side, count=1, dtype=dtype, crs=crs,
            transform=Affine(size, 0, corner[0], 0, -size, corner[1]), compress="deflate", **blocks,
        ) as file:  # fmt: skip
            file.write(values, 1)
    definition = {
        "datetime": "2023-06-01",
        "items": [
            {"sensor": "sentinel2-l2a", "pattern": "{id}_B04.tif", "bands": ["B04"]},
            {"sensor": "sentinel1-rtc", "pattern": "{id}_VV.tif", "bands": ["VV"]},
            {"sensor": "landsat-tirs-l1", "pattern": "{id}_B10.tif", "bands": ["B10"]},
        ],
        "properties": {"*": {"geomm:s2_offset": 0}},
    }
    scenes = geomm.build_catalog(folder, folder / "c", definition=definition).search()
    optical = next(s for s in scenes if s.sensor == "sentinel2-l2a")
    coarse = Grid("EPSG:32632", (20.0, 0.0, 600000.0, 0.0, -20.0, 5200020.0), (550, 550))
    optical.bands["B11"] = BandSource(str(folder / "s_B11.tif"), 1, "uint16", (0.0,), grid=coarse)
    return scenes


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("chunk", [200, 512])
def test_each_source_block_is_decoded_once(overlapping, scheduler, chunk):
    reader = CountingReader()
    streams = {
        "optical": geomm.Modality("sentinel2-l2a", ("B04", "B11")),
        "sar": geomm.Modality("sentinel1-rtc", ("VV",)),
        "thermal": geomm.Modality("landsat-tirs-l1", ("B10",)),
    }
    grid = GeoBox((1000, 1000), Affine(10, 0, 600043, 0, -10, 5199971), "EPSG:32632")
    cube = geomm.load_cube(overlapping, grid, streams, chunks=chunk, reader=reader)
    with dask.config.set(scheduler=scheduler):
        cube.compute()
    assert len(reader.reads) == 4
    assert max(reader.blocks.values()) == 1
    assert sum(reader.blocks.values()) < 60


def test_aligned_reads_keep_nothing(overlapping):
    """Where blocks coincide with chunks no neighbour needs them, and none is kept."""
    optical = [s for s in overlapping if s.sensor == "sentinel2-l2a"]
    reader = CountingReader()
    grid = GeoBox((1024, 1024), Affine(10, 0, 600000, 0, -10, 5200020), "EPSG:32632")
    geomm.load_cube(
        optical, grid, {"o": geomm.Modality("sentinel2-l2a", ("B04",))}, chunks=512, reader=reader
    ).compute()
    assert set(reader.blocks.values()) == {1}
    assert reader._blocks._size == 0


def test_the_cache_is_bounded(overlapping):
    reader = CountingReader(cache_mb=1)
    thermal = [s for s in overlapping if s.sensor == "landsat-tirs-l1"]
    grid = GeoBox((1000, 1000), Affine(10, 0, 600043, 0, -10, 5199971), "EPSG:32632")
    small = geomm.load_cube(thermal, grid, chunks=100, reader=reader)["landsat-tirs-l1"]["data"].to_numpy()
    assert reader._blocks._size <= 2**20
    whole = geomm.load_cube(thermal, grid, chunks=1000)["landsat-tirs-l1"]["data"].to_numpy()
    np.testing.assert_array_equal(small, whole)


def test_processes_give_the_same_pixels(overlapping):
    thermal = [s for s in overlapping if s.sensor == "landsat-tirs-l1"]
    grid = GeoBox((300, 300), Affine(10, 0, 600043, 0, -10, 5199971), "EPSG:32632")
    lazy = geomm.load_cube(thermal, grid, chunks=150)["landsat-tirs-l1"].to_dataset()
    here = lazy.compute()
    with dask.config.set(scheduler="processes", num_workers=2):
        there = lazy.compute()
    np.testing.assert_array_equal(here.data, there.data)
    again = pickle.loads(pickle.dumps(geomm.load_cube(thermal, grid, chunks=150)))
    np.testing.assert_array_equal(again["landsat-tirs-l1"]["data"].to_numpy(), here.data)


def test_forked_workers_open_their_own_files(overlapping):
    thermal = [s for s in overlapping if s.sensor == "landsat-tirs-l1"]
    grid = GeoBox((300, 300), Affine(10, 0, 600043, 0, -10, 5199971), "EPSG:32632")
    lazy = geomm.load_cube(thermal, grid, chunks=150)["landsat-tirs-l1"]["data"]
    with dask.config.set(scheduler="synchronous"):
        here = lazy.to_numpy()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            same = bool((lazy.to_numpy() == here).all())
            os.write(writing, b"1" if same else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"1"
        np.testing.assert_array_equal(lazy.to_numpy(), here)


def test_whole_pixels_come_from_one_scene(tmp_path):
    """Where one band of the first scene is missing, all bands come from the second: bands are never mixed."""
    for item, fill in (("a", 100), ("b", 200)):
        for band in ("B03", "B04"):
            values = np.full((64, 64), fill, "uint16")
            if (item, band) == ("a", "B04"):
                values[:, :20] = 0
            (tmp_path / "d").mkdir(exist_ok=True)
            with rasterio.open(
                tmp_path / "d" / f"{item}_{band}.tif", "w", driver="GTiff", height=64, width=64, count=1, dtype="uint16",
                crs="EPSG:32632", transform=Affine(10, 0, 600000, 0, -10, 5200020),
            ) as file:  # fmt: skip
                file.write(values, 1)
    definition = {
        "datetime": "2023-06-01",
        "items": [{"sensor": "sentinel2-l1c", "pattern": "{id}_{band}.tif"}],
        "properties": {"*": {"geomm:s2_offset": 0}},
    }
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", definition=definition).search()
    data = geomm.load_cube(scenes, geomm.common_geobox(scenes))["sentinel2-l1c"]["data"].to_numpy()[0]
    assert (data[:, :, :20] == 200).all()
    assert (data[:, :, 20:] == 100).all()
