"""Encoders, fusions and the model: contracts, missing modalities, order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError, UnknownNameError
from geomm.models.encoders import ENCODERS, EncoderInput, build_encoder
from geomm.models.features import FeatureMaps, masked_pool, shrink_valid
from geomm.models.fusion import FUSIONS, find_fusion
from geomm.models.heads import HEADS, build_head
from geomm.models.levels import Shape
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.models.text import TinyText, tokenise

BANDS = {"optical": 4, "thermal": 2, "sar": 2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _batch(names=tuple(BANDS), size=16, count=2, times=1):
    images = {n: torch.randn(count, times, BANDS[n], size, size) for n in names}
    valid = {n: torch.rand(count, times, size, size) > 0.3 for n in names}
    images = {n: torch.where(valid[n].unsqueeze(2), x, 0.0) for n, x in images.items()}
    present = {n: v.flatten(1).any(1) for n, v in valid.items()}
    return Sample(images, valid, {}, present)


def _model(fusion="attention", task="segmentation", **options):
    return MultimodalModel(ModelSpec(BANDS, 3, task, "tiny_cnn", fusion, 8, **options)).eval()


@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_vit", "timm:resnet18", "torchgeo:resnet18"])
def test_encoders_keep_their_word(name):
    encoder = build_encoder(name, EncoderInput(3, width=8))
    image, valid = torch.randn(2, 3, 64, 64), torch.ones(2, 64, 64, dtype=torch.bool)
    features = encoder(image, valid)
    assert features.strides == encoder.strides == tuple(sorted(encoder.strides))
    for maps, channels, stride in zip(features.maps, encoder.channels, encoder.strides, strict=True):
        assert maps.shape == (2, channels, 64 // stride, 64 // stride)
    with pytest.raises(ContractError, match="multiple of its coarsest stride"):
        encoder(image[..., :63], valid[..., :63])


def test_unknown_names_list_the_known():
    for build, kind, known in (
        (lambda: build_encoder("resnet", EncoderInput(3)), "encoder", ENCODERS),
        (lambda: find_fusion("magic"), "fusion", FUSIONS),
        (lambda: build_head("magic", Shape((8,), (1,)), 3), "head", HEADS),
        (lambda: _model(text="bert"), "text encoder", ("tiny",)),
    ):
        with pytest.raises(UnknownNameError, match=f"unknown {kind}.*{sorted(known)[0]}"):
            build()
    with pytest.raises(UnknownNameError, match="timm has no model"):
        build_encoder("timm:nothing", EncoderInput(3))
    with pytest.raises(UnknownNameError, match="unknown torchgeo model"):
        build_encoder("torchgeo:nothing", EncoderInput(3))
    with pytest.raises(UnknownNameError, match="SENTINEL2_ALL_MOCO"):
        build_encoder("torchgeo:resnet18:NOTHING", EncoderInput(3))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("task", HEADS)
def test_every_non_empty_subset_gives_an_answer(fusion, task):
    if task == "contrastive" and find_fusion(fusion).stage == "late":
        with pytest.raises(ContractError, match="late fusion has no embedding"):
            _model(fusion, task)
        return
    model = _model(fusion, task)
    batch = _batch()
    for number in (1, 2, 3):
        for names in itertools.combinations(BANDS, number):
            part = Sample(
                *({n: getattr(batch, f)[n] for n in names} for f in ("images", "valid", "calibration", "present")[:2]),
                {},
                {n: batch.present[n] for n in names},
            )
            out = model(part)
            assert torch.isfinite(out).all()
            assert out.shape == ((2, 3, 16, 16) if task == "segmentation" else (2, 3))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_single_modality_is_a_model_too(fusion, task):
    model = MultimodalModel(ModelSpec({"sar": 2}, 3, task, "tiny_cnn", fusion, 8))
    answers = model.answers(_batch(("sar",)))
    torch.stack([a.logits.square().mean() for a in answers]).sum().backward()
    assert all(torch.isfinite(a.logits).all() for a in answers)


def test_specs_that_cannot_be_built_say_so():
    for wrong, why in (({"width": 6}, "multiple of 4"), ({"modalities": {"s2.l2a": 3}}, "s2.l2a")):
        with pytest.raises(ConfigError, match=why):
            ModelSpec(**{"modalities": {"a": 1}, "outputs": 2} | wrong)
    with pytest.raises(ConfigError, match="keys"):
        ModelSpec({"keys": 3}, 2)
    with pytest.raises(ContractError, match="no encoder.*modality b"):
        MultimodalModel(ModelSpec({"a": 1, "b": 1}, 2, encoder={"a": "tiny_cnn"}))


def test_weights_that_nothing_would_use_are_refused(tmp_path):
    file = tmp_path / "w.pt"
    for spec, weights in (
        (ModelSpec({"a": 1}, 2), {"b": file}),
        (ModelSpec({"a": 1}, 2), {"a": file}),
        (ModelSpec({"a": 1}, 2, encoder="timm:test_resnet", fusion="early_sum"), {"a": file}),
    ):
        with pytest.raises(ContractError, match="weights"):
            MultimodalModel(spec, weights=weights)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_masked_equals_absent_bit_for_bit_and_order_never_matters(fusion):
    model = _model(fusion)
    batch = _batch()
    masked = Sample(
        batch.images | {"sar": torch.randn_like(batch.images["sar"]) * 100},
        batch.valid | {"sar": torch.zeros_like(batch.valid["sar"])},
        {},
        batch.present | {"sar": torch.zeros(2, dtype=torch.bool)},
    )
    absent = Sample(
        *({n: x for n, x in part.items() if n != "sar"} for part in (batch.images, batch.valid)),
        {},
        {n: x for n, x in batch.present.items() if n != "sar"},
    )
    assert torch.equal(model(masked), model(absent))
    turned = Sample(*(dict(reversed(part.items())) for part in (batch.images, batch.valid)), {}, batch.present)
    assert torch.equal(model(turned), model(batch))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_sample_never_depends_on_its_neighbours(fusion):
    model = _model(fusion)
    batch = _batch(count=3)
    one = Sample(
        *({n: x[1:2] for n, x in part.items()} for part in (batch.images, batch.valid)),
        {},
        {n: x[1:2] for n, x in batch.present.items()},
    )
    torch.testing.assert_close(model(batch)[1:2], model(one), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_everything_invalid_is_finite_and_has_gradients(fusion):
    model = _model(fusion).train()
    batch = _batch()
    dead = Sample(batch.images, {n: torch.zeros_like(v) for n, v in batch.valid.items()}, {}, batch.present)
    outs = [a.logits for a in model.answers(dead)]
    torch.stack([out.sum() for out in outs]).sum().backward()
    assert all(torch.isfinite(out).all() for out in outs)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns_and_the_state_round_trips(fusion):
    model = _model(fusion).train()
    torch.stack([a.logits.square().mean() for a in model.answers(_batch())]).sum().backward()
    # The rule of a stack is fitted afterwards, on places that its experts were not trained on.
    assert [n for n, p in model.named_parameters() if p.grad is None and p.requires_grad] == []
    other = _model(fusion)
    other.load_state_dict(model.state_dict())
    batch = _batch()
    assert torch.equal(other(batch), model.eval()(batch))


def test_attention_weights_are_shares_of_valid_modalities():
    model = _model()
    batch = _batch()
    with torch.no_grad():
        features, valid = model.encode_image(batch)
    weights = features.weights
    assert weights.shape == (2, 3, 16, 16)
    assert float(weights.sum(1).max()) <= 1 + 1e-6
    for k, name in enumerate(BANDS):
        assert (weights[:, k][~batch.valid[name][:, 0]] == 0).all()
    assert torch.equal(valid, torch.stack([v.any(1) for v in batch.valid.values()]).any(0))


def test_cell_attention_equals_a_plain_loop():
    block = find_fusion("attention").build(dict.fromkeys(BANDS, Shape((8,), (1,)))).double().blocks[0]
    maps = [torch.randn(1, 8, 2, 2, dtype=torch.double) for _ in BANDS]
    valid = torch.tensor(
        [[[[True, True], [False, True]]], [[[True, False], [False, True]]], [[[True, True], [False, False]]]]
    )
    with torch.no_grad():
        got, _ = block(maps, valid)
        for y, x in itertools.product(range(2), range(2)):
            tokens = [p(m[0, :, y, x]) + e for p, m, e in zip(block.project, maps, block.identity, strict=True)]
            alive = [t for t, v in zip(tokens, valid[:, 0, y, x], strict=True) if v]
            mean = torch.stack(alive).mean(0) if alive else torch.zeros(8, dtype=torch.double)
            heads = []
            query = block.query(mean).reshape(4, 2)
            pairs = [block.key_value(t).reshape(2, 4, 2) for t in [*alive, block.register_token]]
            for h in range(4):
                score = np.array([float(query[h] @ kv[0, h]) / 2**0.5 for kv in pairs])
                share = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
                heads.append(sum(s * kv[1, h] for s, kv in zip(share, pairs, strict=True)))
            want = mean + block.mix(torch.cat([mean, torch.cat(heads)]))
            torch.testing.assert_close(got[0, :, y, x], want, rtol=0, atol=1e-10)


def test_times_are_averaged_where_valid():
    model = _model()
    batch = _batch(times=3)
    blank = Sample(
        {n: torch.cat([x, torch.zeros_like(x[:, :1])], 1) for n, x in batch.images.items()},
        {n: torch.cat([v, torch.zeros_like(v[:, :1])], 1) for n, v in batch.valid.items()},
        {},
        batch.present,
    )
    torch.testing.assert_close(model(blank), model(batch), rtol=1e-4, atol=1e-5)


def test_model_refuses_what_it_does_not_know():
    model = _model()
    with pytest.raises(ContractError, match="none of the model's modalities"):
        model(Sample({"dem": torch.zeros(1, 1, 1, 8, 8)}, {"dem": torch.ones(1, 1, 8, 8, dtype=torch.bool)}, {}, {}))
    batch = _batch()
    with pytest.raises(ContractError, match="modality optical"):
        model(Sample(batch.images | {"optical": batch.images["optical"][:, :, :3]}, batch.valid, {}, batch.present))
    with pytest.raises(ContractError, match="no text encoder"):
        model.encode_text(["water"])


def test_features_helpers():
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0] = True
    assert shrink_valid(valid, (2, 2)).tolist() == [[[True, False], [False, False]]]
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert masked_pool(maps, valid).item() == 0.0
    assert masked_pool(maps, ~valid).item() == pytest.approx(8.0)
    assert FeatureMaps((maps,), (1,)).weights is None


def test_text_is_deterministic_and_ignores_padding():
    encoder = TinyText(16).eval()
    assert tokenise(["a"]).shape == (1, 32)
    vectors = encoder(["flooded fields", "Flooded  fields!", "a river", ""])
    torch.testing.assert_close(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
