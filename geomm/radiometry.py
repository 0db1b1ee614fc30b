"""Radiometry as pure functions: digital numbers to physical units, quality bits to validity.

Facts and their sources: Landsat Collection 1 and 2 handbooks (USGS), Sentinel-2 product specification (ESA, processing
baseline 04.00 of 25 January 2022). Functions take numpy, dask, xarray or plain floats and return float32 for arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from geomm.errors import ConfigError, UnitError
from geomm.types import INVALID_CLASS, Unit, check_real

DB_FLOOR = -50.0
"""Lowest backscatter in dB that is kept; zero and negative power map to it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """From stored number to physical value: ``scale * dn + offset``, then Planck's law where ``k1`` is given."""

    scale: float = 1.0
    """Multiplicative term."""
    offset: float = 0.0
    """Additive term, applied after the scale."""
    k1: float | None = None
    """First thermal constant, W/(m2 sr um); None for bands that are not thermal."""
    k2: float | None = None
    """Second thermal constant, kelvin."""

    def __post_init__(self) -> None:
        fix = "for example Calibration(1e-4, -0.1); of a thermal band Calibration(3.342e-4, 0.1, 774.8853, 1321.0789)"
        given = {"scale": self.scale, "offset": self.offset, "k1": self.k1, "k2": self.k2}
        check_real({n: v for n, v in given.items() if v is not None or n in ("scale", "offset")}, fix=fix)
        if self.scale == 0 or (self.k1 is None) != (self.k2 is None):
            what = "a scale of 0 leaves nothing of the numbers" if self.scale == 0 else "k1 and k2 belong together"
            raise ConfigError(what, where=repr(self), fix=fix)


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


def to_stored(value: float, scale: float, offset: float, k1: float = float("nan"), k2: float = float("nan")) -> float:
    """Return the number that stands for a physical value, the inverse of :func:`to_physical`.

    >>> round(to_stored(to_physical(4000.0, 1e-4, -0.1), 1e-4, -0.1))
    4000
    """
    linear = value if np.isnan(k1) else k1 / float(np.expm1(k2 / value))
    return (linear - offset) / scale


def solar_corrected(calibration: Calibration, sun_elevation: float) -> Calibration:
    """Bring top-of-atmosphere reflectance to the sun in the zenith (USGS Landsat 8 Data Users Handbook, section 5.2).

    Args:
        calibration: stored number to reflectance without the sun's height.
        sun_elevation: degrees above the horizon.

    Raises:
        UnitError: the sun is below the horizon.
    """
    if not 0.0 < sun_elevation <= 90.0:
        raise UnitError(
            "there is no reflectance without sun",
            where=f"sun elevation {sun_elevation} degrees",
            fix="leave the scene out",
        )
    sine = float(np.sin(np.radians(sun_elevation)))
    return replace(calibration, scale=calibration.scale / sine, offset=calibration.offset / sine)


def reflectance_from_radiance(radiance: Calibration, irradiance: float, sun_earth: float) -> Calibration:
    """Turn a calibration to radiance, W/(m2 sr um), into one to reflectance without the sun's height.

    Args:
        radiance: stored number to radiance.
        irradiance: mean solar irradiance of the band, W/(m2 um) (Chander et al. 2009, table 4).
        sun_earth: distance in astronomical units.
    """
    factor = float(np.pi) * sun_earth**2 / irradiance
    return Calibration(radiance.scale * factor, radiance.offset * factor)


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


Sentinel2Source = Literal["gee_harmonized", "unknown"]


def sentinel2_offset(
    *,
    baseline: str | float | None,
    override: float | None = None,
    source: Sentinel2Source = "unknown",
    boa_offset_applied: bool | None = None,
    metadata_offset_dn: float | None = None,
) -> float | None:
    """Decide the additive offset, in DN, of a Sentinel-2 band (nominally -1000 since processing baseline 04.00).

    The rows are tried in order: user override; Earth Engine's harmonised collections; a catalog that says the offset
    is applied already; a baseline before 04.00, which had none; the item's own band metadata; a baseline from 04.00 on.

    Args:
        baseline: processing baseline, such as ``"04.00"``; see :func:`processing_baseline`.
        override: the user's word, in DN.
        source: where the pixels come from.
        boa_offset_applied: the catalog's flag ``earthsearch:boa_offset_applied``.
        metadata_offset_dn: offset of the item's band metadata, already divided by its scale.

    Returns:
        The offset to add to the DN before dividing by 10000; None where nothing tells: the caller warns or refuses.
    """
    if override is not None:
        return float(override)
    if source == "gee_harmonized":
        return 0.0
    if boa_offset_applied:
        return 0.0
    if baseline is not None and float(baseline) < OFFSET_BASELINE:
        return 0.0
    if metadata_offset_dn is not None:
        return float(metadata_offset_dn)
    return None if baseline is None else -1000.0


