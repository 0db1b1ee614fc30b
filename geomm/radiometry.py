"""Radiometry as pure functions: digital numbers to physical units, quality bits to validity.

Facts and their sources: Landsat Collection 1 and 2 handbooks (USGS), Sentinel-2 product specification (ESA, processing
baseline 04.00 of 25 January 2022). Functions take numpy, dask, xarray or plain floats and return float32 for arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from geomm.errors import UnitError
from geomm.types import INVALID_CLASS, Unit

DB_FLOOR = -50.0
"""Lowest backscatter in dB that is kept; zero and negative power map to it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """From stored number to physical value: ``scale * dn + offset``, then Planck's law where ``k1`` is given."""

    scale: float = 1.0
    """Multiplicative term."""
    offset: float = 0.0
    """Additive term, applied after the scale."""
    k1: float = float("nan")
    """First thermal constant, W/(m2 sr um); NaN for bands that are not thermal."""
    k2: float = float("nan")
    """Second thermal constant, kelvin."""


def to_physical(dn: Any, scale: Any, offset: Any, k1: Any = float("nan"), k2: Any = float("nan")) -> Any:
    """Calibrate digital numbers.

    Args:
        dn: stored values of any shape.
        scale: multiplicative term, broadcastable to ``dn``.
        offset: additive term.
        k1: thermal constant K1; NaN where the band is not thermal.
        k2: thermal constant K2 in kelvin.

    Returns:
        Physical values: ``scale * dn + offset``, or for thermal bands the brightness temperature
        ``k2 / ln(k1 / radiance + 1)`` in kelvin (USGS Landsat 8 Data Users Handbook, section 5).
    """
    value = dn * scale + offset
    if np.all(np.isnan(np.asarray(k1, dtype=float))):
        return value
    thermal = np.isfinite(k1)
    with np.errstate(divide="ignore", invalid="ignore"):
        temperature = brightness_temperature(value, k1, k2)
    if hasattr(temperature, "where"):
        return temperature.where(thermal, value)
    return np.where(thermal, temperature, value)


def brightness_temperature(radiance: Any, k1: Any, k2: Any) -> Any:
    """Invert Planck's law for one band: radiance in W/(m2 sr um) to brightness temperature in kelvin."""
    return k2 / np.log(k1 / radiance + 1.0)


def to_db(power: Any, floor: float = DB_FLOOR) -> Any:
    """Linear backscatter power to decibel, ``10 log10(power)``; zero and negative power become ``floor``."""
    tiny = 10.0 ** (floor / 10.0)
    return 10.0 * np.log10(np.maximum(power, tiny))


def from_db(decibel: Any) -> Any:
    """Decibel to linear power."""
    return 10.0 ** (decibel / 10.0)


def convert(value: Any, source: Unit, target: Unit) -> Any:
    """Convert between units that describe the same quantity: only power and dB of one backscatter coefficient do.

    Raises:
        UnitError: the units describe different quantities.
    """
    if source == target:
        return value
    for quantity in ("sigma0", "gamma0"):
        if (source, target) == (f"{quantity}_power", f"{quantity}_db"):
            return to_db(value)
        if (source, target) == (f"{quantity}_db", f"{quantity}_power"):
            return from_db(value)
    raise UnitError(
        f"cannot convert {source} into {target}",
        why="they are different physical quantities",
        fix=f"provide imagery in {target}",
    )


Sentinel2Source = Literal["earthsearch", "gee_harmonized", "stac", "unknown"]


def sentinel2_offset(
    *,
    baseline: str | None,
    override: int | None = None,
    source: Sentinel2Source = "unknown",
    boa_offset_applied: bool | None = None,
    metadata_offset_dn: float | None = None,
) -> float | None:
    """Decide the additive offset, in DN, of a Sentinel-2 band (nominally -1000 since processing baseline 04.00).

    The rows are tried in order: user override; Earth Engine's harmonised collections; a catalog that says the offset
    is applied already; an offset in the item's own band metadata; the processing baseline.

    Args:
        baseline: processing baseline, such as ``"04.00"``.
        override: the user's word, in DN.
        source: where the pixels come from.
        boa_offset_applied: the catalog's flag ``earthsearch:boa_offset_applied``.
        metadata_offset_dn: offset of the item's band metadata, already divided by its scale.

    Returns:
        The offset to add to the DN before dividing by 10000; None where nothing tells: the caller warns or refuses.
    """
    if override is not None:
        return float(override)
    if source == "gee_harmonized" or boa_offset_applied:
        return 0.0
    if baseline is None:
        return metadata_offset_dn
    if float(baseline) < 4.0:
        return 0.0
    return float(metadata_offset_dn) if metadata_offset_dn is not None else -1000.0


def looks_unharmonised(low_percentiles: Any, threshold: float = 950.0) -> bool:
    """Tell whether Sentinel-2 DN still carry the +1000 of baseline 04.00.

    Args:
        low_percentiles: first percentile of the valid DN of every band.
        threshold: no band of an uncontaminated scene stays above this DN everywhere.
    """
    return bool(np.min(np.asarray(low_percentiles)) >= threshold)


def bits(quality: Any, first: int, count: int = 1) -> Any:
    """Extract ``count`` bits of an integer quality band, starting at bit ``first``."""
    return (quality >> first) & ((1 << count) - 1)


def valid_from_qa_pixel(quality: Any) -> Any:
    """Landsat Collection 2 QA_PIXEL to validity: not fill, dilated cloud, cirrus, cloud or cloud shadow (bits 0-4)."""
    return bits(quality, 0, 5) == 0


def valid_from_scl(scl: Any, invalid: tuple[int, ...] = (0, 1, 3, 8, 9, 10)) -> Any:
    """Sentinel-2 scene classification to validity; invalid are nodata, defective, shadow, cloud, cirrus."""
    bad = scl == invalid[0]
    for value in invalid[1:]:
        bad = bad | (scl == value)
    return ~bad


def cloud_classes_from_bqa(quality: np.ndarray) -> np.ndarray:
    """Pre-collection Landsat BQA to cloud classes.

    Args:
        quality: uint16 BQA; bit 0 is fill, bits 12-13 are the confidence of cirrus, bits 14-15 of cloud
            (1 low, 2 medium, 3 high).

    Returns:
        uint8 of the same shape: 2 cloud (confidence medium or high), else 1 cirrus (confidence high), else 0 clear;
        255 for fill and for pixels whose confidences were not determined.
    """
    cloud, cirrus = bits(quality, 14, 2), bits(quality, 12, 2)
    label = np.where(cloud >= 2, 2, np.where(cirrus == 3, 1, 0)).astype(np.uint8)
    label[(bits(quality, 0) == 1) | ((cloud == 0) & (cirrus == 0))] = INVALID_CLASS
    return label
