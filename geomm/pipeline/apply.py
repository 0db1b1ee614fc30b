"""Map new imagery with a packaged model: search, load what the contract wants, predict, publish."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm._version import __version__
from geomm.catalog import Scene, local_path
from geomm.cube import geobox_of
from geomm.errors import CatalogError, ConfigError
from geomm.export import Further, Product, Provenance, identity_of, write_products
from geomm.pipeline.jobs import Job, find_jobs
from geomm.types import BBox, Prediction, Progress, Window, silent

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import ModelPackage
    from geomm.prediction import PredictSettings


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How maps are made."""

    layers: tuple[str, ...] = ()
    """What to map, see :data:`geomm.tasks.maps.LAYERS`; empty for what the task answers with."""
    weights: bool = False
    """Also map the share that each modality has in the answer."""
    polygons: bool = False
    """Also write the class map as polygons."""
    zones: Any = None
    """GeoDataFrame of polygons that are told which classes lie in them."""
    size: int | None = None
    """Chip that is written, in pixels; None for what fits the model."""
    halo: int | None = None
    """Margin of a chip; None for what the model needs."""
    blend: str = "trim"
    """See :mod:`geomm.mosaic`."""
    symmetries: int = 1
    """Views of every chip that are averaged."""
    device: str = "cpu"
    """Torch device."""
    threads: int | None = None
    """Threads of the model on a CPU; None for those that torch has."""
    precision: str = "auto"
    """Arithmetic of the model."""
    mosaic: bool = False
    """One map of all scenes of a day, over UTM zones too, instead of one for every place."""
    crs: str | None = None
    """Of the map; None for that of the scenes."""
    resolution: float | None = None
    """Pixel size in units of the CRS; None for that which the model was trained at."""
    others: tuple[ModelPackage, ...] = ()
    """Models whose answers are averaged with those of the first."""
    client: Any = None
    """``dask.distributed`` client whose workers predict; None for this process."""

    def settings(self, cube: xr.DataTree, packages: Sequence[ModelPackage]) -> PredictSettings:
        """Return complete settings for a cube.

        Raises:
            ConfigError: a blend, precision or number of symmetries that does not exist.
        """
        from geomm.prediction import PredictSettings, settings_for

        shared = ("layers", "weights", "blend", "symmetries", "device", "precision", "threads")
        plain = PredictSettings(**{name: getattr(self, name) for name in shared})
        if self.size is not None:
            halo = packages[0].contract.halo if self.halo is None else self.halo
            return dataclasses.replace(plain, size=self.size, halo=halo, block=self.size * max(1024 // self.size, 1))
        found = settings_for(cube, packages, plain)
        return found if self.halo is None else dataclasses.replace(found, halo=self.halo)


def predict_source(
    package: ModelPackage,
    source: str | Path,
    out: str | Path,
    *,
    aoi: BBox | None = None,
    datetime: str | None = None,
    options: MapOptions | None = None,
    progress: Progress = silent,
) -> list[Product]:
    """Map every site and day of a source.

    Args:
        package: an opened model package.
        source: anything that :func:`geomm.open_catalog` opens, a folder of GeoTIFFs named ``<item>_<band>.tif``, or a
            cube that was written with ``cube.to_zarr("NAME.zarr")``.
        out: folder of the products; one STAC item with its COGs per site and day.
        aoi: west, south, east, north in degrees, to search and to cut to.
        datetime: instant or interval; for a folder of GeoTIFFs without dates, their date.
        options: what to map and how.
        progress: told how far it is.

    Raises:
        ContractError: the source lacks a sensor or band that the model needs, or the model has no shares of its
            modalities; nothing is written.
        CatalogError: the search finds nothing.
    """
    options = options or MapOptions()
    if Path(source).suffix == ".zarr":
        cube = _open_cube(Path(source))
        return [map_cube(package, cube, (), Path(out), Path(source).stem, progress, options=options)]
    jobs = find_jobs(package, source, aoi=aoi, datetime=datetime)
    jobs = _joined(jobs) if options.mosaic else jobs
    cubes = [(job, job.cube(package, aoi, crs=options.crs, resolution=options.resolution)) for job in jobs]
    return [map_cube(package, cube, job.scenes, Path(out), job.name, progress, options=options) for job, cube in cubes]


def map_cube(
    package: ModelPackage,
    cube: xr.DataTree,
    scenes: Sequence[Scene],
    out: Path,
    name: str,
    progress: Progress,
    *,
    options: MapOptions | None = None,
) -> Product:
    """Predict one cube and write its products; the same call goes on with a run that was stopped."""
    from geomm.package import check_cube
    from geomm.prediction import predict

    options = options or MapOptions()
    packages = (package, *options.others)
    check_cube(package.contract, cube)
    settings = options.settings(cube, packages)
    source = Provenance(
        min((s.time for s in scenes), default=_first_time(cube)),
        tuple(dict.fromkeys(s.href for s in scenes)),
        str(package.path / "mlm.json"),
        package.sha256,
    )

    def blocks(done: Collection[Window]) -> Iterable[tuple[Window, Prediction]]:
        def told(number: int, total: int) -> None:
            progress(f"map {name}", number, total)

        return predict(cube, packages, settings, skip=done, client=options.client, on_block=told)

    return write_products(
        blocks,
        geobox_of(cube),
        out,
        name=name,
        source=source,
        resume=_identity(cube, packages, settings),
        further=Further(options.polygons, options.zones),
    )


def _identity(cube: xr.DataTree, packages: Sequence[ModelPackage], settings: PredictSettings) -> str:
    """Return a hash of all that decides the blocks of a map, as far as it is known without reading pixels."""
    import torch

    from geomm.prediction.device import resolved

    sources = [str(s) for node in cube.children.values() for s in node.attrs.get("sources", [])]
    precision, threads = resolved(settings.precision, settings.device), settings.threads or torch.get_num_threads()
    settings = dataclasses.replace(settings, precision=precision, threads=threads)
    grid = geobox_of(cube)
    return identity_of(
        {
            "versions": [__version__, torch.__version__],
            "models": [p.sha256 for p in packages],
            "settings": dataclasses.asdict(settings),
            "grid": [str(grid.crs), list(grid.affine[:6]), list(grid.shape)],
            "nodes": [[n, [str(t) for t in node["time"].to_numpy()]] for n, node in cube.children.items()],
            "sources": [[s, _state_of(s.partition(" ")[2])] for s in sources],
        }
    )


def _state_of(href: str) -> list[int]:
    """Return size and time of a local file, so that a changed one is not taken for what it was."""
    path = local_path(href)
    if path is None or not path.is_file():
        return []
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _joined(jobs: Sequence[Job]) -> list[Job]:
    """Put the scenes of all places of a day together."""
    days: dict[str, list[Scene]] = {}
    for job in jobs:
        for scene in job.scenes:
            days.setdefault(f"{scene.time:%Y%m%d}", []).append(scene)
    return [Job(f"mosaic-{day}", tuple(scenes)) for day, scenes in sorted(days.items())]


def _open_cube(path: Path) -> xr.DataTree:
    """Open a cube that was written as zarr.

    Raises:
        CatalogError: it cannot be opened.
        ConfigError: it is not a cube.
    """
    import xarray as xr

    try:
        cube = xr.open_datatree(path, engine="zarr", chunks={}, consolidated=False)
    except (OSError, ValueError, KeyError) as error:
        raise CatalogError("the cube cannot be opened", where=str(path), why=str(error)) from error
    if not all({"data", "valid"} <= set(node.data_vars) for node in cube.children.values()) or not cube.children:
        raise ConfigError("this is no cube", where=str(path), fix="write one with cube.to_zarr of load_cube(...)")
    return cube


def _first_time(cube: xr.DataTree) -> Any:
    import pandas as pd

    first = min(node["time"].to_numpy().min() for node in cube.children.values())
    return pd.Timestamp(first, tz="UTC").to_pydatetime()
