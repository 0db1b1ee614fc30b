"""Fusion numerics against NumPy, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import erf

from geomm.errors import ConfigError
from geomm.models.features import FeatureMaps
from geomm.models.fusion import find_fusion
from geomm.models.levels import Shape
from geomm.models.product import LowRankProduct, TensorProduct
from geomm.models.tokens import distance_bias

EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _features(sizes, cells=5):
    return [torch.randn(cells, s, dtype=torch.double, requires_grad=True) for s in sizes]


def _ones_before(features):
    return [np.concatenate([np.ones((len(f), 1)), f.detach().numpy()], 1) for f in features]


@pytest.mark.parametrize("sizes", [(4,), (3, 5), (2, 3, 4)])
def test_tensor_product_is_the_outer_product(sizes):
    layer, features = TensorProduct(sizes, 6).double(), _features(sizes)
    parts = _ones_before(features)
    for k in range(len(parts[0])):
        outer = np.array([np.prod(each) for each in itertools.product(*(p[k] for p in parts))])
        want = layer.mix.weight.detach().numpy() @ outer + layer.mix.bias.detach().numpy()
        np.testing.assert_allclose(layer(features)[k].detach().numpy(), want, **EXACT)
    assert torch.autograd.gradcheck(lambda *f: layer(f), features)


@pytest.mark.parametrize("sizes", [(4,), (3, 5), (2, 3, 4)])
def test_low_rank_product_is_a_sum_of_products(sizes):
    layer, features = LowRankProduct(sizes, 6, rank=3).double(), _features(sizes)
    with torch.no_grad():
        layer.weights.normal_()
        layer.bias.normal_()
    factors = [f.detach().numpy() for f in layer.factors]
    want = layer.bias.detach().numpy() + sum(
        layer.weights[r].item()
        * np.prod([p @ f[r] for p, f in zip(_ones_before(features), factors, strict=True)], axis=0)
        for r in range(3)
    )
    np.testing.assert_allclose(layer(features).detach().numpy(), want, **EXACT)
    assert torch.autograd.gradcheck(lambda *f: layer(f), features)
    assert len(list(layer.parameters())) == len(sizes) + 2


def test_full_rank_reproduces_the_tensor_product():
    sizes, width = (2, 3), 4
    whole, low = TensorProduct(sizes, width).double(), LowRankProduct(sizes, width, rank=12).double()
    with torch.no_grad():  # one term for every product of two features
        for r, (i, j) in enumerate(itertools.product(range(3), range(4))):
            low.factors[0][r], low.factors[1][r] = 0.0, 0.0
            low.factors[0][r, i] = 1.0
            low.factors[1][r, j] = whole.mix.weight[:, r]
        low.weights.fill_(1.0)
        low.bias.copy_(whole.mix.bias)
    features = _features(sizes)
    torch.testing.assert_close(low(features), whole(features), **EXACT)


def test_a_product_that_is_too_large_names_its_low_rank_form():
    with pytest.raises(ConfigError, match=r"use the fusion lmf"):
        TensorProduct((32, 32, 32), 8)


def _norm(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def _linear(x, layer):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def _gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def _block(block, tokens, context, allowed, bias=None):
    """Attention of one window, query by query and head by head, then the small network."""
    attention = block.attention
    context = _norm(np.vstack([attention.register_token.detach().numpy(), context]), attention.context_norm)
    keys, values = np.split(_linear(context, attention.key_value), 2, -1)
    queries, size = _linear(_norm(tokens, attention.query_norm), attention.query), tokens.shape[-1] // attention.heads
    seen = [0, *(np.flatnonzero(allowed) + 1)]
    found = np.zeros_like(tokens)
    for q in range(len(tokens)):
        for h in range(attention.heads):
            part = slice(h * size, (h + 1) * size)
            scores = np.array([queries[q, part] @ keys[k, part] / np.sqrt(size) for k in seen])
            if bias is not None:
                scores += [0.0 if k == 0 else bias[h, q, k - 1] for k in seen]
            share = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            found[q, part] = sum(s * values[k, part] for s, k in zip(share, seen, strict=True))
    tokens = tokens + _linear(found, attention.out)
    norm, first, _, second = block.mix
    return tokens + _linear(_gelu(_linear(_norm(tokens, norm), first)), second)


def _masked_mean(parts, valid):
    """Over modalities, cell by cell; 0 where none is valid."""
    out = np.zeros_like(parts[0])
    for cell in range(len(out)):
        alive = [p[cell] for p, v in zip(parts, valid, strict=True) if v[cell]]
        out[cell] = np.mean(alive, axis=0) if alive else 0.0
    return out


def _co_attention(level, tokens, valid, bias):
    found = []
    for m, block in enumerate(level.blocks):
        others = [k for k in range(len(tokens)) if k != m]
        context, allowed = np.vstack([tokens[k] for k in others]), np.concatenate([valid[k] for k in others])
        found.append(_block(block, tokens[m], context, allowed, np.concatenate([bias] * len(others), -1)))
    return _masked_mean(found, valid)


def _joint(level, tokens, valid, bias):
    count, together = len(tokens), np.vstack(tokens)
    for block in level.blocks:
        together = _block(block, together, together, np.concatenate(valid), np.tile(bias, (1, count, count)))
    return _masked_mean(np.split(together, count), valid)


def _bottleneck(level, tokens, valid, bias):
    streams, shared, cells = [t.copy() for t in tokens], level.bottlenecks.detach().numpy(), len(tokens[0])
    wide = np.zeros((len(bias), cells + len(shared), cells + len(shared)))
    wide[:, :cells, :cells] = bias
    for layer in level.blocks:
        proposed = []
        for m, block in enumerate(layer):
            together = np.vstack([streams[m], shared])
            together = _block(block, together, together, np.concatenate([valid[m], np.ones(len(shared), bool)]), wide)
            streams[m] = together[:cells]
            if valid[m].any():
                proposed.append(together[cells:])
        shared = np.mean(proposed, axis=0) if proposed else shared
    return _masked_mean(streams, valid)


def _perceiver(level, tokens, valid, bias):
    place, latents = level.place.detach().numpy(), level.latents.detach().numpy()
    placed = [t + place for t in tokens]
    free = np.ones(len(latents), bool)
    for block in level.blocks:
        context = np.vstack([*placed, latents])
        latents = _block(block, latents, context, np.concatenate([*valid, free]))
    return _block(level.ask, _masked_mean(placed, valid) + place, latents, free)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("co_attention", _co_attention), ("joint", _joint), ("mbt", _bottleneck), ("perceiver", _perceiver)],
)
def test_attention_between_cells_is_what_a_loop_makes_of_it(name, oracle):
    level = find_fusion(name).build(dict.fromkeys("abc", Shape((8,), (1,)))).double().blocks[0]
    level.bias = level.bias.double()
    tokens, valid = torch.randn(3, 4, 16, 8, dtype=torch.double), torch.rand(3, 4, 16) > 0.4
    valid[:, 1], valid[0, 2] = False, False  # a window without anything, and one without the first modality
    tokens = torch.where(valid.unsqueeze(-1), tokens, 0.0)
    got = level.attend(tokens, valid).detach().numpy()
    for n in range(4):
        want = oracle(level, list(tokens[:, n].numpy()), list(valid[:, n].numpy()), level.bias.numpy())
        np.testing.assert_allclose(got[n], want, **EXACT)


def test_distance_bias_is_slope_times_distance():
    bias = distance_bias(3, 4).numpy()
    for (h, q, k), value in np.ndenumerate(bias):
        apart = np.hypot(q // 4 - k // 4, q % 4 - k % 4)
        assert value == pytest.approx(-(2.0**-h) * apart, rel=1e-6)


@pytest.mark.parametrize("name", ["co_attention", "joint", "mbt", "perceiver"])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (8, 3)])
def test_windows_cover_any_size_and_do_not_reach_into_each_other(name, size):
    fusion = find_fusion(name).build(dict.fromkeys("ab", Shape((8,), (1,))))
    maps = {m: FeatureMaps((torch.randn(2, 8, *size),), (1,)) for m in "ab"}
    valid = {m: torch.ones(2, *size, dtype=torch.bool) for m in "ab"}
    before = fusion(maps, valid).maps[0]
    assert before.shape == (2, 8, *size)
    maps["a"].maps[0][:, :, :4, :3] += 1.0
    changed = (fusion(maps, valid).maps[0] != before).any(1)
    assert changed[:, :4, : min(4, size[1])].all()
    assert not changed[:, 4:].any()
    assert not changed[:, :, 4:].any()
