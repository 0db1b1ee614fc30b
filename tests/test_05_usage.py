"""Wrong usages, as people make them: each is refused with an error that names the fix."""

from __future__ import annotations

import datetime as dt
import re
import sys

import geopandas
import numpy as np
import pytest
import shapely

import geomm
from geomm import cli
from geomm.errors import GeommError

CLASSES = (geomm.ClassSpec(0, "land", "#33a02c"), geomm.ClassSpec(1, "water", "#1f78b4"))


@pytest.fixture(scope="module")
def at(landsat, landsat_folder, cube, tmp_path_factory):
    """Return what the cases work on."""
    from predicting import save_model

    class At:
        catalog, files, node, root = landsat, landsat_folder, cube["optical"], tmp_path_factory.mktemp("usage")
        scenes = landsat.search()

    At.cube, At.grid = cube, geomm.common_geobox(At.scenes)
    At.box = At.scenes[0].bbox
    At.model = save_model(At.root / "run" / "model")
    At.index = geomm.Index.create(At.root / "index", 4)
    At.chips = geomm.ChipGrid((96, 128), 32)
    At.data = geomm.ChipDataset(cube, At.chips, ["optical", "thermal"])
    return At


def _swapped(box):
    return box[1], box[0], box[3], box[2]


S, M = geomm.SpatialSplit, geomm.Modality
PYTHON = {
    "lon and lat swapped": (lambda a: a.catalog.search((46, 9, 46.2, 109)), "E201", r"swap them\? \(9.0, 46.0, 109.0"),
    "south above north": (lambda a: a.catalog.search((9, 47, 10, 46)), "E201", r"\(9.0, 46.0, 10.0, 47.0\)"),
    "area in metres": (lambda a: a.catalog.search((5e5, 39e5, 5.1e5, 40e5)), "E201", "metres.*to_crs"),
    "area as text": (lambda a: a.catalog.search("9,46,9.2,46.2"), "E201", "four numbers"),
    "area of three": (lambda a: a.catalog.search((9, 46, 9.2)), "E201", "west, south, east, north"),
    "month": (lambda a: a.catalog.search(None, "2020-02"), "E201", "2020-02-01/2020-02-29"),
    "German date": (lambda a: a.catalog.search(None, "1.6.2020"), "E201", "write 2020-06-01"),
    "interval as tuple": (lambda a: a.catalog.search(None, ("2020-01-01", "2021-01-01")), "E201", "2020-01-01/2021"),
    "reversed interval": (lambda a: a.catalog.search(None, "2021-01-01/2020-01-01"), "E201", "2020-01-01/2021-01-01"),
    "clouds": (lambda a: a.catalog.search(cloud_cover=150), "E201", "0 to 100"),
    "sensor misspelt": (lambda a: a.catalog.search(sensors=["landsat-oil-l1"]), "E101", "'landsat-oli-l1'"),
    "sensors as text": (lambda a: a.catalog.search(sensors="landsat-oli-l1"), "E201", r"\['landsat-oli-l1'\]"),
    "offset": (lambda a: a.catalog.search(sentinel2_offset=1000), "E201", "-1000"),
    "no catalog": (lambda a: geomm.open_catalog("nowhere/catalog.json"), "E201", "correct the path"),
    "folder of files": (lambda a: geomm.open_catalog(a.files), "E201", "geomm catalog build"),
    "image as catalog": (lambda a: geomm.open_catalog(a.files / "scene_B2.tif"), "E201", "catalog build"),
    "scheme": (lambda a: geomm.open_catalog("htps://example.org/v1"), "E201", "'https://example.org/v1'"),
    "public catalog": (lambda a: geomm.open_catalog("earthsearch"), "E201", "'earth_search'"),
    "empty search": (lambda a: geomm.common_geobox([]), "E201", "widen the area.*longitude first"),
    "empty cube": (lambda a: geomm.load_cube([], a.grid), "E201", "widen the area"),
    "CRS": (lambda a: geomm.common_geobox(a.scenes, crs="EPSG:99999"), "E301", "EPSG:32632"),
    "CRS of a zone": (lambda a: geomm.common_geobox(a.scenes, crs="utm33x"), "E301", "'EPSG:32633'"),
    "pixel of 0": (lambda a: geomm.common_geobox(a.scenes, resolution=0), "E301", "resolution=10"),
    "pixel as text": (lambda a: geomm.common_geobox(a.scenes, resolution="10m"), "E301", "resolution=10"),
    "metres for degrees": (lambda a: geomm.common_geobox(a.scenes, crs="EPSG:4326", resolution=10), "E301", "0.00027"),
    "far away": (lambda a: geomm.common_geobox(a.scenes, aoi=(100, 10, 101, 11)), "E301", "the scenes lie in"),
    "area swapped": (lambda a: geomm.common_geobox(a.scenes, aoi=_swapped(a.box)), "E301", r"swap them\? aoi=\(9.0"),
    "path as scenes": (lambda a: geomm.load_cube("scene.tif", a.grid), "E701", "build_catalog"),
    "catalog as scenes": (lambda a: geomm.load_cube(a.catalog, a.grid), "E701", "catalog.search"),
    "no grid": (lambda a: geomm.load_cube(a.scenes, "EPSG:32632"), "E701", "common_geobox"),
    "modality as text": (lambda a: geomm.load_cube(a.scenes, a.grid, {"o": "landsat-oli-l1"}), "E701", "Modality"),
    "band misspelt": (lambda a: geomm.load_cube(a.scenes, a.grid, {"o": M("landsat-oli-l1", ("B02",))}), "E101", "'B2'"),
    "bands as text": (lambda a: M("landsat-oli-l1", "B2"), "E701", r'\("B2",\)'),
    "chunks": (lambda a: geomm.load_cube(a.scenes, a.grid, chunks=(64, 64)), "E701", "chunks=512"),
    "dataset as cube": (lambda a: geomm.composite(a.node.to_dataset(), "median"), "E701", "whole cube"),
    "array as cube": (lambda a: geomm.calibrated(np.zeros(3)), "E701", "calibrated\\(cube\\)"),
    "composite": (lambda a: geomm.composite(a.cube, "mean"), "E701", "'median'"),
    "modality misspelt": (lambda a: geomm.ChipDataset(a.cube, a.chips, ["optcal", "thermal"]), "E701", "'optical'"),
    "node as cube": (lambda a: geomm.ChipDataset(a.node, a.chips, ["optical"]), "E701", "whole cube"),
    "calibrated cube": (
        lambda a: geomm.ChipDataset(geomm.calibrated(a.cube), a.chips, ["optical"]), "E701", "not geomm.calibrated",
    ),
    "target misspelt": (
        lambda a: geomm.ChipDataset(a.cube, a.chips, ["optical"], target=geomm.Target("labl", (0,))), "E701", "'label'",
    ),
    "chips of another grid": (
        lambda a: geomm.ChipDataset(a.cube, geomm.ChipGrid((900, 900), 99), ["optical"]), "E301", r"ChipGrid\(\(96, 128",
    ),
    "chip of 0": (lambda a: geomm.ChipGrid((96, 128), 0), "E701", "ChipGrid"),
    "chip of 32.5": (lambda a: geomm.ChipGrid((96, 128), 32.5), "E701", "whole number"),
    "chip too large": (lambda a: geomm.random_chips((96, 128), 512, 4), "E701", "smaller chips"),
    "odd overlap": (lambda a: geomm.ChipGrid.overlapping((96, 128), 32, 3), "E701", "overlap 2"),
    "shares": (lambda a: S.draw((96, 128), {"a": 80, "b": 20}, block=32, buffer=0), "E401", "'a': 0.8, 'b': 0.2"),
    "buffer": (lambda a: S.draw((96, 128), {"a": 0.5, "b": 0.5}, block=32, buffer=32), "E401", "larger than the buffer"),
    "block of 0": (lambda a: S.draw((96, 128), {"a": 0.5, "b": 0.5}, block=0, buffer=0), "E701", "block=512"),
    "batch of 0": (lambda a: geomm.ChipLoader(a.data, 0), "E701", "ChipLoader"),
    "cube in a loader": (lambda a: geomm.ChipLoader(a.cube, 4), "E701", "ChipDataset"),
    "no store": (lambda a: geomm.StoredChips(a.files), "E502", "geomm chips build"),
    "no bands": (lambda a: geomm.ModelSpec({"optical": 0}, 2), "E701", "ModelSpec"),
    "no outputs": (lambda a: geomm.ModelSpec({"optical": 3}, 0), "E701", "outputs=3"),
    "task": (lambda a: geomm.get_task("segmentaton", CLASSES), "E101", "'segmentation'"),
    "loss": (lambda a: geomm.get_task("segmentation", CLASSES, loss="focall"), "E101", "'focal'"),
    "no classes": (lambda a: geomm.get_task("segmentation", ()), "E701", "ClassSpec"),
    "colour": (lambda a: geomm.ClassSpec(0, "water", "blue"), "E701", "#rrggbb"),
    "class 255": (lambda a: geomm.ClassSpec(255, "water", "#0000ff"), "E701", "0 to 254"),
    "no steps": (lambda a: geomm.TrainSettings(steps=0), "E701", "steps=500"),
    "negative rate": (lambda a: geomm.TrainSettings(rate=-1), "E701", "rate=1e-3"),
    "precision": (lambda a: geomm.TrainSettings(precision="bf16"), "E701", "'bf16-mixed'"),
    "run as model": (lambda a: geomm.load_package(a.root / "run"), "E502", "run/model"),
    "no model": (lambda a: geomm.load_package(a.files), "E502", "a package is a folder"),
    "model as path": (lambda a: geomm.predict(a.cube, str(a.model.path)), "E701", "load_package"),
    "arguments exchanged": (lambda a: geomm.predict(a.model, a.cube), "E701", "load_cube"),
    "layer": (
        lambda a: geomm.predict(a.cube, a.model, geomm.PredictSettings(size=32, block=64, layers=("clas",))), "E101", "'class'",
    ),
    "layers as text": (lambda a: geomm.PredictSettings(layers="class"), "E701", r"\('class',\)"),
    "chip and block": (lambda a: geomm.PredictSettings(size=100, block=256), "E701", "multiple of size"),
    "negative halo": (lambda a: geomm.PredictSettings(halo=-4), "E701", "0 or more"),
    "blend": (lambda a: geomm.PredictSettings(blend="han"), "E701", "'hann'"),
    "other bands": (
        lambda a: geomm.predict(geomm.load_cube(a.scenes, a.grid, {
            "optical": M("landsat-oli-l1", ("B2", "B3")), "thermal": M("landsat-tirs-l1")}), a.model), "E501", "load those bands",
    ),
    "other pixels": (
        lambda a: geomm.predict(geomm.load_cube(a.scenes, geomm.common_geobox(a.scenes, resolution=120), {
            "optical": M("landsat-oli-l1", ("B2", "B3", "B4")), "thermal": M("landsat-tirs-l1")}), a.model), "E501", "30",
    ),
    "output is a file": (
        lambda a: geomm.write_products([], a.grid, a.files / "scene_B2.tif", name="x", source=geomm.Provenance(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))),
        "E601", "name a folder",
    ),
    "k = 0": (lambda a: a.index.search(np.ones(4), k=0), "E701", "at least 1"),
    "k = 2.5": (lambda a: a.index.search(np.ones(4), k=2.5), "E701", "whole number"),
    "query of another length": (lambda a: a.index.search(np.ones(7)), "E701", "the index's own model"),
    "words without a model": (lambda a: a.index.search("water"), "E701", "open the index with its model"),
    "empty query": (lambda a: a.index.search(np.zeros(4)), "E701", "not all zero"),
    "model as index": (lambda a: geomm.Index.open(a.model.path), "E502", "name the folder of an index"),
    "no annotations": (lambda a: geomm.read_annotations("none.csv"), "E201", "GeoJSON"),
    "no recipe": (lambda a: geomm.load_recipe("none.yaml"), "E701", "pipelines/"),
    "path as recipe": (lambda a: geomm.run("recipe.yaml", "out"), "E701", r"load_recipe\('recipe.yaml'\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_python_names_the_fix(name, at):
    use, code, fix = PYTHON[name]
    with pytest.raises(GeommError) as caught:
        use(at)
    assert caught.value.code == code
    assert re.search(fix, str(caught.value)), str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"train.stepz": 5}, "write train.steps in place of train.stepz"),
        ({"train.steps": 0}, "correct train.steps, which is 0"),
        ({"modell": {}}, "write model in place of modell"),
    ],
)
def test_recipes_name_the_field(recipe, change, fix):
    with pytest.raises(GeommError, match=fix):
        geomm.load_recipe(recipe, change)


