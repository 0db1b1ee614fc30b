"""A cube and a model to a stream of predicted blocks, in memory that depends on the block and never on the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from geomm.chips import Chip, ChipGrid
from geomm.cube import geobox_of
from geomm.dataset import ChipDataset, Sample, collate
from geomm.errors import ConfigError, ContractError
from geomm.models.multimodal import MultimodalModel
from geomm.mosaic import Block
from geomm.package import ModelPackage, check_cube
from geomm.types import LayerSpec, Prediction, Window


class Decoder(Protocol):
    """The part of a task that prediction needs."""

    def activate(self, answer: Tensor) -> Tensor:
        """Scores ``(B, K, H, W)`` of a model's answer."""
        ...

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Named arrays of scores ``(K, H, W)``, nodata where not ``valid (H, W)``."""
        ...


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """How to cut and batch; only ``blend`` and the margin change the result."""

    size: int = 256
    """Chip that is written, in pixels."""
    halo: int = 32
    """Margin that is read on each side; at least the receptive field for a result without seams."""
    block: int = 1024
    """Output block in pixels, a multiple of ``size``: what is held in memory."""
    batch: int = 4
    """Chips at a time."""
    blend: str = "trim"
    """``trim`` or ``hann``, see :mod:`geomm.mosaic`."""
    device: str = "cpu"
    """Torch device."""
    weights: bool = False
    """Also map the share that each modality has in the answer, where the fusion has shares."""

    def __post_init__(self) -> None:
        if self.block % self.size or self.size < 1 or self.halo < 0 or self.batch < 1:
            raise ConfigError(
                "the block is not a multiple of the chip size",
                why=f"block {self.block}, size {self.size}, halo {self.halo}, batch {self.batch}",
            )


OnBlock = Callable[[int, int], None]
"""Told after every block: number done, number in all."""


def predict(
    cube: xr.DataTree,
    package: ModelPackage,
    settings: PredictSettings | None = None,
    *,
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube with a packaged model.

    Args:
        cube: lazy; only the windows of one block are in memory at a time.
        package: a loaded model package; its contract is checked before the first pixel moves.
        settings: by default those of the package.
        on_block: progress.

    Returns:
        Stream of output windows and predictions, in rows of blocks; the windows cover the grid exactly once.

    Raises:
        ContractError: at once, before anything is read: the cube lacks a modality or band, or is in another unit; or
            the model answers with vectors.
    """
    check_cube(package.contract, cube)
    fitted = package.model()
    if not isinstance(fitted.model, MultimodalModel) or package.spec["task"] == "contrastive":
        raise ContractError(
            "a retrieval model makes no map", where=str(package.path), fix="index imagery with it, or ground words"
        )
    settings = settings or PredictSettings(package.contract.size, package.contract.halo, 4 * package.contract.size)
    model = fitted.model.to(settings.device).eval()
    names = tuple(package.contract.modalities)
    decoder: Decoder = package.task()

    def answer(batch: Sample) -> Tensor:
        said = model.answers(fitted.normaliser(batch))[0]
        logits = said.logits / fitted.temperature
        return _with_shares(logits, said.weights, str(package.spec["fusion"])) if settings.weights else logits

    if settings.weights:
        decoder = WithShares(decoder, names)
    return predict_blocks(cube, answer, decoder, names, settings, on_block=on_block)


