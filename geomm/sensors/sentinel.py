"""Sentinel-1 and Sentinel-2.

Sentinel-2 band centres: fits to ESA's spectral responses. Its offset since processing baseline 04.00 is decided for
every item, see :func:`geomm.radiometry.sentinel2_offset`. Sentinel-1 wavelength: C band, 5.405 GHz.
"""

from __future__ import annotations

from geomm.radiometry import Calibration
from geomm.sensors.spec import BandSpec, Kind, QualityRule, SensorSpec
from geomm.types import Unit

_QUANTIFIED = Calibration(1e-4, 0.0)

_MSI = (
    ("B01", 0.4429, 60.0, ("coastal", "B1")),
    ("B02", 0.4930, 10.0, ("blue", "B2")),
    ("B03", 0.5596, 10.0, ("green", "B3")),
    ("B04", 0.6646, 10.0, ("red", "B4")),
    ("B05", 0.7040, 20.0, ("rededge1", "B5")),
    ("B06", 0.7406, 20.0, ("rededge2", "B6")),
    ("B07", 0.7824, 20.0, ("rededge3", "B7")),
    ("B08", 0.8275, 10.0, ("nir", "B8")),
    ("B8A", 0.8648, 20.0, ("nir08",)),
    ("B09", 0.9450, 60.0, ("nir09", "B9")),
    ("B10", 1.3734, 60.0, ("cirrus",)),
    ("B11", 1.6139, 20.0, ("swir16",)),
    ("B12", 2.1900, 20.0, ("swir22",)),
)


def _msi(*, without: tuple[str, ...] = ()) -> tuple[BandSpec, ...]:
    return tuple(
        BandSpec(
            name, "reflectance", "reflectance", gsd, keys, um, calibration=_QUANTIFIED, nodata=0.0, display=(0.0, 0.4)
        )
        for name, um, gsd, keys in _MSI
        if name not in without
    )


def _sar(unit: Unit, kind: Kind, display: tuple[float, float], nodata: float, prefix: str = "") -> tuple[BandSpec, ...]:
    return tuple(
        BandSpec(
            p,
            kind,
            unit,
            10.0,
            (p.lower(), *((prefix + p.lower(),) if prefix else ())),
            polarisation=p,
            nodata=nodata,
            display=display,
        )
        for p in ("VV", "VH", "HH", "HV")
    )


_NAN = float("nan")
_DB = (-25.0, 0.0)

SENTINEL = (
    SensorSpec(
        "sentinel2-l1c",
        "Sentinel-2 MSI Level-1C, top-of-atmosphere reflectance",
        ("sentinel-2-l1c",),
        _msi(),
        marks=(("s2:product_type", "S2MSI1C"),),
    ),
    SensorSpec(
        "sentinel2-l2a",
        "Sentinel-2 MSI Level-2A, surface reflectance",
        ("sentinel-2-l2a", "sentinel-2-c1-l2a", "sentinel-s2-l2a-cogs"),
        (
            *_msi(without=("B10",)),
            BandSpec("SCL", "class", "class", 20.0, ("scl", "scl_20m"), dtype="uint8", nodata=0.0),
        ),
        QualityRule("SCL", "scl"),
        marks=(("s2:product_type", "S2MSI2A"),),
    ),
    SensorSpec(
        "sentinel1-grd",
        "Sentinel-1 ground range detected: amplitude in digital numbers, placed by ground control points",
        ("sentinel-1-grd", "sentinel1-grd"),
        _sar("amplitude", "amplitude", (0.0, 500.0), 0.0),
        marks=(("sar:product_type", "GRD"),),
    ),
    SensorSpec(
        "sentinel1-grd-db",
        "Sentinel-1 ground range detected, calibrated and terrain corrected: sigma0 in dB",
        ("sentinel-1-grd-db",),
        _sar("sigma0_db", "db", _DB, _NAN),
    ),
    SensorSpec(
        "sentinel1-rtc",
        "Sentinel-1 radiometrically terrain corrected, gamma0 in linear power",
        ("sentinel-1-rtc", "sentinel1-rtc-aws"),
        _sar("gamma0_power", "power", (0.0, 0.4), 0.0, "gamma0_"),
        marks=(("sar:product_type", "RTC"),),
    ),
    SensorSpec(
        "sentinel1-rtc-db",
        "Sentinel-1 radiometrically terrain corrected, gamma0 in dB",
        ("sentinel-1-rtc-db",),
        _sar("gamma0_db", "db", _DB, _NAN),
    ),
    SensorSpec(
        "sentinel1-incidence",
        "Sentinel-1 local incidence angle",
        ("sentinel1-rtc-aws",),
        (
            BandSpec(
                "incidence",
                "angle",
                "degree",
                10.0,
                ("local_incident_angle", "angle"),
                calibration=Calibration(0.01),
                dtype="uint16",
                nodata=0.0,
                display=(20.0, 50.0),
            ),
        ),
    ),
)
"""Records of the Sentinel satellites."""
