"""Models made ready to predict: what is averaged, folded, normalised and mapped equals the plain way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from predicting import CLASSES, assemble, save_model

import geomm
from geomm.chipping import ChipReader
from geomm.chips import Chip
from geomm.dataset import to_sample
from geomm.errors import ConfigError, ContractError, UnknownNameError
from geomm.models.encoders import ENCODERS
from geomm.package import load_package
from geomm.prediction import Member, PredictSettings, fitted_settings, predictor_of_module
from geomm.prediction.device import resolved
from geomm.prediction.fitting import needed_margin
from geomm.prediction.fold import folded, traced
from geomm.prediction.normalise import HostNormaliser
from geomm.tasks.maps import LAYERS, ClassMaps
from geomm.transforms import Normaliser, to_physical
from geomm.types import Window

PLAIN = PredictSettings(32, 32, 64, 4, precision="fp32")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [save_model(folder / f"m{k}", seed=k) for k in range(2)]


@pytest.fixture(scope="module")
def whole(cube):
    """The cube as one batch, 96 x 128 pixels."""
    window = Window(0, 0, 96, 128)
    return to_sample(ChipReader(cube, [Chip(0, window, window)], ["optical", "thermal"]).read([0]))


def plain(package, batch):
    """Probabilities, by the model as it was saved."""
    fitted = package.model()
    with torch.inference_mode():
        return torch.softmax(fitted.model(fitted.normaliser(batch)), 1)[0].numpy()


def usable(batch):
    return torch.stack([v[0, 0] for v in batch.valid.values()]).any(0).numpy()


def test_one_model_maps_what_it_says_of_the_whole_scene(cube, packages, whole):
    want, good = plain(packages[0], whole), usable(whole)
    stream = list(geomm.predict(cube, packages[0], PLAIN))
    found = assemble(stream, (96, 128), "probability")
    np.testing.assert_allclose(found[:, good], want[:, good], atol=2e-5)
    assert np.isnan(found[:, ~good]).all()
    code = assemble(stream, (96, 128))[0]
    assert (code[good] == want.argmax(0)[good]).mean() > 0.9999
    assert (code[~good] == 255).all()


def test_layers_are_what_they_are_called(cube, packages, whole):
    want, good = plain(packages[0], whole), usable(whole)
    names = ("class", "confidence", "entropy", "probability-uint8")
    stream = list(geomm.predict(cube, packages[0], dataclasses.replace(PLAIN, layers=names)))
    layers = {k.name: k for k in stream[0][1].layers}
    assert list(layers) == ["class", "confidence", "entropy", "probability"]
    top = np.sort(want, 0)[-1]
    np.testing.assert_allclose(assemble(stream, (96, 128), "confidence")[0][good], top[good], atol=2e-5)
    entropy = -(want * np.log(want.clip(1e-30))).sum(0) / np.log(len(CLASSES))
    np.testing.assert_allclose(assemble(stream, (96, 128), "entropy")[0][good], entropy[good], atol=1e-4)
    scaled = assemble(stream, (96, 128), "probability")
    assert scaled.dtype == np.uint8
    assert (scaled[:, ~good] == 255).all()
    np.testing.assert_allclose(scaled[:, good] * layers["probability"].scale, want[:, good], atol=0.0021)
    alone = geomm.predict(cube, packages[0], dataclasses.replace(PLAIN, layers=("class",)))
    np.testing.assert_array_equal(assemble(alone, (96, 128)), assemble(stream, (96, 128)))


def test_layers_that_do_not_exist_or_fit_are_refused(cube, packages, tmp_path):
    for names, message in (
        (("relief",), "unknown layer.*relief.*confidence"),
        (("class", "class"), "two layers would be one file"),
    ):
        with pytest.raises((UnknownNameError, ConfigError), match=message):
            geomm.predict(cube, packages[0], dataclasses.replace(PLAIN, layers=names))
    several = save_model(tmp_path / "m", task="multilabel")
    with pytest.raises(ConfigError, match="no layer class.*do not exclude"):
        geomm.predict(cube, several, dataclasses.replace(PLAIN, layers=("class",)))
    assert set(LAYERS) == {"class", "probability", "probability-uint8", "confidence", "entropy"}


def test_several_models_are_averaged(cube, packages, whole):
    want, good = np.mean([plain(p, whole) for p in packages], 0), usable(whole)
    found = assemble(geomm.predict(cube, packages, PLAIN), (96, 128), "probability")
    np.testing.assert_allclose(found[:, good], want[:, good], atol=2e-5)
    other = dataclasses.replace(packages[1], contract=dataclasses.replace(packages[1].contract, classes=CLASSES[:3]))
    with pytest.raises(ContractError, match="same classes"):
        geomm.predict(cube, [packages[0], other], PLAIN)


@pytest.mark.parametrize("count", [4, 8])
def test_symmetries_are_averaged_and_turned_back(cube, packages, whole, count):
    fitted = packages[0].model()
    batch = fitted.normaliser(whole)
    batch = batch.each(lambda x: x[..., :96, :96] if x.ndim > 3 else x)
    total, turns = 0, (0, 1, 2, 3) if count == 8 else (0, 2)
    for turn in turns:
        for mirror in (False, True):
            images, valid = dict(batch.images), dict(batch.valid)
            for part in (images, valid):
                for name, x in part.items():
                    part[name] = torch.rot90(torch.flip(x, (-1,)) if mirror else x, turn, (-2, -1))
            with torch.inference_mode():
                said = torch.softmax(fitted.model(dataclasses.replace(batch, images=images, valid=valid)), 1)[0]
            said = torch.rot90(said, -turn, (-2, -1))
            total = total + (torch.flip(said, (-1,)) if mirror else said)
    want = (total / count).numpy()
    square = cube.isel(x=slice(0, 96))
    chosen = dataclasses.replace(PLAIN, symmetries=count)
    found = assemble(geomm.predict(square, packages[0], chosen), (96, 96), "probability")
    good = usable(whole)[:, :96]
    np.testing.assert_allclose(found[:, good], want[:, good], atol=2e-5)


def test_low_precision_says_the_same_class(cube, packages, whole):
    want, good = plain(packages[0], whole), usable(whole)
    sure = good & (np.sort(want, 0)[-1] - np.sort(want, 0)[-2] > 0.1)
    found = assemble(geomm.predict(cube, packages[0], dataclasses.replace(PLAIN, precision="bf16")), (96, 128))[0]
    assert (found[sure] == want.argmax(0)[sure]).mean() > 0.995
    assert resolved("auto", "cpu") in ("bf16", "fp32")
    assert resolved("fp16", "cpu") == "fp16"


def test_normalising_into_channels_last_gives_the_same_bits(whole):
    table = {"optical": (0.3, 0.2, 0.25), "thermal": (290.0, 291.0)}
    spread = {"optical": (0.1, 0.2, 0.3), "thermal": (15.0, 12.0)}
    for options in ({}, {"decibels": ("optical",)}, {"ceiling": {"optical": (0.4,) * 3}}, {"by_image": ("thermal",)}):
        normaliser = Normaliser(table, spread, **options)
        found, want = HostNormaliser(normaliser)(whole), normaliser(whole)
        for name in table:
            assert torch.equal(found.images[name], want.images[name])
            assert found.images[name].stride(2) == 1  # channels last
    stacked = HostNormaliser(Normaliser(table, spread)).stacked(whole, ["thermal", "optical"])
    want = Normaliser(table, spread)(whole)
    assert torch.equal(
        stacked.images["stacked"][:, 0], torch.cat([want.images[n][:, 0] for n in ("thermal", "optical")], 1)
    )
    half = HostNormaliser(Normaliser(table, spread)).stacked(whole, ["thermal", "optical"], half=True)
    assert torch.equal(half.images["stacked"], stacked.images["stacked"].bfloat16())
    plain_units = HostNormaliser(None)(whole)
    for name, image in to_physical(whole).images.items():
        torch.testing.assert_close(plain_units.images[name], image, rtol=1e-6, atol=0)


@pytest.mark.parametrize("encoder", ["tiny_cnn", "timm:resnet18"])
def test_folding_keeps_what_a_model_says(encoder, tmp_path, whole):
    size = {"size": 32, "halo": 16} if encoder == "tiny_cnn" else {"size": 64, "halo": 0}
    package = save_model(tmp_path / "m", encoder=encoder, sharp=1.0, **size)
    model = package.model().model
    batch = package.model().normaliser(whole)
    found = folded(model)
    before = sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    after = sum(isinstance(m, torch.nn.BatchNorm2d) for m in found.modules())
    assert before > after
    ready = Member(package, PLAIN).model
    assert not any(type(m) is torch.nn.BatchNorm2d for m in ready.encoders.modules())
    with torch.inference_mode():
        want = model(batch)
        for other in (found, ready):
            torch.testing.assert_close(other(batch), want, rtol=1e-3, atol=1e-3 * float(want.abs().max()))


def test_networks_that_cannot_be_traced_stay_as_they_are():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))

        def forward(self, x):
            return self.net(x) if float(x.mean()) > -9 else x  # depends on the data

    odd = Odd().eval()
    found, image = traced(odd, 32), torch.randn(1, 2, 8, 8)
    assert not isinstance(found, torch.fx.GraphModule)
    torch.testing.assert_close(found(image), odd(image))


def test_any_network_of_images_predicts(cube, whole):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=5, classes=4).eval()
    normaliser = Normaliser(
        {"optical": (0.3,) * 3, "thermal": (290.0,) * 2}, {"optical": (0.2,) * 3, "thermal": (15.0,) * 2}
    )
    chosen = PredictSettings(64, 32, 64, 2, precision="fp32", layers=("probability",))
    predictor = predictor_of_module(network, ["optical", "thermal"], CLASSES, chosen, normaliser=normaliser)
    from geomm.prediction import predict_blocks

    found = assemble(predict_blocks(cube, predictor, chosen), (96, 128), "probability")
    ready = normaliser(whole)
    image = torch.cat([ready.images[n][:, 0] for n in ("optical", "thermal")], 1)
    with torch.inference_mode():
        want = torch.softmax(network(image), 1)[0].numpy()
    good = usable(whole)
    np.testing.assert_allclose(found[:, good], want[:, good], atol=0.02)  # 32 pixels are not all that it sees
    with pytest.raises(ContractError, match="the network needs modality thermal.*has optical"):
        list(predict_blocks(cube.drop_nodes(["thermal", "label"]), predictor, chosen))


def test_margins_are_those_that_a_model_needs(packages, tmp_path):
    """One convolution of 3 x 3 sees one pixel around; attention over the whole chip has no margin."""
    member = Member(packages[0], PLAIN)
    margin = needed_margin(member, PLAIN)
    assert margin is not None
    assert margin <= 16
    large = fitted_settings([member], (4096, 4096), PredictSettings())
    assert (large.size >= 480, large.halo, large.block % large.size) == (True, 16, 0)
    assert fitted_settings([member], (50, 60), PredictSettings()).size == 32
    wide = Member(save_model(tmp_path / "vit", encoder="tiny_vit"), PLAIN)
    assert fitted_settings([wide], (4096, 4096), PredictSettings()).size == 32
    chips = Member(save_model(tmp_path / "chips", task="classification", halo=0), PLAIN)
    assert fitted_settings([chips], (4096, 4096), PredictSettings()).size == 32
    assert "tiny_vit" in ENCODERS


def test_classification_maps_one_answer_for_every_chip(cube, tmp_path):
    package = save_model(tmp_path / "m", task="classification", size=32, halo=0)
    found = assemble(geomm.predict(cube, package), (96, 128), "probability")
    cell = found[:, 32:64, 32:64]
    assert (cell == cell[:, :1, :1]).all()
    np.testing.assert_allclose(np.nansum(found, 0)[40:, 40:], 1, atol=1e-5)
    assert isinstance(ClassMaps(CLASSES, ["class"]).layers, tuple)
    assert load_package(package.path).sha256 == package.sha256
