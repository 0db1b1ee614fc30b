"""Shells complete commands, options and names, without anything heavy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import geomm
from geomm.cli import complete

SCRIPT = """
import sys
sys.argv = ["geomm"]
from geomm.cli import main
try:
    main()
finally:
    print("HEAVY", *[m for m in ("torch", "xarray", "dask", "geopandas") if m in sys.modules])
"""


def _offered(line, shell="bash"):
    words = line.split(" ")
    more = (
        {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        if shell == "bash"
        else {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=False, env=os.environ | {"_GEOMM_COMPLETE": f"complete_{shell}"} | more,
        capture_output=True, text=True,
    )  # fmt: skip
    *found, heavy = done.stdout.splitlines()
    assert heavy == "HEAVY", done.stdout + done.stderr
    return found


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("geomm ", {"demo", "run", "predict", "catalog"}),
        ("geomm predict m earth", {"earth_search"}),
        ("geomm catalog search x --sensor sentinel2", {"sentinel2-l1c", "sentinel2-l2a"}),
        ("geomm predict m c --layer prob", {"probability", "probability-uint8"}),
    ],
)
def test_bash_is_offered_names(line, some):
    found = _offered(line)
    assert some <= set(found)
    assert all(name.startswith(line.rpartition(" ")[2]) for name in found)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same(shell):
    assert "late_product" in "\n".join(_offered("geomm ablate r.yaml --fusion late_p", shell))


def test_names_are_those_of_the_tables():
    from geomm.ledger import STATES
    from geomm.models.fusion import FUSIONS
    from geomm.tasks.maps import LAYERS

    assert tuple(FUSIONS) == complete.FUSIONS
    assert tuple(LAYERS) == complete.LAYERS
    assert set(complete.STATES) == {s.lower() for s in STATES}
    assert complete.sensors("landsat-tirs") == [n for n in geomm.SENSORS if n.startswith("landsat-tirs")]


def test_recipes_are_those_that_lie_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pipelines/clouds.yaml", "mine/a.yaml", "mine/b.yml", "mine/no.txt", "top.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert complete.recipes("") == ["pipelines/clouds.yaml", "top.yaml"]
    assert complete.recipes("pi") == ["pipelines/clouds.yaml"]
    assert complete.recipes("mine/") == ["mine/a.yaml", "mine/b.yml"]
    assert complete.recipes("nowhere/x") == []
    assert complete.catalogs("earth") == ["earth_search"]
    assert complete.catalogs("") == []
