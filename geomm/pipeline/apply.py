"""Map new imagery with a packaged model: search, load what the contract wants, predict, publish."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geomm.catalog import Catalog, Scene, build_catalog, open_catalog
from geomm.cube import check_radiometry, common_geobox, geobox_of, group_sites, load_cube
from geomm.errors import CatalogError, ContractError
from geomm.export import Product, Provenance, write_products
from geomm.types import BBox, Progress, silent

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import ModelPackage


def predict_source(
    package: ModelPackage,
    source: str | Path,
    out: str | Path,
    *,
    aoi: BBox | None = None,
    datetime: str | None = None,
    weights: bool = False,
    progress: Progress = silent,
) -> list[Product]:
    """Map every site and day of a source.

    Args:
        package: an opened model package.
        source: anything that :func:`geomm.open_catalog` opens, or a folder of GeoTIFFs named ``<item>_<band>.tif``.
        out: folder of the products; one STAC item with its COGs per site and day.
        aoi: west, south, east, north in degrees, to search and to cut to.
        datetime: instant or interval; for a folder of GeoTIFFs without dates, their date.
        weights: also map the share that each modality has in the answer.
        progress: told how far it is.

    Raises:
        ContractError: the source lacks a sensor or band that the model needs, or the model has no shares of its
            modalities; nothing is written.
        CatalogError: the search finds nothing.
    """
    with tempfile.TemporaryDirectory(prefix="geomm-") as scratch:
        catalog = _open(package, source, Path(scratch), datetime)
        scenes = _search(package, catalog, aoi, datetime)
        jobs = list(_jobs(scenes))
        cubes = [(name, group, _cube(package, group, aoi)) for name, group in jobs]
    return [map_cube(package, cube, group, Path(out), name, progress, weights=weights) for name, group, cube in cubes]


def _open(package: ModelPackage, source: str | Path, scratch: Path, datetime: str | None) -> Catalog:
    folder = Path(source)
    catalogued = any((folder / n).is_file() for n in ("catalog.json", "collection.json")) or any(
        folder.glob("*.parquet")
    )
    if catalogued or not folder.is_dir():
        return open_catalog(source)
    sensors = tuple(dict.fromkeys(m.sensor for m in package.contract.modalities.values()))
    return build_catalog(folder, scratch / "catalog", sensors=sensors, datetime=datetime)


def _search(package: ModelPackage, catalog: Catalog, aoi: BBox | None, datetime: str | None) -> list[Scene]:
    contract = package.contract
    wanted = {m.sensor: m for m in contract.modalities.values()}
    offered = catalog.sensors()
    lacking = [n for n in contract.required if contract.modalities[n].sensor not in offered]
    if lacking or not set(wanted) & set(offered):
        names = lacking or list(contract.modalities)
        raise ContractError(
            f"the imagery lacks what the model needs: {', '.join(names)}",
            where=catalog.href,
            why=f"the model wants {', '.join(contract.modalities[n].sensor for n in names)}; "
            f"the catalog offers {', '.join(offered) or 'no sensor that geomm knows'}",
            fix="choose imagery of these sensors",
        )
    scenes = catalog.search(aoi, datetime, sensors=[s for s in wanted if s in offered])
    if not scenes:
        raise CatalogError(
            "the search found nothing",
            where=catalog.href,
            why=f"no item of {', '.join(wanted)} in {aoi or 'any place'} at {datetime or 'any time'}",
            fix="widen the area or the time",
        )
    return [s.only(wanted[s.sensor].bands) for s in scenes]


def _jobs(scenes: list[Scene]) -> Iterator[tuple[str, list[Scene]]]:
    """Yield a name and its scenes for every site and day."""
    for site, group in group_sites(scenes).items():
        days: dict[str, list[Scene]] = {}
        for scene in group:
            days.setdefault(f"{scene.time:%Y%m%d}", []).append(scene)
        for day, mine in days.items():
            yield (f"{site}-{day}" if len(days) > 1 else site), mine


def _cube(package: ModelPackage, scenes: list[Scene], aoi: BBox | None) -> xr.DataTree:
    contract = package.contract
    geobox = common_geobox(scenes, aoi=aoi)
    if geobox.crs is not None and geobox.crs.projected:
        finest = abs(float(geobox.resolution.x))
        if abs(finest - contract.resolution) > 0.01 * contract.resolution:
            geobox = common_geobox(scenes, aoi=aoi, resolution=contract.resolution)
    present = {s.sensor for s in scenes}
    streams = {n: m for n, m in contract.modalities.items() if m.sensor in present}
    cube = load_cube(scenes, geobox, streams, errors="raise")
    check_radiometry(cube)
    return cube


def map_cube(
    package: ModelPackage,
    cube: xr.DataTree,
    scenes: Sequence[Scene],
    out: Path,
    name: str,
    progress: Progress,
    *,
    weights: bool = False,
) -> Product:
    """Predict one cube and write its products; with ``weights`` also the share of every modality."""
    from geomm.prediction import PredictSettings, predict

    source = Provenance(
        min(s.time for s in scenes),
        tuple(dict.fromkeys(s.href for s in scenes)),
        str(package.path / "mlm.json"),
        package.sha256,
    )
    contract = package.contract
    settings = PredictSettings(contract.size, contract.halo, 4 * contract.size, weights=weights)
    blocks = predict(cube, package, settings, on_block=lambda done, total: progress(f"map {name}", done, total))
    return write_products(blocks, geobox_of(cube), out, name=name, source=source)
