"""How models of open_clip are found, built, saved and given weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from geomm.errors import ContractError, DependencyError, GeommError, PackageError, UnknownNameError
from geomm.models.text.sources import EXTRA, local_folder

CONFIG = "open_clip_config.json"
"""File that a folder of an open_clip model has."""

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pt")
"""Files of weights that such a folder may have, the first that exists is taken."""

_TOKENS = "tokeniser"
_SMALL = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 32, "image_size": 32}


@dataclass(frozen=True, slots=True)
class ClipSource:
    """An open_clip model before it is built."""

    name: str
    """As the user wrote it."""
    config: Mapping[str, Any]
    """open_clip's configuration of the network: ``embed_dim``, ``vision_cfg``, ``text_cfg``."""
    preprocess: Mapping[str, Any]
    """``mean`` and ``std`` of images in 0 .. 1."""
    weights: Path | str = ""
    """File, or tag that open_clip lists; empty for random weights."""


def find_open_clip(name: str) -> ClipSource:
    """Find the configuration of a model, and where its weights are; weights are not read.

    Args:
        name: ``<model>[:<tag or file>]``; the model is one that open_clip lists, ``hf-hub:<name>``, or a folder.

    Raises:
        DependencyError: open_clip is not installed.
        UnknownNameError: no such model, or no such tag of it.
        PackageError: a folder without a model, or a hub that cannot be reached.
    """
    library = _library()
    plain = {"mean": library.constants.OPENAI_DATASET_MEAN, "std": library.constants.OPENAI_DATASET_STD}
    if name.startswith("hf-hub:"):
        return _from_hub(name, plain)
    model, _, weights = name.partition(":")
    if Path(name).is_dir():
        model, weights = name, ""
    if model.replace("/", "-") in library.list_models():
        config = library.get_model_config(model.replace("/", "-"))
        return replace(_with_weights(model, weights, plain), name=name, config=config)
    folder = local_folder(model, CONFIG)
    if folder is None:
        raise UnknownNameError.of("open_clip model", model, library.list_models())
    raw = _read_config(folder)
    found = Path(weights) if weights else next((folder / w for w in WEIGHTS if (folder / w).is_file()), None)
    if found is None or not found.is_file():
        raise PackageError(
            "the folder has no weights",
            where=str(folder),
            why=f"looked for {weights or ', '.join(WEIGHTS)}",
            fix="put the weights beside the configuration",
        )
    config = raw["model_cfg"]
    if config["text_cfg"].get("hf_tokenizer_name") and (folder / "tokenizer_config.json").is_file():
        config["text_cfg"]["hf_tokenizer_name"] = str(folder)
    return ClipSource(name, config, {**plain, **raw.get("preprocess_cfg", {})}, found)


def saved_open_clip(folder: Path) -> ClipSource:
    """Read what :func:`save_open_clip` wrote; weights are not there.

    Raises:
        PackageError: the folder holds something else.
    """
    raw = _read_config(folder)
    config = raw["model_cfg"]
    text = config.get("text_cfg", {})
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if text.get(key):
            text[key] = str(folder / _TOKENS)
    return ClipSource(str(folder), config, raw["preprocess_cfg"])


