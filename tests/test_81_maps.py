"""Maps as files: the same bytes whoever makes them, found again after a stop, and what a command can be told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from batches import QUIET
from predicting import BANDS, CLASSES, SENSORS, save_model
from typer.testing import CliRunner

import geomm
from geomm import cli
from geomm.errors import OutputError
from geomm.pipeline.apply import MapOptions, predict_source
from geomm.prediction import PredictSettings
from geomm.testing import write_scene

RUNNER = CliRunner()
OPTIONS = {"size": 64, "halo": 16, "precision": "fp32"}
SMALL = PredictSettings(64, 16, 128, 4, precision="fp32")


def small_blocks(options, cube, packages):
    """Blocks of 128 pixels, so that small scenes have several."""
    return replace(SMALL, layers=options.layers, threads=torch.get_num_threads())


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Several blocks a scene, where a test does not undo it."""
    monkeypatch.setattr(MapOptions, "settings", small_blocks)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with one scene of 400 x 500 pixels: three rows and four columns of blocks at a size of 128."""
    folder = tmp_path_factory.mktemp("scenes")
    for n, bands in BANDS.items():
        write_scene(folder, SENSORS[n], bands=bands, shape=(400, 500))
    return folder


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def mapped(model, scenes, out, **options):
    predict_source(model, scenes, out, datetime="2020-06-01", options=MapOptions(**(OPTIONS | options)))
    return bytes_of(out)


@pytest.fixture(scope="module")
def plain(model, scenes, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MapOptions, "settings", small_blocks)
        return mapped(model, scenes, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("workers", "processes"), [(n, p) for p in (False, True) for n in (1, 2, 4)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_number_of_workers_writes_the_same_bytes(model, scenes, plain, tmp_path, workers, processes):
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(workers, threads_per_worker=1, processes=processes, **QUIET) as cluster,
        Client(cluster) as client,
    ):
        assert mapped(model, scenes, tmp_path / "maps", client=client) == plain


SLOW = """
import sys, time
from geomm.prediction import PredictSettings
import geomm.export.spool as spool
from geomm.package import load_package
from geomm.pipeline.apply import MapOptions, predict_source
keep = spool.Spool.write
def slow(self, window, prediction):
    keep(self, window, prediction)
    print("block", flush=True)
    time.sleep(0.05)
spool.Spool.write = slow
model, scenes, out, threads = sys.argv[1:]
def small_blocks(options, cube, packages):
    return PredictSettings(64, 16, 128, 4, precision="fp32", threads=int(threads))
