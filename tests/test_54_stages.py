"""Early and late fusion against NumPy, gates that are closed at first, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomm.models import early, late
from geomm.models.features import FeatureMaps
from geomm.models.fusion import FUSIONS, find_fusion
from geomm.models.gated import GatedBlock
from geomm.models.levels import Levels, Shape
from geomm.models.mid import Concat, GatedSum

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _images(sizes=(3, 2), side=4):
    maps = [torch.randn(2, s, side, side, dtype=torch.double) for s in sizes]
    valid = torch.rand(len(sizes), 2, side, side) > 0.4
    return [torch.where(v.unsqueeze(1), x, 0.0) for x, v in zip(maps, valid, strict=True)], valid


def _project(layer, x):
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.einsum("oi,ihw->ohw", weight[..., 0, 0] if weight.ndim == 4 else weight, x) + bias[:, None, None]


@pytest.mark.parametrize("merge", [early.SumImages, early.MultiplyImages])
def test_merged_images_are_what_a_loop_makes_of_them(merge):
    layer, (images, valid) = merge((3, 2), 5).double(), _images()
    got = layer(images, valid).detach().numpy()
    for b in range(2):
        seen = valid[:, b].numpy()
        parts = [_project(p, x[b].numpy()) for p, x in zip(layer.project, images, strict=True)]
        total = sum(np.where(s, p, 0) for p, s in zip(parts, seen, strict=True)) / seen.sum(0).clip(1)
        if merge is early.MultiplyImages:
            product = np.ones_like(total)
            for g, x, s in zip(layer.gate, images, seen, strict=True):
                product *= np.where(s, 1 + np.tanh(_project(g, x[b].numpy())), 1.0)
            total = total + product - 1
        np.testing.assert_allclose(got[b], total, **EXACT)


def test_concatenated_images_have_flags_and_tokens():
    layer, (images, valid) = early.ConcatImages((3, 2), 9).double(), _images()
    got = layer(images, valid).detach().numpy()
    assert got.shape == (2, 7, 4, 4)
    for b in range(2):
        at = 0
        for image, seen, token in zip(images, valid, layer.missing.tokens, strict=True):
            for band in range(image.shape[1]):
                np.testing.assert_array_equal(got[b, at], np.where(seen[b], image[b, band], token[band].item()))
                at += 1
        np.testing.assert_array_equal(got[b, at:], valid[:, b].numpy())


def test_early_fusion_takes_the_mean_of_valid_times():
    fusion = find_fusion("early_sum").build({"a": 2, "b": 1}, 3)
    image, valid = torch.randn(1, 2, 2, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    valid[:, 0] = True
    merged, anywhere = fusion({"a": image}, {"a": valid})
    once, _ = fusion({"a": image[:, :1]}, {"a": valid[:, :1]})
    assert torch.equal(merged, once)
    assert anywhere.all()


def _softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _answers(dense):
    shape = (3, 2, 4, 3, 3) if dense else (3, 2, 4)
    logits = torch.randn(shape, dtype=torch.double) * 2
    valid = torch.rand(shape[:2] + shape[3:]) > 0.4
    valid.reshape(3, -1)[:, 0] = False  # nobody saw anything
    return logits, valid


def _late_mean(z, alive, rule):
    return z[alive].mean(0)


def _late_probability(z, alive, rule):
    return np.log(_softmax(z[alive], 1).mean(0))


def _late_vote(z, alive, rule):
    first = np.eye(z.shape[1])[z[alive].argmax(1)]
    return np.log((first + 1e-3 * _softmax(z[alive], 1)).mean(0).clip(1e-12))


def _late_weighted(z, alive, rule):
    share = _softmax(rule.weights.detach().numpy(), 0)[alive]
    return (share / share.sum()) @ z[alive]


def _late_product(z, alive, rule):
    prior = np.log(rule.counts.numpy() / rule.counts.numpy().sum())
    return np.log(_softmax(z[alive], 1)).sum(0) - (alive.sum() - 1) * prior


def _late_stack(z, alive, rule):
    said = np.log(_softmax(z, 1))
    weight, bias = rule.weight.detach().numpy(), rule.bias.detach().numpy()
    return sum(said[m] @ weight[m] + bias[m] for m in np.flatnonzero(alive)) * len(alive) / alive.sum()


ORACLES = [_late_mean, _late_probability, _late_vote, _late_weighted, _late_product, _late_stack]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("oracle", ORACLES, ids=lambda f: f.__name__.strip("_"))
def test_late_rules_are_what_a_loop_makes_of_them(oracle, dense):
    rule = find_fusion(oracle.__name__.strip("_")).build(3, 4).double()
    with torch.no_grad():
        for p in rule.parameters():
            p.add_(torch.randn_like(p))
        rule.observe(torch.tensor([0, 0, 0, 1, 3, 255, 255]))
    logits, valid = _answers(dense)
    merged, shares = (x.detach() for x in rule(logits, valid))
    said = logits.reshape(3, 2, 4, -1).movedim(2, -1).reshape(3, -1, 4).numpy()
    seen, got = valid.reshape(3, -1).numpy(), merged.reshape(2, 4, -1).movedim(1, -1).reshape(-1, 4).numpy()
    for n in range(said.shape[1]):
        if seen[:, n].any():
            np.testing.assert_allclose(got[n], oracle(said[:, n], seen[:, n], rule), **EXACT)
    share = shares.movedim(0, 1).reshape(3, -1).numpy()
    assert (share[~seen] == 0).all()
    np.testing.assert_allclose(share.sum(0), seen.any(0), atol=1e-12)
    assert np.isfinite(got).all()


def test_every_late_rule_has_an_oracle():
    assert {n for n, k in FUSIONS.items() if k.stage == "late"} == {f.__name__.strip("_") for f in ORACLES}


def test_a_product_of_experts_is_bayes_rule_with_an_unbalanced_prior():
    generator = np.random.default_rng(0)
    prior = np.array([0.7, 0.2, 0.1])
    likelihoods = generator.random((2, 3, 5))  # modality, class, observation
    likelihoods /= likelihoods.sum(2, keepdims=True)
    posteriors = likelihoods * prior[:, None]
    posteriors /= posteriors.sum(1, keepdims=True)
    rule = late.ProductOfExperts(2, 3).double()
    rule.counts.zero_()
    rule.observe(torch.tensor([0] * 7 + [1] * 2 + [2] + [255] * 5))
    for i in range(5):
        for j in range(5):
            logits = torch.from_numpy(np.log(np.stack([posteriors[0, :, i], posteriors[1, :, j]])))[:, None]
            merged, _ = rule(logits, torch.ones(2, 1, dtype=torch.bool))
            want = prior * likelihoods[0, :, i] * likelihoods[1, :, j]
            np.testing.assert_allclose(merged.softmax(1)[0].detach().numpy(), want / want.sum(), **EXACT)


def test_a_class_that_training_never_saw_does_not_win_a_product():
    rule = late.ProductOfExperts(2, 3)
    rule.observe(torch.tensor([0, 1] * 500_000))
    logits = torch.tensor([[[5.0, 1.0, -5.0]], [[4.0, 2.0, -5.0]]])  # both experts are sure that it is the first
    merged, _ = rule(logits, torch.ones(2, 1, dtype=torch.bool))
    assert merged.argmax() == 0
    assert merged.softmax(1)[0, 2] < 0.01


def test_gated_blocks_are_the_identity_at_first():
    block, tokens = GatedBlock(8, 2), torch.randn(3, 5, 8)
    context, allowed, bias = torch.randn(3, 7, 8), torch.ones(3, 7, dtype=torch.bool), torch.zeros(2, 5, 7)
    assert torch.equal(block(tokens, context, allowed, bias), tokens)
    fusion = find_fusion("gated").build({"a": Shape((8, 16), (1, 2)), "b": Shape((8, 16), (1, 2))})
    maps = {m: FeatureMaps((torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)), (1, 2)) for m in "ab"}
    valid = {m: torch.ones(2, 8, 8, dtype=torch.bool) for m in "ab"}
    fused = fusion(maps, valid)
    assert all(torch.equal(out, own) for out, own in zip(fused.maps, maps["a"].maps, strict=True))
    with torch.no_grad():
        for level in fusion.blocks:
            level.block.gates.fill_(0.5)
    assert not torch.equal(fusion(maps, valid).maps[0], maps["a"].maps[0])
    with_token = fusion({"b": maps["b"]}, {"b": valid["b"]})
    assert all(torch.isfinite(m).all() for m in with_token.maps)


def test_gated_cross_attention_equals_a_loop():
    """The open gate, query by query; the attention itself is held against a loop in test_50_fusion."""
    block = GatedBlock(8, 2).double()
    with torch.no_grad():
        block.gates.copy_(torch.tensor([0.3, -0.7], dtype=torch.double))
    tokens, context = torch.randn(2, 4, 8).double(), torch.randn(2, 6, 8).double()
    allowed, bias = torch.rand(2, 6) > 0.3, torch.randn(2, 4, 6).double()
    after = tokens + np.tanh(0.3) * block.attention(tokens, context, allowed, bias)
    want = after + np.tanh(-0.7) * block.mix(after)
    torch.testing.assert_close(block(tokens, context, allowed, bias), want, **EXACT)


def test_gated_sum_and_concat_equal_loops():
    maps, valid = _images((3, 2))
    block = GatedSum((3, 2), 4).double()
    got, shares = block(maps, valid)
    flat = Concat((3, 2), 4).double()
    mixed, _ = flat(maps, valid)
    for b, y, x in np.ndindex(2, 4, 4):
        seen = valid[:, b, y, x].tolist()
        total, gates = np.zeros(4), []
        for m, s in enumerate(seen):
            value = maps[m][b, :, y, x]
            gate = torch.sigmoid(block.gate[m](value)).detach().numpy()
            gates.append(gate.mean() * s)
            total += gate * block.project[m](value).detach().numpy() * s
        np.testing.assert_allclose(got[b, :, y, x].detach().numpy(), total / max(sum(seen), 1), **EXACT)
        want = np.array(gates) / max(sum(gates), 1e-300)
        np.testing.assert_allclose(shares[b, :, y, x].detach().numpy(), want, **EXACT)
        parts = [maps[m][b, :, y, x] if s else flat.missing.tokens[m] for m, s in enumerate(seen)]
        column = torch.cat([*parts, torch.tensor(seen).double()])[None, :, None, None]
        np.testing.assert_allclose(mixed[b, :, y, x].detach(), flat.mix(column)[0, :, 0, 0].detach(), **EXACT)


def test_levels_of_other_strides_are_brought_together():
    fine, coarse = Shape((4, 6), (1, 2)), Shape((5,), (2,))
    fusion = Levels({"a": coarse, "b": fine}, Concat)
    assert fusion.strides == (1, 2)
    assert fusion.inputs == {"a": (5, 5), "b": (4, 6)}
    valid = {"a": torch.ones(1, 4, 4, dtype=torch.bool), "b": torch.ones(1, 4, 4, dtype=torch.bool)}
    valid["a"][0, :2, :2] = False
    maps = {
        "a": FeatureMaps((torch.randn(1, 5, 2, 2),), (2,)),
        "b": FeatureMaps((torch.randn(1, 4, 4, 4), torch.randn(1, 6, 2, 2)), (1, 2)),
    }
    out = fusion(maps, valid)
    assert [tuple(m.shape) for m in out.maps] == [(1, 4 + 1, 4, 4), (1, 6, 2, 2)]
    changed = FeatureMaps((maps["a"].maps[0].clone(),), (2,))
    changed.maps[0][..., 0, 0] += 1  # where it is not valid
    again = fusion(maps | {"a": changed}, valid)
    assert all(torch.equal(a, b) for a, b in zip(out.maps, again.maps, strict=True))


def test_a_finer_map_is_averaged_where_valid():
    fusion = Levels({"a": Shape((1, 1), (2, 4)), "b": Shape((1,), (1,))}, GatedSum)
    seen = {}
    fusion.blocks[0].register_forward_pre_hook(lambda _m, given: seen.update(maps=given[0]))
    valid = {"a": torch.ones(1, 4, 4, dtype=torch.bool), "b": torch.ones(1, 4, 4, dtype=torch.bool)}
    valid["b"][0, 0, 0] = False
    own = torch.arange(16.0).reshape(1, 1, 4, 4)
    features = {
        "a": FeatureMaps((torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)), (2, 4)),
        "b": FeatureMaps((own,), (1,)),
    }
    fusion(features, valid)
    np.testing.assert_allclose(seen["maps"][1][0, 0], [[10 / 3, 4.5], [10.5, 12.5]], rtol=1e-6)


def test_tokens_without_a_grid_are_a_row():
    fusion = find_fusion("perceiver").build(dict.fromkeys("ab", Shape((8,), (1,))))
    features = {m: FeatureMaps((torch.randn(2, 8, 1, 6),), (1,)) for m in "ab"}
    valid = {m: torch.ones(2, 1, 6, dtype=torch.bool) for m in "ab"}
    assert fusion(features, valid).maps[0].shape == (2, 8, 1, 6)
