"""Commands that ask in words: build an index, search it, map where something is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomm.cli import complete
from geomm.cli.options import CATALOG, AoiOption, TimeOption, box, each, opened
from geomm.errors import ConfigError

FILES = (".geojson", ".json", ".gpkg", ".parquet")
"""What hits are written as, besides a page."""

SourceArgument = Annotated[
    str,
    typer.Argument(help=f"{CATALOG}, or folder of GeoTIFFs named <item>_<band>.tif", autocompletion=complete.catalogs),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
ModelArgument = Annotated[Path, typer.Argument(help="model package (folder) of the contrastive task")]


def index(
    source: SourceArgument,
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the index")],
    aoi: AoiOption = None,
    datetime: TimeOption = None,
    size: Annotated[int | None, typer.Option(help="side of a chip in pixels; default that of the model")] = None,
    views: Annotated[
        str,
        typer.Option(
            help="fused: all sensors of a chip; each: one by one; both",
            autocompletion=complete.one_of(("fused", "each", "both")),
        ),
    ] = "fused",
    texts: Annotated[Path | None, typer.Option(help="annotations to keep with the chips: GeoJSON, CSV ...")] = None,
    within: Annotated[float, typer.Option(help="most days between what sensors saw of a chip")] = 1.0,
    device: DeviceOption = "cpu",
) -> None:
    """Index a catalog: every chip as a vector with footprint, time and picture; stopped or grown, it goes on.

    Example: `geomm index demo-search/catalog demo-search/model -o places`
    """
    from geomm.annotations import read_annotations
    from geomm.pipeline.indexing import IndexOptions, index_source
    from geomm.progress import Bars
    from geomm.retrieval.build import IndexSettings

    package = opened(model, source)
    settings = IndexSettings(package.contract.size if size is None else size, views)  # type: ignore[arg-type]
    options = IndexOptions(settings, read_annotations(texts) if texts else None, within, device)
    with Bars() as bars:
        made = index_source(
            package, source, out, aoi=box(aoi), datetime=datetime, options=options, progress=bars.update
        )
    typer.echo(f"{out}: {len(made)} chips of {len(made.jobs)} scenes")


def search(
    index: Annotated[Path, typer.Argument(help="index (folder)")],
    words: Annotated[str, typer.Argument(help="what to look for")] = "",
    like: Annotated[str, typer.Option(help="id of a chip: what is like it, instead of words")] = "",
    tell: Annotated[bool, typer.Option("--tell", help="with --like: the texts that fit the chip instead")] = False,  # noqa: FBT002
    near: Annotated[str | None, typer.Option(help="lon,lat,km: only in the box that far around")] = None,
    between: Annotated[str | None, typer.Option(help="date or interval start/end")] = None,
    sensor: Annotated[
        list[str] | None,
        typer.Option(help="only chips that nothing but these sensors saw; repeatable", autocompletion=complete.sensors),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="how many")] = 10,
    out: Annotated[
        list[Path] | None, typer.Option("-o", "--out", help=".html page, .geojson, .gpkg or .parquet; repeatable")
    ] = None,
) -> None:
    """Ask an index in words: a table here, and with -o a page with pictures or a file for a GIS.

    Example: `geomm search places "open water" --near=-87.4,30.7,20 -k 5 -o hits.html -o hits.gpkg`
    """
    from geomm.pipeline import searching
    from geomm.pipeline.gallery import HEAD, hits_table
    from geomm.pipeline.indexing import open_index
    from geomm.pipeline.searching import Question, ask, leave

    pages = [p for p in out or () if p.suffix.lower() in (".html", ".htm")]
    others = [p for p in out or () if p not in pages and p.suffix.lower() not in FILES]
    if len(pages) > 1 or others:
        raise ConfigError(
            "hits are written as one page and as files for a GIS",
            why=", ".join(map(str, out or ())),
            fix="give at most one -o page.html, and others as .geojson, .gpkg or .parquet",
        )
    if tell:
        for text, score in searching.tell(open_index(index), like, k=k):
            typer.echo(f"{score:.3f}  {text}")
        return
    question = Question(words, k, searching.near(near) if near else None, between, each("--sensor", sensor), like)
    found = open_index(index)
    hits = ask(found, question)
    if not len(hits):
        typer.echo(f"0 hits among {len(found)} chips, seen by {searching.seen_by(found)}")
        return
    leave(found, question, hits, pages[0] if pages else None, [p for p in out or () if p not in pages])
    rows = [HEAD, *hits_table(hits)]
    widths = [max(len(row[c]) for row in rows) for c in range(len(HEAD))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for path in out or ():
        typer.echo(path)


def ground(
    model: ModelArgument,
    source: SourceArgument,
    words: Annotated[str | None, typer.Argument(help="what to look for: a heat map")] = None,
    prompts: Annotated[Path | None, typer.Option(help="YAML of classes in words: a map of them instead")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the maps")] = Path("maps"),
    aoi: AoiOption = None,
    datetime: TimeOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Map where something is that was only named: a heat map of words, or a map of prompted classes, as COG.

    Example: `geomm ground demo-search/model demo-search/catalog "open water" -o maps`
    """
    from geomm.grounding import read_prompts
    from geomm.pipeline.grounding import ground_source
    from geomm.progress import Bars

    if (words is None) == (prompts is None):
        raise ConfigError("say what to look for: words or --prompts", fix='geomm ground MODEL SOURCE "open water"')
    asked = read_prompts(prompts) if prompts is not None else str(words)
    with Bars() as bars:
        products = ground_source(
            opened(model, source),
            source,
            asked,
            out,
            aoi=box(aoi),
            datetime=datetime,
            device=device,
            progress=bars.update,
        )
    for product in products:
        for path in (*product.files.values(), product.item):
            typer.echo(path)


def clip(
    name: Annotated[str, typer.Argument(help="open_clip model, with its weights: ViT-B-32:RemoteCLIP-ViT-B-32.pt")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the model package")],
    sensor: Annotated[
        str, typer.Option(help="whose red, green and blue it sees, see geomm sensors", autocompletion=complete.sensors)
    ] = "sentinel2-l2a",
    resolution: Annotated[float, typer.Option(help="metres of a pixel")] = 10.0,
    size: Annotated[int, typer.Option(help="side of a chip in pixels")] = 224,
) -> None:
    """Make a model package of a CLIP model that others trained on pictures, such as RemoteCLIP or GeoRSCLIP.

    Example: `geomm clip ViT-B-32:RemoteCLIP-ViT-B-32.pt --sensor sentinel2-l2a -o remoteclip`
    """
    from geomm.pipeline.adopt import adopt_clip
    from geomm.pipeline.sources import local_folder

    package = adopt_clip(name, local_folder(out), sensor=sensor, resolution=resolution, size=size)
    typer.echo(package.path)


def verify(
    folder: Annotated[Path, typer.Argument(help="index, chip store, model package, or output of a batch")],
) -> None:
    """Compare every byte of an index, a store, a model or a batch with its checksum; status 1 if any is damaged.

    Example: `geomm verify places`
    """
    from geomm.pipeline.checking import verify_folder
    from geomm.progress import Bars

    with Bars() as bars:
        found = verify_folder(folder, progress=bars.update)
    for line in found:
        typer.echo(line)
    typer.echo(f"{folder}: {f'{len(found)} damaged' if found else 'whole'}")
    raise typer.Exit(1 if found else 0)
