"""Losses against plain formulas, decoding, metrics against brute force, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomm import metrics, radiometry
from geomm.chips import SpatialSplit
from geomm.dataset import ChipDataset, Sample, Target
from geomm.errors import ConfigError, ContractError, SplitError, UnknownNameError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import TASKS, get_task
from geomm.tasks.contrastive import siglip_loss
from geomm.train import TrainSettings, evaluate, fit, fit_normaliser
from geomm.types import ClassSpec

CLASSES = (ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00"), ClassSpec(9, "grass", "#ffff00"))
TARGET = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)


def _batch(target):
    return Sample({}, {}, {}, {}, target)


def test_cross_entropy_counts_labelled_pixels_only():
    task = get_task("segmentation", CLASSES)
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, :2] = 255
    log = torch.log_softmax(logits, 1).movedim(1, -1)
    keep = target != 255
    expected = -log[keep].gather(1, target[keep][:, None]).mean()
    torch.testing.assert_close(task.loss(lambda _: logits, _batch(target)), expected)
    assert task.loss(lambda _: logits, _batch(torch.full_like(target, 255))) == 0


def test_classification_takes_the_most_frequent_label():
    task = get_task("classification", CLASSES)
    target = torch.tensor([[[0, 0], [1, 255]], [[2, 2], [2, 0]], [[255, 255], [255, 255]]])
    assert task.labels(_batch(target)).tolist() == [0, 2, 255]
    logits = torch.randn(3, 3)
    expected = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([0, 2]))
    torch.testing.assert_close(task.loss(lambda _: logits, _batch(target)), expected)
    assert task.activate(logits).shape == (3, 3, 1, 1)


def test_decode_gives_codes_and_nodata():
    task = get_task("segmentation", CLASSES)
    scores = np.zeros((3, 2, 2), np.float32)
    scores[2, 0, 0] = scores[0, 0, 1] = scores[1, 1, 0] = 1
    valid = np.array([[True, True], [True, False]])
    prediction = task.decode(scores, valid)
    assert prediction.arrays["class"].tolist() == [[[9, 1], [2, 255]]]
    assert np.isnan(prediction.arrays["probability"][:, 1, 1]).all()
    assert [layer.name for layer in prediction.layers] == ["class", "probability"]


def test_unknown_tasks_list_the_known():
    with pytest.raises(UnknownNameError, match="classification, contrastive, segmentation"):
        get_task("magic", CLASSES)
    assert set(TASKS) == {"segmentation", "classification", "contrastive"}


@pytest.mark.parametrize("captions", [(), ("a", "b", "a", "c")])
def test_siglip_equals_the_plain_sum(captions):
    generator = np.random.default_rng(0)
    u, v = (generator.normal(size=(4, 6)) for _ in range(2))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
    scale, bias = 1.3, -2.0
    total = 0.0
    for i in range(4):
        for j in range(4):
            same = captions[i] == captions[j] if captions else i == j
            logit = np.exp(scale) * u[i] @ v[j] + bias
            total += np.log1p(np.exp(-logit if same else logit))
    got = siglip_loss(*(torch.tensor(x) for x in (u, v)), torch.tensor(scale), torch.tensor(bias), captions)
    assert float(got) == pytest.approx(total / 4, rel=1e-5)


def test_contrastive_task_learns_attributes():
    torch.manual_seed(0)
    task = get_task("contrastive", ())
    model = MultimodalModel(ModelSpec({"s2": 3}, 16, "contrastive", width=8, text="tiny"))
    words = ("water", "trees", "sand")
    kinds = torch.randint(0, 3, (48,))
    images = torch.randn(48, 1, 3, 16, 16) * 0.3
    images[torch.arange(48), 0, kinds] += 2
    valid = {"s2": torch.ones(48, 1, 16, 16, dtype=torch.bool)}
    batch = Sample(
        {"s2": images}, valid, {}, {"s2": torch.ones(48, dtype=torch.bool)}, None, tuple(words[k] for k in kinds)
    )
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        nearest = (model.eval()(batch) @ model.encode_text(words).T).argmax(1)
    assert (nearest == kinds).float().mean() > 0.95
    with pytest.raises(ContractError, match="48 chips, 0 texts"):
        task.loss(model, Sample(batch.images, valid, {}, batch.present))
    with pytest.raises(ContractError, match="makes no map"):
        task.decode(np.zeros((1, 1, 1)), np.ones((1, 1), bool))


def test_metrics_equal_brute_force():
    generator = np.random.default_rng(1)
    target, predicted = generator.integers(0, 4, (2, 30, 30))
    target[target == 3] = 255
    predicted[predicted == 3] = 255
    counts = metrics.confusion(target, predicted, 3)
    keep = (target < 3) & (predicted < 3)
    for k in range(3):
        hit = ((target == k) & (predicted == k) & keep).sum()
        union = (((target == k) | (predicted == k)) & keep).sum()
        assert metrics.iou(counts)[k] == pytest.approx(hit / union)
    assert metrics.accuracy(counts) == pytest.approx((target == predicted)[keep].mean())
    assert np.isnan(metrics.iou(np.zeros((2, 2)))).all()
    assert np.isnan(metrics.mean_iou(np.zeros((2, 2), int)))


def test_bootstrap_draws_blocks():
    same = np.stack([np.array([[8, 2], [1, 9]])] * 12)
    interval = metrics.block_bootstrap(same)
    assert interval.low == pytest.approx(interval.high)
    mixed = np.stack([np.diag([10, 10])] * 6 + [np.array([[0, 10], [10, 0]])] * 6)
    interval = metrics.block_bootstrap(mixed)
    assert interval.low < interval.value < interval.high
    assert str(interval).startswith(f"{interval.value:.3f} [")
    with pytest.raises(ConfigError, match="at least one block"):
        metrics.block_bootstrap(np.zeros((0, 2, 2)))


def test_recall_counts_ties_against_the_query():
    scores = np.array([[0.9, 0.5, 0.5], [0.1, 0.7, 0.7], [0.2, 0.2, 0.2]])
    assert metrics.recall_at_k(scores, [{0}, {1}, {2}], 1) == pytest.approx(1 / 3)
    assert metrics.recall_at_k(scores, [{0}, {1, 2}, {2}], 1) == pytest.approx(2 / 3)
    assert metrics.recall_at_k(scores, [{0}, {1}, {2}], 3) == 1.0


def test_training_is_reproducible_and_learns(cube):
    split = SpatialSplit.draw((96, 128), {"train": 0.6, "test": 0.4}, block=32, buffer=4, seed=1)
    dataset = ChipDataset(
        cube, split.random_chips("train", 16, 64, 0), ["optical", "thermal"], target=TARGET, split=(split, "train")
    )
    normaliser = fit_normaliser(dataset)
    task = get_task("segmentation", CLASSES)
    spec = ModelSpec({"optical": 3, "thermal": 2}, 3, width=8)
    seen = []
    runs = [
        fit(
            spec,
            task,
            dataset,
            normaliser=normaliser,
            settings=TrainSettings(12, 8, 1e-2, 0.3, "cpu"),
            seed=s,
            on_step=lambda done, loss: seen.append((done, loss)),
        )
        for s in (0, 0, 1)
    ]
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses != runs[2].losses
    assert runs[0].losses[-1] < runs[0].losses[0]
    assert [done for done, _ in seen[:12]] == list(range(1, 13))
    test = ChipDataset(cube, split.tiles("test", 32), ["optical", "thermal"], target=TARGET, split=(split, "test"))
    counts = evaluate(runs[0], task, test, split, classes=3)
    assert counts.shape[1:] == (3, 3)
    mask = split.mask("test")
    labels = TARGET.index(cube["label"]["data"].to_numpy()[0, 0])
    assert counts.sum() == (mask & (labels < 3)).sum()
    nothing = Target("label", (7, 8, 9))
    unlabelled = ChipDataset(
        cube, split.tiles("test", 32), ["optical", "thermal"], target=nothing, split=(split, "test")
    )
    with pytest.raises(SplitError, match="no labelled pixel"):
        evaluate(runs[0], task, unlabelled, split, classes=3)
    with pytest.raises(SplitError, match="no chip to train on"):
        fit_normaliser(ChipDataset(cube, [], ["optical"]))
