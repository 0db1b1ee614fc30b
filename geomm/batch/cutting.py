"""Units of ``chips`` stages: a chip store of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomm.batch.task import NOTHING, NothingThereError, Task, Told
from geomm.batch.work import plain_item, published_file
from geomm.chipping import ChipReader, Target
from geomm.chips import SpatialSplit
from geomm.config import ChipsStage
from geomm.cube import close_files, common_geobox, geobox_of, load_cube
from geomm.pipeline.clock import Clock
from geomm.sensors import get_sensor
from geomm.store import StoredChips, StorePart, write_store
from geomm.types import Modality

LABEL = "label"
"""Name of the node that holds the labels."""


def make(task: Task, folder: Path, clock: Clock, told: Told) -> dict[str, Any]:
    """Cut the scenes of a unit into a store; chips of which nothing is valid are kept, as everything else."""
    stage = task.stage
    assert isinstance(stage, ChipsStage)
    streams = {n: Modality(m.sensor, tuple(m.bands)) for n, m in stage.modalities.items()}
    if stage.label is not None:
        streams[LABEL] = Modality(stage.label.sensor, tuple(stage.label.bands))
    scenes = [s.only(_bands(s, streams)) for s in task.scenes]
    here = {s.sensor for s in scenes}
    geobox = common_geobox(scenes[:1], crs=stage.grid.crs, resolution=stage.grid.resolution)
    cube = load_cube(scenes, geobox, {n: m for n, m in streams.items() if m.sensor in here}, errors="raise")
    height, width = (int(n) for n in geobox_of(cube).shape)
    clock.lap("read")
    shares = {"train": 1.0 - stage.validation, "validation": stage.validation}
    split = SpatialSplit.draw(
        (height, width),
        {n: share for n, share in shares.items() if share > 0},
        block=stage.block,
        buffer=stage.buffer if stage.validation else 0,
    )
    target = Target(LABEL, tuple(stage.classes)) if LABEL in cube.children else None
    parts = []
    for name in split.names:
        chips = split.tiles(name, stage.size)
        reader = ChipReader(cube, chips, tuple(stage.modalities), target=target, split=(split, name))
        parts.append(StorePart(task.unit.name, reader, {"split": [name] * len(chips)}))
    try:
        store = write_store(parts, folder / "chips", progress=lambda _s, _d, _t: told())
    finally:
        close_files(cube)
    stored = StoredChips(store)
    if not any(stored.usable(k).any() for k in range(len(stored))):
        raise NothingThereError("no pixel of the imagery is valid", fix=NOTHING)
    clock.lap("write")
    item = plain_item(task)
    item["assets"]["chips"] = published_file(store / "store.json", folder, "Chip store", "application/json")
    return item


def _bands(scene: Any, streams: dict[str, Modality]) -> list[str]:
    """Return the bands of a scene that any stream wants, and the one that says which pixels are usable."""
    quality = get_sensor(scene.sensor).quality
    named = [m.bands or tuple(scene.bands) for m in streams.values() if m.sensor == scene.sensor]
    extra = [quality.band] if quality is not None and quality.band in scene.bands else []
    return list(dict.fromkeys([b for bands in named for b in bands] + extra))
