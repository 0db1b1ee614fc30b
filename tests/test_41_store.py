"""The chip store: the same samples, the same bytes, nothing half, no damage unseen."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr
import zarr

import geomm
from geomm import radiometry
from geomm.chipping import ChipReader, Target
from geomm.chips import ChipGrid, SpatialSplit
from geomm.dataset import ChipDataset, ChipLoader
from geomm.errors import ConfigError, OutputError, PackageError, ReadError
from geomm.store import StoredChips, StorePart, verify_store, write_store

TARGET = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
KILLS = int(os.environ.get("GEOMM_KILLS", "3"))


def _reader(cube, size=8, **options):
    return ChipReader(cube, list(ChipGrid((96, 128), size)), ["optical", "thermal"], target=TARGET, **options)


def _parts(cube, sites=("a",), size=8):
    return [StorePart(s, _reader(cube, size), {"split": ["train", "test"] * (96 * 128 // size**2 // 2)}) for s in sites]


def _bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def store(cube, tmp_path_factory):
    """192 chips in three shards."""
    return write_store(_parts(cube), tmp_path_factory.mktemp("store") / "store")


def test_samples_are_those_of_the_cube(cube, store):
    stored, live = (
        StoredChips(store),
        ChipDataset(cube, list(ChipGrid((96, 128), 8)), ["optical", "thermal"], target=TARGET),
    )
    assert stored.complete
    assert len(stored) == len(live) == 192
    positions = stored.table["index"].tolist()
    for k in (0, 70, 191):
        a, b = live[positions[k]], stored[k]
        for part in ("images", "valid", "calibration", "present"):
            for name, value in getattr(a, part).items():
                got = getattr(b, part)[name]
                assert got.dtype == value.dtype
                assert (got.nan_to_num() == value.nan_to_num()).all()
        assert (a.target == b.target).all()
        assert (a.bounds == b.bounds).all()
    with pytest.raises(IndexError):
        stored[192]


def test_zarr_python_xarray_and_geopandas_read_it(cube, store):
    import geopandas

    arrays = next(_reader(cube).stream(192))
    group = zarr.open_group(store / "chips.zarr", mode="r")
    with zarr.config.set({"array.read_missing_chunks": False}):
        for name, value in arrays.images.items():
            np.testing.assert_array_equal(group[f"images/{name}"][:], value)
            np.testing.assert_array_equal(group[f"valid/{name}"][:], arrays.valid[name])
            np.testing.assert_array_equal(group[f"calibration/{name}"][:], arrays.calibration[name])
        np.testing.assert_array_equal(group["target"][:], arrays.target)
        np.testing.assert_array_equal(group["bounds"][:], arrays.bounds)
    opened = xr.open_zarr(store / "chips.zarr", group="images", consolidated=False)
    assert opened["optical"].dims == ("chip", "optical_time", "optical_band", "y", "x")
    assert opened["optical"].attrs["bands"] == ["B2", "B3", "B4"]
    table = geopandas.read_parquet(store / "manifest.parquet")
    assert table.crs.to_epsg() == 4326
    assert table["chip"].tolist() == list(range(192))
    west, _, east, _ = table.total_bounds
    assert 8.9 < west < east < 9.1
    assert (table["valid_optical"] <= 1).all()
    assert table.geometry.is_valid.all()
    shapes = table.geometry.to_numpy()
    assert shapely.area(shapely.union_all(shapes)) == pytest.approx(shapely.area(shapes).sum(), rel=1e-9)


def test_what_zarr_python_writes_with_our_metadata_is_read(store, tmp_path):
    from geomm.store.shard import ShardReader

    stored = StoredChips(store)
    spec = next(a for a in stored.arrays if a.name == "images/optical")
    metadata = json.loads((store / "chips.zarr/images/optical/zarr.json").read_text())
    target = tmp_path / "other.zarr"
    target.mkdir()
    (target / "zarr.json").write_text(json.dumps(metadata))
    values = np.random.default_rng(0).integers(1, 60000, (192, *spec.shape)).astype(spec.dtype)
    zarr.open_array(target, mode="r+")[:] = values
    out = np.empty(spec.shape, spec.dtype)
    for k in (0, 63, 64, 191):
        file = ShardReader(target / f"c.{k // 64}{'.0' * len(spec.shape)}")
        spec.decode(file.chunk(k % 64), out)
        np.testing.assert_array_equal(out, values[k])


@pytest.mark.parametrize("shuffle", [0, 1])
def test_streams_cover_every_chip_and_can_be_shared(store, shuffle):
    stored = StoredChips(store)
    seen = [stored.stream(10, shuffle=shuffle, seed=4, rank=r, world=3) for r in range(3)]
    numbers = [np.concatenate([b.index for b in s]) for s in seen]
    assert sorted(np.concatenate(numbers)) == list(range(192))
    whole = [b.index for b in stored.stream(10, shuffle=shuffle, seed=4)]
    rest = [b.index for b in stored.stream(10, shuffle=shuffle, seed=4, skip=5)]
    np.testing.assert_array_equal(np.concatenate(whole[5:]), np.concatenate(rest))
    batch = next(iter(ChipLoader(stored, 10, shuffle=shuffle, seed=4)))
    assert batch.images["optical"].shape == (10, 1, 3, 8, 8)


def test_chips_are_chosen_by_the_manifest(store):
    train = StoredChips(store).select(split="train")
    assert len(train) == 96
    assert set(train.table["split"]) == {"train"}
    assert (next(train.stream(5)).index == np.arange(5)).all()
    with pytest.raises(PackageError, match="no column fold"):
        train.select(fold=1)


def test_the_same_inputs_give_the_same_bytes_whoever_writes(cube, store, tmp_path):
    again = write_store(_parts(cube), tmp_path / "again")
    assert _bytes(again) == _bytes(store)
    for k in (2, 0, 1):
        write_store(_parts(cube), tmp_path / "shared", share=(k, 3))
    assert _bytes(tmp_path / "shared") == _bytes(store)
    before = {p: p.stat().st_mtime_ns for p in again.rglob("*") if p.is_file()}
    write_store(_parts(cube), again)
    assert before == {p: p.stat().st_mtime_ns for p in again.rglob("*") if p.is_file()}


def test_a_store_grows_at_its_end(cube, tmp_path):
    sites = ("a", "b", "c")
    at_once = write_store(_parts(cube, sites, 16), tmp_path / "at_once")
    grown = write_store(_parts(cube, sites[:1], 16), tmp_path / "grown")
    assert len(StoredChips(grown)) == 48
    write_store(_parts(cube, sites, 16), grown)
    assert _bytes(grown) == _bytes(at_once)
    with pytest.raises(OutputError, match="other chips"):
        write_store(_parts(cube, ("b",), 16), grown)
    with pytest.raises(OutputError, match="something else"):
        write_store(_parts(cube), tmp_path)
    with pytest.raises(ConfigError, match="no chip"):
        write_store([StorePart("a", ChipReader(cube, [], ["optical"]))], tmp_path / "none")
    with pytest.raises(ConfigError, match="differ"):
        write_store([*_parts(cube), *_parts(cube, ("b",), 16)], tmp_path / "mixed")


def test_damage_is_reported_by_name(cube, tmp_path):
    store = write_store(_parts(cube, size=16), tmp_path / "store")
    assert verify_store(store) == []
    content = _bytes(store)
    generator = random.Random(0)
    for name, data in content.items():
        path = store / name
        for _ in range(6):
            broken = bytearray(data)
            where = generator.randrange(len(broken))
            broken[where] ^= 1 << generator.randrange(8)
            path.write_bytes(broken)
            try:
                found = verify_store(store)
            except PackageError as error:
                found = [str(error)]
            assert any(name in line for line in found), (name, where, found)
        path.unlink()
        try:
            found = verify_store(store)
        except PackageError as error:
            found = [str(error)]
        if name != "store.json":  # without it the store is one that is not complete
            assert any(Path(name).name in line for line in found), (name, found)
        path.write_bytes(data)
    assert verify_store(store) == []


def test_reading_damage_raises_and_building_again_repairs(cube, tmp_path):
    store = write_store(_parts(cube, size=16), tmp_path / "store")
    content = _bytes(store)
    shard = next((store / "chips.zarr/images/thermal").glob("c.*"))
    data = bytearray(shard.read_bytes())
    data[10] ^= 4
    shard.write_bytes(data)
    with pytest.raises(PackageError, match=r"images/thermal.*chip 0"):
        StoredChips(store)[0]
    with pytest.raises(PackageError, match="images/thermal"):
        list(StoredChips(store).stream(8, shuffle=1))
    shard.unlink()
    with pytest.raises(PackageError, match="missing"):
        StoredChips(store)[0]
    write_store(_parts(cube, size=16), store)
    assert _bytes(store) == content
    with pytest.raises(PackageError, match="not a chip store"):
        StoredChips(tmp_path)


BUILD = """
import sys, warnings
warnings.simplefilter("ignore")
import geomm
from geomm import radiometry
from geomm.chipping import ChipReader, Target
from geomm.chips import ChipGrid
from geomm.store import StorePart, write_store
scenes = geomm.open_catalog(sys.argv[1]).search()
streams = {"optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4")), "thermal": geomm.Modality("landsat-tirs-l1"),
           "label": geomm.Modality("landsat-bqa")}
cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), streams, chunks=64)
target = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
columns = {"split": ["train", "test"] * 384}
reader = ChipReader(cube, list(ChipGrid((96, 128), 4)), ["optical", "thermal"], target=target)
print("ready", flush=True)
write_store([StorePart("a", reader, columns)], sys.argv[2])
"""


def test_killed_while_building_it_opens_and_resumes_to_the_same_bytes(cube, landsat, tmp_path):
    """768 chips in twelve shards; killed after a random time, again and again."""
    whole = tmp_path / "whole"
    subprocess.run([sys.executable, "-c", BUILD, landsat.href, str(whole)], check=True, capture_output=True)
    expected, content = StoredChips(whole), _bytes(whole)
    generator = random.Random(1)
    store = tmp_path / "store"
    seen = []
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", BUILD, landsat.href, str(store)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.35))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not (store / "plan.json").is_file():
            continue
        opened = StoredChips(store)
        seen.append(len(opened))
        assert len(opened) % 64 == 0
        assert verify_store(store) == []
        for arrays in opened.stream(64):
            wanted = expected.read(opened.numbers[arrays.index].tolist())
            for name, value in wanted.images.items():
                np.testing.assert_array_equal(arrays.images[name], value)
            np.testing.assert_array_equal(arrays.target, wanted.target)
    command = [sys.executable, "-c", BUILD, landsat.href, str(store)]
    last = subprocess.run(command, check=False, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert _bytes(store) == content
    assert len(seen) > 0


def test_a_source_that_cannot_be_read_is_named_and_nothing_half_is_left(landsat, tmp_path):
    scenes = landsat.search(sensors=["landsat-tirs-l1"])
    gone = [
        dataclasses.replace(s, bands={b: dataclasses.replace(v, href=v.href + ".gone") for b, v in s.bands.items()})
        for s in scenes
    ]
    cube = geomm.load_cube(gone, geomm.common_geobox(scenes), errors="raise")
    part = StorePart("a", ChipReader(cube, list(ChipGrid((96, 128), 32)), list(cube.children)))
    with pytest.raises(ReadError, match="gone"):
        write_store([part], tmp_path / "store")
    assert len(StoredChips(tmp_path / "store")) == 0


def test_splits_go_into_the_store(cube, tmp_path):
    split = SpatialSplit.draw((96, 128), {"train": 0.5, "test": 0.5}, block=32, buffer=4)
    parts = [
        StorePart(name, ChipReader(cube, split.tiles(name, 16), ["optical"], target=TARGET, split=(split, name)), {"split": [name] * len(split.tiles(name, 16))})
        for name in split.names
    ]  # fmt: skip
    store = StoredChips(write_store(parts, tmp_path / "store"))
    for name in split.names:
        mine = store.select(split=name)
        for arrays, rows in ((mine.read(range(len(mine))), mine.table),):
            for k, row in enumerate(rows.itertuples()):
                allowed = split.mask(name, geomm.Window(row.y, row.x, 16, 16))
                assert not (arrays.valid["optical"][k, 0] & ~allowed).any()
                assert (arrays.target[k][~allowed] == 255).all()


def test_what_does_not_fit_is_refused_before_anything_is_written(cube, store, tmp_path):
    with pytest.raises(ConfigError, match="one value for every chip"):
        StorePart("a", _reader(cube), {"split": ["train"]})
    with pytest.raises(ConfigError, match="below its count"):
        write_store(_parts(cube), tmp_path / "s", share=(4, 4))
    assert not (tmp_path / "s").exists()
    with pytest.raises(PackageError, match="no chip of split nope.*there is train, test"):
        StoredChips(store).select(split="nope")
    assert StoredChips(store).table["crs"].unique().tolist() == ["EPSG:32632"]
