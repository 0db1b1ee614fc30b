"""The multimodal model: encoders, a fusion of images, features or answers, a head, optionally a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError, UnknownNameError
from geomm.models.encoders import EncoderInput, build_encoder
from geomm.models.features import FeatureMaps, masked_mean, shrink_valid
from geomm.models.fusion import find_fusion
from geomm.models.heads import build_head
from geomm.models.late import LateFusion
from geomm.models.levels import Shape
from geomm.models.text import TinyText
from geomm.types import Modality


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to build a model again; travels in its package as JSON."""

    modalities: Mapping[str, int]
    """Modality to number of bands, in the order of the fusion."""
    outputs: int
    """Classes, or length of the embedding."""
    task: str = "segmentation"
    """Decides the head."""
    encoder: str | Mapping[str, str] = "tiny_cnn"
    """Encoder name, or one for every modality; see :mod:`geomm.models.encoders`."""
    fusion: str = "attention"
    """Fusion name, see :mod:`geomm.models.fusion`."""
    width: int = 16
    """Size of the local encoders and of images merged early."""
    text: str = ""
    """``tiny`` for a text encoder; empty for none."""
    decoder: str = "light"
    """Decoder name, see :mod:`geomm.models.decoders`."""
    streams: Mapping[str, Modality] = field(default_factory=dict)
    """Modality to sensor and bands, for encoders that ask for them."""

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ConfigError("the width of a model is a multiple of 4", why=f"got {self.width}: there are four heads")
        taken = [n for n in self.modalities if not n.isidentifier() or hasattr(nn.ModuleDict, n)]
        if taken or not self.modalities:
            raise ConfigError(
                "a modality cannot have that name", why=", ".join(taken) or "there is none", fix="use letters, as in s2"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ModelSpec:
        """Read what :meth:`to_json` wrote."""
        streams = {n: Modality(m["sensor"], tuple(m["bands"])) for n, m in raw.get("streams", {}).items()}
        return cls(**{**raw, "streams": streams})

    def encoder_of(self, name: str) -> str:
        """Return the name of a modality's encoder.

        Raises:
            ContractError: it has none.
        """
        if isinstance(self.encoder, str):
            return self.encoder
        if name not in self.encoder:
            raise ContractError(
                "a modality has no encoder", where=f"modality {name}", why=f"only {', '.join(self.encoder)} have"
            )
        return self.encoder[name]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model, or one expert of it, says of a batch."""

    logits: Tensor
    """``(B, K, H, W)`` or ``(B, K)``; unit vectors ``(B, D)`` of an embedding."""
    valid: Tensor
    """Where it saw anything, bool ``(B, H, W)``."""
    weights: Tensor | None = None
    """Share of each modality, ``(B, M, h, w)`` or ``(B, M)``, where the fusion has it."""


class MultimodalModel(nn.Module):
    """Encode each modality, fuse what is valid, answer.

    An early fusion merges the images before one encoder; one of the middle the features of an encoder per modality; a
    late one the answers of an encoder and a head per modality.

    Args:
        spec: what to build.
        pretrained: load the weights that encoder names ask for, by download.
        weights: local files of weights, by modality, instead of a download.

    Raises:
        UnknownNameError: an encoder, fusion, decoder, head or text encoder that does not exist.
        ContractError: parts that do not fit each other, or weights that want other bands.
    """

    def __init__(self, spec: ModelSpec, *, pretrained: bool = False, weights: Mapping[str, Path] | None = None) -> None:
        super().__init__()
        self.spec = spec
        kind = find_fusion(spec.fusion)
        self.stage = kind.stage
        files = dict(weights or {})
        unknown = [n for n in files if n not in spec.modalities]
        if unknown or (self.stage == "early" and (files or pretrained)):
            raise ContractError(
                "there are weights that nothing would use",
                why=f"for {', '.join(unknown)}" if unknown else f"{spec.fusion} has an encoder of merged images",
                fix=f"the modalities are {', '.join(spec.modalities)}" if unknown else "fuse features or answers",
            )
        if self.stage == "early":
            self.fusion = kind.build(spec.modalities, spec.width)
            names = {"merged": EncoderInput(self.fusion.channels, width=spec.width)}
        else:
            names = {
                n: EncoderInput(bands, spec.streams.get(n), spec.width, pretrained=pretrained, weights=files.get(n))
                for n, bands in spec.modalities.items()
            }
        first = next(iter(spec.modalities))
        self.encoders = nn.ModuleDict(
            {n: build_encoder(spec.encoder_of(first if n == "merged" else n), given) for n, given in names.items()}
        )
        shapes: dict[str, Shape] = {n: Shape(e.channels, e.strides) for n, e in self.encoders.items()}  # type: ignore[arg-type]
        if self.stage == "late":
            if spec.task == "contrastive":
                raise ContractError("a late fusion has no embedding", why=spec.fusion, fix="use a fusion of features")
            self.fusion = kind.build(len(shapes), spec.outputs)
            heads = {n: build_head(spec.task, s, spec.outputs, decoder=spec.decoder) for n, s in shapes.items()}
        else:
            if self.stage != "early":
                self.fusion = kind.build(shapes)
            shape = shapes["merged"] if self.stage == "early" else Shape(self.fusion.channels, self.fusion.strides)
            heads = {"fused": build_head(spec.task, shape, spec.outputs, decoder=spec.decoder)}
        self.heads = nn.ModuleDict(heads)
        if spec.text not in ("", "tiny"):
            raise UnknownNameError.of("text encoder", spec.text, ("tiny",))
        self.text = TinyText(spec.outputs) if spec.text else None
        # SigLIP: temperature 10 and a bias that makes the first positive rate 1/N for N near 32 (arXiv 2303.15343).
        self.logit_scale = nn.Parameter(torch.tensor(2.3026)) if spec.text else None
        self.logit_bias = nn.Parameter(torch.tensor(-3.4)) if spec.text else None

    def forward(self, batch: Sample) -> Tensor:
        """Return the head's answer: logits ``(B, K, H, W)`` or ``(B, K)``, or unit vectors ``(B, D)``."""
        return self.answers(batch)[0].logits

    def answers(self, batch: Sample) -> list[Answer]:
        """Return the model's answer and, for late fusions, those of its experts after it.

        Of a late fusion, the first answer trains the rule alone and the others the experts.

        Args:
            batch: normalised.

        Raises:
            ContractError: the batch has none of the model's modalities, or a wrong number of bands.
        """
        if self.stage == "late":
            return self._late(batch)
        features, valid = self.encode_image(batch)
        return [Answer(self.heads["fused"](features, valid), valid, features.weights)]

    def encode_image(self, batch: Sample) -> tuple[FeatureMaps, Tensor]:
        """Encode and fuse a normalised batch.

        Returns:
            The fused pyramid and where any modality is valid at any time, bool ``(B, H, W)``.

        Raises:
            ContractError: the batch has none of the model's modalities, or a wrong number of bands; or the fusion is a
                late one, which has no fused features.
        """
        images, valid = self._inputs(batch)
        if self.stage == "late":
            raise ContractError("a late fusion has no fused features", fix="use a fusion of images or features")
        if self.stage == "early":
            merged, anywhere = self.fusion(images, valid)
            return self.encoders["merged"](merged, anywhere), anywhere
        features = {n: self._over_time(n, image, valid[n]) for n, image in images.items()}
        here = {n: v.any(1) for n, v in valid.items()}
        return self.fusion(features, here), torch.stack(list(here.values())).any(0)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``.

        Raises:
            ContractError: the model has no text encoder.
        """
        if self.text is None:
            raise ContractError("the model has no text encoder", fix="train it with the contrastive task")
        return self.text(texts)  # type: ignore[no-any-return]

    def _inputs(self, batch: Sample) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return images and validity of the modalities that the batch has, in the model's order."""
        known = [n for n in self.spec.modalities if n in batch.images]
        if not known:
            raise ContractError(
                "the batch has none of the model's modalities",
                why=f"it has {', '.join(batch.images)}; the model wants {', '.join(self.spec.modalities)}",
            )
        for name in known:
            bands = batch.images[name].shape[2]
            if bands != self.spec.modalities[name]:
                raise ContractError(
                    "the modality has another number of bands than the model",
                    where=f"modality {name}",
                    why=f"{bands} instead of {self.spec.modalities[name]}",
                )
        valid = {n: batch.valid[n] & batch.present[n][:, None, None, None] for n in known}
        return {n: batch.images[n] for n in known}, valid

    def observe(self, target: Tensor) -> None:
        """Take note of training labels, class indices of any shape, for late fusions that need the prior."""
        if isinstance(self.fusion, LateFusion):
            self.fusion.observe(target.flatten())

    def experts(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """Return what every modality says by itself, of a model with late fusion.

        Returns:
            Logits ``(M, B, K, ...)``, 0 of modalities that the batch lacks, and where each saw anything, bool
            ``(M, B, H, W)``.
        """
        images, valid = self._inputs(batch)
        here = {n: v.any(1) for n, v in valid.items()}
        said = {n: self.heads[n](self._over_time(n, images[n], valid[n]), here[n]) for n in images}
        nothing, nowhere = torch.zeros_like(next(iter(said.values()))), torch.zeros_like(next(iter(here.values())))
        names = list(self.spec.modalities)
        return torch.stack([said.get(n, nothing) for n in names]), torch.stack([here.get(n, nowhere) for n in names])

    def _late(self, batch: Sample) -> list[Answer]:
        """Let every modality answer by itself, then merge."""
        logits, where = self.experts(batch)
        merged, weights = self.fusion(logits.detach(), where if logits.ndim == 5 else where.flatten(2).any(2))
        anywhere = where.any(0)
        present = [m for m, name in enumerate(self.spec.modalities) if name in batch.images]
        return [Answer(merged, anywhere, weights), *(Answer(logits[m], where[m]) for m in present)]

    def _over_time(self, name: str, image: Tensor, valid: Tensor) -> FeatureMaps:
        """Encode every time step, then take the mean of those that are valid, cell by cell."""
        count = image.shape[1]
        flat: FeatureMaps = self.encoders[name](image.flatten(0, 1), valid.flatten(0, 1))
        if count == 1:
            return flat
        maps = []
        for level in flat.maps:
            mask = shrink_valid(valid.flatten(0, 1), (level.shape[-2], level.shape[-1]))
            batch = level.shape[0] // count
            series = level.reshape(batch, count, *level.shape[1:]).movedim(1, 0)
            maps.append(masked_mean(series, mask.reshape(batch, count, *mask.shape[1:]).movedim(1, 0)))
        return FeatureMaps(tuple(maps), flat.strides)
