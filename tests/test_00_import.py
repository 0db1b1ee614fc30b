"""The package imports light, and every public name exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import geomm

HEAVY = ("torch", "torchvision", "torchgeo", "lightning", "xarray", "dask", "geopandas")


def _loaded(code):
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[-2]


@pytest.mark.parametrize(
    "code",
    [
        "import geomm",
        "import geomm.cli, typer.testing as t; assert not t.CliRunner().invoke(geomm.cli.app, ['--help']).exit_code",
        "import geomm.cli, typer.testing as t; assert not t.CliRunner().invoke(geomm.cli.app, ['sensors']).exit_code",
        "import geomm; geomm.SENSORS",
        "import geomm; geomm.ChipGrid((9, 9), 4)",
        "import geomm; geomm.load_recipe('pipelines/clouds_landsat.yaml')",
        "import geomm.batch.run, geomm.package",  # what a run needs that finds nothing new
    ],
)
def test_light_commands_import_nothing_heavy(code):
    assert _loaded(code) == ""


def test_every_public_name_resolves():
    for name in geomm.__all__:
        assert getattr(geomm, name) is not None
    assert dir(geomm) == sorted(geomm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        geomm.nothing  # noqa: B018


def test_modules_stay_small():
    package = Path(geomm.__file__).parent
    sizes = {p.relative_to(package): len(p.read_text().splitlines()) for p in package.rglob("*.py")}
    assert {p: n for p, n in sizes.items() if n > 300} == {}


def test_no_module_hides_a_public_name():
    package = Path(geomm.__file__).parent
    modules = {p.stem for p in package.iterdir()}
    assert modules & set(geomm.__all__) == set()
