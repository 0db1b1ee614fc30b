"""CONTRIBUTING.md shows how to add a sensor, a fusion and a task: its files are written, imported and used."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_50_models
import torch

import geomm
from geomm import radiometry, sensors, tasks
from geomm.errors import DuplicateNameError, UnknownNameError
from geomm.models import fusion, heads
from geomm.models.levels import Shape
from geomm.package import InputContract, save_package
from geomm.testing import stored_field, write_scene

ROOT = Path(__file__).resolve().parents[1]
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL))
CLASSES = tuple(geomm.ClassSpec(k, name, "#3366ff") for k, name in enumerate(("clear", "cirrus", "cloud")))


@pytest.fixture
def added(tmp_path):
    """Imports a file of CONTRIBUTING.md; what it registered is gone afterwards."""
    tables = (sensors._TABLE, fusion._TABLE, heads._TABLE, tasks._TABLE)
    before = [dict(table) for table in tables]

    def add(name):
        path = tmp_path / name
        path.write_text(FILES[name])
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield add
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


@pytest.fixture
def data(cube):
    target = geomm.Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
    chips = geomm.random_chips(cube["optical"]["data"].shape[-2:], 16, 8)
    dataset = geomm.ChipDataset(cube, chips, ["optical", "thermal"], target=target)
    batches = geomm.ChipBatches([dataset], 4, seed=0)
    return geomm.TrainData(batches, geomm.Normaliser.fit(batches.epoch(0)))


def _fit(spec, task, data):
    return geomm.fit(spec, task, data, settings=geomm.TrainSettings(steps=2, accelerator="cpu"))


def test_every_extension_is_one_file():
    assert set(FILES) == {"planetscope.py", "greatest.py", "ordinal.py"}


def test_a_new_sensor_comes_from_a_catalog_into_a_cube(added, tmp_path):
    spec = added("planetscope.py").PLANETSCOPE
    assert geomm.SENSORS["planetscope-sr"] is spec
    write_scene(tmp_path / "scenes", "planetscope-sr", resolution=3.0)
    built = geomm.build_catalog(
        tmp_path / "scenes", tmp_path / "catalog", sensors=("planetscope-sr",), datetime="2024-06-01T10:00:00Z"
    )
    (scene,) = geomm.open_catalog(built.href).search(sensors=["planetscope-sr"])
    cube = geomm.load_cube([scene], geomm.common_geobox([scene]))
    node = geomm.calibrated(cube)["planetscope-sr"]
    assert list(node["band"].to_numpy()) == ["blue", "green", "red", "nir"]
    got = node["data"].to_numpy()[0]
    stored = np.stack([stored_field(band, (64, 64), seed=k) for k, band in enumerate(spec.bands)])
    np.testing.assert_allclose(got, np.where((stored == 0).any(0), np.nan, stored * 1e-4), rtol=1e-6)


def test_a_new_fusion_keeps_the_contract_of_all_others(added):
    added("greatest.py")
    for check in (
        test_50_models.test_masked_equals_absent_bit_for_bit_and_order_never_matters,
        test_50_models.test_a_sample_never_depends_on_its_neighbours,
        test_50_models.test_everything_invalid_is_finite_and_has_gradients,
        test_50_models.test_every_parameter_learns_and_the_state_round_trips,
    ):
        torch.manual_seed(0)
        check("greatest")
    for task in ("segmentation", "classification", "multilabel", "contrastive"):
        test_50_models.test_every_non_empty_subset_gives_an_answer("greatest", task)


def test_a_new_fusion_is_trained_by_its_name(added, data):
    added("greatest.py")
    spec = geomm.ModelSpec({"optical": 3, "thermal": 2}, 3, fusion="greatest", width=4)
    assert np.isfinite(_fit(spec, geomm.get_task("segmentation", CLASSES), data).losses).all()


def test_fusions_of_the_other_stages_are_added_alike(added):
    fusion.register_fusion("again_early", test_50_models.find_fusion("early_sum").build, stage="attention")
    assert fusion.find_fusion("again_early").stage == "attention"
    fusion.register_fusion("sum_of_images", fusion.early.SumImages, stage="early")
    fusion.register_fusion("mean_of_answers", fusion.late.MeanLogits, stage="late")
    for name in ("sum_of_images", "mean_of_answers"):
        test_50_models.test_masked_equals_absent_bit_for_bit_and_order_never_matters(name)


def test_a_new_task_is_trained_packaged_and_mapped(added, data, cube, tmp_path):
    added("ordinal.py")
    task = geomm.get_task("ordinal", CLASSES)
    spec = geomm.ModelSpec({"optical": 3, "thermal": 2}, 3, "ordinal", width=4)
    fitted = _fit(spec, task, data)
    assert len(fitted.losses) == 2
    streams = {"optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4")), "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11"))}  # fmt: skip
    units = {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"}
    save_package(fitted, InputContract(streams, units, CLASSES, 30.0, 32, 8), tmp_path / "model", name="levels")
    blocks = geomm.predict(cube, geomm.load_package(tmp_path / "model"))
    assert sum(window.height * window.width for window, _ in blocks) == 96 * 128


def test_the_new_loss_counts_how_far_off_an_answer_is(added):
    task = added("ordinal.py").OrdinalTask(CLASSES)
    target = torch.zeros(1, 1, 2, dtype=torch.int64)
    batch = geomm.dataset.Sample({}, {}, {}, target=target)
    costs = []
    for said in range(3):
        logits = torch.full((1, 3, 1, 2), -20.0)
        logits[:, said] = 20.0
        answer = type("Answer", (), {"logits": logits, "valid": torch.ones(1, 1, 2, dtype=torch.bool)})
        model = type("Model", (), {"training": False, "answers": lambda self, batch, a=answer: [a]})()
        costs.append(float(task.losses(model, batch)))
    plain = 40.0  # nats, of either wrong class
    assert costs == pytest.approx([0.0, plain + 1.0, plain + 4.0], abs=1e-3)


def test_names_that_are_taken_are_refused(added):
    for name in FILES:
        added(name)
        with pytest.raises(DuplicateNameError, match="there is a .* already"):
            added(name)
    with pytest.raises(DuplicateNameError, match="attention"):
        geomm.register_fusion("attention", fusion.Concat)
    with pytest.raises(UnknownNameError, match="unknown head 'magic'"):
        geomm.register_task("magic", tasks.get_task, head="magic")
    assert "magic" not in tasks.TASKS


def test_a_task_may_bring_a_head_of_its_own(added):
    class Mean(torch.nn.Module):
        dense = False

        def __init__(self, shape, outputs):
            super().__init__()
            self.last = torch.nn.Linear(shape.channels[0], outputs)

        def forward(self, features, valid):
            return self.last(features.maps[0].mean((-2, -1)))

    geomm.register_task("mean", tasks.get_task, head=Mean)
    assert isinstance(heads.build_head("mean", Shape((8,), (1,)), 3), Mean)
    assert not heads.answers_for_pixels("mean")
    assert heads.answers_for_pixels("segmentation")


SPAWNED = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from geomm.sensors import get_sensor
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(get_sensor, "planetscope-sr").result().title)
"""


def test_plug_ins_are_there_in_every_process(tmp_path):
    for name in ("planetscope.py", "greatest.py"):
        (tmp_path / name).write_text(FILES[name])
    (tmp_path / "spawned.py").write_text(SPAWNED)

    def run(*command, plugins="planetscope, greatest"):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "GEOMM_PLUGINS": plugins,
        }
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment, check=False, cwd=tmp_path
        )

    assert "planetscope-sr" in run("-m", "geomm", "sensors").stdout
    assert "PlanetScope, surface reflectance" in run("spawned.py").stdout
    wrong = run("-c", "import geomm", plugins="planetscpe")
    assert wrong.returncode
    assert "a plug-in cannot be imported" in wrong.stderr
    assert "No module named 'planetscpe'" in wrong.stderr
    assert "put its folder on PYTHONPATH" in wrong.stderr
