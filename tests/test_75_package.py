"""Model packages round-trip, notice damage, and refuse imagery that does not meet their contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import geomm
from geomm.dataset import Sample
from geomm.errors import ContractError, OutputError, PackageError
from geomm.models.clip import ClipModel, clip_normaliser, clip_spec
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, check_cube, load_package, save_package
from geomm.testing.language import clip_config, write_clip, write_sentence_model
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


RGB = Modality("sentinel2-l2a", ("B04", "B03", "B02"))
SEARCH = InputContract({"rgb": RGB}, {"rgb": "reflectance"}, (), 10.0, 32, 0, ("rgb",))
TEXTS = ["a lake", "a river near the village", ""]


def searching(tmp_path, text, *, tuned=False):
    """A model for search, with a text encoder of a library that is gone once it is packed."""
    pytest.importorskip("sentence_transformers", reason="the extra text is not installed", exc_type=ImportError)
    pytest.importorskip("open_clip", reason="the extra text is not installed", exc_type=ImportError)
    torch.manual_seed(0)
    if text == "sentence":
        text = f"sentence:{write_sentence_model(tmp_path / 'source')}"
    elif text != "tiny":
        write_clip(tmp_path / "source", clip_config())
        text = f"open_clip:{tmp_path / 'source'}"
    spec = ModelSpec({"rgb": 3}, 12, "contrastive", width=8, text=text, streams={"rgb": RGB})
    model = MultimodalModel(spec).eval()
    if tuned:
        model.text.tune()
        with torch.no_grad():
            next(model.text.tower.parameters()).add_(0.1)
    return Fitted(model, Normaliser({"rgb": (0.1,) * 3}, {"rgb": (0.1,) * 3}), ())


def batch():
    images = torch.rand(2, 1, 3, 32, 32)
    ones = torch.ones(2, dtype=torch.bool)
    calibration = torch.tensor([1.0, 0.0, float("nan"), float("nan")]).expand(2, 1, 3, 4)
    return Sample(
        {"rgb": images}, {"rgb": ones[:, None, None, None].expand(2, 1, 32, 32)}, {"rgb": calibration}, {"rgb": ones}
    )


@pytest.mark.parametrize(
    ("text", "tuned"), [("tiny", False), ("sentence", False), ("sentence", True), ("open_clip", False)]
)
def test_text_encoders_travel_with_the_model(tmp_path, text, tuned):
    whole = searching(tmp_path, text, tuned=tuned)
    package = save_package(whole, SEARCH, tmp_path / "model", name="search")
    if text != "tiny":
        (tmp_path / "source").rename(tmp_path / "gone")
    package = load_package(package.path.rename(tmp_path / "elsewhere"))
    again = package.model()
    assert package.task().name == "contrastive"
    with torch.no_grad():
        assert torch.equal(again.model.encode_text(TEXTS), whole.model.encode_text(TEXTS))
        one = batch()
        assert torch.equal(again.model.embed(one), whole.model.embed(one))
    kept = again.model.state_dict()
    assert set(kept) == set(whole.model.state_dict())
    assert any(k.startswith("text.tower.") for k in kept) == tuned
    from safetensors import safe_open

    with safe_open(package.path / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert not any(n.startswith("text.tower.") for n in names)
    listed = {line.split("  ", 1)[1] for line in (package.path / "SHA256SUMS").read_text().splitlines()}
    assert listed == {
        p.relative_to(package.path).as_posix()
        for p in package.path.rglob("*")
        if p.is_file() and p.name != "SHA256SUMS"
    }
    assert any(n.startswith("text/") for n in listed) == (text != "tiny")


def test_the_text_encoder_is_part_of_the_identity(tmp_path):
    whole = searching(tmp_path, "sentence")
    one = save_package(whole, SEARCH, tmp_path / "one", name="search")
    again = save_package(whole, SEARCH, tmp_path / "again", name="search")
    assert again.sha256 == one.sha256
    for path in one.path.rglob("*"):
        assert path.is_dir() or (again.path / path.relative_to(one.path)).read_bytes() == path.read_bytes()
    with torch.no_grad():
        next(whole.model.text.tower.parameters()).add_(0.1)
    other = save_package(whole, SEARCH, tmp_path / "other", name="search")
    assert (other.path / "model.safetensors").read_bytes() == (one.path / "model.safetensors").read_bytes()
    assert other.sha256 != one.sha256


def test_files_of_the_text_encoder_are_verified(tmp_path):
    package = save_package(searching(tmp_path, "sentence"), SEARCH, tmp_path / "model", name="search")
    text = package.path / "text"
    damaged = (text / "tokenizer.json").read_text()
    (text / "tokenizer.json").write_text(damaged.replace("lake", "lane"))
    with pytest.raises(PackageError, match=r"was changed.*tokenizer.json"):
        load_package(package.path)
    (text / "tokenizer.json").unlink()
    with pytest.raises(PackageError, match=r"is missing.*tokenizer.json"):
        load_package(package.path)
    (text / "tokenizer.json").write_text(damaged)
    assert load_package(package.path) == package
    for make in ((text / "deep").mkdir, (text / "deep" / "added_tokens.json").touch):
        make()
    with pytest.raises(PackageError, match=r"not listed.*added_tokens.json"):
        load_package(package.path)
    (text / "deep" / "added_tokens.json").unlink()
    os.symlink(tmp_path, text / "link")
    with pytest.raises(PackageError, match=r"not listed.*link"):
        load_package(package.path)


@pytest.mark.parametrize("name", ["../evil", "/etc/hostname", "text/../../evil", "other.txt"])
def test_checksums_list_nothing_else(package, tmp_path, name):
    (tmp_path / "evil").write_text("x")
    with (package.path / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(PackageError, match="is missing"):
        load_package(package.path)


def test_packages_are_opened_without_torch(tmp_path):
    package = save_package(searching(tmp_path, "sentence"), SEARCH, tmp_path / "model", name="search")
    code = f"import sys, geomm; geomm.load_package({str(package.path)!r}); print('torch' in sys.modules, 'safetensors' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_weights_that_do_not_fit_are_refused(tmp_path):
    from geomm.package.files import _sha256

    package = save_package(searching(tmp_path, "sentence"), SEARCH, tmp_path / "model", name="search")
    from safetensors.torch import load_file, save_file

    weights, before = load_file(package.path / "model.safetensors"), _sha256(package.path / "model.safetensors")
    weights["further"] = weights.pop("text.project.weight")
    save_file(weights, package.path / "model.safetensors")
    sums = (package.path / "SHA256SUMS").read_text().replace(before, _sha256(package.path / "model.safetensors"))
    (package.path / "SHA256SUMS").write_text(sums)
    with pytest.raises(PackageError, match=r"2 missing or left over: text.project.weight, further"):
        load_package(package.path).model()


def test_dual_encoders_travel_whole(tmp_path):
    pytest.importorskip("open_clip", reason="the extra text is not installed", exc_type=ImportError)
    network = write_clip(tmp_path / "source", clip_config())
    spec = clip_spec(f"open_clip:{tmp_path / 'source'}", RGB)
    whole = Fitted(ClipModel(spec).eval(), clip_normaliser(spec), ())
    package = save_package(whole, SEARCH, tmp_path / "model", name="clip")
    (tmp_path / "source").rename(tmp_path / "gone")
    again = package.model()
    assert isinstance(again.model, ClipModel)
    assert again.normaliser == whole.normaliser
    one = again.normaliser(batch())
    with torch.no_grad():
        assert torch.equal(again.model.encode_text(TEXTS), whole.model.encode_text(TEXTS))
        assert torch.equal(again.model.embed(one), whole.model.embed(one))
        assert torch.equal(again.model.cells(one), whole.model.cells(one))
    properties = json.loads((package.path / "mlm.json").read_text())["properties"]
    assert properties["mlm:total_parameters"] == sum(p.numel() for p in network.parameters())
    assert properties["mlm:architecture"] == spec.text


def test_models_for_search_are_described(tmp_path):
    whole = searching(tmp_path, "sentence")
    metrics = {"recall": 0.5, "captions": "derived from a land-cover map"}
    package = save_package(whole, SEARCH, tmp_path / "model", name="search", metrics=metrics)
    properties = json.loads((package.path / "mlm.json").read_text())["properties"]
    assert properties["mlm:tasks"] == ["similarity-search"]
    (output,) = properties["mlm:output"]
    assert (output["name"], output["result"]["shape"]) == ("embedding", [-1, 12])
    assert "classification:classes" not in output
    assert properties["mlm:pretrained_source"] == whole.model.spec.text
    parts = (whole.model, whole.model.text.tower)
    assert properties["mlm:total_parameters"] == sum(p.numel() for m in parts for p in m.parameters())
    card = (package.path / "README.md").read_text()
    assert "unit vectors of 12 numbers" in card
    assert f"text encoder: {whole.model.spec.text}" in card
    assert "captions it was trained on: derived from a land-cover map" in card
    assert '"captions"' not in card
    assert '"recall": 0.5' in card
    assert "Classes" not in card


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_models_of_whole_chips_are_described(tmp_path, task):
    torch.manual_seed(0)
    spec = ModelSpec({"optical": 3, "thermal": 2}, 3, task, width=8)
    whole = Fitted(MultimodalModel(spec).eval(), fitted().normaliser, ())
    package = save_package(whole, CONTRACT, tmp_path / "model", name="chips")
    (output,) = json.loads((package.path / "mlm.json").read_text())["properties"]["mlm:output"]
    assert (output["tasks"], output["result"]["shape"]) == (["classification"], [-1, 3])
    assert output["result"]["dim_order"] == ["batch", "class"]


def test_a_contract_is_read_off_the_cube_that_was_trained_on(cube):
    contract = geomm.InputContract.of(
        cube, ["thermal", "optical"], [ClassSpec(0, "clear", "#00ff00")], required=["thermal"]
    )
    assert contract.modalities["optical"] == geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4"))
    assert list(contract.modalities) == ["thermal", "optical"]
    assert contract.units["thermal"] == "kelvin_brightness_temperature"
    assert contract.resolution == geomm.cube.ground_size(geomm.cube.geobox_of(cube))
    check_cube(contract, cube)
    with pytest.raises(LookupError, match="did you mean 'thermal'"):
        geomm.InputContract.of(cube, ["thermel"], [])
