"""torchgeo's models behind geomm's contract, their weights, and what these want to see; small random networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomm.errors import ContractError, PackageError, UnknownNameError
from geomm.models.encoders import EncoderInput, build_encoder
from geomm.models.encoders.anysensor import (
    CopernicusEncoder,
    DofaEncoder,
    PanopticonEncoder,
    copernicus_spectra,
    dofa_waves,
    panopticon_bands,
)
from geomm.models.encoders.contract import check_wants
from geomm.models.encoders.swin import SwinEncoder
from geomm.models.encoders.torchgeo import ADAPTERS
from geomm.models.encoders.vit import CromaEncoder, ViTEncoder, distance_penalty
from geomm.models.encoders.wants import BY_MODALITY, FIXED, REFUSED, wants
from geomm.sensors import SENSORS, get_sensor
from geomm.types import Modality

MSI = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
LAND = tuple(b for b in MSI if b != "B10")
RGB = Modality("sentinel2-l1c", ("B04", "B03", "B02"))
SAR = Modality("sentinel1-grd-db", ("VV", "VH"))
WAVES, SPECTRA, NUMBERS = (0.665, 0.56, 3.75), ((665.0, 30.0), (560.0, 35.0), (5e7, 1e9)), (664, 559, -1)


@pytest.fixture(scope="module", autouse=True)
def _seed():
    torch.manual_seed(0)


def _timm(name, **options):
    import timm

    options = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0, "dynamic_img_size": True} | options
    return timm.create_model(name, **options)


def _swin(**_):
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [1, 1, 1, 1], [1, 2, 4, 8], [4, 4], num_classes=5)


def _dofa(**options):
    from torchgeo.models import DOFA

    network = DOFA(embed_dim=32, depth=1, num_heads=2, **options)
    nn.init.normal_(network.pos_embed)
    return network


def _copernicus(**options):
    from torchgeo.models import CopernicusFM

    network = CopernicusFM(embed_dim=32, depth=1, num_heads=2, **options)
    for token in (network.pos_embed, network.coord_token, network.scale_token, network.time_token):
        nn.init.normal_(token)
    return network


def _croma(modalities=("optical",), **options):
    from torchgeo.models import CROMA

    return CROMA(modalities=list(modalities), encoder_dim=32, encoder_depth=2, **{"image_size": 40} | options)


def _panopticon(**_):
    """A small one: torchgeo asks timm for a base model, whatever size it is told."""
    import timm
    from torchgeo.models import Panopticon

    vit = timm.create_model("vit_small_patch14_dinov2", depth=1, embed_dim=32, num_heads=2, img_size=70)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda _name: vit)
        return Panopticon(attn_dim=48, embed_dim=32, img_size=70)


ENCODERS = {
    "swin": (lambda: SwinEncoder(_swin(), 3), 3, 32),
    "swin of other bands": (lambda: SwinEncoder(_swin(), 5), 5, 32),
    "vit": (lambda: ViTEncoder(_timm("vit_tiny_patch16_224", in_chans=4, img_size=64)), 4, 16),
    "dinov2": (lambda: ViTEncoder(_timm("vit_small_patch14_dinov2", in_chans=4, img_size=56)), 4, 14),
    "registers": (lambda: ViTEncoder(_timm("vit_small_patch14_reg4_dinov2", in_chans=4, img_size=56)), 4, 14),
    "dofa": (lambda: DofaEncoder(_dofa(), WAVES), 3, 16),
    "copernicus": (lambda: CopernicusEncoder(_copernicus(), SPECTRA), 3, 16),
    "panopticon": (lambda: PanopticonEncoder(_panopticon().model, NUMBERS), 3, 14),
    "croma": (lambda: CromaEncoder(_croma()), 12, 8),
    "croma radar": (lambda: CromaEncoder(_croma(("sar",))), 2, 8),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_keep_their_word(name):
    make, bands, stride = ENCODERS[name]
    encoder = make().eval()
    size = (3 * stride, 5 * stride)
    image, valid = torch.randn(2, bands, *size), torch.ones(2, *size, dtype=torch.bool)
    valid[0, :stride, : 2 * stride] = False
    valid[0, stride, stride] = False  # one pixel of a patch
    valid[1] = False
    image *= valid.unsqueeze(1)
    before = image.clone()
    features = encoder(image, valid)
    assert torch.equal(image, before)
    assert features.strides == encoder.strides == tuple(sorted(encoder.strides))
    assert encoder.strides[-1] == stride
    for level, channels, step in zip(features.maps, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (2, channels, size[0] // step, size[1] // step)
        assert torch.isfinite(level).all()
        assert (level[0, :, : stride // step, : 2 * stride // step] == 0).all()
        assert (level[1] == 0).all()
        rest = torch.ones(level.shape[-2:], dtype=torch.bool)
        rest[: stride // step, : 2 * stride // step] = False
        assert (level[0][:, rest] != 0).any(0).all()
    if features.pooled is not None:
        assert features.pooled.shape == (2, encoder.channels[0])
        assert (features.pooled[1] == 0).all()
        assert (features.pooled[0] != 0).any()
    features.maps[-1].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    with pytest.raises(ContractError, match=f"multiple of its coarsest stride {stride}"):
        encoder(image[..., :-1], valid[..., :-1])


@pytest.mark.parametrize("name", ["vit", "dofa", "copernicus", "panopticon", "croma"])
def test_every_place_has_positions_of_its_own(name):
    make, bands, stride = ENCODERS[name]
    encoder = make().eval()
    size = (2 * stride, 7 * stride)
    alike, valid = torch.randn(1, bands, stride, stride).repeat(1, 1, 2, 7), torch.ones(1, *size, dtype=torch.bool)
    tokens = encoder(alike, valid).tokens[0]
    apart = torch.cdist(tokens, tokens) + torch.eye(14)
    if name == "croma":  # its places differ by their neighbours alone, and here these are all alike
        assert torch.allclose(tokens, tokens[:1].expand_as(tokens), atol=1e-4)
        alike[..., :stride, :stride] *= -1
        tokens = encoder(alike, valid).tokens[0]
        apart = torch.cdist(tokens, tokens) + torch.eye(14)
    assert apart.min() > 1e-4


@pytest.mark.parametrize("name", ["vit", "dofa", "copernicus", "panopticon"])
def test_rows_stay_rows_on_any_grid(name):
    """Positions that differ by row alone, an image of nothing but zeros: tokens differ by row alone.

    Other images would differ at the edge: DOFA and Copernicus-FM pad by a pixel.
    """
    make, bands, stride = ENCODERS[name]
    encoder = make().eval()
    positions = encoder.network.pos_embed
    side = round((positions.shape[1] - 1) ** 0.5)
    with torch.no_grad():
        positions[0, 1:] = torch.randn(side, positions.shape[-1]).repeat_interleave(side, 0)
    size = (2 * stride, 7 * stride)
    tokens = encoder(torch.zeros(1, bands, *size), torch.ones(1, *size, dtype=torch.bool)).maps[0][0]
    assert torch.allclose(tokens, tokens[..., :1].expand_as(tokens), atol=1e-4)
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-3


def test_swin_gives_the_end_of_every_stage():
    network = _swin().eval()
    image, valid = torch.randn(1, 3, 64, 96), torch.ones(1, 64, 96, dtype=torch.bool)
    expected = [network.features[: 2 * k](image).permute(0, 3, 1, 2) for k in (1, 2, 3, 4)]
    found = SwinEncoder(network, 3)(image, valid).maps
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def test_dofa_answers_as_torchgeo():
    network = _dofa().eval()
    image, valid = torch.randn(2, 3, 224, 224), torch.ones(2, 224, 224, dtype=torch.bool)
    expected = network.forward_features(image, list(WAVES))
    features = DofaEncoder(network, WAVES)(image, valid)
    assert torch.allclose(features.pooled, expected, atol=1e-5)


def test_copernicus_answers_as_torchgeo():
    network = _copernicus().eval()
    image, valid = torch.randn(2, 3, 96, 96), torch.ones(2, 96, 96, dtype=torch.bool)
    waves, widths = ([s[k] for s in SPECTRA] for k in (0, 1))
    expected = network.forward_features(image, torch.full((2, 4), torch.nan), waves, widths)
    features = CopernicusEncoder(network, SPECTRA)(image, valid)
    assert torch.allclose(features.pooled, expected, atol=1e-5)


def test_panopticon_answers_as_torchgeo_and_writes_into_nothing():
    network = _panopticon().eval()
    encoder = PanopticonEncoder(network.model, NUMBERS).eval()
    image, valid = torch.randn(2, 3, 70, 70), torch.ones(2, 70, 70, dtype=torch.bool)
    before = image.clone()
    first = encoder(image, valid).tokens
    assert torch.equal(image, before)
    assert encoder.bands.tolist() == list(NUMBERS)
    assert torch.equal(encoder(image, valid).tokens, first)
    ids = torch.tensor([NUMBERS, NUMBERS])
    expected = network.model.forward_features({"imgs": image, "chn_ids": ids})[:, 1:]
    assert torch.allclose(first, expected, atol=1e-5)


@pytest.mark.parametrize(("sensor", "bands", "key"), [("optical", 12, "optical"), ("sar", 2, "sar")])
def test_croma_answers_as_torchgeo(sensor, bands, key):
    network = _croma((sensor,)).eval()
    image, valid = torch.rand(2, bands, 40, 40), torch.ones(2, 40, 40, dtype=torch.bool)
    expected = network(**{f"x_{sensor}": image})
    features = CromaEncoder(network)(image, valid)
    assert torch.allclose(features.tokens, expected[f"{key}_encodings"], atol=1e-5)
    assert torch.allclose(features.pooled, expected[f"{key}_GAP"], atol=1e-5)


def test_penalty_on_distance_is_cromas_own():
    from torchgeo.models.croma import get_2dalibi

    slopes = CromaEncoder(_croma()).slopes
    assert torch.allclose(distance_penalty((5, 5), slopes), get_2dalibi(16, 25), atol=1e-6)
    flat = distance_penalty((2, 3), slopes)[0, 3]
    assert torch.allclose(-flat[0] / slopes[3], torch.tensor([0, 1, 2, 1, 2**0.5, 5**0.5]))


# --- names ------------------------------------------------------------------------------------------------------------

SMALL = {
    "swin_v2_t": _swin,
    "vit_small_patch16_224": lambda **o: _timm("vit_tiny_patch16_224", **o),
    "vit_small_patch14_dinov2": lambda **o: _timm("vit_small_patch14_dinov2", **o),
    "croma_base": _croma,
    "dofa_base_patch16_224": _dofa,
    "copernicusfm_base": _copernicus,
    "panopticon_vitb14": _panopticon,
}


@pytest.fixture
def small(monkeypatch):
    """torchgeo's registry with small networks in it."""
    from torchgeo.models import api

    for name, make in SMALL.items():
        monkeypatch.setitem(api._model, name, make)