OFFSET_BASELINE = 4.0
"""Processing baseline, of 25 January 2022, from which Sentinel-2 DN carry an offset of 1000."""


def processing_baseline(*texts: str | float | None) -> float | None:
    """Read the processing baseline from a property (``04.00``) or a product's name (``..._N0400_...``).

    >>> processing_baseline(None, "S2B_MSIL2A_20220629T212529_N0400_R043_T06VVN_20220706T080531")
    4.0
    """
    for text in texts:
        match = re.fullmatch(r"(\d?\d)\.?(\d\d)|(\d)\.(\d)", str(text or ""))
        if match and match[3]:
            return float(f"{match[3]}.{match[4]}")
        match = match or re.search(r"_N(\d\d)(\d\d)_", str(text or ""))
        if match:
            return float(f"{match[1]}.{match[2]}")
    return None


KEPT_OFFSET_DN = 950.0
"""Above this first percentile in every band, Sentinel-2 DN look like ones that still carry the +1000."""
NEGATIVE = -0.03
"""Median reflectance of water or shadow below which an offset looks taken off twice."""


def offset_evidence(reflectance: Mapping[str, Any], dark: Any = None) -> str:
    """Check calibrated Sentinel-2 reflectance against physics: was an offset left in, or taken off twice?

    Args:
        reflectance: band name to values of valid pixels (NaN allowed), after the offset that the catalog tells.
        dark: True at pixels of water or shadow (scene classes 6, 2 and 3), of the same shape; None if unknown.

    Returns:
        The evidence in a sentence, or an empty string where nothing is suspicious.
    """
    low = {
        name: float(np.nanpercentile(values, 1)) for name, values in reflectance.items() if np.isfinite(values).any()
    }
    if low and min(low.values()) >= KEPT_OFFSET_DN * 1e-4:
        darkest = min(low, key=lambda name: low[name])
        return (
            f"99 % of the pixels of every band have a reflectance above {min(low.values()):.3f} ({darkest}): an offset "
            "of -1000 DN (processing baseline 04.00) seems not to have been applied"
        )
    for name in ("B08", "B8A", "B11", "B12"):
        if dark is None or name not in reflectance:
            continue
        values = np.asarray(reflectance[name])[np.asarray(dark)]
        middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
        if middle < NEGATIVE:
            return (
                f"water and shadow have a median reflectance of {middle:.3f} in {name}: an offset seems applied twice"
            )
    return ""


def bits(quality: Any, first: int, count: int = 1) -> Any:
    """Extract ``count`` bits of an integer quality band, starting at bit ``first``."""
    return (quality >> first) & ((1 << count) - 1)


def valid_from_qa_pixel(quality: Any, invalid: Sequence[int] = (0, 1, 2, 3, 4)) -> Any:
    """Landsat Collection 2 QA_PIXEL to validity.

    Args:
        quality: QA_PIXEL, unsigned integers.
        invalid: bits none of which may be set; by default fill, dilated cloud, cirrus, cloud and cloud shadow. Bit 5 is
            snow, 7 water (in Collection 1 bit 5 was cloud: those products have BQA, not QA_PIXEL).
    """
    return (quality & sum(1 << bit for bit in set(invalid))) == 0


def valid_from_scl(scl: Any, invalid: Sequence[int] = (0, 1, 3, 8, 9, 10)) -> Any:
    """Sentinel-2 scene classification to validity.

    Args:
        scl: classes 0 to 11.
        invalid: classes that are; by default no data, defective, cloud shadow, cloud (medium, high) and cirrus. Others
            that some want out: 2 topographic shadow, 7 unclassified, 11 snow.
    """
    bad = scl < 0
    for value in invalid:
        bad = bad | (scl == value)
    return ~bad


def valid_from_bqa(quality: Any, invalid: Sequence[int] = (0, 1, 2, 3)) -> Any:
    """Pre-collection Landsat BQA to validity: no fill, dropped frame, terrain occlusion, cloud or cirrus.

    Args:
        quality: uint16 BQA of before 2017 (Collection 1 and 2 give these bits other meanings).
        invalid: bits 0 to 3 none of which may be set: fill, dropped frame, terrain occlusion, reserved. A confidence of
            cloud (bits 14-15) or cirrus (12-13) of medium or high makes a pixel invalid in any case.
    """
    flagged = quality & sum(1 << bit for bit in set(invalid))
    return (flagged == 0) & (bits(quality, 14, 2) < 2) & (bits(quality, 12, 2) < 2)


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
