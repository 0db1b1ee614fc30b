"""Work that is killed at one change to the disk after the other, and then done again: ``python crashing.py WORK FOLDER``.

Kills at random moments seldom fall into the moments that matter. Here, Python's audit events are the moments: files
that are opened to be written, renamed or removed, folders that are made or removed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from archives import tree
from batches import published, write_archive, write_model, write_recipe

import geomm
from geomm import radiometry
from geomm.testing import write_scene

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
KILLED = 137

type Work = Callable[[Path], object]


def run(work: Work, out: Path, kill: int = 0) -> int:
    """Do work in a process that dies at a change to the disk; return how many there were, or its status if it died."""
    inside, outside = os.pipe()
    child = os.fork()
    if child:
        os.close(outside)
        with os.fdopen(inside) as told:
            number = told.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == KILLED if kill else status == 0, status
        return int(number or 0)
    count = 0

    def seen(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        opened = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if (opened or event in CHANGES) and str(args[0]).startswith(str(out.parent)):
            count += 1
            if count == kill:
                os._exit(KILLED)

    status = 1
    try:
        sys.addaudithook(seen)
        work(out)
        os.write(outside, str(count).encode())
        status = 0
    finally:
        os._exit(status)


def sweep(work: Work, folder: Path, step: int, content: Callable[[Path], object]) -> dict[str, object]:
    """Kill work at every ``step``-th change; return where what came of it in the end was not what it should have been."""
    whole = folder / "whole"
    total, bad = run(work, whole), {}
    wanted, names = content(whole), names_of(whole)
    for kill in range(1, total, step):
        out = folder / f"out-{kill}"
        run(work, out, kill)
        run(work, out)
        if content(out) != wanted or names_of(out) != names:
            bad[kill] = sorted(names_of(out) ^ names)
        shutil.rmtree(out)
    return {"changes": total, "kills": len(range(1, total, step)), "bad": bad}


def names_of(folder: Path) -> set[str]:
    """Return all that lies in a folder, but for what differs from run to run."""
    passing = {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    return {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name not in passing and "runs" not in p.parts
    }


def maps(folder: Path) -> Work:
    """Return a batch that maps one scene."""
    import duckdb  # noqa: F401 - what is imported before the forks is imported once
    import geopandas  # noqa: F401
    import matplotlib.pyplot  # noqa: ICN001, F401
    import scipy.ndimage  # noqa: F401
    import stac_geoparquet.arrow  # noqa: F401
    import torch

    import geomm.batch.mapping
    import geomm.models.encoders.local
    import geomm.prediction.members  # noqa: F401
    from geomm.batch import run_batch
    from geomm.config import load_batch

    torch.set_num_threads(1)
    recipe = write_recipe(folder, write_archive(folder / "archive", range(1)), write_model(folder / "model" / "m"))

    def work(out: Path) -> None:
        assert run_batch(load_batch(recipe), out).code == 0

    return work


def store(folder: Path) -> Work:
    """Return the building of a store of 192 chips in three shards."""
    from geomm.chipping import ChipReader, Target
    from geomm.chips import ChipGrid
    from geomm.store import StorePart, write_store

    streams = {
        "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4")),
        "thermal": geomm.Modality("landsat-tirs-l1"),
        "label": geomm.Modality("landsat-bqa"),
    }
    sensors = tuple(m.sensor for m in streams.values())
    for sensor, stream in zip(sensors, streams.values(), strict=True):
        write_scene(folder / "imagery", sensor, bands=stream.bands, shape=(96, 128))
    scenes = geomm.build_catalog(
        folder / "imagery", folder / "catalog", sensors=sensors, datetime="2020-06-01T10:00:00Z"
    ).search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), streams, chunks=64)
    target = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
    reader = ChipReader(cube, list(ChipGrid((96, 128), 8)), ["optical", "thermal"], target=target)

    def work(out: Path) -> None:
        write_store([StorePart("a", reader, {"split": ["train", "test"] * 96})], out)

    return work


if __name__ == "__main__":
    name, where, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    make, content = {"maps": (maps, published), "store": (store, tree)}[name]
    sys.stdout.write(json.dumps(sweep(make(where), where, step, content)))
