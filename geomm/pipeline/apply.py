"""Map new imagery with a packaged model: search, load what the contract wants, predict, publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geomm.catalog import Scene
from geomm.cube import geobox_of
from geomm.export import Product, Provenance, write_products
from geomm.pipeline.jobs import find_jobs
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
    jobs = find_jobs(package, source, aoi=aoi, datetime=datetime)
    cubes = [(job, job.cube(package, aoi)) for job in jobs]
    return [map_cube(package, cube, job.scenes, Path(out), job.name, progress, weights=weights) for job, cube in cubes]


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
