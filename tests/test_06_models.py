"""Wrong usages of models, packages, maps and indexes: each is refused with an error that names the fix."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import shapely
import torch
from predicting import BANDS, CLASSES, SENSORS, save_model

import geomm
from geomm.errors import GeommError
from geomm.models.multimodal import MultimodalModel
from geomm.retrieval.embedder import Embedder
from geomm.train import Fitted

STREAMS = {n: geomm.Modality(SENSORS[n], BANDS[n]) for n in BANDS}
UNITS = {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"}
LAND = (geomm.ClassSpec(0, "land", "#33a02c"), geomm.ClassSpec(1, "water", "#1f78b4"))
SHORT = geomm.PredictSettings(32, 16, 64)


@pytest.fixture(scope="module")
def at(cube, tmp_path_factory):
    """Return what the cases work on."""
    root = tmp_path_factory.mktemp("models")

    class At:
        out, file, grid = root / "out", root / "file", geomm.cube.geobox_of(cube)
        package = save_model(root / "model")

    At.cube = cube
    At.file.write_text("")
    At.data = _data(cube, geomm.Target("label", (0, 1, 2), geomm.radiometry.cloud_classes_from_bqa))
    At.bare, At.blind = _data(cube), _data(cube, geomm.Target("label", (77, 78, 79)))
    At.batches = geomm.ChipBatches([At.data], 4)
    At.normaliser = geomm.Normaliser.fit(At.batches)
    At.task = geomm.get_task("segmentation", CLASSES[:3])
    At.fitted = At.package.model()
    At.three = Fitted(_model(3), At.normaliser, ())
    At.contract = geomm.InputContract(STREAMS, UNITS, CLASSES, 30.0, 32, 16)
    At.words = geomm.save_package(
        Fitted(_model(8, task="contrastive", fusion="sum", text="tiny"), At.normaliser, ()),
        replace(At.contract, classes=(), size=16),
        root / "words",
        name="words",
    )
    At.embedder = Embedder.of(At.words)
    At.loader = geomm.ChipLoader(At.data, 4)
    At.index = geomm.Index.create(root / "index", 8)
    table = geopandas.GeoDataFrame({"id": ["a", "b"], "sensors": ["landsat-oli-l1", "landsat-oli-l1,landsat-tirs-l1"]}, geometry=[shapely.box(0, 0, 1, 1)] * 2, crs="EPSG:4326")  # fmt: skip
    At.index.append(np.eye(8)[:2], table)
    At.index.embedder = At.embedder
    return At


def _data(cube, target=None):
    return geomm.ChipDataset(cube, geomm.ChipGrid((96, 128), 32), list(BANDS), target=target)


def _model(outputs, **more):
    torch.manual_seed(0)
    return MultimodalModel(geomm.ModelSpec({n: len(b) for n, b in BANDS.items()}, outputs, width=4, **more)).eval()


def _fit(a, **changed):
    given = {"spec": geomm.ModelSpec({"optical": 3, "thermal": 2}, 3, width=4), "task": a.task, "folder": None}
    given |= {"batches": a.batches, "settings": geomm.TrainSettings(steps=3, accelerator="cpu")} | changed
    data = given.get("data") or geomm.TrainData(given["batches"], a.normaliser)
    return geomm.fit(given["spec"], given["task"], data, settings=given["settings"], folder=given["folder"])


def _save(a, fitted=None, *, name="x", metrics=None, **contract):
    return geomm.save_package(fitted or a.fitted, replace(a.contract, **contract), a.out, name=name, metrics=metrics)


def _judge(a, fitted=None, task=None, test=None, *, classes=3, only=()):
    test = test or geomm.HeldOut(a.data, 32)
    return geomm.evaluate(fitted or a.three, task or a.task, test, classes=classes, only=only)


def _write(a, blocks=(), *, name="x", source=None):
    return geomm.write_products(blocks, a.grid, a.out, name=name, source=source)


def _module(module=None, classes=LAND, settings=SHORT, **more):
    return geomm.predictor_of_module(module or torch.nn.Conv2d(5, 2, 1), list(BANDS), classes, settings, **more)


N, C, B, K = geomm.Normaliser, geomm.Calibration, geomm.BandSpec, geomm.ClassSpec
WHEN = geomm.Provenance(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
PAIR = geomm.Prompts.of("a lake", "a town")
CASES = {
    # accepted in silence before
    "hidden modality misspelt": (lambda a: _judge(a, only=("termal",)), "E101", "'thermal'"),
    "hidden modality as text": (lambda a: _judge(a, only="thermal"), "E701", r"only=\('thermal',\)"),
    "labels that are not there": (
        lambda a: _fit(a, batches=geomm.ChipBatches([a.blind], 4)), "E401", r"Target\('label', values=\(77.*Target\(values=",
    ),
    "contract of fewer classes": (lambda a: _save(a, classes=CLASSES[:3]), "E501", "the model 4, the contract 3"),
    "contract of fewer modalities": (
        lambda a: _save(a, modalities={"optical": STREAMS["optical"]}), "E501", "thermal.*InputContract.of",
    ),
    "contract in another order": (lambda a: _save(a, modalities=dict(reversed(STREAMS.items()))), "E501", "in its order"),
    "contract of other bands": (
        lambda a: _save(a, modalities=STREAMS | {"optical": geomm.Modality("landsat-oli-l1", ("B2",))}), "E501", "other bands",
    ),
    "contract of size 0": (lambda a: replace(a.contract, size=0), "E701", "size=256"),
    "contract of halo -4": (
        lambda a: geomm.InputContract.of(a.cube, list(BANDS), CLASSES, halo=-4), "E701", "halo=32",
    ),
    "contract of a unit misspelt": (lambda a: replace(a.contract, units=dict.fromkeys(BANDS, "reflectence")), "E101", "'reflectance'"),
    "contract of no unit": (lambda a: replace(a.contract, units={}), "E101", "reflectance"),
    "contract of names": (lambda a: replace(a.contract, classes=("land", "water")), "E701", "ClassSpec"),
    "std 0": (lambda a: N({"m": (0.1,)}, {"m": (0.0,)}), "E701", "above 0"),
    "std nan": (lambda a: N({"m": (0.1,)}, {"m": (float("nan"),)}), "E701", "above 0"),
    "other lengths": (lambda a: N({"m": (0.1, 0.2)}, {"m": (0.1,)}), "E701", "same bands"),
    "other names": (lambda a: N({"m": (0.1,)}, {"n": (0.1,)}), "E701", "same bands"),
    "normaliser of nothing": (lambda a: N.fit([]), "E401", "hold chips"),
    "two classes of a code": (lambda a: geomm.get_task("segmentation", (LAND[0], K(0, "sea", "#1f78b4"))), "E701", "own"),
    "two classes of a name": (lambda a: geomm.get_task("segmentation", (LAND[0], K(1, "land", "#1f78b4"))), "E701", "own"),
    "class without name": (lambda a: K(1, None, "#1f78b4"), "E701", r'ClassSpec\(1, "water"'),
    "half a pixel": (lambda a: geomm.Window(0.5, 0, 8, 8), "E701", "whole"),
    "scale 0": (lambda a: C(scale=0), "E701", "1e-4"),
    "scale as text": (lambda a: C(scale="1e-4"), "E701", "1e-4"),
    "k1 alone": (lambda a: C(k1=774), "E701", "k1 and k2"),
    "kind of a band": (lambda a: B("B2", "reflectence", "reflectance", 30.0), "E101", "'reflectance'"),
    "unit of a band": (lambda a: B("B2", "reflectance", "reflectence", 30.0), "E101", "'reflectance'"),
    "band twice": (lambda a: geomm.SensorSpec("s", "S", (), (B("B2", "reflectance", "dn", 30.0),) * 2), "E102", "B2"),
    "labels of no class": (
        lambda a: geomm.zero_shot(a.embedder, PAIR, a.loader, labels=np.full(12, 7)), "E701", "0 to 1 for a lake",
    ),
    "labels as names": (
        lambda a: geomm.zero_shot(a.embedder, PAIR, a.loader, labels=np.full(12, "a lake")), "E701", "0 to 1 for a lake",
    ),
    "fewer classes than the task's": (lambda a: _judge(a, classes=2), "E701", "classes=3"),
    # bare exceptions before
    "map as stream": (lambda a: _write(a, a.cube["optical"].to_dataset(), source=WHEN), "E701", "predict\\(cube, package"),
    "time as source": (lambda a: _write(a, source=WHEN.time), "E701", r"Provenance\(scenes"),
    "no source": (_write, "E701", r"Provenance\(scenes"),
    "no name": (lambda a: _write(a, name=None, source=WHEN), "E701", 'name="clouds"'),
    "package as predictor": (lambda a: geomm.predict_blocks(a.cube, a.package, SHORT), "E701", r"predict\(cube, package"),
    "blocks without settings": (lambda a: geomm.predict_blocks(a.cube, _module(), None), "E701", "PredictSettings"),
    "words, model as path": (lambda a: geomm.ground(a.cube, "model", "water"), "E701", "load_package"),
    "words, swapped": (lambda a: geomm.ground(a.words, a.cube, "water"), "E701", "load_cube"),
    "words in an index": (lambda a: geomm.ground(a.cube, a.index, "water"), "E701", "load_package"),
    "words as list": (lambda a: geomm.ground(a.cube, a.words, ["water"]), "E701", "Prompts.of"),
    "train on a loader": (lambda a: geomm.TrainData(a.loader, a.normaliser), "E701", r"ChipBatches\(\[dataset"),
    "train on a dataset": (lambda a: geomm.TrainData(a.data, a.normaliser), "E701", r"ChipBatches\(\[dataset"),
    "no normaliser": (lambda a: geomm.TrainData(a.batches, None), "E701", r"Normaliser.fit\(batches"),
    "normaliser first": (lambda a: geomm.TrainData(a.normaliser, a.batches), "E701", r"ChipBatches\(\[dataset"),
    "train without labels": (lambda a: _fit(a, batches=geomm.ChipBatches([a.bare], 4)), "E501", "target=Target"),
    "folder is a file": (lambda a: _fit(a, folder=a.file), "E601", "name a folder"),
    "plain network": (lambda a: _fit(a, spec=torch.nn.Conv2d(3, 3, 1)), "E701", "predictor_of_module"),
    "search without words": (lambda a: _fit(a, task=geomm.get_task("contrastive")), "E501", 'text="tiny"'),
    "no GPU": (
        lambda a: _fit(a, settings=geomm.TrainSettings(steps=1, accelerator="cuda", devices=99)), "E701", "'cpu' or 'auto'",
    ),
    "judge a dataset": (lambda a: _judge(a, test=a.data), "E701", r"HeldOut\(dataset"),
    "judge by blocks of 0": (lambda a: geomm.HeldOut(a.data, 0), "E701", r"HeldOut\(dataset, 512"),
    "judge a package": (lambda a: _judge(a, fitted=a.package), "E701", r"load_package\(FOLDER\).model"),
    "judge a name": (lambda a: _judge(a, task="segmentation"), "E701", "get_task"),
    "judge by a list": (lambda a: _judge(a, classes=list(CLASSES[:3])), "E701", "classes=3"),
    "judge without labels": (lambda a: _judge(a, test=geomm.HeldOut(a.bare, 32)), "E501", "target=Target"),
    "calibrate a package": (lambda a: geomm.calibrate(a.package, a.batches), "E701", r"\.model\(\)"),
    "calibrate on a dataset": (lambda a: geomm.calibrate(a.three, a.data), "E701", "ChipBatches"),
    "package of a network": (lambda a: _save(a, torch.nn.Conv2d(3, 3, 1)), "E701", "geomm.fit"),
    "package of metrics": (lambda a: _save(a, metrics={"iou": object()}), "E701", "mean_iou"),
    "prompts, package": (lambda a: geomm.zero_shot(a.words, PAIR, a.loader), "E701", r"Embedder.of\(package"),
    "prompts as names": (lambda a: geomm.zero_shot(a.embedder, ["a lake"], a.loader), "E701", "Prompts.of"),
    "prompts, batches": (lambda a: geomm.zero_shot(a.embedder, PAIR, a.batches), "E701", r"ChipLoader\(dataset"),
    "embedder of a package": (lambda a: Embedder(a.words), "E701", r"Embedder.of\(package"),
    "image of an array": (lambda a: a.embedder.image(np.zeros((3, 16, 16))), "E701", r"image\(dataset"),
    "texts of numbers": (lambda a: a.embedder.text([1]), "E701", r"text\(\["),
    "class without prompts": (lambda a: PAIR.texts("a lak"), "E101", "'a lake'"),
    "module as name": (lambda a: _module("unet"), "E701", "predictor_of_module"),
    "module, class names": (lambda a: _module(classes=["land", "water"]), "E701", "ClassSpec"),
    "module, no settings": (lambda a: _module(settings=None), "E701", "PredictSettings"),
    "module, stride 0": (lambda a: _module(stride=0), "E701", "stride=32"),
    "module, normaliser as dict": (lambda a: _module(normaliser={}), "E701", "normaliser"),
    "module of other channels": (
        lambda a: next(geomm.predict_blocks(a.cube, _module(torch.nn.Conv2d(3, 2, 1)), SHORT)), "E501", "5 bands",
    ),
    "rate as text": (lambda a: geomm.TrainSettings(rate="1e-3"), "E701", "rate=1e-3"),
    "threads as text": (lambda a: geomm.PredictSettings(threads="4"), "E701", "threads=4"),
    "layer misspelt": (lambda a: geomm.PredictSettings(layers=("clas",)), "E101", "'class'"),
    "no index": (lambda a: geomm.Index.open(None), "E502", "Index.open"),
    "no query": (lambda a: a.index.search(None), "E701", "open water"),
    "cube as query": (lambda a: a.index.search(a.cube), "E701", "open water"),
    "plan as query": (lambda a: a.index.search(a.data.chips[0]), "E701", r"image\(dataset"),
    "rows by id": (lambda a: a.index.rows(["a"]), "E701", "hits.index"),
    "half a row": (lambda a: a.index.rows([0.5]), "E701", "hits.index"),
    "merge a folder": (lambda a: geomm.merge_indexes(str(a.index.folder), a.out), "E701", r"\['.*index'\]"),
    "merge none": (lambda a: geomm.merge_indexes([], a.out), "E701", "at least one"),
    "search a folder": (lambda a: geomm.search_partitions(a.index.folder, np.ones(8)), "E701", r"\['.*index'\]"),
    "verify none": (lambda a: geomm.verify_index(None), "E502", "Index.open"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_error_names_the_fix(name, at):
    use, code, fix = CASES[name]
    with pytest.raises(GeommError) as caught:
        use(at)
    assert caught.value.code == code, str(caught.value)
    assert re.search(fix, str(caught.value)), str(caught.value)
    assert caught.value.fix


def test_one_text_is_one(at, tmp_path):
    np.testing.assert_array_equal(at.embedder.text("water"), at.embedder.text(["water"]))
    assert geomm.Prompts(LAND, {"land": "soil", "water": "sea"}).words == {"land": ("soil",), "water": ("sea",)}
    assert geomm.Prompts.of(["a lake", "a town"]) == PAIR
    file = tmp_path / "prompts.yaml"
    file.write_text("templates: a picture of {}\nclasses: [{value: 1, name: water, color: '#1f78b4', words: sea}]")
    assert geomm.read_prompts(file).texts("water") == ["a picture of sea"]


def test_batches_are_samples_of_the_first_epoch(at):
    assert geomm.Normaliser.fit(at.batches) == geomm.Normaliser.fit(at.batches.epoch(0))


def test_training_needs_a_label_somewhere_not_everywhere(at):
    values = at.data[0].target
    chips = [c for c in at.data.chips if c.index < 2]
    part = geomm.ChipDataset(at.cube, chips, list(BANDS), target=at.data.reader.target)
    both = geomm.ChipBatches([geomm.ChipDataset(at.cube, chips, list(BANDS), target=at.blind.reader.target), part], 1)
    assert (values != 255).any()
    assert len(_fit(at, batches=both).losses) == 3


def test_metrics_may_be_of_numpy(at):
    package = _save(at, metrics={"iou": np.float32(0.25), "each": np.array([1, 2])})
    assert package.metrics == {"iou": 0.25, "each": [1, 2]}


def test_indexes_are_given_as_they_are_or_by_their_folders(at, tmp_path):
    merged = geomm.merge_indexes([at.index], tmp_path / "merged")
    assert merged.rows([1, 0])["id"].tolist() == ["b", "a"]
    assert geomm.verify_index(merged) == []


def test_a_search_for_sensors_that_no_row_has_says_which_there_are(at):
    with pytest.warns(
        UserWarning, match=r"No row .*sentinel1-grd alone.*landsat-oli-l1 or landsat-oli-l1,landsat-tirs"
    ):
        assert len(at.index.search(np.ones(8), sensors=["sentinel1-grd"])) == 0
    with pytest.warns(UserWarning, match=r"sensors=\['landsat-oli-l1'\]"):
        assert len(at.index.search(np.ones(8), sensors=["landsat-tirs-l1"])) == 0
    assert len(at.index.search(np.ones(8), sensors=["landsat-oli-l1"])) == 1
    assert len(geomm.search_partitions([at.index], np.ones(8), sensors=["sentinel1-grd"])) == 0


def test_a_vector_may_be_a_row_of_a_table(at):
    import xarray as xr

    assert at.index.search(xr.DataArray(np.eye(8)[1]), k=1).index.tolist() == [1]
