"""Wrong recipes, batches and commands: refused before anything is touched, with an error that names what to write."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys

import geopandas
import pytest
import shapely
import torch
import yaml
from batches import write_archive, write_composites, write_model, write_recipe

import geomm
from geomm import cli
from geomm.config import load_batch
from geomm.errors import GeommError
from geomm.ledger import Ledger
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, save_package
from geomm.pipeline.chips import build_chips
from geomm.pipeline.indexing import IndexOptions
from geomm.retrieval.embedder import Embedder
from geomm.train import Fitted
from geomm.transforms import Normaliser

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def _words_model(folder):
    """Write an untrained dual encoder of the synthetic scene."""
    torch.manual_seed(0)
    streams = {"optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4"))}
    spec = ModelSpec({"optical": 3}, 8, "contrastive", "tiny_cnn", "sum", 4, "tiny", streams=streams)
    normaliser = Normaliser({"optical": (0.3,) * 3}, {"optical": (0.2,) * 3})
    contract = InputContract(streams, {"optical": "reflectance"}, (), 30.0, 16, 0, ("optical",))
    return save_package(Fitted(MultimodalModel(spec).eval(), normaliser, ()), contract, folder, name="words")


@pytest.fixture(scope="module")
def at(landsat, recipe, cube, tmp_path_factory):
    """Return what the cases work on."""

    class At:
        root, catalog, seg = tmp_path_factory.mktemp("recipes"), landsat, recipe

    At.model = write_model(At.root / "model")
    archive = write_archive(At.root / "archive", range(1))
    At.batch, At.heat = write_recipe(At.root, archive, At.model), write_composites(At.root, archive)
    raw = yaml.safe_load(At.batch.read_text())
    At.flat = At.root / "flat.yaml"
    At.flat.write_text(yaml.safe_dump({"name": "flat", "source": raw["source"]} | raw["stages"][0] | {"name": "flat"}))
    At.words = _words_model(At.root / "words")
    At.index, At.embedder, At.cube = geomm.Index.create(At.root / "index", 8), Embedder.of(At.words), cube
    assert geomm.run_batch(load_batch(At.heat), At.root / "done").code == 0
    return At


def _recipe(change):
    return lambda a: geomm.load_recipe(a.seg, change)


def _batch(change):
    return lambda a: load_batch(a.batch, change)


CLASS = {"value": 1, "name": "a", "color": "#112233"}
RECIPES = {
    "top steps": (_recipe({"steps": 3}), "write train.steps in place of steps"),
    "lr": (_recipe({"train.lr": 1}), "write train.rate in place of train.lr"),
    "batch size": (_recipe({"train.batch_size": 4}), "write train.batch in place"),
    "epochs": (_recipe({"train.epochs": 4}), "write train.steps in place"),
    "seed": (_recipe({"train.seed": 4}), "write train.seeds in place"),
    "band": (_recipe({"modalities.optical.band": "B2"}), "write modalities.optical.bands in place"),
    "source.sensor": (_recipe({"source.sensor": "x"}), "write source.sensors in place"),
    "label.decoder": (_recipe({"label.decoder": "x"}), "write label.decode in place.*model.decoder"),
    "bbox": (_recipe({"search.bbox": [1, 2, 3, 4]}), "write search.aoi in place"),
    "date": (_recipe({"search.date": "2020"}), "write search.datetime in place"),
    "list as text": (_recipe({"modalities.optical.bands": "B2,B3"}), r"bands=\[B2, B3\]"),
    "list as number": (_recipe({"train.seeds": 0}), r"train.seeds=\[0\]"),
    "bare colour": (_recipe({"label.classes.0.color": None}), "quote the colour"),
    "number as text": (_recipe({"source.datetime": 2020}), "quote it: datetime: '2020'"),
    "number in quotes": (_recipe({"train.rate": "1e-3"}), "without quotes: rate: 0.001"),
    "text as section": (_recipe({"source": "scenes"}), "under source what it consists of: catalog, folder"),
    "choice": (_recipe({"split.kind": "block"}), "'blocks'"),
    "patience": (_recipe({"train.patience": 3}), "write split.validation: 0.2"),
    "kind of a stage": (_batch({"stages.0.kind": "map"}), "stages.0.kind as chips or train"),
    "one value twice": (_recipe({"label.classes": [CLASS, CLASS | {"name": "b"}]}), "value 1. Next: give each"),
    "one name twice": (_recipe({"label.classes": [CLASS, CLASS | {"value": 2}]}), "name a. Next: give each"),
    "overrides as list": (lambda a: geomm.load_recipe(a.seg, ["train.steps=3"]), '"train.steps": 50'),
    "mapping as recipe": (lambda a: geomm.load_recipe({"name": "x"}), "path of a YAML file"),
    "shipped name": (lambda a: geomm.load_recipe("clouds_landsta"), "'clouds_landsat'"),
    "file name": (lambda a: geomm.load_recipe(a.root / "mapz.yaml"), "'maps.yaml'"),
    "key of a stage": (_batch({"stages.0.sise": 3}), "write stages.0.size in place of stages.0.sise"),
    "path in the only stage": (lambda a: load_batch(a.flat, {"stages.0.size": 0}), "correct size, which is 0"),
    "key of the only stage": (lambda a: load_batch(a.flat, {"layer": ["class"]}), "write layers in place of layer"),
    "stage of itself": (_batch({"stages.0.model": "maps"}), "an earlier stage that trains"),
    "polygons": (_batch({"stages.0.polygons": True, "stages.0.layers": ["entropy"]}), r"layers: \[class, entropy\]"),
    "address as host": (_batch({"trust.hosts": ["https://x.org/"]}), "write 'x.org'"),
}
O = geomm.BatchOptions  # noqa: E741
PYTHON = {
    "path as chips": (lambda a: geomm.recipe_chips("seg.yaml"), r"load_recipe\('seg.yaml'\)"),
    "path as store": (lambda a: build_chips("seg.yaml", a.root / "s"), r"load_recipe\('seg.yaml'\)"),
    "options as mapping": (lambda a: geomm.run_batch(load_batch(a.heat), a.root / "o", {"workers": 2}), "BatchOptions"),
    "workers": (lambda a: O(workers="4"), "workers=4"),
    "since as date": (lambda a: O(since=dt.date(2024, 5, 31)), "since='2024-05-31'"),
    "since as days": (lambda a: O(since=dt.timedelta(7)), "since='7d'"),
    "metrics": (lambda a: O(metrics=3), "metrics='folder/name'"),
    "grace": (lambda a: O(grace="3"), "grace=4.0"),
    "index_source": (lambda a: geomm.index_source(a.catalog.href, a.words, a.root / "x"), r"load_package\(MODEL\)"),
    "index_cube": (lambda a: geomm.index_cube(a.embedder, a.index, a.cube, job="j"), "index_cube\\(index"),
    "days below 0": (lambda a: IndexOptions(within=-1), "days may lie"),
    "bucket": (lambda a: geomm.run(geomm.load_recipe(a.seg), "s3://bucket/x"), "into a folder"),
}


@pytest.mark.parametrize("name", [*RECIPES, *PYTHON])
def test_python_names_the_fix(name, at):
    use, fix = (RECIPES | PYTHON)[name]
    with pytest.raises(GeommError) as caught:
        use(at)
    assert caught.value.code == "E701"
    assert re.search(fix, str(caught.value)), str(caught.value)


def test_a_key_that_occurs_twice_is_refused_with_its_line(at, tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text(at.seg.read_text() + "\ntrain: {steps: 5}\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(GeommError, match=f"train occurs twice.*line {line}"):
        geomm.load_recipe(path)


def test_numbers_and_dates_are_taken_as_they_are_written(at, tmp_path):
    path = tmp_path / "written.yaml"
    raw = yaml.safe_load(at.seg.read_text())
    raw["source"]["datetime"] = dt.date(2020, 6, 1)  # written without quotes
    path.write_text(yaml.safe_dump(raw).replace("rate: 0.003", "rate: 1e-3"))
    config = geomm.load_recipe(path, dict([cli.assignment("train.weight_decay=1e-3")]))
    assert config.source.datetime == "2020-06-01"
    assert config.train.weight_decay == 1e-3
    for value in ("2020-06-02", dt.date(2020, 6, 2)):
        assert geomm.load_recipe(path, {"source.datetime": value}).source.datetime == "2020-06-02"
    assert cli.assignment("source.datetime=2020-06-02") == ("source.datetime", "2020-06-02")


def test_places_of_a_batch_may_be_text(at, tmp_path):
    options = geomm.BatchOptions(state=str(tmp_path / "state"), metrics=str(tmp_path / "m.prom"))
    assert geomm.run_batch(load_batch(at.heat), tmp_path / "out", options).code == 0
    assert (tmp_path / "m.prom").is_file()
    assert (tmp_path / "state" / "ledger.sqlite").is_file()


def test_a_swapped_area_of_a_batch_is_told(at, tmp_path):
    west, south, east, north = geomm.open_catalog(at.root / "archive" / "items.json").search()[0].bbox
    config = load_batch(at.heat, {"scenes": {"aoi": [south, west, north, east]}})
    with pytest.warns(UserWarning, match="Did you swap them"):
        assert geomm.run_batch(config, tmp_path / "out").units == ()


@pytest.mark.parametrize(
    ("change", "options", "fix"),
    [
        ({"stages.0.layers": ["clas"]}, {}, "'class'"),
        ({"stages.0.model": "words"}, {}, "task: segmentation"),
        ({"stages.0.kind": "index"}, {}, "task: contrastive"),
        ({}, {"device": "gpu"}, "use cpu; or cuda"),
        pytest.param({"stages.0.kind": "train"}, {}, "train.accelerator: auto", marks=NO_GPU),
        pytest.param({}, {"device": "cuda"}, "use cpu; or cuda", marks=NO_GPU),
    ],
)
def test_what_no_unit_could_do_is_refused_before_any(change, options, fix, at, tmp_path):
    raw = yaml.safe_load(at.batch.read_text())
    if change.get("stages.0.kind") == "index":
        raw["stages"] = [{k: raw["stages"][0][k] for k in ("name", "kind", "model")}]
    if change.get("stages.0.kind") == "train":
        raw["stages"] = [{"name": "t", "recipe": str(at.seg), "overrides": {"train.accelerator": "gpu"}}]
    path = at.root / f"{tmp_path.name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    try:
        told = str(geomm.run_batch(load_batch(path, change), tmp_path / "out", geomm.BatchOptions(**options)).error)
    except GeommError as error:
        told = str(error)
    assert fix in told
    if (tmp_path / "out").exists():
        with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
            assert all(u.state == "PENDING" and not u.attempts for u in ledger.units())


def test_zones_elsewhere_are_told(at, tmp_path):
    from geomm.pipeline.apply import MapOptions, predict_source

    zones = geopandas.GeoDataFrame({"name": ["far"]}, geometry=[shapely.box(100, 10, 101, 11)], crs="EPSG:4326")
    options = MapOptions(layers=("class",), zones=zones)
    with pytest.warns(UserWarning, match="No zone lies in the imagery"):
        predict_source(geomm.load_package(at.model), at.catalog.href, tmp_path, options=options)


COMMANDS = {
    "train {seg} --out s3://bucket/x": (2, "into a folder"),
    "run {seg} --out s3://bucket/x": (2, "into a folder"),
    "run {seg} --set =3": (2, "--set train.steps=50"),
    "catalog build {model} -o s3://bucket/x": (2, "into a folder"),
    "run {batch} --scheduler tcp": (2, "tcp://host:8786"),
    "run clouds_landsta": (2, "'clouds_landsat'"),
    "run {batch} --out {out} --device gpu": (2, "use cpu"),
    "run {batch} --set stages.0.recipe=x": (2, "remove stages.0.recipe; there are name, source, scenes, kind, model"),
    "index {catalog} {words} -o {out} --within -1": (2, "days may lie"),
    "index {catalog} {words} -o {out} --size 0": (2, "size=64"),
    "index {catalog} {words} -o {out} --size 4096": (2, "--size 16"),
    "index {catalog} {words} -o {out} --device gpu": (2, "use cpu"),
    "index {words} {catalog} -o {out}": (2, "exchange them"),
    "ground {words} {catalog} water -o {out} --device gpu": (2, "use cpu"),
    "predict {catalog} {model} -o {out}": (2, "exchange them"),
    "predict {model} {catalog} -o {out} --layer class,confidence": (2, "--layer class --layer confidence"),
    "search {words} water --sensor a,b": (2, "--sensor a --sensor b"),
    "catalog search {catalog} --sensor a,b": (2, "--sensor a --sensor b"),
    "catalog index {catalog} x.json": (2, "write x.parquet"),
    "ablate {seg} --fusion a,b": (2, "--fusion a --fusion b"),
    "runs show {done} --stage heatt": (1, "'heat'"),
    "runs verify {done} --stage nope": (1, "known: heat"),
    "runs retry {done} --stage nope": (1, "known: heat"),
    "runs retry {done} --code E999": (1, "E302"),
}


@pytest.mark.parametrize("line", [*COMMANDS, pytest.param("train {seg} --set train.accelerator=gpu", marks=NO_GPU)])
def test_commands_name_the_fix_in_one_line(line, at, tmp_path, monkeypatch, capsys):
    names = ("seg", "batch", "model")
    places = {n: getattr(at, n) for n in names} | {"catalog": at.catalog.href, "words": at.words.path}
    argv = line.format(**places, done=at.root / "done", out=tmp_path / "out").split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["geomm", *argv])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    status, fix = COMMANDS.get(line, (2, "train.accelerator: auto"))
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == status, told
    assert fix in told
    assert re.search(r"\[GEOMM-E\d{3}\]$", told)
    assert not list(tmp_path.glob("s3:"))


def test_chips_are_not_exported_into_their_store(at, tmp_path, monkeypatch, capsys):
    store = build_chips(geomm.load_recipe(at.seg), tmp_path / "store")
    before = sorted(store.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["geomm", "chips", "export", str(store), "-o", str(store)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "-o tiles" in capsys.readouterr().err
    assert sorted(store.rglob("*")) == before


@pytest.mark.parametrize(("given", "threads"), [("3", 3), ("2,1", 2), ("", None), ("many", None), ("0", None)])
def test_threads_are_those_of_openmp_or_of_the_machine(monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert O().threads == (threads or len(os.sched_getaffinity(0)))
