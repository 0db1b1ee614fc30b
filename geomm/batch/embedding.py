"""Units of ``index`` stages: the chips of a scene in the one index of the stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomm.batch.task import Task, Told
from geomm.batch.work import package_of, plain_item
from geomm.config import IndexStage
from geomm.pipeline.clock import Clock
from geomm.pipeline.indexing import index_job
from geomm.pipeline.jobs import job_of
from geomm.retrieval.build import IndexSettings


def make(task: Task, _folder: Path, clock: Clock, told: Told) -> dict[str, Any]:
    """Embed the scenes of a unit; the index takes a batch of them whole or not at all, and knows how far it is."""
    stage = task.stage
    assert isinstance(stage, IndexStage)
    package = package_of(task)
    index = Path(str(task.settings["index"]))
    job = job_of(package, task.unit.name, task.scenes)
    clock.lap("load")
    settings = IndexSettings(stage.size or package.contract.size, stage.views)
    device = str(task.settings.get("device", "cpu"))
    rows = index_job(package, job, index, settings=settings, device=device, on_chips=lambda _done, _of: told())
    _point_at(index)
    clock.lap("model")
    item = plain_item(task)
    item["properties"] |= {"geomm:rows": rows}
    return item


def _point_at(index: Path) -> None:
    """Let ``index`` beside the indexes of all models lead to the one that was written last."""
    link, aside = index.with_name("index"), index.with_name(".index.new")
    if link.is_symlink() and link.readlink() == Path(index.name):
        return
    aside.unlink(missing_ok=True)
    aside.symlink_to(index.name)
    aside.replace(link)
