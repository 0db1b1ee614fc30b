"""Work on one unit, in whatever process: make its files aside, with their hashes, ready to be published."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from geomm.archive import FileRecord, Manifest, sha256_of
from geomm.batch.planning import model_digest
from geomm.batch.task import NothingThereError, Outcome, Stopped, Task, Told
from geomm.catalog import fetched_scene
from geomm.errors import GeommError, ModelChangedError
from geomm.ledger import failure_of
from geomm.pipeline.clock import Clock

if TYPE_CHECKING:
    from geomm.package import ModelPackage

SUMS = "SHA256SUMS"
"""File with the hashes of all others of a unit."""

PATIENCE = 60.0
"""Seconds to wait for a worker of a killed run that is still at the same unit."""

_MAKERS = {
    "predict": "geomm.batch.mapping",
    "composite": "geomm.batch.composing",
    "chips": "geomm.batch.cutting",
    "train": "geomm.batch.training",
    "index": "geomm.batch.embedding",
}
"""Kind of stage to the module whose ``make(task, folder, clock, told)`` returns the STAC item of a unit."""


def work(task: Task, told: Told | None = None, *, begun: Callable[[], None] | None = None) -> Outcome:
    """Work on a unit; whatever goes wrong comes back as a failure.

    Args:
        task: the unit; its folder holds ``made`` afterwards, with the files to publish.
        told: called now and then.
        begun: called once, when all is imported and the unit itself begins.
    """
    clock, made = Clock(), task.folder / "made"
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(task.folder / "lock", timeout=PATIENCE):
            return _work(task, made, told or _go_on, begun or _go_on)
    except Stopped:
        return Outcome("ABORTED")
    except (Exception, MemoryError) as error:
        shutil.rmtree(made, ignore_errors=True)
        return Outcome("FAILED", failure=failure_of(error), seconds={"all": time.perf_counter() - clock.started})


def _work(task: Task, made: Path, told: Told, begun: Callable[[], None]) -> Outcome:
    """Make the files of a unit."""
    _limit(task)
    make: Callable[[Task, Path, Clock, Told], dict[str, Any]] = import_module(_MAKERS[task.stage.kind]).make
    begun()
    clock = Clock()
    began = clock.started
    if task.settings.get("fetch"):
        scenes = tuple(fetched_scene(s, task.folder / "inputs") for s in task.scenes)
        task = replace(task, scenes=scenes)
        clock.lap("read")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    state, reason, name = "DONE", "", f"{Path(task.unit.place).name}.json"
    try:
        item = make(task, made, clock, told)
    except NothingThereError as error:
        shutil.rmtree(made)
        made.mkdir()
        state, reason, item = "SKIPPED", error.what, _empty_item(task, error.what)
    manifest = _seal(task, made, item, name)
    clock.lap("write")
    return Outcome(state, made, manifest, reason, seconds=clock.seconds | {"all": time.perf_counter() - began})


def _go_on() -> None:
    """Say that the work may go on."""


def _limit(task: Task) -> None:
    """Set what holds for all work of a process: threads, whose number decides last digits."""
    threads = int(task.settings.get("threads", 0))
    if threads and task.stage.kind != "composite":
        import torch

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def _seal(task: Task, made: Path, item: dict[str, Any], name: str) -> Manifest:
    """Write the item of a unit, and the hashes of all of its files."""
    item["id"] = Path(name).stem
    item["properties"].pop("geomm:identity", None)  # it counts when files were copied here; the unit says more
    item["properties"] |= {"geomm:unit": task.unit.id, "geomm:stage": task.unit.stage, "geomm:name": task.unit.name}
    (made / name).write_text(json.dumps(item, indent=2))
    files = Manifest.of(made, name).files
    text = "".join(f"{f.sha256}  {f.name}\n" for f in files)
    (made / SUMS).write_text(text)
    sums = FileRecord(SUMS, len(text.encode()), sha256_of(made / SUMS))
    return Manifest(tuple(sorted((*files, sums), key=lambda f: f.name)), name)


def _empty_item(task: Task, reason: str) -> dict[str, Any]:
    """Return the item of a unit that there was nothing to make of: it has no assets."""
    return plain_item(task) | {"assets": {}} | {"properties": {"datetime": task.unit.time, "geomm:skipped": reason}}


def plain_item(task: Task) -> dict[str, Any]:
    """Return a STAC item with place, time and origin of a unit, and no assets yet."""
    box = task.unit.bbox or (-180.0, -90.0, 180.0, 90.0)
    west, south, east, north = box
    rings = [[(west, 180.0), (-180.0, east)], [(west, east)]][west <= east]
    shapes = [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in rings]
    kind = "Polygon" if len(shapes) == 1 else "MultiPolygon"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": task.unit.name,
        "geometry": {"type": kind, "coordinates": shapes[0] if len(shapes) == 1 else shapes},
        "bbox": list(box),
        "properties": {"datetime": task.unit.time},
        "links": [
            {"rel": "derived_from", "href": href, "type": "application/geo+json"}
            for href in dict.fromkeys(s.href for s in task.scenes)
            if href
        ],
        "assets": {},
    }


def published_file(path: Path, folder: Path, title: str, kind: str) -> dict[str, Any]:
    """Return the asset of a file of a unit."""
    return {
        "href": f"./{path.relative_to(folder).as_posix()}",
        "title": title,
        "type": kind,
        "roles": ["data"],
        "file:size": path.stat().st_size,
        "file:checksum": f"1220{sha256_of(path)}",
    }


def package_of(task: Task) -> ModelPackage:
    """Open the model of a task.

    Raises:
        ModelChangedError: it is not the one that was planned with.
    """
    from geomm.package import load_package

    package = load_package(task.model)
    if model_digest(package) != task.settings.get("model"):
        raise ModelChangedError(
            "the model was replaced while the run was at work",
            where=task.model,
            fix="run the same command again: it takes the new model",
        )
    return package


def take_item(path: Path) -> dict[str, Any]:
    """Take an item that was written with the files of a unit: it is written again with the unit's own words.

    Raises:
        GeommError: it is not there.
    """
    try:
        item: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GeommError(
            "the unit has no item",
            where=str(path),
            why=str(error),
            fix="run the same command again; if it stays, report it with run.json",
        ) from error
    path.unlink()
    return item
