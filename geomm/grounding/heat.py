"""How much of some words every place has: heat maps, and maps of prompted classes, as a stream of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geomm.cube import cube_of
from geomm.errors import ContractError
from geomm.grounding.prompts import Prompts
from geomm.models.multimodal import MultimodalModel
from geomm.package import ModelPackage, check_cube
from geomm.prediction import Decoder, OnBlock, Predictor, PredictSettings, as_they_are, cells_of, predict_blocks
from geomm.retrieval.embedder import Embedder
from geomm.tasks.maps import ClassMaps
from geomm.types import LayerSpec, Prediction, Window, check_kind

if TYPE_CHECKING:
    import xarray as xr

    from geomm.dataset import Sample


SIDE = 192
"""Pixels of what is mapped at a time, at most, unless chips are larger."""


def heat_of(cells: Tensor, texts: Tensor, size: tuple[int, int], *, bias: float = 0.0) -> Tensor:
    """Compare every cell with texts.

    The vector of a chip is the mean of those of its cells, so that what a cell has in common with a text, its own
    length included, is its part in the score of the chip: a heat map adds up to what the chip is ranked by. Where cells
    all carry what the whole image is about, as CLIP's do, a share of their mean is taken off first (SegEarth-OV, arXiv
    2410.01768).

    Args:
        cells: ``(B, D, h, w)``, 0 where nothing is valid.
        texts: unit vectors ``(n, D)``.
        size: height and width of the maps.
        bias: share of the mean over a chip's valid cells that is taken off each, in directions; 0 for none.

    Returns:
        ``(B, n, *size)``, interpolated between the centres of the cells; higher is more.
    """
    if bias:
        seen = (cells != 0).any(1, keepdim=True).to(cells.dtype)
        mean = (cells * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp_min(1)
        cells = (functional.normalize(cells, dim=1) - bias * functional.normalize(mean, dim=1)) * seen
        cells = functional.normalize(cells, dim=1)
    maps = torch.einsum("bdhw,nd->bnhw", cells, texts)
    return maps if tuple(maps.shape[-2:]) == size else functional.interpolate(maps, size, mode="bilinear")


def ground(
    cube: xr.DataTree,
    package: ModelPackage,
    asked: str | Prompts,
    settings: PredictSettings | None = None,
    *,
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Map where words are, with a packaged dual encoder.

    Args:
        cube: lazy; memory depends on the block, not on the scene.
        package: a model of the contrastive task; its contract is checked before the first pixel moves.
        asked: words, for a heat map (layer ``heat``); or prompts, for a map of their classes (layers ``class`` and
            ``probability``).
        settings: by default chips of :data:`SIDE` pixels with a margin of the chips that the model was trained on.
        on_block: progress.

    Returns:
        Stream of windows and predictions for :func:`geomm.write_products`; the windows cover the grid exactly once.

    Raises:
        ContractError: at once: the model is of another task, or the cube does not meet its contract.
        ConfigError: at once: an argument is of another kind.
    """
    cube_of(cube)
    fix = "load it first: ground(cube, geomm.load_package(FOLDER), words)"
    check_kind(package, ModelPackage, "this is no model package", fix=fix)
    fix = 'give one text, as in "open water", or prompts for a map of classes: Prompts.of("water", "forest")'
    check_kind(asked, (str, Prompts), "what to look for is a text, or Prompts", fix=fix)
    fix = "write PredictSettings(device='cuda')"
    check_kind(settings, (PredictSettings, type(None)), "settings are PredictSettings", fix=fix)
    check_cube(package.contract, cube)
    settings = settings or default_settings(package.contract.size)
    embedder = Embedder.of(package, device=settings.device)
    model, normaliser = embedder.fitted.model, embedder.fitted.normaliser
    vectors = asked.vectors(embedder) if isinstance(asked, Prompts) else embedder.text([asked])
    texts = torch.from_numpy(np.ascontiguousarray(vectors)).to(settings.device)
    scale = _scale(model) if isinstance(asked, Prompts) else None
    on_host = torch.device(settings.device).type == "cpu"

    def scores(batch: Sample) -> Tensor:
        cells = model.cells(batch if on_host else normaliser(batch))
        size = next(iter(batch.valid.values())).shape[-2:]
        if scale is None:
            return heat_of(cells, texts, (int(size[0]), int(size[1])), bias=model.global_bias)
        # The class is that of the heat; the length of a cell says how much it matters, not what it is.
        told = functional.normalize(cells, dim=1) if not model.global_bias else cells
        return torch.softmax(scale * heat_of(told, texts, (int(size[0]), int(size[1])), bias=model.global_bias), 1)

    layers = settings.layers or ("class", "probability")
    decoder: Decoder = ClassMaps(asked.classes, layers) if isinstance(asked, Prompts) else Heat(asked)
    cells = cells_of(model) if isinstance(model, MultimodalModel) else (1, False)
    predictor = Predictor(scores, decoder, embedder.modalities, normaliser if on_host else as_they_are, *cells)
    return predict_blocks(cube, predictor, settings, on_block=on_block)


def default_settings(size: int) -> PredictSettings:
    """Return how to map with a model of chips of a size: several together, with a margin of one."""
    together = size * max(1, SIDE // size)
    return PredictSettings(together, size, 4 * together)


def _scale(model: Any) -> Tensor:
    """Return the temperature's inverse that the model was trained with."""
    return model.logit_scale.detach().exp()  # type: ignore[no-any-return]


class Heat:
    """Decodes one heat map."""

    def __init__(self, words: str) -> None:
        if not words.strip():
            raise ContractError(
                "there are no words to look for", why=f"got {words!r}", fix='give some, for example "open water"'
            )
        self.layers: tuple[LayerSpec, ...] = (LayerSpec("heat", "continuous", "float32", float("nan"), (words,)),)

    def pack(self, scores: Tensor) -> Tensor:
        """Return the heat unchanged."""
        return scores

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the map, NaN where invalid."""
        heat = np.where(valid, scores, np.float32("nan")).astype(np.float32)
        return Prediction({"heat": heat}, self.layers)
