"""The table of sensors: data only. A new sensor is one record; everything else iterates over the table.

The calibration of a band is that of its nominal product; an item's own metadata goes before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from geomm.errors import ConfigError, DuplicateNameError, UnknownNameError
from geomm.sensors.landsat import LANDSAT
from geomm.sensors.sentinel import SENTINEL
from geomm.sensors.spec import IDENTITY, RESAMPLING, BandSpec, Kind, QualityRule, Resampling, SensorSpec

__all__ = [
    "IDENTITY",
    "RESAMPLING",
    "SENSORS",
    "BandSpec",
    "Kind",
    "QualityRule",
    "Resampling",
    "SensorSpec",
    "get_sensor",
    "register_sensor",
]

_OTHER = (
    SensorSpec(
        "copernicus-dem",
        "Copernicus DEM GLO-30, height above the geoid",
        ("cop-dem-glo-30", "cop-dem-glo-90"),
        (BandSpec("height", "elevation", "metre", 30.0, ("data", "elevation"), display=(0.0, 1000.0)),),
    ),
    SensorSpec(
        "landcover",
        "Land-cover labels",
        ("landcover",),
        (BandSpec("class", "class", "class", 10.0, ("data", "lulc", "label"), dtype="uint8", nodata=255.0),),
    ),
    SensorSpec("generic", "Any GeoTIFF, bands as the file names them", (), ()),
)

_TABLE = {spec.name: spec for spec in (*LANDSAT, *SENTINEL, *_OTHER)}

SENSORS: Mapping[str, SensorSpec] = MappingProxyType(_TABLE)
"""All sensors by name."""


def get_sensor(name: str) -> SensorSpec:
    """Return a sensor of the table.

    Raises:
        UnknownNameError: there is none of that name; the message lists those there are.
    """
    given: Any = name
    if isinstance(given, SensorSpec):
        raise UnknownNameError("a sensor is named, not given", where=given.name, fix=f"write its .name: {given.name!r}")
    if name not in SENSORS:
        raise UnknownNameError.of("sensor", name, SENSORS)
    return SENSORS[name]


def register_sensor(spec: SensorSpec) -> SensorSpec:
    """Add a sensor to the table, for this process; catalogs, cubes and models know it from then on.

    Args:
        spec: the sensor; it is returned, so that a module may keep it under a name.

    Raises:
        ConfigError: it is something else.
        DuplicateNameError: the table has a sensor of that name.
    """
    if not isinstance(spec, SensorSpec):
        raise ConfigError(
            "a sensor is a SensorSpec", why=f"got {spec!r}"[:80], fix="see 'A sensor' in CONTRIBUTING.md for one"
        )
    if spec.name in _TABLE:
        raise DuplicateNameError.of("sensor", spec.name)
    _TABLE[spec.name] = spec
    return spec
