"""Shared records. Imports nothing of geomm but its errors.

Axis glossary: xarray ``(time, band, y, x)``; torch ``(B, T, C, H, W)``; every shape is ``(height, width)``; windows are
integer pixel boxes of the run's one grid. *valid* is True where a pixel may be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal

from geomm.errors import ConfigError, GridError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np

Unit = Literal[
    "dn",
    "reflectance",
    "kelvin_brightness_temperature",
    "kelvin_surface_temperature",
    "sigma0_power",
    "sigma0_db",
    "gamma0_power",
    "gamma0_db",
    "amplitude",
    "degree",
    "metre",
    "class",
    "bits",
    "1",
]
"""Physical unit of a band. ``amplitude`` is uncalibrated backscatter, the square root of power. Brightness and surface
temperature are different quantities, and so are power and dB."""

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees (WGS 84)."""

INVALID_CLASS = 255
"""Class code of a pixel without label or prediction; the nodata value of every class map."""


def check_whole(numbers: Mapping[str, object], *, least: int | None = 1, fix: str) -> None:
    """Refuse what is no whole number, or a smaller one.

    Args:
        numbers: name to value.
        least: smallest value; None for any.
        fix: what to write.

    Raises:
        ConfigError: one of them is not.
    """
    for name, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or (least is not None and int(number) < least):  # type: ignore[call-overload]
            what = f"{name} is no whole number" + ("" if least is None else f" of at least {least}")
            raise ConfigError(what, where=f"{name} {number!r}", fix=fix)


def check_real(numbers: Mapping[str, object], *, fix: str) -> None:
    """Refuse what is no number, such as a text that looks like one.

    Args:
        numbers: name to value.
        fix: what to write.

    Raises:
        ConfigError: one of them is not.
    """
    for name, number in numbers.items():
        if type(number) is bool or not isinstance(number, Real):
            raise ConfigError(f"{name} is no number", where=f"{name} {number!r}"[:80], fix=fix)


def check_kind(given: object, kinds: type | tuple[type, ...], what: str, *, fix: str) -> None:
    """Refuse an argument of another kind.

    Args:
        given: the argument.
        kinds: what it may be.
        what: the mistake, as a sentence without a full stop.
        fix: what to write.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(given, kinds):
        where = " ".join(repr(given).split())[:80]
        raise ConfigError(what, where=where, why=f"got {type(given).__name__}", fix=fix)


def check_known(kind: str, name: object, known: Iterable[object]) -> None:
    """Refuse a name that is not among those known.

    Raises:
        UnknownNameError: it is not.
    """
    if name not in list(known):
        raise UnknownNameError.of(kind, str(name), known)


@dataclass(frozen=True, slots=True)
class Window:
    """An integer pixel box. It may reach outside the grid: readers pad there with invalid pixels."""

    y: int
    """First row."""
    x: int
    """First column."""
    height: int
    """Number of rows, positive."""
    width: int
    """Number of columns, positive."""

    def __post_init__(self) -> None:
        if not type(self.y) is type(self.x) is type(self.height) is type(self.width) is int:  # there are millions
            numbers = {"y": self.y, "x": self.x, "height": self.height, "width": self.width}
            check_whole(numbers, least=None, fix="give whole pixels: Window(y, x, height, width)")
        if self.height <= 0 or self.width <= 0:
            raise GridError(
                "a window needs a positive size",
                where=str(self),
                why=f"got height {self.height} and width {self.width}",
                fix="give rows and columns above 0; a window beside the grid has no part inside it",
            )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slice; only for windows that lie inside the array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def clip(self, shape: tuple[int, int]) -> Window:
        """Return the part inside a grid of ``shape``.

        Raises:
            GridError: the window lies wholly outside.
        """
        y0, x0 = max(self.y, 0), max(self.x, 0)
        y1, x1 = min(self.y + self.height, shape[0]), min(self.x + self.width, shape[1])
        return Window(y0, x0, y1 - y0, x1 - x0)

    def expand(self, margin: int) -> Window:
        """Return the window grown by ``margin`` pixels on each side."""
        return Window(self.y - margin, self.x - margin, self.height + 2 * margin, self.width + 2 * margin)

    def relative_to(self, outer: Window) -> Window:
        """Return this window in the coordinates of ``outer``."""
        return Window(self.y - outer.y, self.x - outer.x, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Modality:
    """A stream of a model: some bands of one sensor, under a name of its own."""

    sensor: str
    """Name in the table of sensors."""
    bands: tuple[str, ...] = ()
    """Band names in the order the model sees them; empty means all bands of the sensor."""

    def __post_init__(self) -> None:
        sensor: object = self.sensor
        given: object = self.bands
        if not isinstance(sensor, str):
            fix = f'write Modality("{getattr(sensor, "name", "landsat-oli-l1")}", ("B4", "B3"))'
            raise ConfigError("the sensor of a modality is a name", where=repr(sensor)[:60], fix=fix)
        if isinstance(given, str):
            fix = f'write Modality("{self.sensor}", ("{self.bands}",))'
            raise ConfigError("bands is one text", where=f"bands {self.bands!r}", fix=fix)
        ordered = isinstance(given, Iterable) and not isinstance(given, (set, frozenset, Mapping))
        if not ordered or not all(isinstance(b, str) for b in self.bands):
            fix = f'write Modality("{self.sensor}", ("B4", "B3")), or leave the bands out for all'
            raise ConfigError("bands are a list of names, in their order", where=repr(given)[:60], fix=fix)
        object.__setattr__(self, "bands", tuple(self.bands))


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class of a map."""

    value: int
    """Code in the raster, 0 to 254."""
    name: str
    """Name for people."""
    color: str
    """Colour as ``#rrggbb``."""

    def __post_init__(self) -> None:
        check_whole({"value": self.value}, least=0, fix="give a code from 0 to 254; 255 means no class")
        fix = f'write ClassSpec({self.value}, "water", "#1f78b4")'
        check_kind(self.name, str, "the name of a class is a text", fix=fix)
        if self.value >= INVALID_CLASS:
            fix = "give a code from 0 to 254; 255 means no class"
            raise ConfigError("a class has no such code", where=f"class {self.name!r}, value {self.value}", fix=fix)
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", str(self.color)):
            where, fix = f"class {self.name!r}, color {self.color!r}", "write it as #rrggbb, for example '#1f78b4'"
            raise ConfigError("the colour cannot be understood", where=where, fix=fix)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as three integers of 0 to 255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


