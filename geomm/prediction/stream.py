"""A cube and a model to a stream of predicted blocks, in memory that depends on the block and never on the scene.

While the caller's thread runs the model, others read and decode the sources, and cut the next chips and normalise them.
Every block is a function of its own pixels, whatever the order: blocks may be made by any number of processes, or at
another time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geomm.chipping import ChipReader
from geomm.chipping.ahead import ReadAhead
from geomm.chips import Chip
from geomm.cube import cube_of, geobox_of
from geomm.cube.memory import kept_heap
from geomm.dataset import Sample, to_sample
from geomm.mosaic import Block, overlap
from geomm.prediction.background import ahead
from geomm.prediction.device import Fetched, Sparing
from geomm.prediction.plan import PlannedBlock, PredictPlan
from geomm.prediction.predictor import Decoder, Predictor
from geomm.prediction.settings import PredictSettings
from geomm.types import Prediction, Window, check_kind

if TYPE_CHECKING:
    import xarray as xr

OnBlock = Callable[[int, int], None]
"""Told after every block: number done, number in all."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Chips of one block on their way."""

    block: PlannedBlock
    chips: tuple[Chip, ...]
    usable: NDArray[np.bool_]
    """``(B, H, W)``: where any modality has a valid pixel."""
    asked: NDArray[np.intp]
    """Which chips the model sees: those with something usable where the block is."""
    last: bool
    """Whether the block is complete with it."""
    batch: Sample | None = None
    """What the model sees; None for nothing."""
    scores: NDArray[Any] | None = None
    """What it says of them ``(B, L, H, W)``, packed already unless it is blended."""


