"""The multimodal model: one encoder per modality, one fusion, one head, optionally a text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geomm.dataset import Sample
from geomm.errors import ContractError, UnknownNameError
from geomm.models.encoders import build_encoder
from geomm.models.features import FeatureMaps, masked_mean, shrink_valid
from geomm.models.fusion import build_fusion
from geomm.models.heads import build_head
from geomm.models.text import TinyText


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to build a model again; travels in its package as JSON."""

    modalities: Mapping[str, int]
    """Modality to number of bands, in the order of the fusion."""
    outputs: int
    """Classes, or length of the embedding."""
    task: str = "segmentation"
    """Decides the head."""
    encoder: str = "tiny_cnn"
    """Encoder name, see :mod:`geomm.models.encoders`."""
    fusion: str = "attention"
    """Fusion name, see :mod:`geomm.models.fusion`."""
    width: int = 16
    """Size of the local encoders."""
    text: str = ""
    """``tiny`` for a text encoder; empty for none."""

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


class MultimodalModel(nn.Module):
    """Encode each modality, fuse what is valid, answer.

    Args:
        spec: what to build.

    Raises:
        UnknownNameError: an encoder, fusion, head or text encoder that does not exist.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoders = nn.ModuleDict(
            {n: build_encoder(spec.encoder, bands, width=spec.width) for n, bands in spec.modalities.items()}
        )
        channels: dict[str, Sequence[int]] = {n: e.channels for n, e in self.encoders.items()}  # type: ignore[misc]
        self.fusion = build_fusion(spec.fusion, channels)
        self.head = build_head(spec.task, self.fusion.channels, spec.outputs)
        if spec.text not in ("", "tiny"):
            raise UnknownNameError.of("text encoder", spec.text, ("tiny",))
        self.text = TinyText(spec.outputs) if spec.text else None
        # SigLIP: temperature 10 and a bias that makes the first positive rate 1/N for N near 32 (arXiv 2303.15343).
        self.logit_scale = nn.Parameter(torch.tensor(2.3026)) if spec.text else None
        self.logit_bias = nn.Parameter(torch.tensor(-3.4)) if spec.text else None

    def encode_image(self, batch: Sample) -> tuple[FeatureMaps, Tensor]:
        """Encode and fuse a normalised batch.

        Returns:
            The fused pyramid and where any modality is valid at any time, bool ``(B, H, W)``.

        Raises:
            ContractError: the batch has none of the model's modalities, or a wrong number of bands.
        """
        known = [n for n in self.spec.modalities if n in batch.images]
        if not known:
            raise ContractError(
                "the batch has none of the model's modalities",
                why=f"it has {', '.join(batch.images)}; the model wants {', '.join(self.spec.modalities)}",
            )
        features, valid = {}, {}
        for name in known:
            image = batch.images[name]
            if image.shape[2] != self.spec.modalities[name]:
                raise ContractError(
                    "the modality has another number of bands than the model",
                    where=f"modality {name}",
                    why=f"{image.shape[2]} instead of {self.spec.modalities[name]}",
                )
            mask = batch.valid[name] & batch.present[name][:, None, None, None]
            features[name] = self._over_time(name, image, mask)
            valid[name] = mask.any(1)
        return self.fusion(features, valid), torch.stack(list(valid.values())).any(0)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``.

        Raises:
            ContractError: the model has no text encoder.
        """
        if self.text is None:
            raise ContractError("the model has no text encoder", fix="train it with the contrastive task")
        return self.text(texts)  # type: ignore[no-any-return]

    def forward(self, batch: Sample) -> Tensor:
        """Return the head's answer: logits ``(B, K, H, W)`` or ``(B, K)``, or unit vectors ``(B, D)``."""
        return self.head(*self.encode_image(batch))  # type: ignore[no-any-return]

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
