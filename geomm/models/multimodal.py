"""The multimodal model: encoders, a fusion of images, features or answers, a head, optionally a text encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.models.encoders import EncoderInput, build_encoder
from geomm.models.features import FeatureMaps, masked_mean, shrink_valid
from geomm.models.fusion import find_fusion
from geomm.models.heads import build_head
from geomm.models.late import LateFusion
from geomm.models.levels import Shape
from geomm.models.spec import ModelSpec
from geomm.models.text import build_text

__all__ = ["Answer", "ModelSpec", "MultimodalModel"]


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
        text_folder: where a package keeps the files of its text encoder; None to take them by its name.

    Raises:
        UnknownNameError: an encoder, fusion, decoder, head or text encoder that does not exist.
        ContractError: parts that do not fit each other, or weights that want other bands.
    """

    global_bias = 0.0
    """Share of a chip's mean that is taken off its cells before they are compared with texts; none of them has it."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        pretrained: bool = False,
        weights: Mapping[str, Path] | None = None,
        text_folder: Path | None = None,
    ) -> None:
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
        self.text = build_text(spec.text, spec.outputs, folder=text_folder) if spec.text else None
        # CLIP: a temperature of 0.07 (arXiv 2103.00020); SigLIP's bias is completed by the task, by the batch's size.
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(0.07))) if spec.text else None
        self.logit_bias = nn.Parameter(torch.tensor(0.0)) if spec.text else None

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

    def embed(self, batch: Sample) -> Tensor:
        """Return unit vectors ``(B, D)`` of chips, in the space of the texts.

        Raises:
            ContractError: the model answers with something else than vectors.
        """
        self._wants_vectors()
        return self(batch)  # type: ignore[no-any-return]

    def cells(self, batch: Sample) -> Tensor:
        """Return a vector for every cell of the finest level, ``(B, D, h, w)``, 0 where nothing is valid.

        The vector of a chip is their mean, at unit length.

        Raises:
            ContractError: the model answers with something else than vectors.
        """
        self._wants_vectors()
        return self.heads["fused"].cells(*self.encode_image(batch))  # type: ignore[operator, no-any-return]

    def _wants_vectors(self) -> None:
        if self.spec.task != "contrastive":
            raise ContractError(
                "the model has no vectors to search by",
                why=f"its task is {self.spec.task}",
                fix="train it for contrastive",
            )

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
                fix="load at least one of the model's modalities, under the model's name for it",
            )
        for name in known:
            bands = batch.images[name].shape[2]
            if bands != self.spec.modalities[name]:
                raise ContractError(
                    "the modality has another number of bands than the model",
                    where=f"modality {name}",
                    why=f"{bands} instead of {self.spec.modalities[name]}",
                    fix="load the bands that the model was trained with, in its order",
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
        flat = self._seen(name, image.flatten(0, 1), valid.flatten(0, 1))
        if count == 1:
            return flat
        maps = []
        for level in flat.maps:
            mask = shrink_valid(valid.flatten(0, 1), (level.shape[-2], level.shape[-1]))
            batch = level.shape[0] // count
            series = level.reshape(batch, count, *level.shape[1:]).movedim(1, 0)
            maps.append(masked_mean(series, mask.reshape(batch, count, *mask.shape[1:]).movedim(1, 0)))
        return FeatureMaps(tuple(maps), flat.strides)

    def _seen(self, name: str, image: Tensor, valid: Tensor) -> FeatureMaps:
        """Encode the images that have a valid pixel; features of the others are 0, and statistics never see them."""
        seen = valid.flatten(1).any(1)
        encoder = self.encoders[name]
        if bool(seen.all()) or not bool(seen.any()):
            return encoder(image, valid)  # type: ignore[no-any-return]
        part: FeatureMaps = encoder(image[seen], valid[seen])
        maps = (m.new_zeros(len(image), *m.shape[1:]).index_put((seen,), m) for m in part.maps)
        return FeatureMaps(tuple(maps), part.strides)
