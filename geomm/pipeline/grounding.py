"""Map where words are in new imagery, as products that a GIS opens."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomm.cube import geobox_of
from geomm.export import Product, Provenance, write_products
from geomm.grounding import Prompts, ground
from geomm.grounding.heat import default_settings
from geomm.pipeline.jobs import find_jobs
from geomm.pipeline.sources import local_folder
from geomm.types import BBox, Progress, silent

if TYPE_CHECKING:
    from geomm.package import ModelPackage


LONG = 48
"""Characters of words in a file name."""


def ground_source(
    package: ModelPackage,
    source: str | Path,
    asked: str | Prompts,
    out: str | Path,
    *,
    aoi: BBox | None = None,
    datetime: str | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> list[Product]:
    """Map words, or prompted classes, on every site and day of a source.

    Args:
        package: an opened model package of the contrastive task.
        source: anything that :func:`geomm.open_catalog` opens, or a folder of GeoTIFFs named ``<item>_<band>.tif``.
        asked: words for a heat map, or prompts for a map of classes; the STAC item says which.
        out: folder of the products.
        aoi: west, south, east, north in degrees, to search and to cut to.
        datetime: instant or interval; for a folder of GeoTIFFs without dates, their date.
        device: torch device.
        progress: told how far it is.

    Raises:
        ContractError: the source lacks what the model needs, or the model is of another task; nothing is written.
        CatalogError: the search finds nothing.
        ConfigError: the device is not here.
    """
    from geomm.prediction.device import check_device

    check_device(device)
    folder, prompted = local_folder(out), isinstance(asked, Prompts)
    what = {"prompts": asked.to_json(), "sha256": asked.sha256} if isinstance(asked, Prompts) else {"words": asked}
    products = []
    for job in find_jobs(package, source, aoi=aoi, datetime=datetime):
        cube = job.cube(package, aoi)
        name = f"{job.name}-{'prompts' if prompted else slug(str(asked))}"

        def told(done: int, total: int, name: str = name) -> None:
            progress(f"map {name}", done, total)

        settings = replace(default_settings(package.contract.size), device=device)
        blocks = ground(cube, package, asked, settings, on_block=told)
        source_of = Provenance(
            min(s.time for s in job.scenes),
            tuple(dict.fromkeys(s.href for s in job.scenes)),
            str(package.path / "mlm.json"),
            package.sha256,
            what,
        )
        products.append(write_products(blocks, geobox_of(cube), folder, name=name, source=source_of))
    return products


def slug(words: str) -> str:
    """Return words as part of a file name; where that says less than the words, with what tells them apart.

    >>> slug("Open water, without cloud!")
    'open-water-without-cloud'
    >>> slug("for\u00eat")
    'for-t-404ef6'
    """
    name = "-".join(re.findall(r"[a-z0-9]+", words.lower()))
    said = "".join(re.findall(r"\w+", words.lower()))
    if name.replace("-", "") == said and len(name) <= LONG:
        return name
    return f"{name[:LONG]}-{hashlib.sha256(words.encode()).hexdigest()[:6]}".lstrip("-")
