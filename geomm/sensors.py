"""The table of sensors: data only. A new sensor is one record here; everything else iterates over the table.

Wavelengths are band centres in micrometres (ESA Sentinel-2 spectral responses; USGS Landsat 8 handbook); polarisations
are transmit-receive. The calibration of a band is that of its nominal product; an item's own metadata goes before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from geomm.errors import UnknownNameError
from geomm.radiometry import Calibration
from geomm.types import Unit

IDENTITY = Calibration()
"""Stored numbers that are physical values already."""

Kind = Literal["reflectance", "temperature", "power", "db", "class", "bits", "elevation", "continuous"]

RESAMPLING: Mapping[Kind, tuple[str, str]] = MappingProxyType(
    {
        "reflectance": ("bilinear", "average"),
        "temperature": ("bilinear", "average"),
        "power": ("bilinear", "average"),
        "db": ("nearest", "nearest"),  # never resampled: load_cube refuses dB on another grid
        "class": ("nearest", "mode"),
        "bits": ("nearest", "nearest"),
        "elevation": ("bilinear", "average"),
        "continuous": ("bilinear", "average"),
    }
)
"""GDAL resampling for finer and for coarser target grids, by kind of band."""


@dataclass(frozen=True, slots=True)
class BandSpec:
    """One band of a sensor."""

    name: str
    """Name in geomm, as the product names it."""
    kind: Kind
    """Decides resampling and conversion."""
    unit: Unit
    """Physical unit after calibration."""
    gsd: float
    """Native ground sampling distance in metres; for thermal bands that of the detector, not of the file."""
    assets: tuple[str, ...] = ()
    """Further asset keys or common names under which catalogs offer the band."""
    wavelength: float | None = None
    """Band centre in micrometres."""
    polarisation: str | None = None
    """VV, VH, HH or HV."""
    calibration: Calibration = IDENTITY
    """Nominal calibration, used where the item says nothing."""
    dtype: str | None = None
    """Stored dtype; None where it differs between files."""
    nodata: float | None = None
    """Stored value of a missing pixel, used where the file declares none."""
    display: tuple[float, float] = (0.0, 1.0)
    """Stretch for pictures, in physical units."""


@dataclass(frozen=True, slots=True)
class QualityRule:
    """Which band holds quality information and how it turns into validity."""

    band: str
    """Name of the quality band."""
    rule: Literal["qa_pixel", "scl"]
    """Function ``valid_from_<rule>`` of :mod:`geomm.radiometry`."""


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """One instrument at one processing level."""

    name: str
    """Key in the table."""
    title: str
    """For people."""
    collections: tuple[str, ...]
    """STAC collections that hold it."""
    bands: tuple[BandSpec, ...]
    """Its bands in the product's order; empty only for ``generic``."""
    quality: QualityRule | None = None
    """Validity beyond nodata, where the product has it."""

    def band(self, name: str) -> BandSpec:
        """Return a band by name or alias.

        Raises:
            UnknownNameError: there is no such band; the message lists those there are.
        """
        for band in self.bands:
            if name == band.name or name in band.assets:
                return band
        if not self.bands:
            return BandSpec(name, "continuous", "dn", 0.0)
        raise UnknownNameError.of(f"band of sensor {self.name}", name, [b.name for b in self.bands])

    def band_names(self) -> tuple[str, ...]:
        """Names of all bands that are imagery, that is neither quality bits nor scene classes."""
        skip = self.quality.band if self.quality else None
        return tuple(b.name for b in self.bands if b.name != skip)


_OLI = Calibration(2e-5, -0.1)  # top-of-atmosphere reflectance before the sun-angle correction (USGS handbook)
_SR = Calibration(2.75e-5, -0.2)  # Landsat Collection 2 surface reflectance
_S2 = Calibration(1e-4, 0.0)  # the offset of baseline 04.00 is decided per item
_DB = (-25.0, 0.0)


def _optical(
    rows: tuple[tuple[str, float, float, tuple[str, ...]], ...],
    calibration: Calibration,
    dtype: str | None = "uint16",
) -> tuple[BandSpec, ...]:
    return tuple(
        BandSpec(name, "reflectance", "reflectance", gsd, assets, um, None, calibration, dtype, 0.0, (0.0, 0.4))
        for name, um, gsd, assets in rows
    )


