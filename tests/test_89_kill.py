"""Runs that are killed, again and again: every unit is published exactly once, with the bytes of a run that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batches import published, write_archive, write_composites, write_model, write_recipe

from geomm.batch import BatchOptions, run_batch
from geomm.batch.guard import alone
from geomm.config import load_batch
from geomm.ledger import Ledger

FULL = bool(os.environ.get("GEOMM_SOAK"))
TESTS = Path(__file__).parent

COORDINATOR = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import duckdb, geopandas, matplotlib.pyplot, scipy.ndimage, scipy.interpolate, stac_geoparquet.arrow  # before the forks
import geomm.batch.mapping, geomm.package, geomm.prediction, geomm.prediction.members, geomm.models.encoders.local
from geomm.batch import run_batch
from geomm.config import load_batch
recipe, out, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(1)


def start(folder):
    child = os.fork()
    if not child:
        os._exit(run_batch(load_batch(recipe), folder).code)
    return child


def seen(folder):
    # Published units: an item is there. Each must be whole, and never be written again.
    found = {}
    for item in Path(folder).glob("maps/*/*/*.json"):
        sums = (item.parent / "SHA256SUMS").read_text().split()
        names = {p.name for p in item.parent.iterdir()} - {"SHA256SUMS"}
        assert names == set(sums[1::2]), (item, names)
        found[str(item)] = (item.stat().st_ino, item.stat().st_mtime_ns)
    return found


began = time.time()
assert os.waitstatus_to_exitcode(os.waitpid(start(f"{out}-whole"), 0)[1]) == 0
whole, done, partial, before = time.time() - began, 0, 0, {}
turn = 0
while done < kills:
    child = start(out)
    time.sleep(random.random() * whole * 0.7)
    if os.waitpid(child, os.WNOHANG)[0]:  # it was done before: from the beginning
        turn += 1
        os.rename(out, f"{out}-{turn}")
        before = {}
        continue
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    done += 1
    now = seen(out)
    assert before.items() <= now.items(), "a published unit was written again"
    partial += len(now) > len(before)
    before = now
assert os.waitstatus_to_exitcode(os.waitpid(start(out), 0)[1]) == 0
assert before.items() <= seen(out).items()
print(json.dumps({"kills": done, "that left further units": partial, "outputs": turn + 1}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "m")


def clean(out: Path) -> None:
    """Nothing is left but what is published and what the ledger needs."""
    left = [p for p in (out / ".geomm").rglob("*") if p.is_file() and "runs" not in p.parts]
    assert {p.name for p in left} <= {
        "ledger.sqlite",
        "ledger.sqlite-wal",
        "ledger.sqlite-shm",
        "lock",
        "heartbeat.json",
        "run.lock",
    }
    assert not list((out / ".geomm" / "staging").glob("*"))
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".geomm"]


def test_killed_coordinators_lose_nothing_and_do_nothing_twice(model, tmp_path):
    catalog = write_archive(tmp_path / "archive", range(24))
    recipe = write_recipe(tmp_path, catalog, model)
    kills = 50 if FULL else 5
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COORDINATOR, str(recipe), str(tmp_path / "out"), str(kills)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == kills
    assert told["that left further units"] > 0
    files = published(tmp_path / "out")
    assert files == published(tmp_path / "out-whole")
    assert sum(name.endswith("-class.tif") for name in files) == 24
    clean(tmp_path / "out")
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert ledger.counts() == {"DONE": 24}


TOGETHER = """
import json, os, sys, time
import scipy.ndimage, stac_geoparquet.arrow, matplotlib.pyplot, duckdb, geopandas
import geomm.batch.composing
from geomm.batch import run_batch
from geomm.config import load_batch
from geomm.errors import BusyError
recipe, out, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
at, children = time.time() + 1.0, []
for _ in range(number):
    child = os.fork()
    if not child:
        time.sleep(max(at - time.time(), 0))
        try:
            os._exit(run_batch(load_batch(recipe), out).code)
        except BusyError:
            os._exit(75)
    children.append(child)
