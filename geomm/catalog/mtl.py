"""Landsat's MTL metadata file: calibration, sun and date of a Level-1 scene."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geomm.errors import CatalogError
from geomm.radiometry import Calibration, reflectance_from_radiance, solar_corrected

# Mean solar irradiance, W/(m2 um): Chander, Markham, Helder (2009), Remote Sensing of Environment 113, table 4.
_IRRADIANCE: Mapping[str, Mapping[str, float]] = {
    "landsat-4": {"1": 1983.0, "2": 1795.0, "3": 1539.0, "4": 1028.0, "5": 219.8, "7": 83.49},
    "landsat-5": {"1": 1983.0, "2": 1796.0, "3": 1536.0, "4": 1031.0, "5": 220.0, "7": 83.44},
    "landsat-7": {"1": 1997.0, "2": 1812.0, "3": 1533.0, "4": 1039.0, "5": 230.8, "7": 84.90},
}
# K1, K2 where the MTL (of before 2017) has none: Chander et al. (2009), table 5.
_THERMAL: Mapping[str, tuple[float, float]] = {
    "landsat-4": (671.62, 1284.30),
    "landsat-5": (607.76, 1260.56),
    "landsat-7": (666.09, 1282.71),
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """The fields of an MTL file, whatever its groups."""

    fields: Mapping[str, str]
    """Key to value, without quotes."""

    @property
    def platform(self) -> str:
        """As STAC spells it, such as ``landsat-8``."""
        return self.fields.get("SPACECRAFT_ID", "").lower().replace("_", "-").replace("landsat-0", "landsat-")

    @property
    def time(self) -> dt.datetime | None:
        """Centre of the scene, UTC."""
        day, clock = self.fields.get("DATE_ACQUIRED"), self.fields.get("SCENE_CENTER_TIME", "00:00:00")
        return dt.datetime.fromisoformat(f"{day}T{clock[:8]}+00:00") if day else None

    @property
    def sun_elevation(self) -> float | None:
        """Degrees above the horizon at the centre of the scene."""
        value = self._number("SUN_ELEVATION")
        return None if np.isnan(value) else value

    def calibration(self, band: str) -> Calibration | None:
        """Return the calibration of a Level-1 band: reflectance (sun in the zenith) or brightness temperature.

        Args:
            band: such as ``B4``, ``B10`` or ``B6_VCID_1``.
        """
        number = band.removeprefix("B")
        k1, k2 = self._number(f"K1_CONSTANT_BAND_{number}"), self._number(f"K2_CONSTANT_BAND_{number}")
        if np.isnan(k1) and number.startswith("6") and self.platform in _THERMAL:
            k1, k2 = _THERMAL[self.platform]
        radiance = self._pair("RADIANCE", number)
        if not np.isnan(k1):
            return None if radiance is None else Calibration(radiance.scale, radiance.offset, k1, k2)
        reflectance = self._pair("REFLECTANCE", number)
        irradiance = _IRRADIANCE.get(self.platform, {}).get(number)
        if reflectance is None and radiance is not None and irradiance is not None:
            reflectance = reflectance_from_radiance(radiance, irradiance, self._sun_earth())
        if reflectance is None or self.sun_elevation is None:
            return None
        return solar_corrected(reflectance, self.sun_elevation)

    def _number(self, key: str) -> float:
        return float(self.fields.get(key, "nan"))

    def _pair(self, quantity: str, number: str) -> Calibration | None:
        scale, offset = (self._number(f"{quantity}_{part}_BAND_{number}") for part in ("MULT", "ADD"))
        return None if np.isnan(scale) or np.isnan(offset) else Calibration(scale, offset)

    def _sun_earth(self) -> float:
        """Distance in astronomical units, from the file or to 5e-4 from the day of the year (Spencer 1971)."""
        known = self._number("EARTH_SUN_DISTANCE")
        if not np.isnan(known) or self.time is None:
            return 1.0 if np.isnan(known) else known
        angle = 2 * np.pi * (self.time.timetuple().tm_yday - 1) / 365
        inverse = 1.00011 + 0.034221 * np.cos(angle) + 0.00128 * np.sin(angle) + 0.000719 * np.cos(2 * angle)
        return float((inverse + 0.000077 * np.sin(2 * angle)) ** -0.5)


def parse_mtl(text: str) -> Metadata:
    """Parse an MTL file, as text or JSON.

    Of fields that occur twice (Level-2 files repeat those of Level-1) the last one counts, except the processing level.

    Raises:
        CatalogError: it is neither.
    """
    text = text.strip("\0 \n")
    try:
        groups = json.loads(text) if text.startswith("{") else None
    except ValueError as error:
        raise CatalogError(
            "the MTL file cannot be read",
            why=str(error),
            fix="have the MTL file of the product delivered again: it lies in the same folder as the bands",
        ) from error
    if groups is None:
        found = dict(re.findall(r'^\s*(\w+)\s*=\s*"?([^"\n]*?)"?\s*$', text, re.MULTILINE))
    else:
        found = {k: str(v) for group in next(iter(groups.values())).values() for k, v in group.items()}
    if "SPACECRAFT_ID" not in found:
        raise CatalogError(
            "the MTL file cannot be read",
            why="it does not name the satellite (SPACECRAFT_ID)",
            fix="have the MTL file of the product delivered again: it lies in the same folder as the bands",
        )
    return Metadata(found)
