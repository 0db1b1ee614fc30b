"""Model packages round-trip, notice damage, and refuse imagery that does not meet their contract."""

from __future__ import annotations

import json

import pytest
import torch

import geomm
from geomm.errors import ContractError, OutputError, PackageError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, check_cube, load_package, save_package
from geomm.train import Fitted
from geomm.transforms import Normaliser
from geomm.types import ClassSpec, Modality

CONTRACT = InputContract(
    {
        "optical": Modality("landsat-oli-l1", ("B2", "B3", "B4")),
        "thermal": Modality("landsat-tirs-l1", ("B10", "B11")),
    },
    {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"},
    (ClassSpec(0, "clear", "#000000"), ClassSpec(1, "cirrus", "#888888"), ClassSpec(2, "cloud", "#ffffff")),
    30.0,
    32,
    16,
    ("optical", "thermal"),
)


def fitted(seed=0):
    torch.manual_seed(seed)
    model = MultimodalModel(ModelSpec({"optical": 3, "thermal": 2}, 3, width=8)).eval()
    mean = {"optical": (0.1, 0.2, 0.3), "thermal": (280.0, 281.5)}
    return Fitted(model, Normaliser(mean, {n: tuple(0.1 for _ in v) for n, v in mean.items()}), ())


@pytest.fixture
def package(tmp_path):
    return save_package(fitted(), CONTRACT, tmp_path / "model", name="clouds", metrics={"IoU": 0.5})


def test_round_trip(package):
    again = load_package(package.path)
    assert again.contract == CONTRACT
    assert again == package
    model = again.model()
    truth = fitted()
    assert model.normaliser == truth.normaliser
    for name, weight in truth.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], weight)
    assert again.task().layers[0].classes == CONTRACT.classes
    assert sorted(p.name for p in package.path.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "mlm.json",
        "model.safetensors",
    ]


def test_same_model_gives_the_same_bytes(package, tmp_path):
    other = save_package(fitted(), CONTRACT, tmp_path / "other", name="clouds", metrics={"IoU": 0.5})
    for path in package.path.iterdir():
        assert (other.path / path.name).read_bytes() == path.read_bytes()
    assert save_package(fitted(1), CONTRACT, tmp_path / "third", name="clouds").sha256 != package.sha256


def test_mlm_item_states_bands_units_and_scaling(package):
    properties = json.loads((package.path / "mlm.json").read_text())["properties"]
    thermal = properties["mlm:input"][1]
    assert [b["name"] for b in thermal["bands"]] == ["B10", "B11"]
    assert thermal["value_scaling"][1] == {"type": "z-score", "mean": 281.5, "stddev": 0.1}
    assert "kelvin_brightness_temperature" in thermal["description"]
    assert [c["name"] for c in properties["mlm:output"][0]["classification:classes"]] == ["clear", "cirrus", "cloud"]


@pytest.mark.parametrize("name", ["model.safetensors", "mlm.json", "README.md"])
def test_damage_is_named(package, name):
    path = package.path / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(PackageError, match=rf"was changed.*{name}"):
        load_package(package.path)
    path.unlink()
    with pytest.raises(PackageError, match="not a model package"):
        load_package(package.path)


def test_packages_never_replace_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        save_package(fitted(), CONTRACT, tmp_path, name="clouds")
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_contract_refuses_bands_units_and_absence(cube):
    check_cube(CONTRACT, cube)
    with pytest.raises(ContractError, match=r"needs modality thermal.*has optical.*landsat-tirs-l1"):
        check_cube(CONTRACT, cube.drop_nodes(["thermal", "label"]))
    fewer = cube.copy()
    fewer["thermal"] = fewer["thermal"].isel(band=[1, 0])
    with pytest.raises(ContractError, match=r"modality thermal.*got B11, B10; the model was trained on B10, B11"):
        check_cube(CONTRACT, fewer)
    wrong = cube.copy()
    wrong["thermal"].attrs["units"] = "kelvin_surface_temperature"
    with pytest.raises(ContractError, match=r"unit.*kelvin_surface_temperature; .*kelvin_brightness_temperature"):
        check_cube(CONTRACT, wrong)
    assert cube["thermal"].attrs["units"] == "kelvin_brightness_temperature"


def test_prediction_with_a_package(cube, package):
    windows = [(w, p.arrays["class"].shape) for w, p in geomm.predict(cube, package)]
    assert windows == [(geomm.Window(0, 0, 96, 128), (1, 96, 128))]
    with pytest.raises(ContractError):
        next(geomm.predict(cube.drop_nodes("optical"), package))
