"""What running as a batch costs: planning over a large catalog, finding nothing to do, memory over many units.

Usage: python benchmarks/batch.py [plan] [idle] [long] [useful]; nothing for all.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import pystac
from batches import item_of, write_archive, write_item, write_model, write_recipe

from geomm.archive import FileRecord, Manifest, open_target
from geomm.batch import BatchOptions, run_batch
from geomm.batch.stages import Planner
from geomm.catalog.parquet import write_parquet
from geomm.config import load_batch
from geomm.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]


def plan(folder: Path) -> None:
    """10,000 items of which 30 are new: search, group, hash, compare with the ledger, look at what is published."""
    write_item(folder / "imagery", 0)
    items = []
    for number in range(10_000):
        record = item_of(folder / "imagery", 0, "scene-0000")
        record["id"] = f"scene-{number:05d}"
        shift = (number % 300) * 0.5
        record["geometry"]["coordinates"] = [[[x + shift, y] for x, y in record["geometry"]["coordinates"][0]]]
        record["bbox"] = [record["bbox"][0] + shift, record["bbox"][1], record["bbox"][2] + shift, record["bbox"][3]]
        record["properties"]["datetime"] = (
            f"20{10 + number // 1000}-{1 + number % 12:02d}-{1 + number % 28:02d}T10:00:00Z"
        )
        items.append(pystac.Item.from_dict(record))
    catalog = write_parquet(items, folder / "items.parquet")
    config = load_batch(write_recipe(folder, catalog, write_model(folder / "model")))
    target, state = open_target(str(folder / "out")), folder / "state"
    state.mkdir()
    planner, stage = Planner(config, target, state), config.stages[0]
    with Ledger(state / "ledger.sqlite", write=True) as ledger:
        units = planner.plan(stage, ledger).units
        ledger.add(units[:-30])
        ledger._base.execute("PRAGMA synchronous=OFF")  # noqa: SLF001 - filling it is not what is measured
        for unit in units[:-30]:
            ledger.finish(unit, "DONE", manifest=_files(folder / "out" / unit.place).to_dict(), seconds={})
    program = (
        "import sys, time; from pathlib import Path; began = time.perf_counter()\n"
        "from geomm.archive import open_target; from geomm.batch.reconcile import reconcile\n"
        "from geomm.batch.stages import Planner; from geomm.config import load_batch; from geomm.ledger import Ledger\n"
        "config, folder = load_batch(sys.argv[1]), Path(sys.argv[2]); loaded = time.perf_counter()\n"
        "planner = Planner(config, open_target(str(folder / 'out')), folder / 'state')\n"
        "with Ledger(folder / 'state' / 'ledger.sqlite', write=True) as ledger:\n"
        "    plan = planner.plan(config.stages[0], ledger); planned = time.perf_counter()\n"
        "    actions = reconcile(plan, planner.out, ledger); done = time.perf_counter()\n"
        "print(sum(a.does for a in actions), len(actions), loaded - began, planned - loaded, done - planned)"
    )
    for _ in range(3):
        out = subprocess.run(
            [sys.executable, "-c", program, str(folder / "maps.yaml"), str(folder)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        new, known, load, found, compared = int(out[0]), int(out[1]), *map(float, out[2:])
        print(
            f"planning: {new} new of {known}: {found + compared:.2f} s (catalog and units {found:.2f}, ledger and "
            f"files {compared:.2f}); imports before {load:.2f} s"
        )


def _files(place: Path) -> Manifest:
    """Write six small files as a unit has them."""
    place.mkdir(parents=True)
    names = [f"{place.name}{end}" for end in ("-class.tif", "-class.qml", "-class.tif.aux.xml", ".png", ".json")]
    for name in [*names, "SHA256SUMS"]:
        (place / name).write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    return Manifest(tuple(FileRecord(n, 1, digest) for n in sorted([*names, "SHA256SUMS"])), f"{place.name}.json")


def idle(folder: Path) -> None:
    """A finished pipeline of 1,000 units is run again: the whole command, imports included."""
    catalog = write_archive(folder / "archive", range(1000), side=16)
    items = [pystac.Item.from_dict(r) for r in json.loads(catalog.read_text())["features"]]
    table = write_parquet(items, folder / "items.parquet")
    model = write_model(folder / "model")
    for name, source in (("collection", catalog), ("parquet", table)):
        recipe = write_recipe(folder, source, model, name=name, size=16)
        out = folder / f"out-{name}"
        assert run_batch(load_batch(recipe), out).code == 0
        times = []
        for _ in range(3):
            began = time.perf_counter()
            told = subprocess.run(
                ["geomm", "run", str(recipe), "--out", str(out)], capture_output=True, text=True, check=True
            )
            times.append(time.perf_counter() - began)
            assert "1000 there already" in told.stdout, told.stdout
        print(f"idle: 1,000 units from {name}: {min(times):.2f} to {max(times):.2f} s, the whole command")


def long(folder: Path) -> None:
    """2,000 tiny units: resident memory and open files as they go by."""
    catalog = write_archive(folder / "archive", range(2000), side=16)
    recipe = write_recipe(folder, catalog, write_model(folder / "model"), size=16)
    seen: list[tuple[int, float, int]] = []

    def told(_stage: str, done: int, _total: int) -> None:
        if done % 50 == 0 and (not seen or seen[-1][0] != done):
            status = Path("/proc/self/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
            seen.append((done, resident, len(list(Path("/proc/self/fd").iterdir()))))

    began = time.perf_counter()
    result = run_batch(load_batch(recipe), folder / "out", BatchOptions(), progress=told)
    assert result.code == 0
    wall = time.perf_counter() - began
    rows = np.array(seen[4:])  # after 200 units: caches are full
    slope = np.polyfit(rows[:, 0], rows[:, 1], 1)[0] * 100
    print(
        f"long: 2,000 units in {wall:.0f} s; resident {rows[0, 1]:.0f} MB after {rows[0, 0]:.0f} units, "
        f"{rows[-1, 1]:.0f} MB after {rows[-1, 0]:.0f}: {slope:.3f} MB per 100; open files {rows[:, 2].min():.0f} to "
        f"{rows[:, 2].max():.0f}"
    )


def useful(folder: Path) -> None:
    """The demo's scene as a batch, training and mapping: the share of reading, model and writing in all."""
    began = time.perf_counter()
    subprocess.run(
        ["geomm", "run", str(ROOT / "pipelines" / "cloud_maps.yaml"), "--out", str(folder / "out")],
        check=True,
        capture_output=True,
    )
    wall = time.perf_counter() - began
    record = json.loads(next((folder / "out" / ".geomm" / "runs").glob("*/run.json")).read_text())
    spent = {p: sum(u["seconds"].get(p, 0.0) for u in record["units"]) for p in ("read", "model", "write", "other")}
    share = sum(spent[p] for p in ("read", "model", "write")) / wall
    told = ", ".join(f"{p} {s:.1f}" for p, s in spent.items())
    print(f"useful: {share:.3f} of {wall:.1f} s of the whole command ({told})")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["plan", "idle", "long", "useful"]
    for task in (plan, idle, long, useful):
        if task.__name__ in chosen:
            with tempfile.TemporaryDirectory(prefix="geomm-bench-") as place:
                task(Path(place))