def save_open_clip(source: ClipSource, network: nn.Module, tokeniser: Any, folder: Path) -> None:
    """Write configuration and tokeniser, but not the weights.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(json.dumps(source.config))
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if config["text_cfg"].get(key):
            config["text_cfg"][key] = _TOKENS
    if config["text_cfg"].get("hf_model_name"):
        network.text.config.save_pretrained(folder / _TOKENS)  # type: ignore[union-attr, operator]
    if config["text_cfg"].get("hf_tokenizer_name"):
        tokeniser.save_pretrained(str(folder / _TOKENS))
    preprocess = {k: list(source.preprocess[k]) for k in ("mean", "std")}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1))


def build_open_clip(source: ClipSource, *, text_alone: bool = False) -> nn.Module:
    """Build the network and give it its weights.

    Args:
        source: what to build.
        text_alone: leave the image tower away, of a source without weights.

    Raises:
        ContractError: a model that captions, whose text tower is no encoder.
        PackageError: weights that cannot be read or do not fit.
    """
    library = _library()
    config = deepcopy(dict(source.config))
    if "multimodal_cfg" in config:
        raise ContractError(
            "a model that captions is no dual encoder", where=source.name, fix="choose a CLIP or SigLIP"
        )
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"] or text_alone
    config["text_cfg"]["hf_model_pretrained"] = False
    config["vision_cfg"] = _SMALL if text_alone else {**config["vision_cfg"], "timm_model_pretrained": False}
    try:
        network: nn.Module = (library.CustomTextCLIP if custom else library.CLIP)(**config)
        if source.weights:
            library.load_checkpoint(network, str(_weights_file(source)), strict=True, weights_only=True)
    except Exception as error:
        if isinstance(error, GeommError):
            raise
        raise PackageError(
            "the open_clip model cannot be built or its weights do not fit",
            where=f"{source.name}, weights {source.weights or 'none'}",
            why=f"{type(error).__name__}: {str(error)[:300]}",
            fix="name the model that the weights were made for",
        ) from error
    return network.eval()


def build_tokeniser(source: ClipSource) -> Any:
    """Return open_clip's tokeniser of a model: texts to int64 ``(B, context)``.

    Raises:
        PackageError: its files cannot be had.
    """
    library, text = _library(), source.config["text_cfg"]
    length, options = text.get("context_length", 77), dict(text.get("tokenizer_kwargs") or {})
    name = text.get("hf_tokenizer_name")
    try:
        if not name:
            return library.tokenizer.SimpleTokenizer(context_length=length, **options)
        options["trust_remote_code"] = False
        return library.tokenizer.HFTokenizer(
            name, context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options
        )
    except Exception as error:
        raise PackageError(
            "the tokeniser cannot be had",
            where=str(name),
            why=str(error)[:200],
            fix="put the files of the tokeniser into the folder of the model, or connect to the network once",
        ) from error


def _library() -> ModuleType:
    try:
        import open_clip
        import open_clip.constants
        import open_clip.tokenizer
    except ImportError as error:
        raise DependencyError("open_clip is not installed", why=str(error), fix=EXTRA) from error
    return open_clip  # type: ignore[no-any-return]


def _with_weights(model: str, weights: str, plain: dict[str, Any]) -> ClipSource:
    """Tell a tag from a file, of a model that open_clip lists."""
    library = _library()
    tags = library.list_pretrained_tags_by_model(model.replace("/", "-"))
    if weights in tags:
        tag = library.get_pretrained_cfg(model.replace("/", "-"), weights)
        return ClipSource("", {}, {k: tag.get(k) or plain[k] for k in plain}, weights)
    if weights and not Path(weights).is_file():
        raise UnknownNameError.of(f"file or tag of weights of {model}", weights, tags)
    return ClipSource("", {}, plain, Path(weights) if weights else "")


def _weights_file(source: ClipSource) -> Path:
    """Return the file of weights, downloading those of a tag."""
    if isinstance(source.weights, Path):
        if source.weights.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
            raise PackageError(
                "weights are .pt, .pth, .bin or .safetensors files",
                where=str(source.weights),
                fix="give one: NAME:FILE, for example ViT-B-32:RemoteCLIP-ViT-B-32.pt",
            )
        return source.weights
    library = _library()
    model = source.name.partition(":")[0].replace("/", "-")
    try:
        return Path(library.download_pretrained(library.get_pretrained_cfg(model, source.weights)))
    except Exception as error:
        raise PackageError(
            "the weights cannot be downloaded",
            where=source.name,
            why=str(error)[:200],
            fix=f"download the file on another machine and name it: open_clip:{model}:<file>",
        ) from error


def _from_hub(name: str, plain: dict[str, Any]) -> ClipSource:
    """Fetch configuration and weights from the hub."""
    from open_clip.pretrained import download_pretrained_from_hf

    model = name.removeprefix("hf-hub:")
    try:
        raw = json.loads(Path(download_pretrained_from_hf(model, filename=CONFIG)).read_text())
        weights = Path(download_pretrained_from_hf(model))
        return ClipSource(name, raw["model_cfg"], {**plain, **raw.get("preprocess_cfg", {})}, weights)
    except Exception as error:
        raise PackageError(
            "the open_clip model cannot be had from the hub",
            where=name,
            why=str(error)[:200],
            fix=f"name a local folder with {CONFIG} and weights",
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration in a folder.

    Raises:
        PackageError: it is not there, or is none.
    """
    try:
        raw = json.loads((folder / CONFIG).read_text())
        if all(k in raw["model_cfg"] for k in ("embed_dim", "vision_cfg", "text_cfg")):
            return dict(raw)
        why = "model_cfg lacks embed_dim, vision_cfg or text_cfg"
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise PackageError(
        "there is no open_clip model in the folder",
        where=str(folder),
        why=f"looked for {CONFIG}: {why}",
        fix="give a folder with open_clip_config.json and weights, as open_clip saves it",
    )
