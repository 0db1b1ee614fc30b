"""What a sensor is, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from geomm.errors import DuplicateNameError, UnknownNameError
from geomm.radiometry import Calibration
from geomm.types import Unit, check_known

IDENTITY = Calibration()
"""Stored numbers that are physical values already."""

Kind = Literal[
    "reflectance", "temperature", "power", "amplitude", "db", "class", "bits", "elevation", "angle", "continuous"
]
"""What the numbers are, which decides how they may be averaged."""

Resampling = Literal["nearest", "bilinear", "average", "conservative", "mode", "or"]

RESAMPLING: Mapping[Kind, tuple[Resampling, Resampling]] = MappingProxyType(
    {
        "reflectance": ("bilinear", "conservative"),
        "temperature": ("bilinear", "conservative"),
        "power": ("bilinear", "average"),
        "amplitude": ("bilinear", "average"),  # of the power, as decibels: the loader goes there and back
        "db": ("bilinear", "average"),
        "class": ("nearest", "mode"),
        "bits": ("nearest", "or"),
        "elevation": ("bilinear", "conservative"),
        "angle": ("bilinear", "conservative"),  # of sine and cosine
        "continuous": ("bilinear", "conservative"),
    }
)
"""Resampling to finer (or similar) and to coarser target grids, by kind; see :func:`geomm.cube.resample.resample`."""


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
    valid_range: tuple[float, float] | None = None
    """Least and greatest stored number that is a measurement; None where every number is."""
    display: tuple[float, float] = (0.0, 1.0)
    """Stretch for pictures, in physical units."""

    def __post_init__(self) -> None:
        check_known(f"kind of band {self.name}", self.kind, get_args(Kind))
        check_known(f"unit of band {self.name}", self.unit, get_args(Unit))


@dataclass(frozen=True, slots=True)
class QualityRule:
    """Which band holds quality information and how it turns into validity."""

    band: str
    """Name of the quality band."""
    rule: Literal["qa_pixel", "scl", "bqa"]
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
    platforms: tuple[str, ...] = ()
    """Satellites that carry it; items of another are not its own. Empty where any is right."""
    marks: tuple[tuple[str, str], ...] = ()
    """Item properties and values by which an item of any collection is known to be of this sensor."""
    top_of_atmosphere: bool = False
    """Reflectance without the sun's height in its nominal calibration: it is divided by its sine where known."""

    def __post_init__(self) -> None:
        names = [b.name for b in self.bands]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateNameError.of(f"band of sensor {self.name}", name)

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

    def shown(self, names: Sequence[str]) -> tuple[int, int, int]:
        """Return which of some bands to show as red, green and blue: natural colours where they can be had.

        Otherwise two polarisations and the first again, or the first band in grey.
        """
        specs = [self.band(n) for n in names]
        if specs[0].kind == "reflectance" and len(names) >= 3:
            nearest = [
                min(range(len(specs)), key=lambda k: abs((specs[k].wavelength or 9.0) - um))
                for um in (0.66, 0.56, 0.49)
            ]
            return nearest[0], nearest[1], nearest[2]
        second = 1 if len({s.polarisation for s in specs} - {None}) > 1 else 0
        return 0, second, 0
