"""What a recipe says of its chips: texts of a file, or derived from labels or from the imagery itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomm.annotations import derive_text, read_annotations
from geomm.chips import SpatialSplit
from geomm.config import RunConfig
from geomm.cube import calibrated, geobox_of
from geomm.errors import ConfigError
from geomm.pipeline.sites import Site, labels_of
from geomm.sensors import get_sensor
from geomm.types import INVALID_CLASS, ClassSpec, Window

COVER = tuple(
    ClassSpec(k, name, color)
    for k, (name, color) in enumerate(
        {
            "bare or wet ground": "#b8a07e",
            "sparse vegetation": "#a6c96a",
            "dense vegetation": "#2f6b2f",
            "open water": "#2b6cb0",
            "cloud": "#f2f2f2",
        }.items()
    )
)
"""What spectral indices tell apart, see :func:`cover_of`."""

WAVELENGTHS = (0.49, 0.56, 0.66, 0.86)
"""Blue, green, red and near infrared in micrometres."""

Teller = Callable[[Window], str]
"""Returns the text of a window."""


COLD = 280.0
"""Kelvin below which a place is taken for the top of a cloud."""


def cover_of(
    blue: np.ndarray, green: np.ndarray, red: np.ndarray, nir: np.ndarray, kelvin: np.ndarray | None = None
) -> NDArray[np.uint8]:
    """Tell land cover by indices of reflectance: index into :data:`COVER`, 255 where NaN.

    Cloud where it is colder than :data:`COLD`; water where the NDWI is above 0.3 (McFeeters 1996,
    doi:10.1080/01431169608948714, has 0 at the surface; seen through the atmosphere wet marsh reaches 0.2); dense
    vegetation where the NDVI is above 0.55, sparse above 0.3; else ground. It is a rule of thumb to make captions of,
    not a product: frozen ground is cloud to it.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ndvi, ndwi = (nir - red) / (nir + red), (green - nir) / (green + nir)
        cold = np.zeros(blue.shape, bool) if kelvin is None else kelvin < COLD
        cover = np.select([cold, ndwi > 0.3, ndvi > 0.55, ndvi > 0.3], [4, 3, 2, 1], 0)
    known = np.isfinite(blue) & np.isfinite(ndvi) & np.isfinite(ndwi)
    return np.where(known, cover, INVALID_CLASS).astype(np.uint8)


def teller_of(config: RunConfig, site: Site, split: tuple[SpatialSplit, str] | None = None) -> Teller:
    """Return what tells the text of a window of a site; empty where there is nothing to say.

    Args:
        config: with a ``text``.
        site: the place.
        split: a split and a name in it: pixels of other splits are not talked about.

    Raises:
        ConfigError: indices are asked for and no modality has the bands.
        CatalogError: the file of texts cannot be read.
    """
    assert config.text is not None
    if config.text.file is not None:
        notes = read_annotations(Path(config.root) / config.text.file, text=config.text.column)
        geobox = geobox_of(site.cube)
        days = sorted({f"{s.time:%Y-%m-%d}" for s in site.scenes})

        def said(window: Window) -> str:
            """Return the first text of any of the days that the site was seen on."""
            area = geobox[window.clip(geobox.shape).slices]
            return next((text for day in days for text in notes.at(area, day)), "")

        return said
    if config.text.derive == "labels":
        kinds, classes = labels_of(config, site), config.classes()
    else:
        kinds, classes = _cover(site), COVER

    def tell(window: Window) -> str:
        inside = window.clip((kinds.shape[0], kinds.shape[1]))
        found = kinds[inside.slices]
        if split is not None:
            found = found[split[0].mask(split[1], inside)]
        counts = np.bincount(found.ravel(), minlength=256)[: len(classes)]
        return derive_text((counts / counts.sum()).tolist(), classes) if counts.sum() else ""

    return tell


def derived(config: RunConfig) -> bool:
    """Return whether the texts of a recipe are derived, rather than written by somebody."""
    return config.text is not None and config.text.derive is not None


def text_identity(config: RunConfig) -> str:
    """Return what two recipes have in common exactly if they say the same."""
    if config.text is None or config.text.file is None:
        return repr(config.text)
    return hashlib.sha256((Path(config.root) / config.text.file).read_bytes()).hexdigest()


def _cover(site: Site) -> NDArray[np.uint8]:
    """Tell the land cover of a site by its first modality that has visible and near-infrared bands."""
    for node in site.cube.children.values():
        sensor = get_sensor(str(node.attrs.get("sensor", "generic")))
        bands = [sensor.band(str(b)) for b in node["band"].to_numpy()] if "band" in node else []
        near = [[abs((b.wavelength or 9.0) - um) for b in bands] for um in WAVELENGTHS]
        if bands and bands[0].kind == "reflectance" and max(min(n) for n in near) < 0.05:
            data = calibrated(node.to_dataset().isel(time=0)).data.to_numpy()
            blue, green, red, nir = (data[int(np.argmin(n))] for n in near)
            return cover_of(blue, green, red, nir, _kelvin(site))
    raise ConfigError(
        "spectral indices need blue, green, red and near infrared",
        where=f"site {site.name}",
        fix="add those bands to a modality, or derive texts from labels",
    )


def _kelvin(site: Site) -> np.ndarray | None:
    """Return the first brightness or surface temperature of a site; None where there is none."""
    for node in site.cube.children.values():
        if str(node.attrs.get("units", "")).startswith("kelvin"):
            found: np.ndarray = calibrated(node.to_dataset().isel(time=0, band=[0])).data.to_numpy()[0]
            return found
    return None
