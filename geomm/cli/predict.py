"""The command that maps imagery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from geomm.cli import complete
from geomm.cli.options import CATALOG, AoiOption, TimeOption, box, each, opened
from geomm.errors import DependencyError


def predict(
    model: Annotated[Path, typer.Argument(help="model package (folder)")],
    source: Annotated[
        str,
        typer.Argument(
            help=f"{CATALOG}; folder of GeoTIFFs named <item>_<band>.tif; or a cube as .zarr",
            autocompletion=complete.catalogs,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the maps")],
    aoi: AoiOption = None,
    datetime: TimeOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="class, probability, probability-uint8, confidence, entropy; default class and probability",
            autocompletion=complete.one_of(complete.LAYERS),
        ),
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="also map the share of every modality")] = False,  # noqa: FBT002
    polygons: Annotated[bool, typer.Option("--polygons", help="also write the classes as polygons")] = False,  # noqa: FBT002
    zones: Annotated[
        Path | None, typer.Option(help="vector file whose polygons are told which classes they hold")
    ] = None,
    also: Annotated[list[Path] | None, typer.Option("--with", help="further model, averaged with the first")] = None,
    size: Annotated[int | None, typer.Option(help="chip that is written, in pixels; default what fits")] = None,
    halo: Annotated[int | None, typer.Option(help="margin of a chip; default what the model needs")] = None,
    blend: Annotated[
        str,
        typer.Option(help="trim, or hann to average what overlaps", autocompletion=complete.one_of(("trim", "hann"))),
    ] = "trim",
    symmetries: Annotated[int, typer.Option(help="views of a chip that are averaged: 1, 4 or 8")] = 1,
    device: Annotated[str, typer.Option(help="torch device, such as cuda")] = "cpu",
    precision: Annotated[
        str,
        typer.Option(help="auto, fp32, bf16 or fp16", autocompletion=complete.one_of(("auto", "fp32", "bf16", "fp16"))),
    ] = "auto",
    threads: Annotated[int | None, typer.Option(help="threads of the model on a CPU")] = None,
    mosaic: Annotated[bool, typer.Option("--mosaic", help="one map of all scenes of a day")] = False,  # noqa: FBT002
    crs: Annotated[str | None, typer.Option(help="CRS of the map; default that of the scenes")] = None,
    resolution: Annotated[float | None, typer.Option(help="pixel size of the map in units of its CRS")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="number of worker processes, or address of a dask scheduler")
    ] = None,
) -> None:
    """Map imagery with a model package; imagery that does not meet the model's contract is refused.

    Stopped, the same command goes on where it was.

    Example: `geomm predict demo/model demo/catalog -o maps --layer class --layer confidence --polygons`
    """
    from geomm.export import read_zones
    from geomm.package import load_package
    from geomm.pipeline.apply import MapOptions, predict_source
    from geomm.progress import Bars

    layers, package = each("--layer", layer), opened(model, source)
    with Bars() as bars, _client(scheduler) as client:
        options = MapOptions(
            layers=layers,
            weights=weights,
            polygons=polygons,
            zones=read_zones(zones) if zones else None,
            size=size,
            halo=halo,
            blend=blend,
            symmetries=symmetries,
            device=device,
            precision=precision,
            threads=threads,
            mosaic=mosaic,
            crs=crs,
            resolution=resolution,
            others=tuple(load_package(m) for m in also or ()),
            client=client,
        )
        products = predict_source(
            package, source, out, aoi=box(aoi), datetime=datetime, options=options, progress=bars.update
        )
    for product in products:
        for path in (*product.files.values(), product.item):
            typer.echo(path)


@contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    """Connect to a scheduler, or start worker processes; nothing where neither is asked for.

    Raises:
        ConfigError: it is neither a number nor an address that answers.
        DependencyError: dask.distributed is not installed.
    """
    if scheduler is None:
        yield None
        return
    try:
        import dask
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise DependencyError("dask.distributed is not installed", fix="uv pip install 'geomm[cluster]'") from error
    if scheduler.isdigit() and int(scheduler) > 0:
        # Any free port in place of the one that another run has; and a worker that is gone may take long to come back.
        quiet: dict[str, Any] = {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}
        with (
            dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
            LocalCluster(n_workers=int(scheduler), threads_per_worker=1, processes=True, **quiet) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    from geomm.pipeline.clusters import connect

    with connect(scheduler) as client:
        yield client
