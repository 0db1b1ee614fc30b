"""Tasks of known optimum: the closed forms are what the best possible answers reach."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from geomm.testing.fresh import FreshBatches
from geomm.testing.known import DIURNAL, XOR_FLOOD, Gaussian, Speckle, Views, Xor, leakage_field


def _log_loss(drawn):
    return -np.log(np.where(drawn.target == 1, drawn.posterior, 1 - drawn.posterior)).mean()


@pytest.mark.parametrize("task", [XOR_FLOOD, DIURNAL], ids=["xor", "diurnal"])
def test_the_best_answer_to_an_exclusive_or(task):
    drawn = task.draw(20_000, np.random.default_rng(0))
    assert ((drawn.posterior > 0.5) == drawn.target).mean() == pytest.approx(task.bayes, abs=2e-3)
    assert drawn.target.mean() == pytest.approx(0.5, abs=5e-3)
    assert {n: a.shape for n, a in drawn.images.items()} == dict.fromkeys(task.views, (20_000, 1, 16, 16))
    for image in drawn.images.values():  # alone, a modality says nothing
        parcels = image[:, 0].reshape(-1, 4, 4, 4, 4).mean((2, 4)).ravel()
        assert abs(np.corrcoef(parcels, drawn.target[:, ::4, ::4].ravel())[0, 1]) < 0.01


def test_the_setting_of_xor_flood():
    drawn = XOR_FLOOD.draw(20_000, np.random.default_rng(1))
    assert round(XOR_FLOOD.bayes, 4) == 0.9446
    assert round(XOR_FLOOD.additive, 4) == 0.7223
    assert _log_loss(drawn) == pytest.approx(0.1401, abs=2e-3)


def test_views_are_as_accurate_as_they_say():
    generator = np.random.default_rng(0)
    for view in (Speckle(4.4, 2.0), Gaussian(0.5)):
        bits = generator.integers(0, 2, (20_000, 1, 1))
        pixels = view.draw(np.broadcast_to(bits, (20_000, 3, 3)), generator)
        right = ((view.evidence(pixels).sum((1, 2)) > 0) == bits[:, 0, 0]).mean()
        assert right == pytest.approx(view.accuracy(9), abs=6e-3)
    one, other = (10 ** (Speckle(4.4, 2.0).draw(np.full(50_000, b), generator) / 10) for b in (0, 1))
    assert one.mean() == pytest.approx(1.0, abs=0.01)
    assert 10 * np.log10(other.mean() / one.mean()) == pytest.approx(2.0, abs=0.05)
    assert (one.mean() / one.std()) ** 2 == pytest.approx(4.4, rel=0.05)  # the number of looks


def test_an_additive_rule_reaches_the_bound_and_no_more():
    """Decide by the sign of s_a where both speak alike in size: the explicit rule that attains half of the gain."""
    task = Xor({"a": Gaussian(0.9), "b": Gaussian(0.9)}, grid=1)
    drawn = task.draw(200_000, np.random.default_rng(2))
    a, b = (np.sign(drawn.images[n][:, 0].sum((1, 2))) for n in "ab")
    target = drawn.target[:, 0, 0]
    rule = np.where(a + b > 0.5, 0, 1)  # yes unless both are bright: three of four cells decided, one of them wrong
    assert (rule == target).mean() == pytest.approx(task.additive, abs=3e-3)


@pytest.mark.parametrize("prior", [0.5, 0.8])
def test_every_subset_of_independent_views(prior):
    task = Views(prior=prior)
    drawn = task.draw(100_000, np.random.default_rng(3))
    target = drawn.target[:, 0, 0]
    for subset in (("s2",), ("s1", "tir"), ("s2", "s1", "tir")):
        evidence = np.log(prior / (1 - prior)) + sum(
            (drawn.images[n][:, 0] * task.signals[n] / task.side).sum((1, 2)) for n in subset
        )
        assert ((evidence > 0) == target).mean() == pytest.approx(task.bayes(subset), abs=4e-3)
    assert round(Views().bayes(("s2", "s1", "tir")), 4) == 0.8593
    assert round(Views().bayes(("tir",)), 4) == 0.6554


def test_the_leakage_field_reaches_as_far_as_it_says():
    shown, labels = leakage_field(128, 4.0, 5, np.random.default_rng(4))
    assert shown.shape == (128, 128, 5)
    field = shown[..., 1]
    lag = {d: np.corrcoef(field[:, :-d].ravel(), field[:, d:].ravel())[0, 1] for d in (2, 8)}
    for d, found in lag.items():  # a Gaussian filter of noise has the covariance exp(-d^2 / 4 reach^2)
        assert found == pytest.approx(np.exp(-(d**2) / (4 * 4.0**2)), abs=0.05)
    assert stats.pointbiserialr(labels.ravel(), shown[..., 0].ravel()).statistic > 0.3
    assert abs(stats.pointbiserialr(labels.ravel(), field.ravel()).statistic) < 0.2


def test_fresh_batches_are_the_task_and_never_the_same_twice():
    fresh = FreshBatches(XOR_FLOOD, 4, seed=3, number=2)
    first, second = fresh.epoch(0)
    again = next(iter(fresh.epoch(0)))
    same = XOR_FLOOD.draw(4, np.random.default_rng([3, 0, 0]))
    for name, image in same.images.items():
        assert (first.images[name].numpy() == image[:, None]).all()
        assert (again.images[name].numpy() == image[:, None]).all()
        assert (second.images[name].numpy() != image[:, None]).any()
        assert first.valid[name].all()
        assert first.present[name].all()
    assert (first.target.numpy() == same.target).all()
    assert (next(iter(fresh.epoch(1))).images["sar"].numpy() != first.images["sar"].numpy()).any()
    alone = next(iter(FreshBatches(XOR_FLOOD, 4, seed=3, only=("sar",)).epoch(0)))
    assert list(alone.images) == ["sar"]
    assert (alone.images["sar"].numpy() == first.images["sar"].numpy()).all()