def test_a_table_knows_its_crs(at):
    here = geopandas.GeoDataFrame(geometry=[shapely.box(500100, 3998000, 502000, 3999500)], crs="EPSG:32632")
    elsewhere = geopandas.GeoDataFrame(geometry=[shapely.box(600100, 4998000, 602000, 4999500)], crs="EPSG:32632")
    assert len(at.catalog.search(here)) == 3
    assert at.catalog.search(elsewhere) == []
    left, bottom, right, top = geomm.common_geobox(at.scenes, aoi=here).boundingbox
    assert left <= 500100 < 502000 <= right
    assert bottom <= 3998000 < 3999500 <= top


def test_a_swapped_search_says_so(at):
    with pytest.warns(UserWarning, match=r"Did you swap them\? Search \(9.0, 36.1"):
        assert at.catalog.search(_swapped(at.box)) == []


def test_what_a_cube_merely_lacks_is_left_out(at):
    assert set(geomm.ChipDataset(at.cube, at.chips, ["optical", "sar"])[0].images) == {"optical"}


def test_calibrating_twice_changes_nothing(at):
    once = geomm.calibrated(at.cube)
    np.testing.assert_array_equal(geomm.calibrated(once)["thermal"]["data"], once["thermal"]["data"])
    np.testing.assert_array_equal(geomm.calibrated(at.cube["thermal"])["data"], once["thermal"]["data"])


