"""Units of ``predict`` stages: maps of a scene."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.batch.task import NOTHING, NothingThereError, Task, Told
from geomm.batch.work import package_of, take_item
from geomm.config import PredictStage
from geomm.pipeline.apply import MapOptions, map_cube
from geomm.pipeline.clock import Clock
from geomm.pipeline.jobs import job_of

if TYPE_CHECKING:
    from geomm.prediction import Member

_ready = threading.local()


def make(task: Task, folder: Path, clock: Clock, told: Told) -> dict[str, Any]:
    """Map the scenes of a unit; blocks of a try that was stopped are used again."""
    stage = task.stage
    assert isinstance(stage, PredictStage)
    options = MapOptions(
        tuple(stage.layers),
        polygons=stage.polygons,
        size=stage.size,
        halo=stage.halo,
        blend=stage.blend,
        symmetries=stage.symmetries,
        device=str(task.settings.get("device", "cpu")),
        precision=stage.precision,
    )
    member = _member(task, options)
    clock.lap("load")
    job = job_of(member.package, task.unit.name, task.scenes)
    cube = job.cube(member.package, crs=stage.grid.crs, resolution=stage.grid.resolution)
    clock.lap("read")

    def progress(_stage: str, _done: int, _total: int) -> None:
        clock.lap("model")
        told()

    name = Path(task.unit.place).name
    product = map_cube([member], cube, job.scenes, task.folder / "maps", name, progress, options=options)
    if _empty(next(iter(product.files.values()))):
        raise NothingThereError("no pixel of the imagery is valid", fix=NOTHING)
    for path in product.item.parent.iterdir():
        if path.is_file():
            path.replace(folder / path.name)
    return take_item(folder / product.item.name)


def _member(task: Task, options: MapOptions) -> Member:
    """Load the model of a stage, once for every thread that works: what it keeps is not shared."""
    from geomm.prediction import Member

    key = (task.model, task.settings.get("model"), options.device, options.precision)
    if getattr(_ready, "key", None) != key:
        _ready.member, _ready.key = Member(package_of(task), options.shared()), key
    member: Member = _ready.member
    return member


def _empty(path: Path) -> bool:
    """Tell whether a layer holds nothing; what an overview shows is there."""
    import rasterio

    with rasterio.open(path, driver="GTiff") as file:
        coarse = max(file.overviews(1), default=1)
        shape = tuple(-(-n // coarse) for n in file.shape)
        if file.read_masks(1, out_shape=shape).any():
            return False
        return not any(file.read_masks(1, window=window).any() for _, window in file.block_windows(1))