_OLI_ROWS = (
    ("B1", 0.443, 30.0, ("coastal",)),
    ("B2", 0.482, 30.0, ("blue",)),
    ("B3", 0.561, 30.0, ("green",)),
    ("B4", 0.655, 30.0, ("red",)),
    ("B5", 0.865, 30.0, ("nir08",)),
    ("B6", 1.609, 30.0, ("swir16",)),
    ("B7", 2.201, 30.0, ("swir22",)),
)
_MSI_ROWS = (
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


def _sar(unit: Unit, kind: Kind, display: tuple[float, float]) -> tuple[BandSpec, ...]:
    return tuple(
        BandSpec(p, kind, unit, 10.0, (p.lower(),), None, p, nodata=float("nan"), display=display) for p in ("VV", "VH")
    )


_TABLE = (
    SensorSpec(
        "landsat-oli-l1",
        "Landsat 8/9 OLI Level-1, top-of-atmosphere reflectance",
        ("landsat-c2-l1", "landsat-c1-l1"),
        _optical((*_OLI_ROWS, ("B9", 1.373, 30.0, ("cirrus",))), _OLI),
    ),
    SensorSpec(
        "landsat-tirs-l1",
        "Landsat 8/9 TIRS Level-1, brightness temperature",
        ("landsat-c2-l1", "landsat-c1-l1"),
        (
            BandSpec(
                "B10",
                "temperature",
                "kelvin_brightness_temperature",
                100.0,
                ("lwir11",),
                10.895,
                None,
                Calibration(3.342e-4, 0.1, 774.8853, 1321.0789),
                "uint16",
                0.0,
                (250.0, 320.0),
            ),
            BandSpec(
                "B11",
                "temperature",
                "kelvin_brightness_temperature",
                100.0,
                ("lwir12",),
                12.005,
                None,
                Calibration(3.342e-4, 0.1, 480.8883, 1201.1442),
                "uint16",
                0.0,
                (250.0, 320.0),
            ),
        ),
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
        ("landsat-c2-l2",),
        (
            *_optical(tuple((n, um, gsd, (*keys, f"SR_{n}")) for n, um, gsd, keys in _OLI_ROWS), _SR),
            BandSpec("QA_PIXEL", "bits", "bits", 30.0, ("qa_pixel",), dtype="uint16", nodata=1.0),
        ),
        QualityRule("QA_PIXEL", "qa_pixel"),
    ),
    SensorSpec(
        "landsat-tirs-l2",
        "Landsat 8/9 TIRS Collection 2 Level-2, surface temperature",
        ("landsat-c2-l2",),
        (
            BandSpec(
                "ST_B10",
                "temperature",
                "kelvin_surface_temperature",
                100.0,
                ("lwir11",),
                10.895,
                None,
                Calibration(0.00341802, 149.0),
                "uint16",
                0.0,
                (270.0, 320.0),
            ),
            BandSpec("QA_PIXEL", "bits", "bits", 30.0, ("qa_pixel",), dtype="uint16", nodata=1.0),
        ),
        QualityRule("QA_PIXEL", "qa_pixel"),
    ),
    SensorSpec(
        "sentinel2-l1c",
        "Sentinel-2 MSI Level-1C, top-of-atmosphere reflectance",
        ("sentinel-2-l1c",),
        _optical(_MSI_ROWS, _S2, None),
    ),
    SensorSpec(
        "sentinel2-l2a",
        "Sentinel-2 MSI Level-2A, surface reflectance",
        ("sentinel-2-l2a",),
        (
            *_optical(tuple(row for row in _MSI_ROWS if row[0] != "B10"), _S2, None),
            BandSpec("SCL", "class", "class", 20.0, ("scl",), dtype="uint8", nodata=0.0),
        ),
        QualityRule("SCL", "scl"),
    ),
    SensorSpec(
        "sentinel1-rtc",
        "Sentinel-1 radiometrically terrain corrected, gamma0 in linear power",
        ("sentinel-1-rtc",),
        _sar("gamma0_power", "power", (0.0, 0.4)),
    ),
    SensorSpec(
        "sentinel1-rtc-db",
        "Sentinel-1 radiometrically terrain corrected, gamma0 in dB",
        ("sentinel-1-rtc-db",),
        _sar("gamma0_db", "db", _DB),
    ),
    SensorSpec(
        "copernicus-dem",
        "Copernicus DEM GLO-30, height above the geoid",
        ("cop-dem-glo-30",),
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

SENSORS: Mapping[str, SensorSpec] = MappingProxyType({spec.name: spec for spec in _TABLE})
"""All sensors by name."""


def get_sensor(name: str) -> SensorSpec:
    """Return a sensor of the table.

    Raises:
        UnknownNameError: there is none of that name; the message lists those there are.
    """
    if name not in SENSORS:
        raise UnknownNameError.of("sensor", name, SENSORS)
    return SENSORS[name]
