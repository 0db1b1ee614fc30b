"""The command line: a table of commands. Heavy libraries are imported inside them, so that help is instant."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from geomm._version import __version__
from geomm.cli.chips import app as chips
from geomm.errors import ConfigError, GeommError

app = typer.Typer(
    help="From an imagery catalog to maps and answers.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: markdown costs half a second of imports
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
CATALOG = "STAC file, folder or API, stac-geoparquet, or a public catalog such as earth_search"
catalogs = typer.Typer(help="Imagery catalogs.", no_args_is_help=True)
app.add_typer(catalogs, name="catalog")
app.add_typer(chips, name="chips")

AoiOption = Annotated[str | None, typer.Option(help="west,south,east,north in degrees")]
TimeOption = Annotated[str | None, typer.Option(help="date or interval start/end")]


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
    out: Annotated[Path, typer.Option(help="folder for maps, model and report")] = Path("demo"),
) -> None:
    """Map clouds on a real Landsat-8 scene: train, compare optical, thermal and fused, write styled GeoTIFFs.

    Example: `geomm demo --out demo`
    """
    _run(_recipe_path("clouds_landsat.yaml"), out, {})


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/")],
    out: Annotated[Path | None, typer.Option(help="folder for maps, model and report; default runs/NAME")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a field: train.steps=50")] = None,
) -> None:
    """Run a recipe: from its catalog to maps, a model package and a report.

    Example: `geomm run pipelines/landcover_s1_s2.yaml --out runs/landcover --set train.steps=60`
    """
    _run(recipe, out, dict(assignment(text) for text in set_ or ()))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="model package (folder)")],
    source: Annotated[str, typer.Argument(help=f"{CATALOG}, or folder of GeoTIFFs named <item>_<band>.tif")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the maps")],
    aoi: AoiOption = None,
    datetime: TimeOption = None,
) -> None:
    """Map imagery with a model package; imagery that does not meet the model's contract is refused.

    Example: `geomm predict demo/model demo/catalog -o maps`
    """
    from geomm.package import load_package
    from geomm.pipeline.apply import predict_source
    from geomm.progress import Bars

    with Bars() as bars:
        products = predict_source(
            load_package(model), source, out, aoi=_box(aoi), datetime=datetime, progress=bars.update
        )
    for product in products:
        for path in (*product.files.values(), product.item):
            typer.echo(path)


@catalogs.command()
def build(
    folder: Annotated[Path, typer.Argument(help="folder of GeoTIFFs")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="folder of the catalog; default FOLDER-catalog here")
    ] = None,
    sensor: Annotated[
        list[str] | None, typer.Option(help="sensor of files named <item>_<band>.tif; repeatable")
    ] = None,
    definition: Annotated[Path | None, typer.Option(help="catalog definition (YAML), see catalogs/")] = None,
    datetime: TimeOption = None,
) -> None:
    """Describe a folder of GeoTIFFs as a STAC catalog; the files stay where they are.

    Example: `geomm catalog build scenes --sensor landsat-oli-l1 --sensor landsat-tirs-l1 --datetime 2016-02-09`
    """
    import yaml

    from geomm.catalog import build_catalog

    if definition is not None and not definition.is_file():
        raise ConfigError("the catalog definition does not exist", where=str(definition))
    target = out or Path(f"{folder.resolve().name}-catalog")
    catalog = build_catalog(
        folder,
        target,
        sensors=sensor or ["generic"],
        definition=yaml.safe_load(definition.read_text()) if definition else None,
        datetime=datetime,
    )
    typer.echo(f"{catalog.href}: {len(catalog.items())} items of {', '.join(catalog.sensors())}")


@catalogs.command()
def search(
    catalog: Annotated[str, typer.Argument(help=CATALOG)],
    sensor: Annotated[list[str] | None, typer.Option(help="sensor; repeatable; default all")] = None,
    aoi: AoiOption = None,
    datetime: TimeOption = None,
) -> None:
    """List the scenes of a catalog.

    Example: `geomm catalog search demo/catalog --aoi=-87.5,30.6,-87.3,30.8`, or
    `geomm catalog search earth_search --sensor sentinel2-l2a --aoi=9,46,9.2,46.2 --datetime 2024-06-01/2024-06-10`
    """
    from geomm.catalog import open_catalog

    scenes = open_catalog(catalog).search(_box(aoi), datetime, sensors=sensor)
    if not scenes:
        typer.echo("no scene found", err=True)
    for scene in scenes:
        typer.echo(f"{scene.time:%Y-%m-%dT%H:%MZ}  {scene.sensor:18}  {scene.id}  {_listed(scene.bands)}")


@catalogs.command()
def index(
    catalog: Annotated[Path, typer.Argument(help="static STAC catalog")],
    out: Annotated[Path, typer.Argument(help="file to write, .parquet")],
) -> None:
    """Write a static catalog as one stac-geoparquet file, which is searched without reading it whole.

    Example: `geomm catalog index demo/catalog demo.parquet`
    """
    from geomm.catalog import open_catalog
    from geomm.catalog.parquet import write_parquet

    items = open_catalog(catalog).items()
    typer.echo(f"{write_parquet(items, out)}: {len(items)} items")


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


def _recipe_path(name: str) -> Path:
    """Find a recipe that ships with geomm: beside the package in a checkout, inside it once installed."""
    here = Path(__file__).parent.parent
    return next(p for p in (here / "pipelines" / name, here.parent / "pipelines" / name) if p.is_file())


def assignment(text: str) -> tuple[str, object]:
    """Read ``field=value``.

    Raises:
        ConfigError: there is no ``=``.
    """
    import yaml

    key, found, value = text.partition("=")
    if not found:
        raise ConfigError("an override has the form field=value", where=text, fix="for example --set train.steps=50")
    return key, yaml.safe_load(value)


def _listed(bands: Iterable[str]) -> str:
    names = list(bands)
    return "/".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        west, south, east, north = (float(v) for v in text.split(","))
    except ValueError as error:
        raise ConfigError(
            "the area is not west,south,east,north", where=text, fix="--aoi=-87.5,30.6,-87.3,30.8"
        ) from error
    return west, south, east, north
