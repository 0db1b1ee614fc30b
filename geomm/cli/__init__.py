"""The command line: a table of commands. Heavy libraries are imported inside them, so that help is instant."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomm._version import __version__
from geomm.cli import predict, search
from geomm.cli.catalogs import app as catalogs
from geomm.cli.chips import app as chips
from geomm.cli.options import SetOption, assignment
from geomm.errors import ConfigError, GeommError

if TYPE_CHECKING:
    from geomm.config import RunConfig

app = typer.Typer(
    help="From an imagery catalog to maps and answers.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: markdown costs half a second of imports
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(catalogs, name="catalog")
app.add_typer(chips, name="chips")
for command in (predict.predict, search.index, search.search, search.ground, search.clip, search.verify):
    app.command()(command)


def main() -> None:
    """Run the command line; an error that geomm raises on purpose is one line on stderr and status 1 (2: usage)."""
    # rasterio's warper says this of its own in-memory target; it means nothing to a user.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    try:
        app()
    except GeommError as error:
        sys.stderr.write(f"geomm: {error}\n")
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None


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
    if search:
        _run(_recipe_path("search_places.yaml"), out or Path("demo-search"), {})
    else:
        _run(_recipe_path("clouds_landsat.yaml"), out or Path("demo"), {})


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/")],
    out: Annotated[Path | None, typer.Option(help="folder for maps, model and report; default runs/NAME")] = None,
    set_: SetOption = None,
) -> None:
    """Run a recipe: from its catalog to maps, a model package and a report, or to an index that answers in words.

    Example: `geomm run pipelines/landcover_s1_s2.yaml --out runs/landcover --set train.steps=60`
    """
    _run(recipe, out, dict(assignment(text) for text in set_ or ()))


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/")],
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
    run: Annotated[Path, typer.Argument(help="folder of a run, as `geomm train` leaves it")],
) -> None:
    """Judge a run on its test blocks: quality with intervals, calibration, every subset of the modalities.

    Example: `geomm evaluate runs/clouds`
    """
    from geomm.pipeline.assess import assess
    from geomm.progress import Bars

    with Bars() as bars:
        page = assess(run, progress=bars.update)
    typer.echo(page)


@app.command()
def ablate(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/")],
    out: Annotated[Path | None, typer.Option(help="folder of the report; default runs/NAME-ablation")] = None,
    fusion: Annotated[
        list[str] | None, typer.Option(help="fusion to compare; repeatable; default some of every kind")
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
        page = ablate_recipe(config, folder, fusions=fusion or FUSIONS, progress=bars.update)
    typer.echo(page)


@app.command()
def sensors() -> None:
    """List the sensors that geomm knows, with their bands.

    Example: `geomm sensors`
    """
    from geomm.sensors import SENSORS

    for spec in SENSORS.values():
        typer.echo(f"{spec.name:18}  {spec.title}\n{'':20}{', '.join(b.name for b in spec.bands) or 'any band'}")


@app.command()
def doctor() -> None:
    """Check the installation: libraries, GDAL, PROJ, GPU, disk.

    Example: `geomm doctor`
    """
    from geomm.doctor import examine

    worst = 0
    for finding in examine():
        typer.echo(f"{finding.status:5} {finding.name:14} {finding.text}")
        worst = max(worst, finding.status == "fail")
    raise typer.Exit(worst)


def _run(recipe: Path, out: Path | None, overrides: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    from geomm.config import load_recipe
    from geomm.pipeline.recipe import run as run_recipe
    from geomm.pipeline.report import table, verdict
    from geomm.progress import Bars

    config = load_recipe(recipe, overrides)
    target = out or Path("runs") / config.name
    if config.task == "contrastive":
        _run_search(config, target)
        return
    with Bars() as bars:
        result = run_recipe(config, target, progress=bars.update)
    head, *rows = table(result.rows, [c.name for c in config.classes()])
    grid = Table(*head, title="IoU on test pixels")
    for row in rows:
        grid.add_row(*row)
    console = Console()
    console.print(grid)
    for fold in dict.fromkeys(r.fold for r in result.rows):
        console.print(("" if fold == "blocks" else f"Without {fold}: ") + verdict(result.rows, fold))
    for product in result.products.values():
        for path in product.files.values():
            typer.echo(f"map      {path}")
        typer.echo(f"item     {product.item}")
    typer.echo(f"model    {result.package}\nreport   {result.report}")


def _run_search(config: RunConfig, target: Path) -> None:
    from geomm.pipeline.retrieve import lines, run_search
    from geomm.progress import Bars

    with Bars() as bars:
        result = run_search(config, target, progress=bars.update)
    for line in lines(result):
        typer.echo(line)
    typer.echo(f'\nmodel    {result.package}\nindex    {result.index}\nask      geomm search {result.index} "..."')


def _recipe_path(name: str) -> Path:
    """Find a recipe that ships with geomm: beside the package in a checkout, inside it once installed."""
    here = Path(__file__).parent.parent
    return next(p for p in (here / "pipelines" / name, here.parent / "pipelines" / name) if p.is_file())
