"""Predict on a dask cluster: runs of blocks as tasks, few at a time, the model loaded once for every worker."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.errors import ConfigError
from geomm.package import ModelPackage, load_package
from geomm.prediction.members import Member, predictor_of
from geomm.prediction.plan import PlannedBlock, PredictPlan
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock, predict_blocks
from geomm.types import Prediction, Window

if TYPE_CHECKING:
    import xarray as xr

RUN = 4
"""Blocks of a task: neighbours, which share source blocks."""
AHEAD = 2
"""Tasks for every worker that wait or run; what they return waits here."""


def predict_on(
    client: Any,
    cube: xr.DataTree,
    packages: Sequence[ModelPackage],
    settings: PredictSettings,
    plan: PredictPlan,
    *,
    skip: Collection[Window] = (),
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube on the workers of a cluster; the blocks are those that this process would make.

    Args:
        client: of ``dask.distributed``; workers read the sources and the model packages by the same paths.
        cube: lazy; its plan is sent to the workers, not its pixels.
        packages: the models.
        settings: complete.
        plan: of the grid.
        skip: blocks that are there already.
        on_block: progress.

    Returns:
        Stream of output windows and predictions, in the order in which they are done. Closed, it cancels the rest.
    """
    from dask.distributed import as_completed

    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    if not workers:
        raise ConfigError(
            "the cluster has no worker", where=str(client), fix="wait for one: client.wait_for_workers(1)"
        )
    runs = _runs([b for b in plan.blocks if b.window not in skip])
    models = tuple((str(p.path.resolve()), p.sha256) for p in packages)
    there = client.scatter(cube, broadcast=True, hash=False)
    done, total = len(plan.blocks) - sum(map(len, runs)), len(plan.blocks)

    def submit(run: list[Window]) -> Any:
        return client.submit(_predicted, there, models, settings, run, pure=False)

    waiting = iter(runs)
    futures = [submit(run) for run in islice(waiting, AHEAD * workers)]
    running = as_completed(futures)
    try:
        for future in running:
            blocks = future.result()
            future.release()
            following = next(waiting, None)
            if following is not None:
                futures.append(submit(following))
                running.add(futures[-1])
            for window, prediction in blocks:
                yield window, prediction
                done += 1
                if on_block:
                    on_block(done, total)
    finally:
        client.cancel([f for f in futures if not f.done()])


def _runs(blocks: Sequence[PlannedBlock]) -> list[list[Window]]:
    """Cut blocks into runs of neighbours, none of which reaches over panels."""
    runs: list[list[PlannedBlock]] = []
    for block in blocks:
        if not runs or len(runs[-1]) == RUN or runs[-1][-1].panel != block.panel:
            runs.append([])
        runs[-1].append(block)
    return [[b.window for b in run] for run in runs]


def _predicted(
    cube: xr.DataTree, models: tuple[tuple[str, str], ...], settings: PredictSettings, windows: list[Window]
) -> list[tuple[Window, Prediction]]:
    """Predict some blocks on a worker."""
    members = _members(models, settings.device, settings.precision, settings.compiled)
    predictor = predictor_of(members, settings)
    return list(predict_blocks(cube, predictor, settings, only=frozenset(windows)))


@lru_cache(maxsize=1)
def _members(
    models: tuple[tuple[str, str], ...],
    device: str,
    precision: Any,
    compiled: bool,  # noqa: FBT001 - part of the key
) -> list[Member]:
    """Load models, once for every worker process."""
    members = []
    for path, sha256 in models:
        package = load_package(Path(path))
        if package.sha256 != sha256:
            raise ConfigError(
                "the model is another one on this worker",
                where=path,
                why=f"{package.sha256}, not {sha256}",
                fix="put the same model package at this path on every machine, then run the same command",
            )
        members.append(Member(package, PredictSettings(device=device, precision=precision, compiled=compiled)))
    return members
