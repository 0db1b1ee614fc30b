"""Galileo: bands, normalisation, weights, and the network held against the reference's numbers and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomm.errors import ContractError, PackageError, UnknownNameError
from geomm.models.encoders import EncoderInput, build_encoder
from geomm.models.encoders.galileo import (
    _UNUSED,
    GROUPS,
    SIZES,
    Galileo,
    GalileoSize,
    _resize,
    build_galileo,
    fill_patches,
    galileo_groups,
    galileo_wants,
)
from geomm.types import Modality

S2 = Modality("sentinel2-l2a", ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"))
S1 = Modality("sentinel1-grd-db", ("VV", "VH"))
SMALL = GalileoSize(32, 2, 2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _given(modality, **more):
    return EncoderInput(len(modality.bands), modality, **more)


def _all(image):
    return torch.ones(image.shape[0], *image.shape[2:], dtype=torch.bool)


def _small(modality=S2, patch=4, **more):
    """A small network whose learned channel rows and biases are not zero."""
    network = Galileo(galileo_groups(modality), SMALL, patch=patch, **more).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return network


def _whole_state(**changes):
    """A state dict with everything that the reference has, at random."""
    s1, s2 = (Galileo(galileo_groups(m)).state_dict() for m in (S1, S2))
    names = [n + "x" if n.endswith(".") else n for n in _UNUSED]
    others = {n: torch.zeros(1) for n in (*names, "space_time_embed.NDVI.proj.weight")}
    return s1 | s2 | others | changes


@pytest.mark.parametrize("modality", [S1, S2], ids=["s1", "s2"])
@pytest.mark.parametrize(("name", "patch"), [("", 8), ("4", 4), ("nano:1", 1)])
def test_maps_have_the_stride_of_the_patch(modality, name, patch):
    encoder = build_galileo(name, _given(modality)).eval()
    image = torch.randn(2, len(modality.bands), 16, 24)
    features = encoder(image, _all(image))
    assert (encoder.channels, encoder.strides, features.strides) == ((128,), (patch,), (patch,))
    assert features.maps[0].shape == (2, 128, 16 // patch, 24 // patch)
    assert features.tokens.shape == (2, 16 * 24 // patch**2, 128)
    assert features.pooled.shape == (2, 128)
    if patch > 1:
        with pytest.raises(ContractError, match="multiple"):
            encoder(image[..., :23], _all(image)[..., :23])


@pytest.mark.parametrize("patch", range(1, 9))
def test_kernels_shrink_by_the_pseudo_inverse_of_enlarging(patch):
    basis = torch.eye(64, dtype=torch.double).reshape(64, 1, 8, 8)
    small = torch.nn.functional.interpolate(basis, (patch, patch), mode="bicubic", antialias=True).flatten(1)
    kernel = torch.randn(8, 8, dtype=torch.double)
    want = (torch.linalg.pinv(small) @ kernel.flatten()).reshape(patch, patch)
    along = _resize(patch).double()
    torch.testing.assert_close(along @ kernel @ along.T, want, rtol=0, atol=1e-5)


def test_network_equals_a_plain_loop():
    network = _small(S1, patch=8, month=2, gsd=20.0)
    image = torch.randn(1, 2, 16, 24)
    valid = _all(image)
    valid[:, :8, 8:16] = False
    with torch.no_grad():
        got = network(image, valid).maps[0][0].permute(1, 2, 0)
    w = {k: v.double().numpy() for k, v in network.state_dict().items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    cells, tokens = [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)], []
    for y, x in cells:
        pixels = image[0, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].double().numpy()
        token = (w["space_time_embed.S1.proj.weight"] * pixels).sum((1, 2, 3)) + w["space_time_embed.S1.proj.bias"]
        month = [math.sin(math.pi / 3)] * 4 + [math.cos(math.pi / 3)] * 4
        # 16 units of 10 m from patch to patch; two rates: 1 and 10,000 to the power of -1/8
        place = [f(16 * at * r) for at in (x, y) for f in (math.sin, math.cos) for r in (1, 10000**-0.125)]
        tokens.append(token + np.concatenate([w["s_t_channel_embed"][0], [0] * 4, [1] * 4, month, place]))
    tokens = np.stack(tokens)
    for block in ("blocks.0", "blocks.1"):
        seen = norm(tokens, f"{block}.norm1")
        q, k, v = (linear(seen, f"{block}.attn.{p}").reshape(-1, 2, 16) for p in "qkv")
        mixed = []
        for head in range(2):
            share = np.exp(q[:, head] @ k[:, head].T / math.sqrt(16))
            mixed.append(share / share.sum(1, keepdims=True) @ v[:, head])
        tokens = tokens + linear(np.concatenate(mixed, 1), f"{block}.attn.proj")
        hidden = linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")
        hidden *= 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        tokens = tokens + linear(hidden, f"{block}.mlp.fc2")
    for (y, x), want in zip(cells, norm(tokens, "norm"), strict=True):
        np.testing.assert_allclose(got[y, x], want, rtol=0, atol=1e-5)
    assert (got[0, 1] == 0).all()


def test_groups_are_averaged_and_the_order_of_bands_never_matters():
    turned = Modality(S2.sensor, S2.bands[::-1])
    one, other = _small(), Galileo(galileo_groups(turned), SMALL, patch=4).eval()
    other.load_state_dict(one.state_dict())
    image = torch.randn(2, 10, 8, 8)
    torch.testing.assert_close(other(image.flip(1), _all(image)).maps[0], one(image, _all(image)).maps[0])


def test_an_oblong_image_is_a_square_one_of_which_only_a_part_is_seen():
    network = _small()
    image = torch.randn(1, 10, 16, 16)
    valid = _all(image)
    valid[:, 8:] = False
    part = network(image[:, :, :8], valid[:, :8])
    whole = network(image, valid)
    torch.testing.assert_close(part.maps[0], whole.maps[0][:, :, :2], rtol=0, atol=1e-5)
    torch.testing.assert_close(part.pooled, whole.pooled, rtol=0, atol=1e-5)
    assert (whole.maps[0][:, :, 2:] == 0).all()


def test_what_is_under_invalid_pixels_never_matters():
    network = _small()
    image, valid = torch.randn(2, 10, 16, 16), torch.rand(2, 16, 16) > 0.6
    valid[0, :4, :4] = False
    wild = torch.where(valid.unsqueeze(1), image, float("nan"))
    tame = torch.where(valid.unsqueeze(1), image, 0.0)
    assert torch.equal(network(wild, valid).maps[0], network(tame, valid).maps[0])
    assert (network(wild, valid).maps[0][0, :, 0, 0] == 0).all()
    flat = torch.arange(4.0).reshape(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    holes = torch.rand(1, 8, 8) > 0.5
    torch.testing.assert_close(fill_patches(torch.where(holes.unsqueeze(1), flat, 9.0), holes, 4), flat)


def test_nothing_valid_is_zero_and_finite_and_every_parameter_learns():
    network = _small().train()
    image, valid = torch.randn(2, 10, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool)
    valid[0] = False
    features = network(image, valid)
    assert (features.maps[0][0] == 0).all()
    assert (features.pooled[0] == 0).all()
    features.maps[0].square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    alone = network(image[1:], valid[1:]).maps[0]
    torch.testing.assert_close(features.maps[0][1:], alone, rtol=0, atol=1e-5)


def test_bands_find_their_channels():
    assert galileo_groups(S1) == {"S1": (0, 1)}
    assert list(galileo_groups(S2)) == [g for g in GROUPS if g not in {"S1", "NDVI"}]
    some = Modality("sentinel2-l1c", ("swir16", "B04", "nir08", "B06", "B02"))
    # of a group with some bands, the missing ones are the nearest given ones; groups without any are left out
    assert galileo_groups(some) == {
        "S2_RGB": (4, 4, 1),
        "S2_Red_Edge": (3, 3, 3),
        "S2_NIR_20m": (2,),
        "S2_SWIR": (0, 0),
    }
    assert galileo_groups(Modality("sentinel1-grd-db", ("VH",))) == {"S1": (0, 0)}


@pytest.mark.parametrize("look", [galileo_groups, galileo_wants])
def test_what_galileo_does_not_know_is_refused_by_name(look):
    with pytest.raises(ContractError, match="unknown: B01, B09, B10"):
        look(Modality("sentinel2-l1c", ("B01", "B02", "B09", "B10")))
    with pytest.raises(ContractError, match="unknown: HH"):
        look(Modality("sentinel1-grd-db", ("VV", "HH")))
    with pytest.raises(ContractError, match="one twice"):
        look(Modality("sentinel2-l2a", ("B02", "blue")))
    with pytest.raises(ContractError, match="does not know the sensor"):
        look(Modality("sentinel1-rtc-db", ("VV", "VH")))  # gamma0, not sigma0
    with pytest.raises(UnknownNameError):
        look(Modality("sentinel2-l2a", ("B10",)))


def test_names_and_arguments_are_checked():
    assert build_galileo("tiny:2", _given(S1)).channels == (SIZES["tiny"].width,)
    with pytest.raises(UnknownNameError, match=r"'giant'.*base, nano, tiny"):
        build_galileo("giant", _given(S2))
    with pytest.raises(ContractError, match="patch sizes from 1 to 8"):
        build_galileo("9", _given(S2))
    with pytest.raises(ContractError, match="months"):
        Galileo({"S1": (0, 1)}, SMALL, month=12)
    with pytest.raises(ContractError, match="needs to know sensor and bands"):
        build_galileo("", EncoderInput(3))


def test_normalisation_is_that_of_the_reference():
    # Normalizer(std=True) of nasaharvest/galileo, src/data/dataset.py, with the key "13" of config/normalization.json,
    # called with VV -12.5, VH -19.25 and S2 digital numbers of 1000, 1250, ... 3250.
    want_s1 = [0.4605457, 0.4827923]
    want_s2 = [
        0.3923016,
        0.4758013,
        0.5358983,
        0.549211,
        0.455582,
        0.4398672,
        0.5203967,
        0.4999407,
        0.6669075,
        0.9528135,
    ]
    for modality, values, want, unit in (
        (S1, np.array([-12.5, -19.25]), want_s1, "sigma0_db"),
        (S2, np.arange(1000, 3500, 250) / 1e4, want_s2, "reflectance"),
    ):
        wants = galileo_wants(modality)
        assert (wants.sensors, wants.bands, wants.unit) == ((modality.sensor,), modality.bands, unit)
        np.testing.assert_allclose((values - wants.mean) / np.array(wants.std), want, rtol=0, atol=2e-7)
    assert galileo_wants(Modality("sentinel1-grd-db", ("VH", "VV"))).unit == "sigma0_db"
    few = galileo_wants(Modality("sentinel2-l2a", ("nir", "B02")))
    assert few.mean == (galileo_wants(S2).mean[6], galileo_wants(S2).mean[0])


def _state_of(path):
    from safetensors.torch import load_file

    raw = torch.load(path, weights_only=True) if path.suffix == ".pt" else load_file(path)
    return {k.replace(".backbone", ""): v for k, v in raw.items()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_a_file_are_those_of_the_network(tmp_path, suffix):
    state = {k.replace("blocks.", "blocks.backbone.", 1): v.contiguous() for k, v in _whole_state().items()}
    path = tmp_path / f"encoder{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    network = build_galileo("4", _given(S2, weights=path))
    assert network.strides == (4,)
    want = _state_of(path)
    assert all(torch.equal(v, want[k]) for k, v in network.state_dict().items())


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "encoder.pt"

    def refused(state, match, name=""):
        torch.save(state, path)
        with pytest.raises(PackageError, match=match):
            build_galileo(name, _given(S2, weights=path))

    with pytest.raises(PackageError, match="cannot be read"):
        build_galileo("", _given(S2, weights=tmp_path / "nothing.pt"))
    path.write_bytes(b"no weights")
    with pytest.raises(PackageError, match="cannot be read"):
        build_galileo("", _given(S2, weights=path))
    refused([1, 2], "holds no weights")
    refused({"conv.weight": torch.zeros(3)}, "no weights of Galileo's encoder.*conv.weight")
    refused({k: v for k, v in _whole_state().items() if k != "blocks.2.norm1.bias"}, "1 missing: blocks.2.norm1.bias")
    refused(_whole_state(head=torch.zeros(3)), "1 left over: head")
    refused(_whole_state(pos_embed=torch.zeros(12, 32)), "of another shape: pos_embed")
    refused(_whole_state(), "of another shape: .*pos_embed", "tiny")


# Computed by the reference: nasaharvest/galileo (MIT), single_file_galileo.py at commit 277458f: Encoder with these
# weights, all groups masked but S2_* or S1, one time step, month 5, 10 m, then
# apply_mask_and_average_tokens_per_patch. Input: np.random.RandomState(0).standard_normal((1, bands, 56, 56)).
# The first four features of the patch in row 1, column 2; sum of absolute values; sum.
GOLDEN = (
    (S2, 8, (0.001443, 0.014799, 0.204186, -0.034409), 492.4973, 0.9489),
    (S2, 4, (-0.004511, 0.094252, 0.193683, 0.033246), 1876.0035, 15.0727),
    (S1, 8, (0.027615, 0.022453, 0.214983, 0.024805), 611.3423, -4.4345),
    (S1, 4, (0.136718, -0.080627, 0.249874, 0.03311), 2485.2421, -23.2869),
)


@pytest.mark.shared
@pytest.mark.parametrize(("modality", "patch", "first", "size", "total"), GOLDEN)
def test_real_weights_give_what_the_reference_gives(shared, modality, patch, first, size, total):
    given = _given(modality, weights=shared / "galileo_nano" / "encoder.pt")
    encoder = build_encoder(f"galileo:{patch}", given).eval()
    image = np.random.RandomState(0).standard_normal((1, len(modality.bands), 56, 56)).astype(np.float32)
    with torch.no_grad():
        features = encoder(torch.from_numpy(image), torch.ones(1, 56, 56, dtype=torch.bool))
    maps = features.maps[0].double()
    np.testing.assert_allclose(maps[0, :4, 1, 2], first, rtol=0, atol=5e-6)
    assert float(maps.abs().sum()) == pytest.approx(size, abs=5e-3)
    assert float(maps.sum()) == pytest.approx(total, abs=5e-3)


@pytest.mark.shared
def test_real_weights_hold_the_computed_tables(shared):
    stored = torch.load(shared / "galileo_nano" / "encoder.pt", map_location="cpu", weights_only=True)
    computed = Galileo(galileo_groups(S2))
    for name in ("pos_embed", "month_embed.weight"):
        torch.testing.assert_close(computed.get_buffer(name), stored[name], rtol=0, atol=1e-5)
