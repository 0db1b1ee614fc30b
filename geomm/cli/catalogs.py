"""Catalogs on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from geomm.cli import complete
from geomm.cli.options import CATALOG, AoiOption, TimeOption, box, each
from geomm.errors import ConfigError

app = typer.Typer(help="Imagery catalogs.", no_args_is_help=True)


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(help="folder of GeoTIFFs")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="folder of the catalog; default FOLDER-catalog here")
    ] = None,
    sensor: Annotated[
        list[str] | None,
        typer.Option(help="sensor of files named <item>_<band>.tif; repeatable", autocompletion=complete.sensors),
    ] = None,
    definition: Annotated[Path | None, typer.Option(help="catalog definition (YAML), see catalogs/")] = None,
    datetime: TimeOption = None,
    checksums: Annotated[bool, typer.Option("--checksums", help="state SHA-256 and size of every file")] = False,  # noqa: FBT002
) -> None:
    """Describe a folder of GeoTIFFs as a STAC catalog; the files stay where they are.

    Example: `geomm catalog build scenes --sensor landsat-oli-l1 --sensor landsat-tirs-l1 --datetime 2016-02-09`
    """
    from geomm.catalog import build_catalog
    from geomm.pipeline.sources import local_folder

    if definition is not None and not definition.is_file():
        raise ConfigError(
            "the catalog definition does not exist",
            where=str(definition),
            fix="examples are in catalogs/; or describe plain files with --sensor",
        )
    target = local_folder(out or f"{folder.resolve().name}-catalog")
    catalog = build_catalog(
        folder,
        target,
        sensors=each("--sensor", sensor) or ["generic"],
        definition=_definition(definition) if definition else None,
        datetime=datetime,
        checksums=checksums,
    )
    typer.echo(f"{catalog.href}: {len(catalog.items())} items of {', '.join(catalog.sensors())}")


@app.command()
def search(
    catalog: Annotated[str, typer.Argument(help=CATALOG, autocompletion=complete.catalogs)],
    sensor: Annotated[
        list[str] | None,
        typer.Option(help="sensor; repeatable; default all", autocompletion=complete.sensors),
    ] = None,
    aoi: AoiOption = None,
    datetime: TimeOption = None,
) -> None:
    """List the scenes of a catalog.

    Example: `geomm catalog search demo/catalog --aoi=-87.5,30.6,-87.3,30.8`, or
    `geomm catalog search earth_search --sensor sentinel2-l2a --aoi=9,46,9.2,46.2 --datetime 2024-06-01/2024-06-10`
    """
    from geomm.catalog import open_catalog

    scenes = open_catalog(catalog).search(box(aoi), datetime, sensors=each("--sensor", sensor) or None)
    if not scenes:
        typer.echo("no scene found", err=True)
    for scene in scenes:
        typer.echo(f"{scene.time:%Y-%m-%dT%H:%MZ}  {scene.sensor:18}  {scene.id}  {_listed(scene.bands)}")


@app.command()
def index(
    catalog: Annotated[Path, typer.Argument(help="static STAC catalog")],
    out: Annotated[Path, typer.Argument(help="file to write, .parquet")],
) -> None:
    """Write a static catalog as one stac-geoparquet file, which is searched without reading it whole.

    Example: `geomm catalog index demo/catalog demo.parquet`
    """
    from geomm.catalog import open_catalog
    from geomm.catalog.parquet import write_parquet
    from geomm.pipeline.sources import local_folder

    if out.suffix != ".parquet":
        raise ConfigError(
            "the table is a .parquet file",
            where=str(out),
            why="by that name geomm and others know how to open it",
            fix=f"write {out.with_suffix('.parquet')}",
        )
    items = open_catalog(catalog).items()
    typer.echo(f"{write_parquet(items, local_folder(out))}: {len(items)} items")


def _definition(path: Path) -> dict[str, Any]:
    from geomm.catalog import parse_yaml

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        fix = "give a YAML file; examples are in catalogs/"
        raise ConfigError("the catalog definition cannot be read", where=str(path), why=str(error), fix=fix) from error
    content: dict[str, Any] = parse_yaml(text, str(path))
    return content


def _listed(bands: Iterable[str]) -> str:
    names = list(bands)
    return "/".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