def predict_blocks(
    cube: xr.DataTree,
    predictor: Predictor,
    settings: PredictSettings,
    *,
    skip: Collection[Window] = (),
    only: Collection[Window] | None = None,
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube with any function of a batch.

    Args:
        cube: lazy; only what a block or two need is in memory at a time.
        predictor: the function, and what comes out of it.
        settings: how to cut and batch.
        skip: blocks that are there already.
        only: blocks that are wanted, all by default.
        on_block: progress.

    Returns:
        Stream of output windows and predictions, panel by panel and in rows of blocks; all windows together cover the
        grid exactly once. Close it to stop early.

    Raises:
        ConfigError: at once: an argument is of another kind.
    """
    cube_of(cube)
    fix = "a model package is mapped with geomm.predict(cube, package); a network with geomm.predictor_of_module"
    check_kind(predictor, Predictor, "this is no predictor", fix=fix)
    check_kind(settings, PredictSettings, "settings are PredictSettings", fix="write PredictSettings(size=256)")
    return _predicted(cube, predictor, settings, skip, only, on_block)


def _predicted(
    cube: xr.DataTree,
    predictor: Predictor,
    settings: PredictSettings,
    skip: Collection[Window],
    only: Collection[Window] | None,
    on_block: OnBlock | None,
) -> Iterator[tuple[Window, Prediction]]:
    plan = plan_of(cube, predictor, settings)
    wanted = [b for b in plan.blocks if b.window not in skip and (only is None or b.window in only)]
    done, total = len(plan.blocks) - len(wanted), len(plan.blocks)
    if not wanted:
        return
    with closing(_scored(cube, predictor, plan, wanted)) as parts, kept_heap():
        for window, prediction in _assembled(parts, predictor.decoder, plan):
            yield window, prediction
            done += 1
            if on_block:
                on_block(done, total)


def plan_of(cube: xr.DataTree, predictor: Predictor, settings: PredictSettings) -> PredictPlan:
    """Return which chips and blocks a cube is predicted in."""
    shape = geobox_of(cube).shape
    return PredictPlan((int(shape[0]), int(shape[1])), settings, predictor.stride, predictor.any_size)


def _prepared(
    cube: xr.DataTree, predictor: Predictor, plan: PredictPlan, blocks: Sequence[PlannedBlock]
) -> Generator[_Part]:
    """Read blocks, ahead of their use, cut their chips, and prepare them for the model."""
    reader, visits = ChipReader(cube, plan.lattice, predictor.modalities), plan.visits(tuple(blocks))
    size, pin = plan.settings.batch, torch.device(plan.settings.device).type == "cuda"
    once = np.ones(len(visits), np.int64)
    with torch.inference_mode(), ReadAhead(reader, visits, once, shuffled=False, tidy=False) as areas:
        for number, block in enumerate(blocks):
            held = areas.get(number)
            for start in range(0, len(block.chips), size):
                chips = block.chips[start : start + size]
                arrays = reader.cut([held] * len(chips), chips, [c.index for c in chips])
                usable = np.stack([v.any(1) for v in arrays.valid.values()]).any(0)
                asked = np.flatnonzero([_matters(u, c, plan, block) for u, c in zip(usable, chips, strict=True)])
                batch = None
                if asked.size:
                    batch = to_sample(arrays)
                    batch = batch if asked.size == len(chips) else batch.each(lambda x, k=asked: x[k])  # type: ignore[misc]
                    batch = predictor.prepare(batch)
                    batch = batch.pin_memory() if pin else batch
                yield _Part(block, chips, usable, asked, start + size >= len(block.chips), batch)
            areas.release(number)


def _scored(
    cube: xr.DataTree, predictor: Predictor, plan: PredictPlan, blocks: Sequence[PlannedBlock]
) -> Generator[_Part]:
    """Run the model on what another thread prepares."""
    sparing, before = Sparing(predictor.scores, plan.settings.batch), torch.get_num_threads()
    blended, device = plan.settings.blend != "trim", torch.device(plan.settings.device)
    # The model has all processors to itself; torch starts as many threads again for every thread that calls it.
    prepared = ahead(_prepared(cube, predictor, plan, blocks), start=lambda: torch.set_num_threads(1))
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        stack.enter_context(closing(prepared))
        waiting: tuple[_Part, Fetched] | None = None
        for number, part in enumerate(prepared):
            if not number:
                torch.set_num_threads(plan.settings.threads or before)
            launched = None
            if part.batch is not None:
                with torch.inference_mode():  # not while the caller has the block
                    said = sparing(part.batch if device.type == "cpu" else part.batch.to(device))
                    launched = Fetched(said if blended else predictor.decoder.pack(said))
            if waiting is not None:
                yield replace(waiting[0], scores=waiting[1].numpy())
                waiting = None
            if launched is None or device.type == "cpu":
                yield replace(part, batch=None, scores=launched.numpy() if launched else None)
            else:  # the device goes on with the next batch while this one is fetched
                waiting = replace(part, batch=None), launched
        if waiting is not None:
            yield replace(waiting[0], scores=waiting[1].numpy())


def _assembled(parts: Iterator[_Part], decoder: Decoder, plan: PredictPlan) -> Iterator[tuple[Window, Prediction]]:
    """Put what the model says of chips together into blocks."""
    collector: Block | None = None
    for part in parts:
        window = part.block.window
        if collector is None:
            collector, valid = Block(window, plan.settings.blend), np.zeros(window.shape, bool)
        for chip, usable in zip(part.chips, part.usable, strict=True):
            inner = overlap(chip.write, window)
            if inner is not None:
                valid[inner.relative_to(window).slices] = usable[inner.relative_to(chip.read).slices]
        for k, chip in enumerate(part.chips):
            if k not in part.asked:
                collector.skip(chip)
        for k, number in enumerate(part.asked):
            chip = part.chips[number]
            assert part.scores is not None
            said = part.scores[k]
            collector.feed(chip, np.broadcast_to(said, (len(said), *chip.read.shape)))
        if part.last:
            yield window, _decoded(collector.result(), valid, decoder, blended=plan.settings.blend != "trim")
            collector = None


def _decoded(scores: NDArray[Any] | None, valid: NDArray[np.bool_], decoder: Decoder, *, blended: bool) -> Prediction:
    """Return the layers of a block; nodata alone where the model was asked nothing."""
    if scores is None:
        arrays = {
            layer.name: np.full((len(layer.bands), *valid.shape), layer.nodata, layer.dtype) for layer in decoder.layers
        }
        return Prediction(arrays, tuple(decoder.layers))
    packed = decoder.pack(torch.from_numpy(scores[None]))[0].numpy() if blended else scores
    return decoder.decode(packed, valid)


def _matters(usable: NDArray[np.bool_], chip: Chip, plan: PredictPlan, block: PlannedBlock) -> bool:
    """Whether a chip has anything usable where it answers for a block."""
    answered = overlap(chip.write if plan.settings.blend == "trim" else chip.read, block.window)
    return answered is not None and bool(usable[answered.relative_to(chip.read).slices].any())