def _given(modality, **options):
    return EncoderInput(len(modality.bands), modality, **options)


def _modality(model):
    return Modality("sentinel2-l2a", LAND) if model == "croma_base" else RGB


def _encode(encoder):
    bands, size = 12 if isinstance(encoder, CromaEncoder) else 3, encoder.strides[-1] * 2
    image = torch.rand(1, bands, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return encoder.eval()(image, torch.ones(1, size, size, dtype=torch.bool)).maps[-1]


@pytest.mark.parametrize("model", ["resnet18", *SMALL])
def test_names_build_encoders_of_any_bands(small, model):
    for modality in (_modality(model), SAR):
        encoder = build_encoder(f"torchgeo:{model}", _given(modality))
        size = encoder.strides[-1] * 2
        bands = len(modality.bands)
        features = encoder(torch.rand(1, bands, size, size), torch.ones(1, size, size, dtype=torch.bool))
        assert [m.shape[1] for m in features.maps] == list(encoder.channels)


def test_random_networks_know_places(small):
    for model in ("dofa_base_patch16_224", "copernicusfm_base"):
        network = build_encoder(f"torchgeo:{model}", _given(RGB)).network
        assert torch.cdist(network.pos_embed[0, 1:], network.pos_embed[0, 1:]).fill_diagonal_(1).min() > 1e-3


def test_names_that_do_not_work():
    from torchgeo.models import list_models

    assert set(ADAPTERS) <= set(list_models())
    for model in set(list_models()) - set(ADAPTERS):
        with pytest.raises(ContractError, match=f"no adapter.*{model}.*resnet18, resnet50"):
            build_encoder(f"torchgeo:{model}", EncoderInput(3))
    with pytest.raises(UnknownNameError, match="unknown torchgeo model 'resnet19'"):
        build_encoder("torchgeo:resnet19", EncoderInput(3))
    for name in ("dofa_small_patch16_224:DOFA_MAE", "vit_small_patch16_224:CROMA_VIT"):
        with pytest.raises(UnknownNameError, match=f"unknown weights of {name.split(':')[0]}"):
            build_encoder(f"torchgeo:{name}", EncoderInput(3))


@pytest.mark.parametrize("model", ["croma_base", "dofa_base_patch16_224", "copernicusfm_base", "panopticon_vitb14"])
def test_models_of_any_sensor_need_to_know_it(small, model):
    with pytest.raises(ContractError, match="needs to know sensor and bands"):
        build_encoder(f"torchgeo:{model}", EncoderInput(3))
    height = Modality("copernicus-dem", ("height",))
    with pytest.raises(ContractError, match=f"{model}.*height"):
        build_encoder(f"torchgeo:{model}", _given(height))


def test_bands_are_told_to_networks():
    thermal = _given(Modality("landsat-tirs-l1", ("B10", "B11")))
    assert dofa_waves("x", _given(RGB)) == (0.6646, 0.5596, 0.4930)
    assert dofa_waves("x", _given(SAR)) == (3.75, 3.75)
    assert dofa_waves("x", thermal) == (10.895, 12.005)
    assert panopticon_bands("x", _given(RGB)) == (664, 559, 493)
    assert panopticon_bands("x", thermal) == (10895, 12005)
    assert panopticon_bands("x", _given(Modality("sentinel1-rtc-db", ("VV", "VH", "HH", "HV")))) == (-1, -2, -3, -4)
    assert copernicus_spectra("x", _given(RGB)) == ((665.0, 30.0), (560.0, 35.0), (490.0, 65.0))
    assert copernicus_spectra("x", _given(SAR)) == ((5e7, 1e9),) * 2
    with pytest.raises(ContractError, match="landsat-tirs-l1 B10, B11"):  # other bands of the same name
        copernicus_spectra("x", thermal)


def test_panopticon_codes_are_those_of_torchgeo():
    from torchgeo.models.panopticon import ChnEmb

    layer = ChnEmb(12)
    for table, (first, second) in ((layer.embed_transmit, (1, 2)), (layer.embed_receive, (3, 4))):
        table.data[0], table.data[1] = first, second
    layer.embed_orbit.data[0], layer.embed_orbit.data[1] = 5.0, 7.0
    found = layer(torch.tensor([[-1, -2, -3, -4]]))[0].detach()
    for row, (sent, received) in zip(found, ((1, 3), (1, 4), (2, 4), (2, 3)), strict=True):  # VV, VH, HH, HV
        assert row.tolist() == [sent] * 4 + [received] * 4 + [6.0] * 4


# --- weights ----------------------------------------------------------------------------------------------------------


def _resized(state, name, side):
    size = state[name].shape[-1]
    return {**state, name: torch.randn(1, side**2 + 1, size)}


FILES = {  # what torchgeo's own files look like
    "resnet18": lambda s: {**s, "fc.weight": torch.zeros(2, 512), "fc.bias": torch.zeros(2)},
    "swin_v2_t": lambda s: {"state_dict": {**s, "norm.weight": torch.ones(128), "head.weight": torch.ones(5, 128)}},
    "vit_small_patch16_224": lambda s: {k: v for k, v in s.items() if not k.startswith("norm.")},
    "vit_small_patch14_dinov2": lambda s: {**s, "head.weight": torch.zeros(1, 32)},
    "croma_base": lambda s: (
        {
            part: {k.removeprefix(f"{part}."): v for k, v in s.items() if k.startswith(part)}
            for part in ("s2_encoder", "s2_GAP_FFN")
        }
        | {"s1_encoder": {"linear_input.weight": torch.zeros(3, 3)}, "joint_encoder": {"norm_out.bias": torch.zeros(3)}}
    ),
    "dofa_base_patch16_224": lambda s: {k: v for k, v in s.items() if not k.startswith("fc_norm.")},
    "copernicusfm_base": lambda s: {"model": {**s, "mask_token": torch.zeros(1)}, "optimizer": {"step": 1}},
    "panopticon_vitb14": lambda s: {**s, "mask_token": torch.zeros(1, 32)},
}


@pytest.mark.parametrize("model", FILES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_weights_round_trip(small, tmp_path, model, suffix):
    from safetensors.torch import save_file

    given = _given(_modality(model))
    source = build_encoder(f"torchgeo:{model}", given)
    path = tmp_path / f"weights{suffix}"
    state = {k: v.clone() for k, v in source.network.state_dict().items()}
    if suffix == ".pth":
        torch.save(FILES[model](state), path)
    else:
        save_file(state, path)
    other = build_encoder(f"torchgeo:{model}", given)
    assert not torch.allclose(_encode(source), _encode(other))
    loaded = build_encoder(f"torchgeo:{model}", _given(_modality(model), weights=path))
    assert torch.equal(_encode(source), _encode(loaded))


def test_positions_of_another_grid_are_resized(small, tmp_path):
    from torchgeo.models.copernicusfm import resize_abs_pos_embed

    given = _given(RGB)
    for model in ("vit_small_patch16_224", "panopticon_vitb14"):
        state = _resized(build_encoder(f"torchgeo:{model}", given).network.state_dict(), "pos_embed", 37)
        torch.save(state, tmp_path / "w.pth")
        network = build_encoder(f"torchgeo:{model}", _given(RGB, weights=tmp_path / "w.pth")).network
        side = 14 if model.startswith("vit") else 5
        assert torch.equal(network.pos_embed, resize_abs_pos_embed(state["pos_embed"], side, 37))


def test_wrong_files_are_refused(small, tmp_path):
    path = tmp_path / "weights.pth"
    name, given = "torchgeo:vit_small_patch16_224", _given(RGB, weights=path)
    with pytest.raises(PackageError, match=r"cannot be read.*weights\.pth"):
        build_encoder(name, given)
    for text, suffix in ((b"no weights", "pth"), (b"", "pth"), (b"no weights", "safetensors")):
        broken = tmp_path / f"broken.{suffix}"
        broken.write_bytes(text)
        with pytest.raises(PackageError, match="cannot be read"):
            build_encoder(name, _given(RGB, weights=broken))
    torch.save(_swin(), path)  # a pickled object may run code
    with pytest.raises(PackageError, match="cannot be read"):
        build_encoder(name, given)
    for empty in ({}, [torch.zeros(1)], {"epoch": 3}):
        torch.save(empty, path)
        with pytest.raises(PackageError, match="holds no weights"):
            build_encoder(name, given)
    state = build_encoder(name, _given(RGB)).network.state_dict()
    torch.save({k: v for k, v in state.items() if "attn" not in k} | {"extra": torch.zeros(1)}, path)
    with pytest.raises(
        PackageError, match=r"4 missing: blocks\.0\.attn.*1 left over: extra.*begin with: norm\., head\."
    ):
        build_encoder(name, given)
    torch.save(build_encoder(name, _given(SAR)).network.state_dict(), path)
    with pytest.raises(PackageError, match=r"patch_embed\.proj\.weight \(32, 2, 16, 16\) instead of \(32, 3, 16, 16\)"):
        build_encoder(name, given)


def test_weights_want_their_bands(tmp_path):
    """Before anything is read or downloaded."""
    name, path = "torchgeo:resnet18:SENTINEL2_ALL_MOCO", tmp_path / "none.pth"
    for options in ({"weights": path}, {"pretrained": True}):
        for modality in (RGB, Modality("sentinel2-l1c", MSI[::-1]), Modality("sentinel2-l2a", MSI)):
            with pytest.raises(ContractError, match="the weights want other bands.*sentinel2-l1c B01, B02"):
                build_encoder(name, _given(modality, **options))
        with pytest.raises(ContractError, match="needs to know sensor and bands"):
            build_encoder(name, EncoderInput(13, **options))
        with pytest.raises(ContractError, match="want what geomm cannot give.*two sensors"):
            build_encoder("torchgeo:resnet18:LANDSAT_TM_TOA_MOCO", EncoderInput(7, **options))
    with pytest.raises(PackageError, match="cannot be read"):  # bands fit
        build_encoder(name, _given(Modality("sentinel2-l1c", MSI), weights=path))
    build_encoder(name, EncoderInput(13))  # a package brings weights of its own


def test_downloads_only_where_asked_for(monkeypatch):
    from torchvision.models import _api

    modality, name, asked = Modality("sentinel2-l1c", MSI), "torchgeo:resnet18:SENTINEL2_ALL_MOCO", []
    state = build_encoder("torchgeo:resnet18", _given(modality)).network.state_dict()

    def fetch(url, **options):
        asked.append((url, options))
        return state

    monkeypatch.setattr(_api, "load_state_dict_from_url", fetch)
    build_encoder(name, _given(modality))
    build_encoder("torchgeo:resnet18", _given(modality, pretrained=True))
    assert not asked
    loaded = build_encoder(name, _given(modality, pretrained=True)).network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    ((url, options),) = asked
    assert url.endswith("resnet18_sentinel2_all_moco-59bfdff9.pth")
    assert options["check_hash"] is options["weights_only"] is True

    def fail(url, **options):
        raise OSError("no network")

    monkeypatch.setattr(_api, "load_state_dict_from_url", fail)
    with pytest.raises(PackageError, match=r"cannot be downloaded.*59bfdff9.*no network.*give its path"):
        build_encoder(name, _given(modality, pretrained=True))


# --- what weights want ------------------------------------------------------------------------------------------------


def _weights():
    """All weights of torchgeo for which there is an adapter."""
    from torchgeo.models import get_model_weights

    for model in ADAPTERS:
        try:
            yield from ((model, w) for w in get_model_weights(model))
        except KeyError:
            continue


def test_every_weight_is_served_or_refused():
    names = {w.name for _, w in _weights()}
    tables = [set(FIXED), set(BY_MODALITY), set(REFUSED)]
    assert set.union(*tables) == names
    assert sum(map(len, tables)) == len(names)


@pytest.mark.parametrize("name", FIXED)
def test_wants_are_bands_of_the_table(name):
    wanted = FIXED[name]
    for sensor in wanted.sensors:
        bands = [get_sensor(sensor).band(b) for b in wanted.bands]
        assert [b.name for b in bands] == list(wanted.bands)
        assert {b.unit for b in bands} == {wanted.unit}
    assert len(wanted.mean) == len(wanted.std) == len(wanted.bands)
    assert len(wanted.ceiling) in (0, len(wanted.bands))
    assert min(wanted.std) > 0
    assert wanted.source


def _images(name, bands):
    """Return an image in the numbers that torchgeo expects, and the same in geomm's unit."""
    noise = torch.rand(2, bands, 8, 8)
    if name.startswith("SENTINEL1"):
        stored = noise * 255 if name.endswith("SATLAS") else noise * 35 - 30
        return stored, stored
    if name.startswith("LANDSAT"):  # bytes of reflectance from 0 to 0.3
        return noise * 255, noise * 0.3
    if name.endswith("SATLAS"):  # bytes of a true colour image, digital numbers of the others
        bytes_, rest = noise[:, :3], noise[:, 3:]
        return torch.cat([bytes_ * 255, rest * 8160], 1), torch.cat([bytes_ * 0.3558, rest * 0.816], 1)
    return noise * 10000, noise


def test_normalisation_is_that_of_torchgeo():
    """The independent oracle is torchgeo's own transform, of which only the part that normalises is used."""
    from torchvision.transforms import v2

    checked = set()
    for model, weights in _weights():
        parts = [t for t in weights.transforms.modules() if isinstance(t, v2.Normalize)]
        if weights.name in FIXED:
            assert parts, weights
        if weights.name not in FIXED:
            assert not parts or weights.name in REFUSED
            continue
        wanted = wants(f"torchgeo:{model}:{weights.name}")
        assert len(wanted.bands) == weights.meta["in_chans"]
        stored, physical = _images(weights.name, len(wanted.bands))
        expected = nn.Sequential(*parts)(stored.clone())
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (wanted.mean, wanted.std))
        assert torch.allclose((physical - mean) / std, expected, atol=1e-5), weights
        if wanted.ceiling:
            assert (physical <= torch.tensor(wanted.ceiling).view(-1, 1, 1) + 1e-6).all()
        checked.add(weights.name)
    assert checked == set(FIXED)


def test_bands_are_those_of_torchgeo():
    for model, weights in _weights():
        if weights.name not in FIXED:
            continue
        wanted = wants(f"torchgeo:{model}:{weights.name}")
        ours = [b.replace("SR_", "").replace("B0", "B").upper() for b in wanted.bands]
        theirs = [b.replace("SR_", "").replace("B0", "B").upper() for b in weights.meta["bands"]]
        assert ours == theirs, weights


def test_landsat_bytes_are_what_the_weights_saw():
    """Against experiments/ssl4eo/landsat/compress_oli_sr.sh of torchgeo, which begins with digital numbers."""
    dn = torch.arange(5000, 45000, 17).double()
    low, high = (0.0 + 0.2) / 0.0000275, (0.3 + 0.2) / 0.0000275
    saw = ((dn - low) / (high - low) * 255).clip(0, 255).floor() / 255
    wanted = FIXED["LANDSAT_OLI_SR_MOCO"]
    reflectance = dn * 2.75e-5 - 0.2
    gives = (reflectance.clip(0, wanted.ceiling[0]) - wanted.mean[0]) / wanted.std[0]
    assert (gives - saw).abs().max() <= 1 / 255 + 1e-9


def test_nothing_is_wanted_without_weights():
    for name in ("tiny_cnn", "timm:resnet18", "torchgeo:resnet18", "torchgeo:presto"):
        assert wants(name) is None
    with pytest.raises(UnknownNameError, match="unknown weights 'NONE'.*CROMA_VIT"):
        wants("torchgeo:resnet18:NONE")
    for weights, why in REFUSED.items():
        with pytest.raises(ContractError) as error:
            wants(f"torchgeo:any:{weights}", RGB)
        assert why in str(error.value)


S2, S1_DB = {"sentinel2-l1c", "sentinel2-l2a"}, {"sentinel1-grd-db", "sentinel1-rtc-db"}
LANDSAT = {
    f"landsat-{s}-{level}" for s in ("oli", "tirs", "tm", "tm-thermal", "etm", "etm-thermal") for level in ("l1", "l2")
}
SERVED = {
    "CROMA_VIT": S2 | {"sentinel1-grd-db"},
    "DOFA_MAE": S2 | LANDSAT | {"sentinel1-grd"},
    "VIT_BASE14": S2 | LANDSAT | S1_DB,
    "CopernicusFM_ViT": S2 | LANDSAT | S1_DB,  # that it lacks the bandwidths of Landsat shows when it is built
}


@pytest.mark.parametrize("weights", BY_MODALITY)
def test_some_wants_depend_on_the_modality(weights):
    name, served = f"torchgeo:any:{weights}", set()
    for modality in (None, Modality("sentinel2-l1c")):
        with pytest.raises(ContractError, match="depends on the modality"):
            wants(name, modality)
    for sensor in SENSORS.values():
        bands = sensor.band_names()
        if sensor.name.startswith("sentinel"):
            bands = LAND if sensor.name in S2 else ("VV", "VH")
        modality = Modality(sensor.name, bands)
        try:
            wanted = wants(name, modality)
            check_wants(name, wanted, _given(modality))
        except (ContractError, UnknownNameError):
            continue
        served.add(sensor.name)
        assert {sensor.band(b).unit for b in bands} == {wanted.unit}
        assert len(wanted.mean) == len(wanted.std)
        assert len(wanted.mean) in (0, len(bands))
    assert served == SERVED[weights]


def test_croma_wants_each_image_stretched():
    name = "torchgeo:croma_base:CROMA_VIT"
    optical, radar = wants(name, Modality("sentinel2-l2a", LAND)), wants(name, SAR)
    assert (optical.bands, radar.bands) == (LAND, ("VV", "VH"))
    assert optical.scaling == radar.scaling == "image"
    assert optical.size == radar.size == 120
    check_wants(name, optical, _given(Modality("sentinel2-l1c", LAND)))
    with pytest.raises(ContractError, match="want other bands"):
        check_wants(name, wants(name, Modality("sentinel2-l1c", MSI)), _given(Modality("sentinel2-l1c", MSI)))
    with pytest.raises(ContractError, match="want other bands"):  # linear power
        check_wants(
            name, wants(name, Modality("sentinel1-rtc", SAR.bands)), _given(Modality("sentinel1-rtc", SAR.bands))
        )


def test_dofa_wants_bytes_of_satlas():
    name = "torchgeo:dofa_base_patch16_224:DOFA_MAE"
    wanted = wants(name, Modality("sentinel2-l1c", ("B08", "B04")))
    stored = torch.tensor([100 * 32 * 1e-4, 100 / 255 * 0.3558])  # 100 as a byte
    mean, std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    expected = (100 - torch.tensor([101.435633, 114.1099739])) / torch.tensor([60.29744676, 77.84352553])
    assert torch.allclose((stored - mean) / std, expected, atol=1e-5)
    assert wanted.ceiling == pytest.approx((0.816, 0.3558))
    for modality in (
        Modality("sentinel2-l1c", MSI),
        Modality("landsat-oli-l1", ("B4",)),
        Modality("landsat-tirs-l1", ("B10",)),
    ):
        assert wants(name, modality).mean == ()  # the data's own
    radar = wants(name, Modality("sentinel1-grd", ("VV", "VH")))
    assert (radar.unit, radar.ceiling) == ("amplitude", (255.0, 255.0))
    with pytest.raises(ContractError, match="want other bands"):
        check_wants(name, wants(name, SAR), _given(SAR))


def test_copernicus_wants_its_statistics_of_any_bands():
    name = "torchgeo:copernicusfm_base:CopernicusFM_ViT"
    wanted = wants(name, Modality("sentinel2-l1c", ("B8A", "B01")))
    assert wanted.mean == pytest.approx((0.2581, 0.16129))
    assert wanted.std == pytest.approx((0.13459, 0.0791))
    assert wants(name, SAR).mean == (-12.59, -20.26)
    assert wants(name, Modality("sentinel2-l2a", ("B04",))).mean == ()
    for modality in (Modality("sentinel1-rtc", SAR.bands), Modality("copernicus-dem", ("height",))):
        with pytest.raises(ContractError, match="the weights want bands"):
            wants(name, modality)
