"""Landsat 4 to 9, Collection 2 and before.

Wavelengths: USGS, "What are the band designations for the Landsat satellites?". Calibration of Level-2: USGS, "How do I
use a scale factor with Landsat Level-2 science products?". Thermal constants K1 and K2: Landsat 8-9 and Landsat 4-7
Data Users Handbooks; an item's own MTL goes before them.
"""

from __future__ import annotations

from geomm.radiometry import Calibration
from geomm.sensors.spec import BandSpec, QualityRule, SensorSpec
from geomm.types import Unit

_TOA = Calibration(2e-5, -0.1)  # Landsat 8/9, all reflective bands; the sun's height comes from the item
_SR = Calibration(2.75e-5, -0.2)
_SR_RANGE = (7273.0, 43636.0)  # reflectance 0 to 1: the product's valid range
_ST = Calibration(0.00341802, 149.0)
# The valid range begins at 293, to which failed retrievals are clamped (150.0 K). Nothing on Earth is colder
# than 174.6 K (Scambos et al. 2018): less is no measurement, also where fill was averaged in.
_ST_RANGE = (7490.0, 65535.0)
_ETM_LOW = Calibration(0.067087, -0.06709, 666.09, 1282.71)
_ETM_HIGH = Calibration(0.037205, 3.16280, 666.09, 1282.71)

_OLI = (
    ("B1", 0.443, ("coastal",)),
    ("B2", 0.482, ("blue",)),
    ("B3", 0.561, ("green",)),
    ("B4", 0.655, ("red",)),
    ("B5", 0.865, ("nir08",)),
    ("B6", 1.609, ("swir16",)),
    ("B7", 2.201, ("swir22",)),
)
_TM = (
    ("B1", 0.485, ("blue",)),
    ("B2", 0.560, ("green",)),
    ("B3", 0.660, ("red",)),
    ("B4", 0.830, ("nir08",)),
    ("B5", 1.650, ("swir16",)),
    ("B7", 2.215, ("swir22",)),
)
_ETM = (*(row for row in _TM if row[0] not in ("B4", "B7")), ("B4", 0.835, ("nir08",)), ("B7", 2.220, ("swir22",)))

_QA = BandSpec("QA_PIXEL", "bits", "bits", 30.0, ("qa_pixel",), dtype="uint16", nodata=1.0)
_RULE = QualityRule("QA_PIXEL", "qa_pixel")
_L1 = ("landsat-c2-l1", "landsat-c1-l1")
_SR_COLLECTIONS = ("landsat-c2-l2", "landsat-c2l2-sr")
_ST_COLLECTIONS = ("landsat-c2-l2", "landsat-c2l2-st")
_L8, _L5, _L7 = ("landsat-8", "landsat-9"), ("landsat-4", "landsat-5"), ("landsat-7",)


def _reflective(
    rows: tuple[tuple[str, float, tuple[str, ...]], ...], calibration: Calibration, dtype: str, prefix: str = ""
) -> tuple[BandSpec, ...]:
    return tuple(
        BandSpec(
            name,
            "reflectance",
            "reflectance",
            30.0,
            (*keys, f"{prefix}{name}") if prefix else keys,
            um,
            calibration=calibration,
            dtype=dtype,
            nodata=0.0,
            valid_range=_SR_RANGE if calibration is _SR else None,
            display=(0.0, 0.4),
        )
        for name, um, keys in sorted(rows)
    )


def _thermal(
    name: str,
    gsd: float,
    um: float,
    keys: tuple[str, ...],
    calibration: Calibration,
    *,
    level: int,
    dtype: str = "uint16",
) -> BandSpec:
    unit: Unit = "kelvin_brightness_temperature" if level == 1 else "kelvin_surface_temperature"
    display = (250.0, 320.0) if level == 1 else (270.0, 320.0)
    return BandSpec(
        name,
        "temperature",
        unit,
        gsd,
        keys,
        um,
        calibration=calibration,
        dtype=dtype,
        nodata=0.0,
        valid_range=_ST_RANGE if level == 2 else None,
        display=display,
    )