print(json.dumps(sorted(os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children)))
"""


@pytest.mark.parametrize("turn", range(5 if FULL else 1))
def test_of_many_starts_at_once_one_works(tmp_path, turn):
    number = 16 if FULL else 6
    recipe = write_composites(tmp_path, write_archive(tmp_path / "archive", range(20 if FULL else 8)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TOGETHER, str(recipe), str(tmp_path / "out"), str(number)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [0] + [75] * (number - 1)
    assert run_batch(load_batch(recipe), tmp_path / "whole").code == 0
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_a_busy_output_is_status_75(tmp_path):
    recipe = write_composites(tmp_path, write_archive(tmp_path / "archive", range(1)))
    with alone(tmp_path / "out" / ".geomm"):
        told = subprocess.run(
            [sys.executable, "-m", "geomm", "run", str(recipe), "--out", str(tmp_path / "out")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert told.returncode == 75
    assert "another run is at work" in told.stderr


@pytest.mark.parametrize(("number", "scheduler"), [(signal.SIGTERM, "threads"), (signal.SIGINT, "local")])
def test_a_signal_drains_and_the_same_command_goes_on(tmp_path, number, scheduler):
    recipe = write_composites(tmp_path, write_archive(tmp_path / "archive", range(10)))
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "geomm",
        "run",
        str(recipe),
        "--out",
        str(tmp_path / "out"),
        "--scheduler",
        scheduler,
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    maps = "heat/*/*/*.tif"  # not items: those of tiles without data are published too, but not listed
    while run.poll() is None and len(list((tmp_path / "out").glob(maps))) < 2:
        time.sleep(0.01)
    run.send_signal(number)
    said, errors = run.communicate(timeout=120)
    assert run.returncode == 128 + number, (said, errors)
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        counts = ledger.counts()
        assert set(counts) <= {"DONE", "SKIPPED", "PENDING"}
        assert counts["PENDING"] > 0  # nothing in between: what was in work was finished
        assert ledger.runs()[0].code == 128 + number
    listed = json.loads((tmp_path / "out" / "heat" / "2020-01" / "catalog.json").read_text())["links"]
    assert sum(link["rel"] == "item" for link in listed) == counts["DONE"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    clean(tmp_path / "out")


def test_without_grace_a_unit_is_given_up_and_goes_on_later(model, tmp_path):
    recipe = write_recipe(tmp_path, write_archive(tmp_path / "archive", range(1), side=400), model, size=16)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "geomm",
        "run",
        str(recipe),
        "--out",
        str(tmp_path / "out"),
        "--grace",
        "0",
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not list((tmp_path / "out").glob(".geomm/staging/*/maps/.staging*/blocks/*.done")):
        time.sleep(0.002)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 143, errors
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert set(ledger.counts()) <= {"ABORTED", "DONE"}
    assert run_batch(load_batch(recipe), tmp_path / "out").code == 0
    assert run_batch(load_batch(recipe), tmp_path / "whole").code == 0
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_killed_workers_lose_nothing_and_a_unit_that_kills_is_put_aside(model, tmp_path):
    number, kills = (200, 30) if FULL else (12, 2)
    catalog = write_archive(tmp_path / "archive", range(number))
    recipe = write_recipe(tmp_path, catalog, model)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GEOMM_POISON": "scene-0005",
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
    }
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(TESTS / "poisoned.py"), str(recipe), str(tmp_path / "out"), "local"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = _kill_workers(run, tmp_path / "out", kills)
    told, errors = run.communicate(timeout=1200)
    assert run.returncode == 3, (told, errors[-3000:])
    assert killed == kills
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert ledger.counts() == {"DONE": number - 1, "QUARANTINED": 1}
        bad = ledger.units(states=("QUARANTINED",))[0]
    assert (bad.name, bad.code) == ("scene-0005", "WORKER_LOST")
    assert bad.attempts <= 4 + kills
    clean(tmp_path / "out")
    whole = run_batch(load_batch(recipe), tmp_path / "whole", BatchOptions())
    assert whole.code == 0
    mine, all_of_it = published(tmp_path / "out"), published(tmp_path / "whole")
    maps = {n: h for n, h in all_of_it.items() if n.startswith("maps/20") and not n.endswith("catalog.json")}
    assert {n for n in maps if n not in mine} == {n for n in maps if "scene-0005" in n}
    assert all(mine[n] == h for n, h in maps.items() if n in mine)


def _kill_workers(run: subprocess.Popen, out: Path, kills: int) -> int:
    """Kill a worker whenever some more units are published."""
    killed, next_at, began = 0, 1, time.time()
    while killed < kills and run.poll() is None and time.time() - began < 1200:
        time.sleep(0.05)
        if len(list(out.glob("maps/*/*/*.json"))) < next_at:
            continue
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(run.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        workers = [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]
        if workers:
            os.kill(workers[killed % len(workers)], signal.SIGKILL)
            killed += 1
            next_at = len(list(out.glob("maps/*/*/*.json"))) + 2
    return killed
