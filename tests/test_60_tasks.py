"""Losses against plain formulas, decoding, metrics against brute force, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomm import metrics
from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError, UnknownNameError
from geomm.models.multimodal import Answer, ModelSpec, MultimodalModel
from geomm.tasks import TASKS, get_task
from geomm.tasks.losses import LOSSES, find_loss
from geomm.types import ClassSpec

CLASSES = (ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00"), ClassSpec(9, "grass", "#ffff00"))


def _batch(target):
    return Sample({}, {}, {}, {}, target)


class _Says:
    """A model that always answers the same."""

    training = False

    def __init__(self, *logits, valid=None):
        self.logits, self.valid = logits, valid

    def answers(self, batch):
        seen = torch.ones(batch.target.shape, dtype=torch.bool) if self.valid is None else self.valid
        return [Answer(x, seen) for x in self.logits]


def test_cross_entropy_counts_labelled_pixels_only():
    task = get_task("segmentation", CLASSES)
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, :2] = 255
    log = torch.log_softmax(logits, 1).movedim(1, -1)
    keep = target != 255
    expected = -log[keep].gather(1, target[keep][:, None]).mean()
    torch.testing.assert_close(task.losses(_Says(logits), _batch(target))[0], expected)
    assert task.losses(_Says(logits), _batch(torch.full_like(target, 255))) == 0


def _plain(logits, target, each):
    """A loss as a loop over labelled pixels."""
    chances = torch.softmax(logits, 1).movedim(1, -1).reshape(-1, logits.shape[1])
    parts = [each(c[t]) for c, t in zip(chances, target.flatten().tolist(), strict=True) if t != 255]
    return torch.stack(parts).mean()


def test_losses_equal_plain_loops():
    logits, target = torch.randn(2, 3, 4, 4, dtype=torch.double), torch.randint(0, 3, (2, 4, 4))
    target[0, :2], target[1, 1] = 255, 255
    torch.testing.assert_close(find_loss("cross_entropy")(logits, target), _plain(logits, target, lambda p: -p.log()))
    torch.testing.assert_close(
        find_loss("focal")(logits, target), _plain(logits, target, lambda p: -((1 - p) ** 2) * p.log())
    )
    keep = target != 255
    chances, truth = torch.softmax(logits, 1).movedim(1, -1)[keep], torch.eye(3).double()[target[keep]]
    want = [1 - 2 * (chances[:, k] * truth[:, k]).sum() / (chances[:, k].sum() + truth[:, k].sum()) for k in range(3)]
    torch.testing.assert_close(find_loss("dice")(logits, target), torch.stack(want).mean())
    both = find_loss("cross_entropy")(logits, target) + find_loss("dice")(logits, target)
    torch.testing.assert_close(find_loss("cross_entropy+dice")(logits, target), both)
    only_one = torch.where(target == 2, 2, 255)
    torch.testing.assert_close(find_loss("dice")(logits, only_one), 1 - _dice_of(logits, only_one))
    for name in LOSSES:
        nothing = torch.full_like(target, 255)
        free = logits.clone().requires_grad_()
        loss = find_loss(name)(free, nothing)
        loss.backward()
        assert loss == 0
        assert (free.grad == 0).all()
    with pytest.raises(UnknownNameError, match="unknown loss 'tversky'.*dice"):
        find_loss("dice+tversky")


def _dice_of(logits, target):
    keep = target != 255
    chances = torch.softmax(logits, 1)[:, 2][keep]
    return 2 * chances.sum() / (chances.sum() + keep.sum())


def test_pixels_that_no_modality_saw_are_not_judged():
    task, logits = get_task("segmentation", CLASSES), torch.randn(1, 3, 2, 2)
    target, seen = torch.zeros(1, 2, 2, dtype=torch.long), torch.tensor([[[True, False], [False, False]]])
    want = -torch.log_softmax(logits, 1)[0, 0, 0, 0]
    torch.testing.assert_close(task.losses(_Says(logits, valid=seen), _batch(target))[0], want)


def test_multilabel_counts_classes_that_cover_enough():
    task = get_task("multilabel", CLASSES)
    target = torch.full((3, 10, 10), 255)
    target[0, :5], target[0, 5:], target[0, 9, 9] = 0, 1, 2  # the third covers one pixel of a hundred
    target[1] = 2
    truth, labelled = task.labels(_batch(target))
    assert truth.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert labelled.tolist() == [True, True, False]
    logits = torch.randn(3, 3)
    want = torch.nn.functional.binary_cross_entropy_with_logits(logits[:2], truth[:2])
    torch.testing.assert_close(task.losses(_Says(logits), _batch(target))[0], want)
    assert task.decode(task.activate(logits)[0].numpy(), np.ones((4, 4), bool)).arrays["probability"].shape == (3, 4, 4)
    with pytest.raises(UnknownNameError, match="multilabel"):
        get_task("multilabel", CLASSES, loss="dice")


def test_classification_takes_the_most_frequent_label():
    task = get_task("classification", CLASSES)
    target = torch.tensor([[[0, 0], [1, 255]], [[2, 2], [2, 0]], [[255, 255], [255, 255]]])
    assert task.labels(_batch(target)).tolist() == [0, 2, 255]
    logits = torch.randn(3, 3)
    expected = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([0, 2]))
    torch.testing.assert_close(task.losses(_Says(logits), _batch(target))[0], expected)
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
    with pytest.raises(UnknownNameError, match="classification, contrastive, multilabel, segmentation"):
        get_task("magic", CLASSES)
    assert set(TASKS) == {"segmentation", "classification", "multilabel", "contrastive"}


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
        (loss,) = task.losses(model, batch)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        nearest = (model.eval()(batch) @ model.encode_text(words).T).argmax(1)
    assert (nearest == kinds).float().mean() > 0.95
    with pytest.raises(ContractError, match="48 chips, 47 texts"):
        task.losses(model, Sample(batch.images, valid, {}, batch.present, None, ("", *batch.text[1:])))
    with pytest.raises(ContractError, match="48 chips, 0 texts"):
        task.losses(model, Sample(batch.images, valid, {}, batch.present))
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


def test_paired_intervals_are_narrower_than_the_spread():
    generator = np.random.default_rng(0)
    theirs = generator.integers(5, 50, (2, 30, 2, 2))
    ours = theirs + np.array([[3, 0], [0, 3]])  # a little better in every block
    gain = metrics.paired_bootstrap(ours, theirs)
    assert gain.low > 0
    assert gain.value == pytest.approx(
        np.mean([metrics.mean_iou(a.sum(0)) - metrics.mean_iou(b.sum(0)) for a, b in zip(ours, theirs, strict=True)])
    )
    alone = metrics.block_bootstrap(ours)
    assert gain.high - gain.low < alone.high - alone.low
    with pytest.raises(ConfigError, match="same seeds and blocks"):
        metrics.paired_bootstrap(ours, theirs[:, :3])


def test_scores_equal_plain_formulas():
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(40_000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.array([generator.choice(3, p=c) for c in chances])
    target[:100] = 255
    found = metrics.Reliability.of(chances[:20_000], target[:20_000]) + metrics.Reliability.of(
        chances[20_000:], target[20_000:]
    )
    keep = target < 3
    kept, labels = chances[keep], target[keep]
    assert found.number == keep.sum()
    told = kept[np.arange(len(labels)), labels]
    assert found.log_loss == pytest.approx(-np.log(told).sum())
    assert found.brier == pytest.approx(((kept - np.eye(3)[labels]) ** 2).sum())
    order = np.argsort(kept.max(1))
    plain = sum(
        abs(kept.max(1)[part].mean() - (kept.argmax(1) == labels)[part].mean()) * len(part)
        for part in np.array_split(order, 15)
    ) / len(labels)
    assert found.ece() == pytest.approx(plain, abs=3e-3)
    assert found.ece() < 0.01  # labels were drawn from these very probabilities
    sure = metrics.Reliability.of(np.tile([0.99, 0.005, 0.005], (1000, 1)), np.arange(1000) % 2)
    assert sure.ece() == pytest.approx(0.49)
    assert np.isnan(metrics.Reliability.empty().ece())
    assert (found + metrics.Reliability.empty()).ece() == found.ece()


def test_f1_equals_the_harmonic_mean():
    counts = np.array([[8, 2, 0], [1, 5, 4], [0, 0, 0]])
    precision, recall = 8 / 9, 8 / 10
    assert metrics.f1(counts)[0] == pytest.approx(2 * precision * recall / (precision + recall))
    assert metrics.f1(np.diag([3, 0]))[0] == 1
    assert np.isnan(metrics.f1(np.diag([3, 0]))[1])


def test_recall_counts_ties_against_the_query():
    scores = np.array([[0.9, 0.5, 0.5], [0.1, 0.7, 0.7], [0.2, 0.2, 0.2]])
    assert metrics.recall_at_k(scores, [{0}, {1}, {2}], 1) == pytest.approx(1 / 3)
    assert metrics.recall_at_k(scores, [{0}, {1, 2}, {2}], 1) == pytest.approx(2 / 3)
    assert metrics.recall_at_k(scores, [{0}, {1}, {2}], 3) == 1.0
