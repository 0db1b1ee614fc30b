"""Fusion numerics against NumPy, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from geomm.errors import ConfigError
from geomm.models.product import LowRankProduct, TensorProduct

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
