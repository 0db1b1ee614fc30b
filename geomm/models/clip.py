"""Ready dual encoders of pictures and sentences: CLIP models of open_clip, such as RemoteCLIP, GeoRSCLIP or SkyCLIP.

A spec asks for one by naming the same ``open_clip:<model>[:<weights>]`` as encoder and as text encoder; names are those
of :mod:`geomm.models.text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError
from geomm.models.features import masked_mean, shrink_valid
from geomm.models.multimodal import ModelSpec
from geomm.models.text.openclip import (
    build_open_clip,
    build_tokeniser,
    find_open_clip,
    save_open_clip,
    saved_open_clip,
)
from geomm.sensors import get_sensor
from geomm.transforms import Normaliser
from geomm.types import Modality

DENSE = ("value", "attention")
"""How cells may be read, see :class:`ClipModel`."""

TOP: Mapping[str, float] = {"reflectance": 0.3, "dn": 255.0}
"""Value that pictures show as white, by unit. Land is darker than the sensors' display stretch of 0 .. 0.4 allows for;
0.3 is nearer to the pictures that CLIP models for remote sensing were trained on. Bytes are pictures already."""


def is_clip(spec: ModelSpec) -> bool:
    """Tell whether a spec is that of a ready dual encoder."""
    return spec.encoder == spec.text and spec.text.startswith("open_clip:")


def clip_spec(name: str, stream: Modality, *, modality: str = "rgb") -> ModelSpec:
    """Write the spec of a dual encoder.

    Args:
        name: ``open_clip:<model>[:<weights>]``.
        stream: sensor and its red, green and blue band, in this order.
        modality: name of the stream.

    Raises:
        UnknownNameError: no such model or weights.
        PackageError: a folder without a model.
        ContractError: other bands.
    """
    outputs = int(find_open_clip(name.removeprefix("open_clip:")).config["embed_dim"])
    spec = ModelSpec({modality: 3}, outputs, "contrastive", name, text=name, streams={modality: stream})
    _check(spec, outputs)
    return spec


def clip_normaliser(spec: ModelSpec, *, top: float | None = None) -> Normaliser:
    """Return the normalisation that turns physical values into what a dual encoder was trained on.

    Values are kept within 0 and ``top``, which is white; then CLIP's mean and standard deviation of pictures apply.

    Args:
        spec: see :func:`is_clip`; its weights are not read.
        top: value that is white, in the unit of the bands; by default that of :data:`TOP`.

    Raises:
        UnknownNameError: no such model or weights.
        ContractError: other bands, or bands in a unit that pictures are not made of.
    """
    source = find_open_clip(spec.text.removeprefix("open_clip:"))
    _check(spec, int(source.config["embed_dim"]))
    (name,) = spec.modalities
    stream = spec.streams[name]
    unit = get_sensor(stream.sensor).band(stream.bands[0]).unit
    white = TOP.get(unit) if top is None else top
    if white is None or white <= 0:
        raise ContractError(
            "pictures are made of reflectance or bytes",
            where=f"modality {name}",
            why=f"{stream.sensor} is in {unit}, top {top}",
            fix="say which value is white: clip_normaliser(spec, top=...)",
        )
    mean, std = (tuple(white * float(v) for v in source.preprocess[k]) for k in ("mean", "std"))
    return Normaliser({name: mean}, {name: std}, ceiling={name: (white,) * 3})


class ClipModel(nn.Module):
    """A CLIP model of open_clip behind the same methods as a multimodal model for retrieval.

    Images are resized to the model's own size (bicubic, antialiased, whatever their aspect), invalid pixels are the
    mean colour.

    Args:
        spec: see :func:`clip_spec`.
        text_folder: where a package keeps configuration and tokeniser; weights are random then, until a state dict is
            loaded. None to find the model and its weights by name.
        dense: how :meth:`cells` reads the last block of a transformer. ``value``: every cell attends to itself alone
            (MaskCLIP, arXiv 2112.01071), which keeps what is said of a cell in its place; ``attention``: as trained.

    Raises:
        UnknownNameError: no such model or weights.
        DependencyError: open_clip is not installed.
        ContractError: a spec that is not that of a dual encoder.
        PackageError: weights that cannot be read or do not fit.
    """

    global_bias = 0.3
    """Share of a chip's mean that is taken off its cells before they are compared with texts (SegEarth-OV)."""

    def __init__(self, spec: ModelSpec, *, text_folder: Path | None = None, dense: str = "value") -> None:
        super().__init__()
        if dense not in DENSE:
            raise ConfigError(
                "there is no such way to read cells",
                why=f"{dense}; known: {', '.join(DENSE)}",
                fix=f"use one of {', '.join(DENSE)}",
            )
        self.spec, self.dense = spec, dense
        name = spec.text.removeprefix("open_clip:")
        self.source = saved_open_clip(text_folder) if text_folder else find_open_clip(name)
        _check(spec, int(self.source.config["embed_dim"]))
        self.tokeniser = build_tokeniser(self.source)
        self.network: Any = build_open_clip(self.source)
        self.register_buffer("no_bias", torch.zeros(()), persistent=False)

    @property
    def encoders(self) -> dict[str, nn.Module]:
        """The image tower, by the name of the modality."""
        return dict.fromkeys(self.spec.modalities, self.network.visual)

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the temperature's inverse, a scalar that learns."""
        scale: Tensor = self.network.logit_scale
        return scale if scale.ndim == 0 else scale.reshape(())

    @property
    def logit_bias(self) -> Tensor:
        """What is added to every logit, a scalar; 0 for models that have none."""
        bias: Tensor | None = self.network.logit_bias
        return self.get_buffer("no_bias") if bias is None else bias.reshape(())

    def forward(self, batch: Sample) -> Tensor:
        """Return :meth:`embed`."""
        return self.embed(batch)

    def embed(self, batch: Sample) -> Tensor:
        """Return unit vectors ``(B, D)``: CLIP's own of an image, the mean direction of several valid times.

        Args:
            batch: normalised, see :func:`clip_normaliser`.

        Raises:
            ContractError: the batch lacks the modality, or it has another number of bands.
        """
        images, valid = self._inputs(batch)
        count, times = valid.shape[:2]
        seen = self._resized(images.flatten(0, 1), valid.flatten(0, 1))
        vectors = functional.normalize(self.network.encode_image(seen), dim=-1)
        if times == 1:
            return vectors
        known = valid.flatten(2).any(2)
        known |= ~known.any(1, keepdim=True)
        series = vectors.reshape(count, times, -1) * known.unsqueeze(2)
        return functional.normalize(series.sum(1), dim=-1)

    def cells(self, batch: Sample) -> Tensor:
        """Return what is said of every place, ``(B, D, h, w)`` in the space of :meth:`embed`, not of unit length.

        Cells are the patches of a transformer, or the cells of a ResNet's last layer, through the final norm and
        projection. Cells without a valid pixel are 0; several times are averaged where valid.

        Args:
            batch: normalised.

        Raises:
            ContractError: the batch lacks the modality, or the image tower has no cells that can be read.
        """
        images, valid = self._inputs(batch)
        maps = self._dense(self._resized(images.flatten(0, 1), valid.flatten(0, 1)))
        here = shrink_valid(valid.flatten(0, 1), (maps.shape[-2], maps.shape[-1]))
        count, times = valid.shape[:2]
        series = maps.reshape(count, times, *maps.shape[1:]).movedim(1, 0)
        return masked_mean(series, here.reshape(count, times, *here.shape[1:]).movedim(1, 0))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``."""
        tokens = self.tokeniser(list(texts)).to(self.logit_scale.device)
        return functional.normalize(self.network.encode_text(tokens), dim=-1)

    def save(self, folder: Path) -> None:
        """Write configuration and tokeniser; the weights are the state dict.

        Raises:
            OSError: the folder cannot be written.
        """
        save_open_clip(self.source, self.network, self.tokeniser, folder)

    def _inputs(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """Return images ``(B, T, 3, H, W)`` and where they are valid."""
        (name,) = self.spec.modalities
        got = batch.images[name].shape[2] if name in batch.images else 0
        if got != 3:
            raise ContractError(
                "the model sees pictures",
                where=f"modality {name}",
                why=f"{got} bands instead of 3; the batch has {', '.join(batch.images) or 'nothing'}",
                fix="give it red, green and blue, in that order: Modality(SENSOR, (red, green, blue))",
            )
        return batch.images[name], batch.valid[name] & batch.present[name][:, None, None, None]

    def _resized(self, image: Tensor, valid: Tensor) -> Tensor:
        """Bring ``(N, 3, H, W)`` to the size of the image tower."""
        image = image.masked_fill(~valid.unsqueeze(1), 0.0)
        side = self.network.visual.image_size
        size = (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))
        if tuple(image.shape[-2:]) == size:
            return image
        return functional.interpolate(image, size, mode="bicubic", antialias=True)

    def _dense(self, image: Tensor) -> Tensor:
        """Return the vectors of cells ``(N, D, h, w)``."""
        visual = self.network.visual
        if hasattr(visual, "attnpool"):
            return _resnet_cells(visual, image)
        if not hasattr(visual, "transformer") or visual.attn_pool is not None:
            raise ContractError(
                "the cells of this image tower cannot be read",
                where=self.spec.text,
                why=f"it is a {type(visual).__name__}; known are open_clip's own vision transformers and ResNets",
                fix="take a ViT or ResNet of open_clip; search works with this one, maps of words do not",
            )
        return _transformer_cells(visual, image, self.dense)


def _transformer_cells(visual: Any, image: Tensor, dense: str) -> Tensor:
    """Return the patches of a vision transformer through its final norm and projection.

    With ``value``, the last block's attention is that of every token to itself: the output projection of its value,
    with the block's shortcuts and perceptron, as in MaskCLIP.
    """
    x = visual._embeds(image)  # noqa: SLF001 - the only way to the tokens before the last block
    *first, last = visual.transformer.resblocks
    for block in first:
        x = block(x)
    alone = torch.full((x.shape[1], x.shape[1]), float("-inf"), device=x.device).fill_diagonal_(0.0)
    patches: Tensor = visual.ln_post(last(x, attn_mask=alone if dense == "value" else None)[:, 1:]) @ visual.proj
    height, width = visual.grid_size
    return patches.movedim(2, 1).reshape(len(image), -1, height, width)


def _resnet_cells(visual: Any, image: Tensor) -> Tensor:
    """Return the cells of a ResNet through the value and output projections of its attention pool (MaskCLIP)."""
    for part in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        image = part(image)
    cells: Tensor = visual.attnpool.c_proj(visual.attnpool.v_proj(image.movedim(1, 3)))
    return cells.movedim(3, 1)


def _check(spec: ModelSpec, width: int) -> None:
    """Refuse a spec that is not that of a dual encoder of this width."""
    wrong = []
    if not is_clip(spec):
        wrong.append(f"encoder {spec.encoder} and text {spec.text} are not the same open_clip model")
    if spec.task != "contrastive" or spec.outputs != width:
        wrong.append(f"{spec.task} with {spec.outputs} outputs instead of contrastive with {width}")
    if len(spec.modalities) != 1 or set(spec.modalities.values()) != {3} or set(spec.streams) != set(spec.modalities):
        wrong.append(f"modalities {dict(spec.modalities)} with streams {', '.join(spec.streams) or 'none'}")
    else:
        stream = next(iter(spec.streams.values()))
        sensor = get_sensor(stream.sensor)
        names = [sensor.band(colour).name for colour in ("red", "green", "blue")] if sensor.bands else stream.bands
        if len(stream.bands) != 3 or [sensor.band(b).name for b in stream.bands] != list(names):
            wrong.append(f"bands {', '.join(stream.bands)} of {stream.sensor}; red, green, blue: {', '.join(names)}")
    if wrong:
        raise ContractError("the spec is not that of a CLIP model", why="; ".join(wrong), fix="write it with clip_spec")