def check_classes(classes: object) -> None:
    """Refuse what are no classes of one map.

    Raises:
        ConfigError: they are something else, or two have the same code or name.
    """
    fix = 'write (ClassSpec(0, "land", "#33a02c"), ClassSpec(1, "water", "#1f78b4"))'
    check_kind(classes, Iterable, "classes are a list of ClassSpec", fix=fix)
    assert isinstance(classes, Iterable)
    seen: dict[object, ClassSpec] = {}
    for one in classes:
        check_kind(one, ClassSpec, "a class is a ClassSpec", fix=fix)
        for what in (one.value, one.name):
            if what in seen:
                why = f"{what!r} is that of {seen[what].name!r} and of {one.name!r}"
                fix = "give every class a code and a name of its own"
                raise ConfigError(
                    "two classes are one", where=f"class {one.name!r}, value {one.value}", why=why, fix=fix
                )
            seen[what] = one


LayerKind = Literal["class", "probability", "continuous"]


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What one named array of a prediction is: all that an exporter needs to know."""

    name: str
    """File-name safe name, such as ``class``."""
    kind: LayerKind
    """Decides overviews, style and nodata handling."""
    dtype: str
    """numpy dtype name."""
    nodata: float
    """Value of a pixel without prediction; NaN for floats."""
    bands: tuple[str, ...]
    """Band descriptions in order."""
    unit: str = "1"
    """Unit of the values."""
    classes: tuple[ClassSpec, ...] = ()
    """Classes in order of their value, for kinds ``class`` and ``probability``."""
    scale: float = 1.0
    """What a stored number is multiplied by to give the value."""
    limits: tuple[float, float] | None = None
    """Values of the first and last colour; None for 0 and 1 of a probability, and what the data suggest of others."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Decoded output for one window: layer name to array ``(band, y, x)``, with nodata already in place."""

    arrays: Mapping[str, np.ndarray]
    """One array per layer."""
    layers: tuple[LayerSpec, ...] = field(default=())
    """Their specifications, in the order of writing."""


type Progress = Callable[[str, int, int], None]
"""Told how far long work is: stage, steps done, steps in all."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Ignore progress."""
