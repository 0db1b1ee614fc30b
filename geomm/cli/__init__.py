"""The command line: a table of commands. Heavy libraries are imported inside them, so that help is instant."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from geomm._version import __version__
from geomm.cli import advice, complete, predict, run, search
from geomm.cli.catalogs import app as catalogs
from geomm.cli.chips import app as chips
from geomm.cli.options import SetOption, assignment, each
from geomm.cli.runs import app as runs
from geomm.errors import BusyError, ConfigError, GeommError

app = typer.Typer(
    help="From an imagery catalog to maps and answers.",
    epilog="An error ends with a code: `geomm explain CODE` says more. `geomm doctor` checks the installation.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: markdown costs half a second of imports
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(catalogs, name="catalog")
app.add_typer(chips, name="chips")
app.add_typer(runs, name="runs")
for command in (
    run.run,
    predict.predict,
    search.index,
    search.search,
    search.ground,
    search.clip,
    search.verify,
    advice.explain,
    advice.doctor,
):
    app.command()(command)


def main() -> None:
    """Run the command line; an error that geomm raises on purpose is one line and status 1 (2: usage, 75: busy)."""
    # rasterio's warper says this of its own in-memory target; it means nothing to a user.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    plain = warnings.formatwarning
    warnings.formatwarning = _one_line
    try:
        app()
    except GeommError as error:
        sys.stderr.write(f"geomm: {error}\n")
        status = 75 if isinstance(error, BusyError) else 2 if isinstance(error, ConfigError) else 1
        raise SystemExit(status) from None
    finally:
        warnings.formatwarning = plain


def _one_line(message: Warning | str, *_where: object, **_more: object) -> str:
    """Write a warning for people: no file, no line of code."""
    return f"geomm: warning: {message}\n"


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """From an imagery catalog to maps and answers."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="folder for all that it makes; default demo or demo-search")] = None,
    search: Annotated[bool, typer.Option("--search", help="ask two real scenes in words instead")] = False,  # noqa: FBT002
) -> None:
    """Map clouds on a real Landsat-8 scene: train, compare optical, thermal and fused, write styled GeoTIFFs.

    Example: `geomm demo --out demo`, `geomm demo --search`
    """
    from geomm.config import load_recipe

    # Models this small gain nothing from a second thread, and beside other work the threads wait for each other: with
    # seven other jobs on two cores, two threads made 3 steps in the time in which one made 86.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    name, folder = ("search_places", "demo-search") if search else ("clouds_landsat", "demo")
    run.run_recipe(load_recipe(name), out or Path(folder), ["demo", *(["--search"] if search else [])])


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/", autocompletion=complete.recipes)],
    out: Annotated[Path | None, typer.Option(help="folder of the run; default runs/NAME-train")] = None,
    set_: SetOption = None,
) -> None:
    """Train a recipe's model, once per seed; stopped, the same command goes on where it was.

    Example: `geomm train pipelines/clouds_landsat.yaml --out runs/clouds --set split.validation=0.2`
    """
    from geomm.config import load_recipe
    from geomm.pipeline.train import train as train_recipe
    from geomm.progress import Bars

    config = load_recipe(recipe, dict(assignment(text) for text in set_ or ()))
    with Bars() as bars:
        folder = train_recipe(config, out or Path("runs") / f"{config.name}-train", progress=bars.update)
    for package in sorted(folder.glob("seed-*/model")):
        typer.echo(package)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="folder of a run, as `geomm train` leaves it", metavar="RUN")],
) -> None:
    """Judge a run on its test blocks: quality with intervals, calibration, every subset of the modalities.

    Example: `geomm evaluate runs/clouds`
    """
    from geomm.pipeline.assess import assess
    from geomm.progress import Bars

    with Bars() as bars:
        page = assess(folder, progress=bars.update)
    typer.echo(page)


@app.command()
def ablate(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/", autocompletion=complete.recipes)],
    out: Annotated[Path | None, typer.Option(help="folder of the report; default runs/NAME-ablation")] = None,
    fusion: Annotated[
        list[str] | None,
        typer.Option(
            help="fusion to compare; repeatable; default some of every kind",
            autocompletion=complete.one_of(complete.FUSIONS),
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Compare every modality alone with early, mid, attention and late fusions, under one budget.

    Example: `geomm ablate pipelines/clouds_landsat.yaml --fusion concat --fusion late_product --set train.steps=60`
    """
    from geomm.config import load_recipe
    from geomm.pipeline.ablate import FUSIONS
    from geomm.pipeline.ablate import ablate as ablate_recipe
    from geomm.progress import Bars

    config = load_recipe(recipe, dict(assignment(text) for text in set_ or ()))
    folder = out or Path("runs") / f"{config.name}-ablation"
    with Bars() as bars:
        page = ablate_recipe(config, folder, fusions=each("--fusion", fusion) or FUSIONS, progress=bars.update)
    typer.echo(page)


@app.command()
def sensors() -> None:
    """List the sensors that geomm knows, with their bands.

    Example: `geomm sensors`
    """
    from geomm.sensors import SENSORS

    for spec in SENSORS.values():
        typer.echo(f"{spec.name:18}  {spec.title}\n{'':20}{', '.join(b.name for b in spec.bands) or 'any band'}")