class WithShares:
    """A decoder that also maps shares of the modalities, which follow the logits as further channels.

    Args:
        inner: decodes the logits.
        modalities: in the order of the shares.
    """

    def __init__(self, inner: Decoder, modalities: Sequence[str]) -> None:
        self.inner, self.count = inner, len(modalities)
        self.layer = LayerSpec("weight", "probability", "float32", float("nan"), tuple(modalities))

    def activate(self, answer: Tensor) -> Tensor:
        """Activate the logits; shares are what they are."""
        return torch.cat([self.inner.activate(answer[:, : -self.count]), answer[:, -self.count :].float()], 1)

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the inner layers and ``weight``: one band per modality, NaN where invalid."""
        said = self.inner.decode(scores[: -self.count], valid)
        weight = np.where(valid, scores[-self.count :], np.float32("nan")).astype(np.float32)
        return Prediction({**said.arrays, "weight": weight}, (*said.layers, self.layer))


def _with_shares(logits: Tensor, shares: Tensor | None, fusion: str) -> Tensor:
    """Put shares of the modalities behind dense logits, at their size."""
    if shares is None or logits.ndim != 4:
        raise ContractError(
            "the model has no shares of its modalities to map",
            why=f"fusion {fusion}" if shares is None else "it answers with one value per chip",
            fix="attention, sum and the late fusions have them, for segmentation",
        )
    return torch.cat([logits, torch.nn.functional.interpolate(shares.to(logits), logits.shape[-2:], mode="nearest")], 1)


def predict_blocks(
    cube: xr.DataTree,
    answer: Callable[[Sample], Tensor],
    decoder: Decoder,
    modalities: Sequence[str],
    settings: PredictSettings,
    *,
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube with any function of a batch; see :func:`predict`."""
    shape = geobox_of(cube).shape
    blocks = ChipGrid((int(shape[0]), int(shape[1])), settings.block)
    for block in blocks:
        chips = _chips_of(block, settings, blocks.shape)
        collector = Block(block.write, settings.blend)
        # One read per block: the cube is cut once with its margin and loaded; chips are views of that.
        area = block.write.expand(settings.halo + settings.size * _ring(settings))
        local, offset = _load(cube, area, modalities)
        valid = np.zeros(block.write.shape, dtype=bool)
        dataset = ChipDataset(local, [_shift(c, offset) for c in chips], modalities)
        for start in range(0, len(chips), settings.batch):
            part = chips[start : start + settings.batch]
            batch = collate([dataset[start + k] for k in range(len(part))])
            usable = torch.stack([v.any(1) for v in batch.valid.values()]).any(0).numpy()
            with torch.inference_mode():
                answered = decoder.activate(answer(batch.to(settings.device)))
            scores = answered.expand(-1, -1, *part[0].read.shape).cpu().numpy()
            for chip, score, good in zip(part, scores, usable, strict=True):
                collector.feed(chip, score)
                inner = _overlap(chip.write, block.write)
                if inner is not None:
                    target = inner.relative_to(block.write).slices
                    valid[target] = good[inner.relative_to(chip.read).slices]
        yield block.write, decoder.decode(collector.result(), valid)
        if on_block:
            on_block(block.index + 1, len(blocks))


def _ring(settings: PredictSettings) -> int:
    """How many chips beyond a block reach into it: none when trimming, those of the margin when blending."""
    return 0 if settings.blend == "trim" else -(-settings.halo // settings.size)


def _chips_of(block: Chip, settings: PredictSettings, shape: tuple[int, int]) -> list[Chip]:
    """Return the chips that a block needs, those of one lattice over the whole grid, whatever the blocks."""
    window, size, ring = block.write, settings.size, _ring(settings)
    chips: list[Chip] = []
    for y in range(window.y - ring * size, window.y + window.height + ring * size, size):
        for x in range(window.x - ring * size, window.x + window.width + ring * size, size):
            full = Window(y, x, size, size)
            write = _overlap(full, Window(0, 0, *shape))
            if write is not None:
                chips.append(Chip(len(chips), full.expand(settings.halo), write))
    return chips


def _load(cube: xr.DataTree, area: Window, modalities: Sequence[str]) -> tuple[xr.DataTree, tuple[int, int]]:
    shape = geobox_of(cube).shape
    inside = area.clip((int(shape[0]), int(shape[1])))
    where: dict[str, Any] = dict(zip(("y", "x"), inside.slices, strict=True))
    nodes = {n: cube.children[n].to_dataset().isel(where) for n in modalities if n in cube.children}
    root = cube.to_dataset().isel(where)
    loaded = xr.DataTree.from_dict({"/": root, **nodes}).compute()
    return loaded, (inside.y, inside.x)


def _shift(chip: Chip, offset: tuple[int, int]) -> Chip:
    def move(w: Window) -> Window:
        return Window(w.y - offset[0], w.x - offset[1], w.height, w.width)

    return Chip(chip.index, move(chip.read), move(chip.write))


def _overlap(a: Window, b: Window) -> Window | None:
    y0, x0 = max(a.y, b.y), max(a.x, b.x)
    y1, x1 = min(a.y + a.height, b.y + b.height), min(a.x + a.width, b.x + b.width)
    return Window(y0, x0, y1 - y0, x1 - x0) if y1 > y0 and x1 > x0 else None
