"""From chips and words to vectors: a trained dual encoder as the index uses it, NumPy in and out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.errors import ConfigError, ContractError
from geomm.types import check_kind

if TYPE_CHECKING:
    from geomm.dataset import Sample
    from geomm.package import ModelPackage
    from geomm.train import Fitted


@dataclass(frozen=True, slots=True)
class Embedder:
    """A dual encoder and the normalisation that it wants."""

    fitted: Fitted
    """The trained model."""
    device: str = "cpu"
    """Torch device."""

    def __post_init__(self) -> None:
        if not hasattr(self.fitted, "normaliser"):
            fix = "write Embedder.of(package)"
            raise ConfigError("this is no trained model", why=f"got {type(self.fitted).__name__}", fix=fix)

    @classmethod
    def of(cls, package: ModelPackage, *, device: str = "cpu") -> Embedder:
        """Load the model of a package.

        Raises:
            ContractError: it was trained for something else.
        """
        if not hasattr(package, "spec"):
            fix = f"load it first: Embedder.of(geomm.load_package({str(package)!r}))"
            raise ContractError("this is no model package", where=repr(package)[:80], fix=fix)
        if package.spec["task"] != "contrastive":
            raise ContractError(
                "the model has no vectors to search by",
                where=str(package.path),
                why=f"its task is {package.spec['task']}",
                fix="train one with `task: contrastive`",
            )
        fitted = package.model()
        fitted.model.to(device).eval()
        return cls(fitted, device)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.fitted.model.spec.outputs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the streams that the model sees."""
        return tuple(self.fitted.model.spec.modalities)

    @property
    def global_bias(self) -> float:
        """Share of a chip's mean that is taken off its cells before they are compared with texts."""
        return float(self.fitted.model.global_bias)

    def text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Return unit vectors of texts, or of one, float32 ``(n, D)``.

        Raises:
            ContractError: a text is empty.
            ConfigError: these are no texts.
        """
        import torch

        fix = 'write embedder.text(["open water", "a town"])'
        check_kind(texts, Iterable, "these are no texts", fix=fix)
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            check_kind(text, str, "this is no text", fix=fix)
        if not all(t.strip() for t in texts):
            raise ContractError(
                "there are no words to search for",
                why=f"got {list(texts)!r}",
                fix='give some, for example "open water"',
            )
        with torch.inference_mode():
            vectors: np.ndarray = self.fitted.model.encode_text(list(texts)).float().cpu().numpy()
        return vectors

    def image(self, sample: Sample) -> np.ndarray:
        """Return the unit vector of one chip, float32 ``(D,)``, whichever of the model's sensors it has.

        Raises:
            ConfigError: it is no sample.
        """
        _check_sample(sample)
        batch = sample if sample.bounds is None or sample.bounds.ndim > 1 else _batch_of(sample)
        vector: np.ndarray = self.images(batch)[0]
        return vector

    def images(self, batch: Sample) -> np.ndarray:
        """Return unit vectors of a batch of chips as a loader gives them, float32 ``(B, D)``.

        Raises:
            ConfigError: it is no batch.
        """
        _check_sample(batch)
        import torch

        with torch.inference_mode():
            vectors: np.ndarray = self.fitted.model.embed(self._ready(batch)).float().cpu().numpy()
        return vectors

    def cells(self, batch: Sample, side: int) -> np.ndarray:
        """Return a grid of ``side`` by ``side`` vectors for every chip, float32 ``(B, side, side, D)``.

        Each is the mean of the vectors of its valid cells, 0 where there is none; they are not of unit length.
        """
        import torch

        with torch.inference_mode():
            cells = self.fitted.model.cells(self._ready(batch))
            seen = (cells != 0).any(1, keepdim=True).to(cells.dtype)
            share = torch.nn.functional.adaptive_avg_pool2d(seen, side).clamp_min(1e-6)
            pooled = torch.nn.functional.adaptive_avg_pool2d(cells, side) / share
            grid: np.ndarray = pooled.movedim(1, -1).float().cpu().numpy()
        return grid

    def _ready(self, batch: Sample) -> Any:
        wanted = self.modalities
        known = {n: x for n, x in batch.images.items() if n in wanted}
        return self.fitted.normaliser(replace(batch, images=known).to(self.device))


def _check_sample(given: Any) -> None:
    if not hasattr(given, "images"):
        fix = "give one of a dataset: embedder.image(dataset[0]); or a batch of a loader: embedder.images(batch)"
        raise ConfigError("this is no sample", why=f"got {type(given).__name__}", fix=fix)


def _batch_of(sample: Sample) -> Sample:
    from geomm.dataset import collate

    return collate([sample])