LANDSAT = (
    SensorSpec(
        "landsat-oli-l1",
        "Landsat 8/9 OLI Level-1, top-of-atmosphere reflectance",
        _L1,
        (*_reflective((*_OLI, ("B9", 1.373, ("cirrus",))), _TOA, "uint16"), _QA),
        _RULE,
        _L8,
        top_of_atmosphere=True,
    ),
    SensorSpec(
        "landsat-tirs-l1",
        "Landsat 8/9 TIRS Level-1, brightness temperature (B11 of Landsat 8 suffers from stray light)",
        _L1,
        (
            _thermal("B10", 100.0, 10.895, ("lwir11",), Calibration(3.342e-4, 0.1, 774.8853, 1321.0789), level=1),
            _thermal("B11", 100.0, 12.005, ("lwir12",), Calibration(3.342e-4, 0.1, 480.8883, 1201.1442), level=1),
            _QA,
        ),
        _RULE,
        _L8,
    ),
    SensorSpec(
        "landsat-bqa",
        "Landsat pre-collection quality band, decoded into cloud classes",
        ("landsat-c1-l1",),
        (BandSpec("BQA", "bits", "bits", 30.0, ("qa", "bqa"), dtype="uint16", nodata=1.0),),
    ),
    SensorSpec(
        "landsat-oli-l2",
        "Landsat 8/9 OLI Collection 2 Level-2, surface reflectance",
        _SR_COLLECTIONS,
        (*_reflective(_OLI, _SR, "uint16", "SR_"), _QA),
        _RULE,
        _L8,
    ),
    SensorSpec(
        "landsat-tirs-l2",
        "Landsat 8/9 TIRS Collection 2 Level-2, surface temperature",
        _ST_COLLECTIONS,
        (_thermal("ST_B10", 100.0, 10.895, ("lwir11",), _ST, level=2), _QA),
        _RULE,
        _L8,
    ),
    SensorSpec(
        "landsat-tm-l1",
        "Landsat 4/5 TM Level-1, top-of-atmosphere reflectance by the scene's MTL",
        _L1,
        (*_reflective(_TM, Calibration(float("nan")), "uint8"), _QA),
        _RULE,
        _L5,
    ),
    SensorSpec(
        "landsat-tm-thermal-l1",
        "Landsat 4/5 TM Level-1, brightness temperature",
        _L1,
        (
            _thermal(
                "B6", 120.0, 11.45, ("lwir",), Calibration(0.055, 1.18243, 607.76, 1260.56), level=1, dtype="uint8"
            ),
            _QA,
        ),
        _RULE,
        _L5,
    ),
    SensorSpec(
        "landsat-tm-l2",
        "Landsat 4/5 TM Collection 2 Level-2, surface reflectance",
        _SR_COLLECTIONS,
        (*_reflective(_TM, _SR, "uint16", "SR_"), _QA),
        _RULE,
        _L5,
    ),
    SensorSpec(
        "landsat-tm-thermal-l2",
        "Landsat 4/5 TM Collection 2 Level-2, surface temperature",
        _ST_COLLECTIONS,
        (_thermal("ST_B6", 120.0, 11.45, ("lwir",), _ST, level=2), _QA),
        _RULE,
        _L5,
    ),
    SensorSpec(
        "landsat-etm-l1",
        "Landsat 7 ETM+ Level-1, top-of-atmosphere reflectance by the scene's MTL",
        _L1,
        (*_reflective(_ETM, Calibration(float("nan")), "uint8"), _QA),
        _RULE,
        _L7,
    ),
    SensorSpec(
        "landsat-etm-thermal-l1",
        "Landsat 7 ETM+ Level-1, brightness temperature (low and high gain)",
        _L1,
        (
            _thermal("B6_VCID_1", 60.0, 11.45, ("lwir",), _ETM_LOW, level=1, dtype="uint8"),
            _thermal("B6_VCID_2", 60.0, 11.45, ("lwir_high",), _ETM_HIGH, level=1, dtype="uint8"),
            _QA,
        ),
        _RULE,
        _L7,
    ),
    SensorSpec(
        "landsat-etm-l2",
        "Landsat 7 ETM+ Collection 2 Level-2, surface reflectance",
        _SR_COLLECTIONS,
        (*_reflective(_ETM, _SR, "uint16", "SR_"), _QA),
        _RULE,
        _L7,
    ),
    SensorSpec(
        "landsat-etm-thermal-l2",
        "Landsat 7 ETM+ Collection 2 Level-2, surface temperature",
        _ST_COLLECTIONS,
        (_thermal("ST_B6", 60.0, 11.45, ("lwir",), _ST, level=2), _QA),
        _RULE,
        _L7,
    ),
)
"""Records of the Landsat satellites."""