options = MapOptions(size=64, halo=16, precision="fp32", threads=int(threads))
MapOptions.settings = small_blocks
predict_source(load_package(model), scenes, out, datetime="2020-06-01", options=options)
"""


@pytest.mark.parametrize("kill", range(int(os.environ.get("GEOMM_KILLS", "2"))))
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(model, scenes, plain, tmp_path, kill):
    """Killed at some moment; what was published is nothing, whole blocks are found again, nothing else is left."""
    (tmp_path / "small.py").write_text(SLOW)
    out, moment = tmp_path / "maps", np.random.default_rng(kill).integers(1, 10)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "small.py"), str(model.path), str(scenes), str(out)]
    command.append(str(torch.get_num_threads()))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(moment):
        if not process.stdout.readline():
            break
    time.sleep(float(np.random.default_rng(kill).uniform(0, 0.05)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    there = [p for p in out.iterdir() if not p.name.startswith(".staging-")]
    assert not [p for p in there if p.suffix == ".json"] or bytes_of(out) == plain
    before = sorted(p.name for p in out.glob(".staging-*/blocks/*.done"))
    told = []
    options = MapOptions(**OPTIONS)
    predict_source(model, scenes, out, datetime="2020-06-01", options=options, progress=lambda *a: told.append(a))
    assert bytes_of(out) == plain
    assert not before or len(told) < told[-1][2]  # some blocks were not made again


@pytest.mark.parametrize("lost", [".qml", ".tif.aux.xml", ".png", ".tif", ""])
def test_a_published_map_that_lost_a_file_is_made_whole_and_what_a_kill_left_is_removed(
    model, scenes, plain, tmp_path, lost
):
    out = tmp_path / "maps"
    mapped(model, scenes, out)
    name = next(out.glob("*.json")).stem
    before = next(out.glob("*.json")).stat().st_ino
    if lost:
        for path in out.glob(f"*{lost}"):
            path.unlink()
    (out / f".{name}.lock").touch()
    (out / f".staging-{name}-0123456789abcdef" / "blocks").mkdir(parents=True)
    assert mapped(model, scenes, out) == plain
    assert lost or before == next(out.glob("*.json")).stat().st_ino


def test_what_another_process_is_at_stays(model, scenes, tmp_path):
    from geomm.export.staging import staged

    out = tmp_path / "maps"
    mapped(model, scenes, out)
    name = next(out.glob("*.json")).stem
    with staged(out, name, "0123456789abcdef"):
        predict_source(model, scenes, out, datetime="2020-06-01", options=MapOptions(**OPTIONS))
        assert (out / f".staging-{name}-0123456789abcdef" / "blocks").is_dir()


def test_a_changed_source_is_not_taken_for_what_it_was(model, scenes, tmp_path, monkeypatch):
    """A run that stopped, then another scene under the same name: nothing of the first is in the map."""
    from geomm.export import spool

    def draw(seed):
        for n, bands in BANDS.items():
            write_scene(tmp_path / "scenes", SENSORS[n], bands=bands, shape=(200, 200), seed=seed)

    keep, count, folder = spool.Spool.write, [0], tmp_path / "scenes"

    def broken(self, window, prediction):
        count[0] += 1
        if count[0] > 1:
            raise OSError(28, "No space left on device")
        keep(self, window, prediction)

    draw(1)
    with monkeypatch.context() as context:
        context.setattr(spool.Spool, "write", broken)
        with pytest.raises(OutputError, match="No space left"):
            mapped(model, folder, tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob(".staging-*/blocks/*.done"))) == 1
    draw(2)
    changed = mapped(model, folder, tmp_path / "maps")
    assert changed == mapped(model, folder, tmp_path / "fresh")
    assert not any(name.startswith(".staging") for name in changed)


def test_two_runs_of_one_map_do_not_meet(tmp_path):
    from geomm.export.staging import staged

    def second():
        with staged(tmp_path / "maps", "site", "abc"):
            pass

    with staged(tmp_path / "maps", "site", "abc"):
        with pytest.raises(OutputError, match="another process is writing this map"):
            second()
        assert (tmp_path / "maps" / ".staging-site-abc").is_dir()
    assert not (tmp_path / "maps").exists()


def test_command_writes_layers_and_polygons(model, scenes, tmp_path, monkeypatch):
    monkeypatch.undo()
    argv = ["predict", str(model.path), str(scenes), "-o", str(tmp_path / "maps"), "--datetime", "2020-06-01"]
    said = RUNNER.invoke(
        cli.app,
        [*argv, "--layer", "class", "--layer", "entropy", "--layer", "confidence", "--polygons", "--size", "64"],
    )
    assert said.exit_code == 0, said.output
    item = json.loads(next((tmp_path / "maps").glob("*.json")).read_text())
    assert {"class", "entropy", "confidence", "thumbnail", "polygons", "polygons-parquet"} <= set(item["assets"])
    folder = tmp_path / "maps"
    with rasterio.open(folder / item["assets"]["class"]["href"]) as file:
        codes, size = file.read(1), abs(file.transform.a * file.transform.e)
    table = geopandas.read_parquet(folder / item["assets"]["polygons-parquet"]["href"])
    for c in CLASSES:
        area = table.loc[table["value"] == c.value, "area_m2"].sum()
        assert area == pytest.approx((codes == c.value).sum() * size, rel=2e-3)  # the ellipsoid, not the map
        assert item["assets"]["polygons"]["geomm:area_m2"][c.name] == pytest.approx(area)
    package = geopandas.read_file(folder / item["assets"]["polygons"]["href"], layer="classes")
    assert len(package) == len(table)
    assert set(package["class"]) <= {c.name for c in CLASSES}


def test_zones_are_told_their_classes(model, scenes, tmp_path):
    """Shares in rectangles, in degrees, equal counts of pixels; what lies outside has no class."""
    import shapely

    one, two, far = (
        shapely.box(500000 + a, 3999000 - b, 503000 + a, 3999700) for a, b in ((0, 0), (900, 1500), (9e5, 0))
    )
    zones = geopandas.GeoDataFrame({"field": ["a", "b", "c"]}, geometry=[one, two, far], crs=32632)
    zones.to_crs(4326).to_file(tmp_path / "zones.gpkg")
    from geomm.export import read_zones

    options = MapOptions(**OPTIONS, layers=("class",), zones=read_zones(tmp_path / "zones.gpkg"))
    (product,) = predict_source(model, scenes, tmp_path / "maps", datetime="2020-06-01", options=options)
    found = geopandas.read_file(next((tmp_path / "maps").glob("*-zones.gpkg")), layer="classes")
    with rasterio.open(product.files["class"]) as file:
        codes = file.read(1)
        y, x = np.mgrid[: file.height, : file.width]
        centres = shapely.points(*(file.transform @ (x.ravel() + 0.5, y.ravel() + 0.5)))
    for k, shape in enumerate((one, two)):
        inside = codes.ravel()[shapely.contains(shape, centres)]
        assert found["pixels"][k] == pytest.approx(len(inside), rel=0.02)
        known = inside[inside != 255]
        for c in CLASSES:
            assert found[f"share_{c.name}"][k] == pytest.approx((known == c.value).mean(), abs=0.02)
        assert found["class"][k] == CLASSES[np.bincount(known).argmax()].name
    assert found.loc[2, ["class", "pixels", "mapped"]].tolist() == ["", 0, 0.0]
    geopandas.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=4326).to_file(tmp_path / "points.gpkg")
    with pytest.raises(geomm.GeommError, match="not polygons on the ground.*Point"):
        read_zones(tmp_path / "points.gpkg")


def test_polygons_are_the_same_bytes_twice(model, scenes, tmp_path):
    first = mapped(model, scenes, tmp_path / "a", polygons=True, layers=("class",))
    assert mapped(model, scenes, tmp_path / "b", polygons=True, layers=("class",)) == first
    assert any(name.endswith(".gpkg") for name in first)


def test_cubes_on_disk_are_mapped_as_scenes_are(model, scenes, plain, tmp_path):
    catalog = geomm.build_catalog(
        scenes, tmp_path / "catalog", sensors=tuple(SENSORS.values()), datetime="2020-06-01T00:00:00Z"
    )
    found = catalog.search()
    streams = {n: geomm.Modality(SENSORS[n], BANDS[n]) for n in BANDS}
    cube = geomm.load_cube(found, geomm.common_geobox(found), streams)
    cube.to_zarr(tmp_path / "site.zarr", consolidated=False)
    predict_source(model, tmp_path / "site.zarr", tmp_path / "maps", options=MapOptions(**OPTIONS))
    with rasterio.open(tmp_path / "maps" / "site-class.tif") as file:
        codes = file.read(1)
    (tmp_path / "plain.tif").write_bytes(next(v for n, v in plain.items() if n.endswith("-class.tif")))
    with rasterio.open(tmp_path / "plain.tif") as file:
        np.testing.assert_array_equal(codes, file.read(1))
    (tmp_path / "none.zarr").mkdir()
    with pytest.raises(geomm.GeommError, match="cannot be opened|no cube"):
        predict_source(model, tmp_path / "none.zarr", tmp_path / "other")


def test_a_mosaic_over_two_zones_has_one_grid(model, tmp_path):
    for k, (crs, left) in enumerate((("EPSG:32632", 735000.0), ("EPSG:32633", 290000.0))):
        for n, bands in BANDS.items():
            write_scene(
                tmp_path / "scenes", SENSORS[n], item=f"s{k}", bands=bands, shape=(150, 150), crs=crs,
                origin=(left, 5000000.0), seed=k,
            )  # fmt: skip
    options = MapOptions(**OPTIONS, mosaic=True, crs="EPSG:3035", resolution=30.0, layers=("class",))
    (product,) = predict_source(model, tmp_path / "scenes", tmp_path / "maps", datetime="2020-06-01", options=options)
    item = json.loads(product.item.read_text())
    assert (item["id"], item["properties"]["proj:code"]) == ("mosaic-20200601", "EPSG:3035")
    assert len([link for link in item["links"] if link["rel"] == "derived_from"]) == 4
    with rasterio.open(product.files["class"]) as file:
        valid = (file.read(1) != 255).sum() * 900 / (2 * 150 * 150 * 900)
    assert 0.9 < valid < 1.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "relief"], "unknown layer.*known: class"),
        (["--blend", "feather"], "unknown blend 'feather'.*known: trim, hann"),
        (["--precision", "int8"], "unknown precision 'int8'"),
        (["--symmetries", "3"], "unknown number of symmetries"),
        (["--scheduler", "localhost"], "number of workers or an address"),
    ],
)
def test_wrong_options_are_named(model, scenes, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.undo()
    argv = ["geomm", "predict", str(model.path), str(scenes), "-o", str(tmp_path / "maps"), "--datetime", "2020-06-01"]
    monkeypatch.setattr("sys.argv", [*argv, *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    import re

    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code in (1, 2)
    assert re.search(message, line)
    assert not (tmp_path / "maps").exists()