COMMANDS = {
    "catalog search {catalog} --aoi=9,46,9.2": (2, "--aoi=-87.5"),
    "catalog search nowhere": (1, "correct the path"),
    "catalog search {catalog} --datetime 2020-02": (1, "2020-02-01/2020-02-29"),
    "catalog build {files} --definition {files}/scene_B2.tif": (2, "YAML"),
    "predict nowhere {catalog} -o {out}": (1, "a package is a folder"),
    "predict {model} {catalog} -o {out} --layer clas": (1, "'class'"),
    "predict {model} {catalog} -o {out} --crs EPSG:4326 --resolution 10": (1, "0.00027"),
    "predict {model} {catalog} -o {out} --device gpu": (2, "cuda"),
    "predict {model} {catalog} -o {out} --aoi=100,10,101,11": (1, "geomm catalog search"),
    "search {model} water": (1, "name the folder of an index"),
    "index {catalog} {model} -o {out}": (1, "contrastive"),
    "run nowhere.yaml": (2, "pipelines/"),
    "run {recipe} --set train.steps": (2, "--set train.steps=50"),
    "run {recipe} --set train.seeds=[1": (2, "close brackets"),
    "chips info {files}": (1, "geomm chips build"),
    "verify {files}": (1, "name an index"),
    "evaluate {files}": (1, "geomm train"),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_name_the_fix_in_one_line(line, at, recipe, tmp_path, monkeypatch, capsys):
    places = {"catalog": at.catalog.href, "files": at.files, "model": at.model.path, "recipe": recipe}
    argv = line.format(**places, out=tmp_path / "out").split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["geomm", *argv])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    status, fix = COMMANDS[line]
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == status, told
    assert re.search(re.escape(fix), told), told
    assert re.search(r"\[GEOMM-E\d{3}\]$", told)
