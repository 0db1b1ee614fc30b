"""What pretrained weights want to see: converted explicitly, or refused; and weights from outside in a recipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import geomm
from geomm import radiometry
from geomm.dataset import Sample
from geomm.errors import ContractError, PackageError, UnitError
from geomm.models.encoders import EncoderInput, Wants, build_encoder, wants_of
from geomm.package import load_package
from geomm.pipeline.train import train
from geomm.train.pretrained import normalise_as
from geomm.transforms import Normaliser
from geomm.types import Modality

ROOT = Path(__file__).resolve().parents[1]
FITTED = Normaliser({"sar": (-10.0, -17.0), "s2": (0.1,)}, {"sar": (3.0, 4.0), "s2": (0.2,)})
DB = Wants(("sentinel1-grd",), ("VV", "VH"), "sigma0_db", (-12.59, -20.26), (5.26, 5.91))


def _batch(images):
    """A batch whose stored numbers are physical values, half of it invalid."""
    valid = {n: torch.rand(len(x), 1, *x.shape[-2:]) > 0.5 for n, x in images.items()}
    plain = torch.tensor([1.0, 0.0, float("nan"), float("nan")])
    calibration = {n: plain.expand(len(x), 1, x.shape[2], 4) for n, x in images.items()}
    return Sample(images, valid, calibration, {n: torch.ones(len(x), dtype=torch.bool) for n, x in images.items()})


def test_power_becomes_decibels_before_it_is_normalised():
    wanted = normalise_as(FITTED, "sar", DB, "sigma0_power")
    assert wanted.decibels == ("sar",)
    power = torch.rand(2, 1, 2, 6, 6) ** 4
    power[0, 0, 0, 0, 0] = 0.0
    batch = _batch({"sar": power})
    decibels = radiometry.to_db(power.numpy().astype(np.float64)).clip(-50)
    want = (decibels - np.array(DB.mean)[:, None, None]) / np.array(DB.std)[:, None, None]
    want = np.where(batch.valid["sar"].unsqueeze(2), want, 0.0)
    np.testing.assert_allclose(wanted(batch).images["sar"], want, atol=1e-4)
    same = normalise_as(FITTED, "sar", DB, "sigma0_db")
    assert same.decibels == ()
    assert same.mean["sar"] == DB.mean
    assert same.mean["s2"] == FITTED.mean["s2"]


def test_another_quantity_is_refused():
    with pytest.raises(UnitError, match="gamma0_power into sigma0_db"):
        normalise_as(FITTED, "sar", DB, "gamma0_power")


def test_values_are_clipped_and_stretched_as_the_weights_saw_them():
    clipped = normalise_as(
        FITTED, "s2", Wants(("sentinel2-l1c",), ("B04",), "reflectance", (0.0,), (0.5,), ceiling=(0.5,)), "reflectance"
    )
    image = torch.rand(3, 1, 1, 5, 5) - 0.1
    batch = _batch({"s2": image})
    want = np.where(batch.valid["s2"].unsqueeze(2), image.numpy().clip(0, 0.5) / 0.5, 0.0)
    np.testing.assert_allclose(clipped(batch).images["s2"], want, atol=1e-6)

    stretched = normalise_as(FITTED, "s2", Wants(("x",), ("B04",), "reflectance", scaling="image"), "reflectance")
    got = stretched(batch).images["s2"]
    for b in range(3):
        seen = batch.valid["s2"][b, 0].numpy()
        values = image[b, 0, 0].numpy().astype(np.float64)
        mean, std = values[seen].mean(), values[seen].std()
        want = np.where(seen, ((values - (mean - 2 * std)) / (4 * std)).clip(0, 1), 0.0)
        np.testing.assert_allclose(got[b, 0, 0], want, atol=1e-5)
    blind = Sample(batch.images, {"s2": torch.zeros_like(batch.valid["s2"])}, batch.calibration, batch.present)
    assert (stretched(blind).images["s2"] == 0).all()


def test_open_statistics_stay_those_of_the_imagery():
    wants = Wants(("sentinel1-grd",), ("VV", "VH"), "sigma0_db")
    kept = normalise_as(FITTED, "sar", wants, "sigma0_power")
    assert (kept.mean, kept.std, kept.decibels) == (FITTED.mean, FITTED.std, ())


def test_a_normalisation_survives_json():
    whole = Normaliser({"a": (1.0,)}, {"a": (2.0,)}, ("a",), {"a": (3.0,)}, ("a",))
    assert Normaliser.from_json(json.loads(json.dumps(asdict(whole)))) == whole
    assert Normaliser.from_json({"mean": {"a": [1.0]}, "std": {"a": [2.0]}}) == Normaliser({"a": (1.0,)}, {"a": (2.0,)})


def test_weights_of_timm_come_from_a_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("test_resnet", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder("timm:test_resnet", EncoderInput(3, weights=tmp_path / "w.safetensors"))
    assert torch.equal(encoder.network.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])
    assert build_encoder("timm:test_resnet", EncoderInput(6, weights=tmp_path / "w.safetensors")).channels
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for path in ("x.safetensors", "none.pth"):
        with pytest.raises(PackageError, match="cannot be had"):
            build_encoder("timm:test_resnet", EncoderInput(3, weights=tmp_path / path))


def test_only_named_weights_want_anything():
    rgb = Modality("sentinel2-l1c", ("B04", "B03", "B02"))
    assert wants_of("tiny_cnn", rgb) is None
    assert wants_of("torchgeo:resnet18", rgb) is None
    assert wants_of("torchgeo:resnet18:SENTINEL2_RGB_MOCO", rgb).bands == rgb.bands


GALILEO = {
    "modalities.s2.bands": ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"],
    "model.encoder": {"s2": "galileo", "s1": "tiny_cnn"},
    "train.steps": 3,
    "train.batch": 4,
    "train.seeds": [0],
    "chips.number": 12,
}


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:Item .* baseline is unknown")
def test_real_weights_from_outside_train_in_a_recipe(shared, tmp_path):
    weights = {"model.weights": {"s2": str(shared / "galileo_nano" / "encoder.pt")}}
    config = geomm.load_recipe(ROOT / "pipelines" / "landcover_s1_s2.yaml", GALILEO | weights)
    package = load_package(train(config, tmp_path / "run") / "seed-0" / "model")
    fitted = package.model()  # needs the package alone
    wanted = wants_of("galileo", package.contract.modalities["s2"])
    assert fitted.normaliser.mean["s2"] == wanted.mean
    real = torch.load(shared / "galileo_nano" / "encoder.pt", map_location="cpu", weights_only=True)
    key = "blocks.0.attn.q.weight"
    mine = next(w for n, w in fitted.model.encoders["s2"].state_dict().items() if n.endswith("blocks.0.attn.q.weight"))
    assert 0 < (mine - real[key]).abs().max() < 0.05  # trained for three steps from there


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:Item .* baseline is unknown")
def test_weights_that_do_not_fit_the_imagery_are_refused(shared, tmp_path):
    weights = {"model.weights": {"s2": str(shared / "galileo_nano" / "encoder.pt")}}
    recipe = ROOT / "pipelines" / "landcover_s1_s2.yaml"
    wrong = {
        "modalities.s2.bands": ["B01", "B02", "B08", "B11", "B12"],
        "model.encoder": {"s2": "galileo", "s1": "tiny_cnn"},
    }
    with pytest.raises(ContractError, match="Galileo cannot read these bands.*B01"):
        train(geomm.load_recipe(recipe, GALILEO | weights | wrong), tmp_path / "a")
