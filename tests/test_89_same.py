"""The same bytes, whoever does the work: one or several, threads, processes or a cluster."""

from __future__ import annotations

import os

import pytest
from batches import QUIET, published, write_archive, write_composites, write_model, write_recipe

from geomm.batch import BatchOptions, run_batch
from geomm.config import load_batch


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A recipe that maps and one that composes, each with what one worker makes of it."""
    folder = tmp_path_factory.mktemp("same")
    catalog = write_archive(folder / "archive", range(6), side=80)
    made = {}
    for recipe in (write_recipe(folder, catalog, write_model(folder / "model")), write_composites(folder, catalog)):
        out = folder / f"out-{recipe.stem}"
        assert run_batch(load_batch(recipe), out).code == 0
        made[recipe.stem] = recipe, published(out)
    return made


EVERY = [(name, kind, n) for name in ("maps", "thermal") for kind in ("threads", "local") for n in (1, 2, 4)]
SOME = [("maps", "threads", 4), ("maps", "local", 2), ("thermal", "local", 2)]


@pytest.mark.parametrize(("name", "scheduler", "workers"), EVERY if os.environ.get("GEOMM_SOAK") else SOME)
def test_the_number_and_kind_of_workers_changes_nothing(recipes, tmp_path, name, scheduler, workers):
    recipe, files = recipes[name]
    result = run_batch(load_batch(recipe), tmp_path / "out", BatchOptions(scheduler, workers))
    assert result.code == 0, [u.message for u in result.units]
    assert published(tmp_path / "out") == files


def test_neither_does_a_cluster(recipes, tmp_path):
    from dask.distributed import LocalCluster

    recipe, files = recipes["maps"]
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **QUIET) as cluster:
        options = BatchOptions(cluster.scheduler_address)
        result = run_batch(load_batch(recipe), tmp_path / "out", options)
    assert result.code == 0, [u.message for u in result.units]
    assert published(tmp_path / "out") == files
