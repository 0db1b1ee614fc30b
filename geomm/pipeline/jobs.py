"""What a packaged model can be put to work on: the scenes of a source that it wants, place by place and day by day."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomm.catalog import Catalog, Scene, build_catalog, open_catalog
from geomm.cube import check_radiometry, common_geobox, ground_size, group_sites, load_cube
from geomm.errors import CatalogError, ContractError
from geomm.pipeline.pairs import Look, pair
from geomm.sensors import get_sensor
from geomm.types import BBox

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import InputContract, ModelPackage


@dataclass(frozen=True, slots=True)
class Job:
    """Scenes that belong together: of one place and day, or what was seen of one scene."""

    name: str
    """Of the place, and of the day where there are several; or of the scene."""
    scenes: tuple[Scene, ...]
    """With the bands that the model wants."""
    grid_of: tuple[Scene, ...] = ()
    """Those that decide the grid; empty for all."""

    def cube(
        self,
        package: ModelPackage,
        aoi: BBox | None = None,
        *,
        crs: str | None = None,
        resolution: float | None = None,
    ) -> xr.DataTree:
        """Return the lazy cube that the model wants, at the pixel size that it was trained at unless told otherwise.

        Args:
            package: the model.
            aoi: west, south, east, north in degrees, to cut to.
            crs: of the grid; None for that of the scenes.
            resolution: pixel size in units of the CRS.
        """
        contract = package.contract
        lead = self.grid_of or self.scenes
        geobox = common_geobox(lead, aoi=aoi, crs=crs, resolution=resolution)
        if resolution is None and geobox.crs is not None and geobox.crs.projected:
            metres = ground_size(geobox)
            if abs(metres - contract.resolution) > 0.01 * contract.resolution:
                units = abs(float(geobox.resolution.x)) / metres
                geobox = common_geobox(lead, aoi=aoi, crs=crs, resolution=contract.resolution * units)
        present = {s.sensor for s in self.scenes}
        streams = {n: m for n, m in contract.modalities.items() if m.sensor in present}
        cube = load_cube(self.scenes, geobox, streams, errors="raise")
        check_radiometry(cube)
        return cube


def find_jobs(
    package: ModelPackage, source: str | Path, *, aoi: BBox | None = None, datetime: str | None = None
) -> list[Job]:
    """Search a source for what a model can work on.

    Args:
        package: an opened model package.
        source: anything that :func:`geomm.open_catalog` opens, or a folder of GeoTIFFs named ``<item>_<band>.tif``.
        aoi: west, south, east, north in degrees.
        datetime: instant or interval; for a folder of GeoTIFFs without dates, their date.

    Raises:
        ContractError: the source lacks a sensor or band that the model needs.
        CatalogError: the search finds nothing.
    """
    return list(_by_day(_found(package, source, aoi, datetime)))


def find_scenes_of(
    package: ModelPackage,
    source: str | Path,
    *,
    aoi: BBox | None = None,
    datetime: str | None = None,
    within: float = 1.0,
) -> list[Job]:
    """Search a source for what a model can work on, scene by scene: what an archive that grows is made of.

    A job is a scene of the first sensor of the model that saw the place, on the scene's own grid, with the scenes of
    the other sensors that touch it and are nearest in time. A scene that comes later changes only the jobs that it
    touches. Scenes that hardly any such scene touches are jobs of their own.

    Args:
        package: an opened model package.
        source: see :func:`find_jobs`.
        aoi: west, south, east, north in degrees; of scenes that touch it, all is found.
        datetime: instant or interval.
        within: greatest distance in time of scenes of different sensors, in days.

    Raises:
        ContractError: the source lacks a sensor or band that the model needs.
        CatalogError: the search finds nothing.
    """
    scenes = _found(package, source, aoi, datetime)
    order = list(dict.fromkeys(m.sensor for m in package.contract.modalities.values()))
    return list(_by_scene(scenes, order, within))


def job_of(package: ModelPackage, name: str, scenes: Sequence[Scene]) -> Job:
    """Make a job of scenes that are known to belong together, the leading one first."""
    seen = tuple(_seen(package.contract, s) for s in scenes)
    return Job(name, seen, seen[:1])


def _by_scene(scenes: list[Scene], order: Sequence[str], within: float) -> Iterator[Job]:
    """Yield scenes, each with those of other sensors that saw the same at nearly the same time."""
    from shapely.geometry import shape

    looks = [Look(s.id, s.sensor, s.time, shape(s.footprint)) for s in scenes]
    names = Counter[str]()
    for group in pair(looks, order, within):
        lead = scenes[group[0]]
        names[lead.id] += 1
        name = lead.id if names[lead.id] == 1 else f"{lead.id}-{lead.sensor}"
        yield Job(name, tuple(scenes[k] for k in group), (lead,))


def _found(package: ModelPackage, source: str | Path, aoi: BBox | None, datetime: str | None) -> list[Scene]:
    with tempfile.TemporaryDirectory(prefix="geomm-") as scratch:
        catalog = _open(package, source, Path(scratch), datetime)
        found = _search(package, catalog, source, aoi, datetime)
        # The items of a plain folder are gone with it: what stays are its files.
        return [replace(s, href=_first_file(s)) if Path(scratch) in Path(s.href).parents else s for s in found]


def _first_file(scene: Scene) -> str:
    return next(iter(scene.bands.values())).href


def _open(package: ModelPackage, source: str | Path, scratch: Path, datetime: str | None) -> Catalog:
    folder = Path(source)
    catalogued = any((folder / n).is_file() for n in ("catalog.json", "collection.json")) or any(
        folder.glob("*.parquet")
    )
    if catalogued or not folder.is_dir():
        return open_catalog(source)
    sensors = tuple(dict.fromkeys(m.sensor for m in package.contract.modalities.values()))
    return build_catalog(folder, scratch / "catalog", sensors=sensors, datetime=datetime)


def _search(
    package: ModelPackage, catalog: Catalog, source: str | Path, aoi: BBox | None, datetime: str | None
) -> list[Scene]:
    contract = package.contract
    wanted = dict.fromkeys(m.sensor for m in contract.modalities.values())
    offered = catalog.sensors()
    lacking = [n for n in contract.required if contract.modalities[n].sensor not in offered]
    if lacking or not set(wanted) & set(offered):
        names = lacking or list(contract.modalities)
        raise ContractError(
            f"the imagery lacks what the model needs: {', '.join(names)}",
            where=str(source),
            why=f"the model wants {', '.join(contract.modalities[n].sensor for n in names)}; "
            f"the catalog offers {', '.join(offered) or 'no sensor that geomm knows'}",
            fix="choose imagery of these sensors",
        )
    scenes = catalog.search(aoi, datetime, sensors=[s for s in wanted if s in offered])
    if not scenes:
        raise CatalogError(
            "the search found nothing",
            where=str(source),
            why=f"no item of {', '.join(wanted)} in {aoi or 'any place'} at {datetime or 'any time'}",
            fix=f"widen the area or the time; `geomm catalog search {source}` lists what there is",
        )
    return [_seen(contract, s) for s in scenes]


def _seen(contract: InputContract, scene: Scene) -> Scene:
    """Return a scene with the bands that any modality wants of it, and the band that says which pixels are usable."""
    bands = [b for m in contract.modalities.values() if m.sensor == scene.sensor for b in m.bands]
    quality = get_sensor(scene.sensor).quality
    extra = [quality.band] if quality is not None and quality.band in scene.bands else []
    return scene.only(tuple(dict.fromkeys([*bands, *extra])))


def _by_day(scenes: list[Scene]) -> Iterator[Job]:
    """Yield the scenes of every site and day."""
    for site, group in group_sites(scenes).items():
        days: dict[str, list[Scene]] = {}
        for scene in group:
            days.setdefault(f"{scene.time:%Y%m%d}", []).append(scene)
        for day, mine in days.items():
            yield Job(f"{site}-{day}" if len(days) > 1 else site, tuple(mine))
