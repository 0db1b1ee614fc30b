"""How much a unit will read, from what its catalog says: without opening a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import batched

import numpy as np

from geomm.batch.stages import StagePlan
from geomm.catalog import Scene
from geomm.config import ChipsStage, CompositeStage
from geomm.ledger import Unit

AT_ONCE = 64
"""Units whose scenes are made at a time."""


def bytes_of(plan: StagePlan, units: Sequence[Unit]) -> dict[str, int]:
    """Return the bytes of the decoded pixels of units, as far as the catalog tells the size of the files.

    Args:
        plan: of the stage.
        units: of the plan.
    """
    if plan.imagery is None:
        return {}
    wanted, found = _wanted(plan), dict[str, int]()
    for some in batched(units, AT_ONCE):
        for number, scenes in plan.imagery.load(some).items():
            found[number] = sum(size for s in scenes for size in _sizes(s, wanted))
    return found


def _wanted(plan: StagePlan) -> dict[str, tuple[str, ...]]:
    """Return the bands of every sensor that a stage reads; empty for all."""
    stage = plan.stage
    if isinstance(stage, CompositeStage):
        return {stage.sensor: (stage.band,)}
    if isinstance(stage, ChipsStage):
        return {m.sensor: tuple(m.bands) for m in stage.modalities.values()}
    from geomm.package import load_package

    return {m.sensor: m.bands for m in load_package(plan.model).contract.modalities.values()}


def _sizes(scene: Scene, wanted: dict[str, tuple[str, ...]]) -> Iterator[int]:
    names = wanted.get(scene.sensor) or tuple(scene.bands)
    for source in (scene.bands[n] for n in names if n in scene.bands):
        if source.grid is not None:
            yield source.grid.shape[0] * source.grid.shape[1] * np.dtype(source.dtype or "uint16").itemsize
