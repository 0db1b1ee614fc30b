"""Losses between chips and texts: equal to loops in float64, to themselves by chunks, and sensible at their ends."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomm.errors import ContractError, UnknownNameError
from geomm.models.features import FeatureMaps
from geomm.models.heads import EmbeddingHead
from geomm.models.levels import Shape
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import get_task
from geomm.tasks.alignment import clip_loss, info_nce, same_text, siglip_loss, soft_clip_loss, triplet_loss
from geomm.tasks.contrastive import TEXT_LOSSES, only
from geomm.testing.attributes import BANDS, Unpaired, World

SCALE, BIAS = 1.7, -2.3


def _vectors(seed, n, m, d=6):
    generator = np.random.default_rng(seed)
    u, v = generator.normal(size=(n, d)), generator.normal(size=(m, d))
    return [torch.tensor(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (u, v)]


def _plain_siglip(u, v, belongs):
    total = 0.0
    for i in range(len(u)):
        for j in range(len(v)):
            z = 1.0 if belongs[i, j] else -1.0
            logit = math.exp(SCALE) * float(np.dot(u[i], v[j])) + BIAS
            total -= math.log(1 / (1 + math.exp(-z * logit)))
    return total / len(u)


def _plain_info_nce(u, v, belongs):
    rows = []
    for i in range(len(u)):
        logits = [math.exp(SCALE) * float(np.dot(u[i], x)) for x in v]
        whole = sum(math.exp(x) for x in logits)
        mine = [j for j in range(len(v)) if belongs[i, j]]
        if mine:
            rows.append(sum(-math.log(math.exp(logits[j]) / whole) for j in mine) / len(mine))
    return sum(rows) / len(rows)


@given(st.integers(0, 1000), st.integers(2, 7), st.booleans(), st.sampled_from([0, 1, 2, 3]))
def test_losses_equal_loops_and_their_chunks(seed, n, several, chunk):
    u, v = _vectors(seed, n, n)
    belongs = np.eye(n, dtype=bool)
    if several:
        belongs |= np.random.default_rng(seed).random((n, n)) < 0.3
    positive, scale, bias = (
        torch.tensor(belongs),
        torch.tensor(SCALE, dtype=torch.double),
        torch.tensor(BIAS, dtype=torch.double),
    )
    a, b = u.numpy(), v.numpy()
    told = {"positive": positive, "chunk": chunk} if several else {"chunk": chunk}
    exact = {"rel": 1e-10, "abs": 1e-10}
    assert float(siglip_loss(u, v, scale, bias, **told)) == pytest.approx(_plain_siglip(a, b, belongs), **exact)
    forth, back = _plain_info_nce(a, b, belongs), _plain_info_nce(b, a, belongs.T)
    assert float(info_nce(u, v, scale, **told)) == pytest.approx(forth, **exact)
    assert float(clip_loss(u, v, scale, **told)) == pytest.approx((forth + back) / 2, **exact)


@pytest.mark.parametrize("name", ["siglip", "info_nce", "clip"])
def test_chunks_have_the_same_gradients(name):
    bias, gradients = torch.tensor(BIAS, dtype=torch.double), []
    for chunk in (0, 3):
        u, v = (x.requires_grad_() for x in _vectors(3, 7, 7))
        scale = torch.tensor(SCALE, dtype=torch.double).requires_grad_()
        given = {"siglip": (siglip_loss, (bias,)), "info_nce": (info_nce, ()), "clip": (clip_loss, ())}
        loss, further = given[name]
        loss(u, v, scale, *further, chunk=chunk).backward()
        gradients.append([x.grad for x in (u, v, scale)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_row_without_a_positive_counts_in_sigmoids_only():
    u, v = _vectors(0, 3, 4)
    positive = torch.zeros(3, 4, dtype=torch.bool)
    positive[0, 1] = True
    scale, bias = (torch.tensor(x, dtype=torch.double) for x in (SCALE, BIAS))
    assert float(info_nce(u, v, scale, positive=positive)) == pytest.approx(
        float(info_nce(u[:1], v, scale, positive=positive[:1])), rel=1e-12
    )
    assert float(siglip_loss(u, v, scale, bias, positive=positive)) == pytest.approx(
        _plain_siglip(u.numpy(), v.numpy(), positive.numpy()), rel=1e-10
    )


def test_soft_targets_are_the_softmax_of_likeness_and_are_not_learned():
    u, v = _vectors(5, 4, 4)
    logits = math.exp(SCALE) * u.numpy() @ v.numpy().T
    alike = (u.numpy() @ u.numpy().T + v.numpy() @ v.numpy().T) / (2 * 0.05)
    target = np.exp(alike) / np.exp(alike).sum(1, keepdims=True)

    def entropy(goal, x):
        return -(goal * (x - np.log(np.exp(x).sum(1, keepdims=True)))).sum(1).mean()

    want = (entropy(target, logits) + entropy(target.T, logits.T)) / 2
    u.requires_grad_()
    got = soft_clip_loss(u, v, torch.tensor(SCALE, dtype=torch.double))
    assert got.detach().item() == pytest.approx(want, rel=1e-10)
    got.backward()
    free = u.detach().clone().requires_grad_()
    fixed = torch.tensor(target)
    one = torch.nn.functional.cross_entropy(free @ v.T * math.exp(SCALE), fixed)
    other = torch.nn.functional.cross_entropy((free @ v.T * math.exp(SCALE)).T, fixed.T)
    ((one + other) / 2).backward()
    torch.testing.assert_close(u.grad, free.grad)


def test_triplets_take_the_hardest_negative_of_every_positive():
    u, v = _vectors(6, 4, 4)
    cosine, total = u.numpy() @ v.numpy().T, []
    for i in range(4):
        row = max(cosine[i, j] for j in range(4) if j != i)
        column = max(cosine[j, i] for j in range(4) if j != i)
        total.append(max(0.0, 0.2 - cosine[i, i] + row) + max(0.0, 0.2 - cosine[i, i] + column))
    assert float(triplet_loss(u, v)) == pytest.approx(np.mean(total), rel=1e-10)
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert float(triplet_loss(u, v, positive=everything)) == 0  # nothing is a negative


def test_mixed_precision_does_not_reach_the_losses():
    u, v = (x.float() for x in _vectors(1, 5, 5))
    scale, bias = torch.tensor(4.0), torch.tensor(-3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = clip_loss(u, v, scale), siglip_loss(u, v, scale, bias)
    assert low[0] == clip_loss(u, v, scale)
    assert low[1] == siglip_loss(u, v, scale, bias)


def test_the_same_text_is_found():
    assert same_text(["a", "b", "a"]).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


@pytest.mark.parametrize("loss", [*TEXT_LOSSES, *(f"{n}+views" for n in TEXT_LOSSES), "views"])
def test_every_loss_trains_any_subset_of_sensors(loss):
    torch.manual_seed(0)
    model = MultimodalModel(ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny"))
    task = get_task("contrastive", loss=loss)
    scenes = World().draw(6, np.random.default_rng(0))
    batch = scenes.seen_by(tuple(BANDS))
    batch.present["s1"][:3] = False
    batch.valid["s1"][:3] = False
    value = task.losses(model, batch)
    assert value.shape == (1,)
    assert torch.isfinite(value).all()
    value.mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoders["s1"].parameters())


def test_the_bias_starts_where_the_positive_rate_is_one_in_n():
    batch = Unpaired(16).batch(0)
    batch = replace(batch, text=tuple(f"place {k}" for k in range(16)))
    model = MultimodalModel(ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny")).eval()
    vectors, texts = model.embed(batch), model.encode_text(batch.text)
    want = siglip_loss(vectors, texts, model.logit_scale, torch.tensor(-math.log(15.0)))
    assert get_task("contrastive", loss="siglip").losses(model, batch)[0].detach().item() == pytest.approx(
        want.detach().item(), rel=1e-6
    )


def test_chips_without_a_text_need_views():
    model = MultimodalModel(ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny"))
    scenes = World().draw(4, np.random.default_rng(1))
    batch = replace(scenes.seen_by(("s1", "s2")), text=("a lake", "", "", "a town"))
    with pytest.raises(ContractError, match=r"every chip needs a text.*4 chips, 2 texts.*clip\+views"):
        get_task("contrastive").losses(model, batch)
    assert torch.isfinite(get_task("contrastive", loss="clip+views").losses(model, batch)).all()
    lonely = replace(scenes.seen_by(("s2",)), text=("",) * 4)
    with pytest.raises(ContractError, match="no chips have two sensors"):
        get_task("contrastive", loss="views").losses(model, lonely)
    with pytest.raises(UnknownNameError, match=r"unknown loss 'dice'.*clip\+views"):
        get_task("contrastive", loss="dice")


def test_the_temperature_stays_below_a_hundred():
    model = MultimodalModel(ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny"))
    model.logit_scale.data.fill_(9.0)
    get_task("contrastive").losses(model, Unpaired(4).batch(0))
    assert model.logit_scale.detach().exp().item() == pytest.approx(100.0, rel=1e-5)


def test_one_sensor_alone_is_as_if_the_others_were_absent():
    torch.manual_seed(0)
    model = MultimodalModel(ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny")).eval()
    scenes = World().draw(3, np.random.default_rng(2))
    whole = scenes.seen_by(tuple(BANDS))
    with torch.inference_mode():
        assert torch.equal(model.embed(only(whole, "s1")), model.embed(scenes.seen_by(("s1",))))


def test_statistics_of_a_sensor_never_see_chips_that_lack_it():
    torch.manual_seed(0)
    spec = ModelSpec(dict(BANDS), 8, "contrastive", fusion="sum", width=4, text="tiny")
    batch = Unpaired(24).batch(0)
    here = batch.present["s1"]
    mixed, alone = MultimodalModel(spec), MultimodalModel(spec)
    alone.load_state_dict(mixed.state_dict())
    mixed.train()(batch)
    part = replace(
        batch, **{k: {"s1": getattr(batch, k)["s1"][here]} for k in ("images", "valid", "calibration", "present")}
    )
    alone.train()(part)
    for name, value in mixed.encoders["s1"].state_dict().items():
        assert torch.equal(value, alone.encoders["s1"].state_dict()[name]), name


@given(st.integers(0, 100), st.sampled_from([(1, 2, 4), (4,), (2, 8), (1,)]))
def test_the_vector_of_a_chip_is_the_mean_of_its_cells(seed, strides):
    torch.manual_seed(seed)
    channels = tuple(3 + k for k in range(len(strides)))
    head = EmbeddingHead(Shape(channels, strides), 5)
    maps = tuple(torch.randn(2, c, 16 // s, 16 // s) for c, s in zip(channels, strides, strict=True))
    valid = torch.rand(2, 16, 16) < 0.4
    valid[1, :8] = False
    features = FeatureMaps(maps, strides)
    cells = head.cells(features, valid)
    grain = next((s for s in strides if s >= 2), strides[-1])
    seen = torch.nn.functional.max_pool2d(valid.float()[:, None], grain)[:, 0] > 0
    assert cells.shape == (2, 5, 16 // grain, 16 // grain)
    assert (cells[~seen[:, None].expand_as(cells)] == 0).all()
    mean = torch.stack([cells[k][:, seen[k]].mean(1) for k in range(2)])
    torch.testing.assert_close(head(features, valid), torch.nn.functional.normalize(mean, dim=1))
