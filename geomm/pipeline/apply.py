"""Map new imagery with a packaged model: search, load what the contract wants, predict, publish."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.catalog import Scene
from geomm.cube import close_files, geobox_of, ground_size
from geomm.errors import CatalogError, ConfigError
from geomm.export import Further, Product, Provenance, identity_of, published, tidy, write_products
from geomm.pipeline.identity import of_blocks
from geomm.pipeline.jobs import Job, find_jobs
from geomm.pipeline.sources import local_folder
from geomm.types import BBox, Prediction, Progress, Window, silent

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import ModelPackage
    from geomm.prediction import Member, PredictSettings


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

    def shared(self) -> PredictSettings:
        """Return the settings that do not depend on the scene.

        Raises:
            ConfigError: a blend, precision or number of symmetries that does not exist.
        """
        from geomm.prediction import PredictSettings

        names = ("layers", "weights", "blend", "symmetries", "device", "precision", "threads")
        return PredictSettings(**{name: getattr(self, name) for name in names})

    def settings(self, cube: xr.DataTree, members: Sequence[Member]) -> PredictSettings:
        """Return complete settings for a cube."""
        from geomm.prediction import settings_for

        if self.size is not None:
            halo = max(m.package.contract.halo for m in members) if self.halo is None else self.halo
            block = self.size * max(1024 // max(self.size, 1), 1)
            return replace(self.shared(), size=self.size, halo=halo, block=block)
        found = settings_for(cube, members, self.shared())
        return found if self.halo is None else replace(found, halo=self.halo)


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

    What is there already, whole and made of the same, is not made again.

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
        ContractError: the source lacks a sensor or band that the model needs, its pixels are of another size, or the
            model has no shares of its modalities; nothing is written.
        CatalogError: the search finds nothing.
        ConfigError: options that do not exist or do not go together.
    """
    options, folder = options or MapOptions(), local_folder(out)
    if Path(source).suffix == ".zarr":
        if aoi or datetime or options.crs or options.resolution or options.mosaic:
            raise ConfigError(
                "a cube is mapped as it is", where=str(source), fix="cut, select and resample it before it is written"
            )
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).lstrip("._-") or "cube"
        found: list[tuple[str, tuple[Scene, ...], xr.DataTree]] = [(name, (), _open_cube(Path(source)))]
    else:
        jobs = find_jobs(package, source, aoi=aoi, datetime=datetime)
        jobs = _joined(jobs) if options.mosaic else jobs
        found = [(j.name, j.scenes, j.cube(package, aoi, crs=options.crs, resolution=options.resolution)) for j in jobs]
    _warn_of_zones(options.zones, [cube for _, _, cube in found])
    members = _ready(package, [cube for _, _, cube in found], options)
    return [map_cube(members, cube, scenes, folder, name, progress, options=options) for name, scenes, cube in found]


def _warn_of_zones(zones: Any, cubes: Sequence[xr.DataTree]) -> None:
    """Tell where no zone lies in any imagery: their table would be empty in silence."""
    if zones is None:
        return
    there = zones.to_crs("EPSG:4326").geometry
    if not any(there.intersects(geobox_of(cube).footprint("EPSG:4326").geom).any() for cube in cubes):
        box = tuple(round(float(v), 4) for v in there.total_bounds)
        warnings.warn(
            f"No zone lies in the imagery, so none is told its classes: they lie in {box}. Check their CRS and place.",
            stacklevel=3,
        )


def _ready(package: ModelPackage, cubes: Sequence[xr.DataTree], options: MapOptions) -> list[Member]:
    """Load the models once all imagery and options are known to do.

    Raises:
        ContractError: imagery that does not meet the contract of a model.
        ConfigError: what is made of a class map is asked for, but no class map.
    """
    from geomm.package import check_cube, check_scale
    from geomm.prediction import predictor_of, ready

    packages = (package, *options.others)
    settings = options.shared()
    for cube in cubes:
        for one in packages:
            check_cube(one.contract, cube)
            check_scale(one.contract, ground_size(geobox_of(cube)))
    members = ready(packages, settings)
    layers = predictor_of(members, settings).decoder.layers
    if (options.polygons or options.zones is not None) and "class" not in [layer.name for layer in layers]:
        raise ConfigError(
            "polygons and zones are made of the class map",
            why=f"the layers are {', '.join(layer.name for layer in layers)}",
            fix="map the layer class too",
        )
    return members


def map_cube(
    models: Sequence[Member | ModelPackage],
    cube: xr.DataTree,
    scenes: Sequence[Scene],
    out: Path,
    name: str,
    progress: Progress,
    *,
    options: MapOptions | None = None,
) -> Product:
    """Predict one cube and write its products; the same call goes on with a run that was stopped."""
    from geomm.prediction import predict, ready

    options = options or MapOptions()
    members = ready(models, options.shared())
    settings, first = options.settings(cube, members), members[0].package
    blocks_of = of_blocks(cube, [m.package for m in members], settings)
    zones = None if options.zones is None else identity_of(options.zones.to_json())
    source = Provenance(
        min((s.time for s in scenes), default=_first_time(cube)),
        tuple(dict.fromkeys(s.href for s in scenes)),
        str(first.path / "mlm.json"),
        first.sha256,
        identity=identity_of([blocks_of, options.polygons, zones]),
    )
    there = published(out, name, source.identity)
    if there is not None:
        tidy(out, name)
        progress(f"map {name}", 1, 1)
        return there

    def blocks(done: Collection[Window]) -> Iterable[tuple[Window, Prediction]]:
        def told(number: int, total: int) -> None:
            progress(f"map {name}", number, total)

        return predict(cube, members, settings, skip=done, client=options.client, on_block=told)

    further = Further(options.polygons, options.zones)
    try:
        return write_products(
            blocks, geobox_of(cube), out, name=name, source=source, resume=blocks_of, further=further
        )  # fmt: skip
    finally:
        close_files(cube)


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
        raise CatalogError(
            "the cube cannot be opened",
            where=str(path),
            why=str(error),
            fix="give a .zarr that cube.to_zarr(...) wrote, or a catalog",
        ) from error
    if not all({"data", "valid"} <= set(node.data_vars) for node in cube.children.values()) or not cube.children:
        raise ConfigError("this is no cube", where=str(path), fix="write one with cube.to_zarr of load_cube(...)")
    cube.attrs["file"] = str(path)
    return cube


def _first_time(cube: xr.DataTree) -> Any:
    import pandas as pd

    first = min(node["time"].to_numpy().min() for node in cube.children.values())
    return pd.Timestamp(first, tz="UTC").to_pydatetime()
