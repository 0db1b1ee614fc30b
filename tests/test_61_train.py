"""Training: the same numbers for the same seed, stopped or not, in one process or two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from geomm import radiometry
from geomm.batches import ChipBatches
from geomm.chips import SpatialSplit
from geomm.dataset import ChipDataset, Target
from geomm.errors import ConfigError, DependencyError, PackageError, SplitError
from geomm.metrics import Reliability
from geomm.models.multimodal import ModelSpec
from geomm.tasks import get_task
from geomm.train import TrainData, TrainSettings
from geomm.train.evaluate import HeldOut, calibrate, evaluate, subsets
from geomm.train.fit import fit
from geomm.train.stacking import fit_stack
from geomm.transforms import Normaliser
from geomm.types import ClassSpec

CLASSES = (ClassSpec(0, "clear", "#0000ff"), ClassSpec(1, "cirrus", "#00ff00"), ClassSpec(2, "cloud", "#ffff00"))
TARGET = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
BANDS = {"optical": 3, "thermal": 2}
SPEC = ModelSpec(BANDS, 3, width=4)
TASK = get_task("segmentation", CLASSES)


@pytest.fixture(scope="module")
def split():
    return SpatialSplit.draw((96, 128), {"train": 0.5, "validation": 0.25, "test": 0.25}, block=32, buffer=4, seed=1)


@pytest.fixture(scope="module")
def loaded(cube):
    return cube.compute()


def _dataset(cube, split, name, chips):
    return ChipDataset(cube, chips, list(BANDS), target=TARGET, split=(split, name))


@pytest.fixture(scope="module")
def data(loaded, split):
    train = _dataset(loaded, split, "train", split.random_chips("train", 16, 40, 0))
    held = _dataset(loaded, split, "validation", split.tiles("validation", 16))
    normaliser = Normaliser.fit(ChipBatches([train], 8, shuffle=False).epoch(0))
    return TrainData(ChipBatches([train], 8, seed=3), normaliser, ChipBatches([held], 8, shuffle=False))


@pytest.fixture(scope="module")
def test(loaded, split):
    return HeldOut(_dataset(loaded, split, "test", split.tiles("test", 32)), split.block)


def _fit(data, *, seed=0, folder=None, on_step=None, **options):
    settings = TrainSettings(**{"steps": 12, "rate": 1e-2, "modality_dropout": 0.3, "accelerator": "cpu"} | options)
    return fit(SPEC, TASK, data, settings=settings, seed=seed, folder=folder, on_step=on_step)


def test_training_is_reproducible_and_learns(data, test, loaded, split):
    seen = []
    first = _fit(data, on_step=lambda done, loss: seen.append((done, loss)))
    again, other = _fit(data), _fit(data, seed=1)
    assert first.losses == again.losses
    assert first.validation == again.validation
    assert first.losses != other.losses
    assert np.mean(first.losses[-3:]) < first.losses[0]
    assert seen == list(enumerate(first.losses, 1))
    assert len(first.validation) == 3  # 5 batches an epoch, 12 steps
    found = evaluate(first, TASK, test, classes=3)
    labels = TARGET.index(loaded["label"]["data"].to_numpy()[0, 0])
    assert found.counts.sum() == (split.mask("test") & (labels < 3)).sum() == found.reliability.number


def test_evaluation_without_labels_or_chips_says_so(data, loaded, split):
    nothing = Target("label", (7, 8, 9))
    dataset = ChipDataset(loaded, split.tiles("test", 32), list(BANDS), target=nothing, split=(split, "test"))
    with pytest.raises(SplitError, match="no labelled pixel"):
        evaluate(_fit(data, steps=1), TASK, HeldOut(dataset, 32), classes=3)
    with pytest.raises(ConfigError, match="nothing to make batches of"):
        ChipBatches([ChipDataset(loaded, [], list(BANDS))], 4)


class _StopError(Exception):
    pass


@pytest.mark.parametrize(
    "options", [{}, {"average": 0.9}, {"accumulate": 2, "schedule": "cosine", "warmup": 2}, {"patience": 50}]
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(data, tmp_path, options):
    whole = _fit(data, folder=tmp_path / "whole", **options)

    def stop(done, _loss):
        if done == 8:
            raise _StopError

    for _ in range(2):  # stopped twice at the same place: nothing of the broken epoch stays
        with pytest.raises(_StopError):
            _fit(data, folder=tmp_path / "cut", on_step=stop, **options)
    went_on = _fit(data, folder=tmp_path / "cut", **options)
    assert went_on.losses == whole.losses
    assert went_on.validation == whole.validation
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(went_on.model.state_dict()[name], weight)
    curves = json.loads((tmp_path / "cut" / "checkpoints" / "curves.json").read_text())
    assert curves["train"] == list(whole.losses)
    assert any((tmp_path / "whole" / "events").glob("events.out.tfevents*"))
    done = _fit(data, folder=tmp_path / "cut", **options)  # a finished run is not trained again
    assert done.losses == whole.losses
    assert all(torch.equal(done.model.state_dict()[n], w) for n, w in whole.model.state_dict().items())


def test_a_run_that_is_told_to_stop_ends_with_the_status_that_says_so(data, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        _fit(data, folder=tmp_path, steps=40, on_step=lambda done, _: done != 3 or os.kill(os.getpid(), signal.SIGTERM))
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(_fit(data, folder=tmp_path, steps=40).losses) == 40


def test_a_checkpoint_of_another_run_is_refused(data, tmp_path):
    _fit(data, folder=tmp_path, steps=6)
    with pytest.raises(PackageError, match="another run.*rate"):
        _fit(data, folder=tmp_path, steps=6, rate=5e-3)
    with pytest.raises(PackageError, match="another run.*seed 0, here 1"):
        _fit(data, folder=tmp_path, steps=6, seed=1)


def _validation_loss(fitted, data):
    total = count = 0.0
    with torch.no_grad():
        for sample in data.validation.epoch(0):
            labelled = int((sample.target != 255).sum())
            total += float(TASK.losses(fitted.model, fitted.normaliser(sample))[0]) * labelled
            count += labelled
    return total / count


def test_the_best_epoch_is_kept_and_patience_ends_training(data, tmp_path):
    short = _fit(data, steps=100, rate=1e-9, patience=2, folder=tmp_path)
    assert len(short.losses) < 100
    assert _fit(data, steps=100, rate=1e-9, patience=2, folder=tmp_path).losses == short.losses
    fitted = _fit(data, steps=40, rate=5e-2)
    assert min(fitted.validation) < fitted.validation[-1]
    assert _validation_loss(fitted, data) == pytest.approx(min(fitted.validation), rel=1e-5)


def test_validation_that_says_nothing_is_refused(data, loaded, split):
    nothing = Target("label", (7, 8, 9))
    dataset = ChipDataset(
        loaded, split.tiles("validation", 16), list(BANDS), target=nothing, split=(split, "validation")
    )
    blind = TrainData(data.train, data.normaliser, ChipBatches([dataset], 8, shuffle=False))
    with pytest.raises(SplitError, match="not a number"):
        _fit(blind)
    with pytest.raises(SplitError, match="not a number"):
        _fit(data, rate=1e20)
    with pytest.raises(ConfigError, match="patience needs validation"):
        _fit(TrainData(data.train, data.normaliser), patience=2)


def test_a_run_without_validation_keeps_the_average(data, tmp_path):
    alone = TrainData(data.train, data.normaliser)
    first = _fit(alone, average=0.9, folder=tmp_path)
    (tmp_path / "checkpoints" / "final.ckpt").unlink()  # killed after the last epoch, before this was written
    again = _fit(alone, average=0.9, folder=tmp_path)
    assert all(torch.equal(again.model.state_dict()[n], w) for n, w in first.model.state_dict().items())


def test_how_hard_each_modality_pulls_is_logged(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _fit(data, folder=tmp_path, steps=25)
    found = EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert {"train/loss", "validation/loss", "gradient/optical", "gradient/thermal"} <= set(found.Tags()["scalars"])


def test_mixed_precision_runs_and_stays_near(data):
    plain, mixed = (_fit(data, precision=p, modality_dropout=0.0) for p in ("32-true", "bf16-mixed"))
    assert np.abs(np.array(plain.losses) - mixed.losses).max() < 0.1
    assert next(mixed.model.parameters()).dtype == torch.float32


def test_settings_refuse_what_cannot_be():
    for wrong in (
        {"steps": 0},
        {"rate": 0.0},
        {"average": 1.0},
        {"devices": 0},
        {"schedule": "linear"},
        {"precision": "8"},
        {"warmup": 3},
    ):
        with pytest.raises(ConfigError):
            TrainSettings(**wrong)


def test_processes_that_validate_need_a_folder(data):
    with pytest.raises(ConfigError, match="need a folder"):
        _fit(data, devices=2)


def test_mlflow_is_named_where_it_is_wanted_and_not_there(data, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path))
    with pytest.raises(DependencyError, match="MLflow is not installed.*mlflow-skinny"):
        _fit(data, folder=tmp_path / "run")


def test_batches_of_several_sources_mix_them_in_proportion(loaded, split):
    sources = [_dataset(loaded, split, "train", split.random_chips("train", 16, n, n)) for n in (30, 10)]
    batches = ChipBatches(sources, 8, seed=0)
    seen = [b.index.tolist() for b in batches.epoch(0)]
    assert [len(b) for b in seen] == [8] * 5
    assert sorted(i for b in seen for i in b) == sorted([*range(30), *range(10)])
    assert seen != [b.index.tolist() for b in batches.epoch(1)]
    assert seen == [b.index.tolist() for b in batches.epoch(0)]
    few = ChipBatches([_dataset(loaded, split, "train", split.random_chips("train", 16, 1, n)) for n in range(2)], 8)
    with pytest.raises(ConfigError, match="fewer chips than there are processes"):
        [list(few.epoch(0, rank=r, world=4)) for r in range(4)]
    ranks = [[len(b.index) for b in batches.epoch(0, rank=r, world=3)] for r in range(3)]
    assert ranks == [[8, 6]] * 3


def test_temperature_lowers_the_log_loss_and_changes_no_decision(data, test):
    fitted = _fit(data, steps=20)
    warm = calibrate(fitted, data.validation)
    assert warm.temperature != 1.0
    before, after = (evaluate(f, TASK, HeldOut(test.dataset, 32), classes=3) for f in (fitted, warm))
    np.testing.assert_array_equal(before.counts, after.counts)

    def loss(model):
        total = Reliability.empty()
        for sample in data.validation.epoch(0):
            answer = (model.model(model.normaliser(sample)) / model.temperature).softmax(1).detach()
            total += Reliability.of(answer.movedim(1, -1).reshape(-1, 3).numpy(), sample.target.numpy().ravel())
        return total.log_loss / total.number

    tried = [loss(calibrate_to(fitted, t)) for t in np.linspace(0.3, 3, 28)]
    assert loss(warm) <= min(tried) + 1e-6


def calibrate_to(fitted, temperature):
    from dataclasses import replace

    return replace(fitted, temperature=float(temperature))


def test_what_is_not_asked_for_is_not_seen(data, test, loaded, split):
    fitted = _fit(data)
    alone = evaluate(fitted, TASK, test, classes=3, only=("thermal",))
    dataset = ChipDataset(loaded, split.tiles("test", 32), ["thermal"], target=TARGET, split=(split, "test"))
    np.testing.assert_array_equal(alone.counts, evaluate(fitted, TASK, HeldOut(dataset, 32), classes=3).counts)
    assert len(subsets(["a", "b", "c"])) == 7


def test_a_stack_is_fitted_on_places_that_its_experts_did_not_see(data, loaded, split):
    spec = ModelSpec(BANDS, 3, fusion="late_stack", width=4)
    settings = TrainSettings(10, 1e-2, accelerator="cpu")
    held = []
    for half in split.halves("train", seed=0):
        assert not (half.mask("train") & half.mask("test")).any()
        assert not (half.mask("test") & ~split.mask("train")).any()
        learn = _dataset(loaded, half, "train", half.random_chips("train", 16, 24, 0))
        part = TrainData(ChipBatches([learn], 8), data.normaliser)
        asked = HeldOut(_dataset(loaded, half, "test", half.tiles("test", 32)), 32)
        held.append((fit(spec, TASK, part, settings=settings), [asked]))
    fitted = fit(spec, TASK, data, settings=settings)
    experts = {n: w.clone() for n, w in fitted.model.state_dict().items() if not n.startswith("fusion")}

    def loss():
        with torch.no_grad():
            losses = [
                torch.nn.functional.cross_entropy(
                    fitted.model.fusion(*_pixels(other, asked))[0], _labels(asked), ignore_index=255
                )
                for other, (asked,) in held
            ]
        return float(torch.stack(losses).mean())

    before = loss()
    fit_stack(fitted, held)
    assert loss() < before
    assert all(torch.equal(fitted.model.state_dict()[n], w) for n, w in experts.items())


def _pixels(fitted, asked):
    (sample,) = [s for _, s in asked.batches(100)]
    return fitted.model.experts(fitted.normaliser(sample))


def _labels(asked):
    (sample,) = [s for _, s in asked.batches(100)]
    return sample.target


def _train(recipe, out, *options):
    arguments = [
        f"--set={o}" for o in ("train.steps=40", "train.batch=4", "train.seeds=[0]", "model.width=4", *options)
    ]
    return [sys.executable, "-m", "geomm", "train", str(recipe), "--out", str(out), *arguments]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_killed_while_writing_a_checkpoint(recipe, tmp_path):
    subprocess.run(_train(recipe, tmp_path / "whole"), check=True, capture_output=True, env=ENVIRONMENT)
    cut, kills, wanted = tmp_path / "cut", 0, int(os.environ.get("GEOMM_KILLS", "1"))
    for _ in range(2 * wanted):  # a run may end before it is seen writing
        if kills == wanted:
            break
        process = subprocess.Popen(
            _train(recipe, cut), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        folder, started = cut / "seed-0" / "checkpoints", time.monotonic()
        mark = _stamp(folder)
        while process.poll() is None and time.monotonic() - started < 120:
            if any(folder.glob(".*.ckpt.*")) and _stamp(folder) != mark:  # a checkpoint is being written
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.wait()
    assert kills > 0
    subprocess.run(_train(recipe, cut), check=True, capture_output=True, env=ENVIRONMENT)
    for name in ("curves.json",):
        assert (cut / "seed-0" / "checkpoints" / name).read_text() == (
            tmp_path / "whole" / "seed-0" / "checkpoints" / name
        ).read_text()
    sums = [(p / "seed-0" / "model" / "SHA256SUMS").read_text().splitlines()[0] for p in (cut, tmp_path / "whole")]
    assert sums[0] == sums[1]


def _stamp(folder):
    last = folder / "last.ckpt"
    return last.stat().st_mtime_ns if last.is_file() else 0


def test_two_processes_share_the_work(recipe, tmp_path):
    two = _train(
        recipe, tmp_path / "two", "train.devices=2", "train.accelerator=cpu", "train.steps=6", "split.validation=0.2"
    )
    done = subprocess.run(two, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    seed = tmp_path / "two" / "seed-0"
    losses = json.loads((seed / "checkpoints" / "curves.json").read_text())["train"]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert (seed / "model" / "SHA256SUMS").is_file()
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert set(record["seeds"]) == {"0"}
    assert len(record["split"]) == len(record["data"]) == len(record["seeds"]["0"]["normalisation"]) == 64


def test_the_package_of_a_run_opens(recipe, tmp_path):
    from geomm.package import load_package

    out: Path = tmp_path / "run"
    subprocess.run(_train(recipe, out, "train.steps=3"), check=True, capture_output=True, env=ENVIRONMENT)
    package = load_package(out / "seed-0" / "model")
    assert list(package.contract.modalities) == ["optical", "thermal"]
    other = subprocess.run(
        _train(recipe, out, "train.steps=4"), capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert other.returncode == 1
    assert "run of another recipe" in other.stderr
