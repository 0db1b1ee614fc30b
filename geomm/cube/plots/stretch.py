"""Values to colours: which bands are shown, between which limits, as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm import radiometry
from geomm.cube.plots.flags import class_colours, classes_of
from geomm.cube.plots.preview import preview
from geomm.errors import ConfigError, UnknownNameError
from geomm.sensors import BandSpec, SensorSpec, get_sensor
from geomm.types import ClassSpec

Stretch = Literal["robust", "fixed"] | tuple[float, float]
"""``robust``: between quantiles of what is shown. ``fixed``: the sensor's own limits, the same for all pictures of it.
Or two limits, in the unit that is shown."""

SIDE = 800
"""Most pixels of the longer side of a picture."""

UNITS = {
    "reflectance": "reflectance",
    "kelvin_brightness_temperature": "brightness temperature, K",
    "kelvin_surface_temperature": "surface temperature, K",
    "sigma0_db": "sigma0, dB",
    "gamma0_db": "gamma0, dB",
    "sigma0_power": "sigma0, dB",
    "gamma0_power": "gamma0, dB",
    "amplitude": "uncalibrated backscatter, dB",
    "metre": "m",
    "degree": "degrees",
    "dn": "digital number",
    "1": "",
}
"""What stands beside a colour bar; backscatter is shown in decibels whatever it is stored as."""

BACKSCATTER = ("power", "amplitude", "db")
"""Kinds of bands that are shown in decibels."""

_SHARES = {"reflectance": (0.005, 0.98), "temperature": (0.01, 0.99)}
"""Quantiles that become black and white; of anything else 2 and 98 %."""
_LEAST = {"reflectance": 0.05, "temperature": 2.0, "db": 3.0}
"""Least distance of the limits, so that the noise of an even surface stays even."""

_VISIBLE = ((0.6, 0.7), (0.5, 0.6), (0.43, 0.52))
"""Wavelengths of red, green and blue in micrometres."""

_GAMMA = 0.8
"""Exponent of natural colours: land is dark beside the clouds that a stretch has to hold too."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A modality at one time, as colours."""

    rgba: NDArray[np.uint8]
    """``(y, x, 4)``, transparent where nothing is valid."""
    every: int
    """Pixels of the grid along each side of one of these."""
    title: str
    """Bands, or what each colour is."""
    unit: str
    """Of the values, in words."""
    limits: tuple[tuple[float, float], ...]
    """Values of black and white for red, green and blue, or for the only band."""
    colours: str = ""
    """Name of the colour map of an only band; empty for three, and for classes."""
    classes: tuple[ClassSpec, ...] = ()
    """Classes that are seen, where the band holds classes."""


def picture_of(
    node: xr.Dataset,
    bands: Sequence[str] = (),
    *,
    step: int = 0,
    side: int = SIDE,
    stretch: Stretch = "robust",
) -> Picture:
    """Turn a modality into colours.

    Args:
        node: of a cube.
        bands: one, or three for red, green and blue; default natural colours of reflectance, both polarisations and
            their ratio of backscatter, the first band of anything else.
        step: position of the time step.
        side: most pixels of the longer side.
        stretch: limits of the values.

    Raises:
        UnknownNameError: the node has no such band.
        ConfigError: neither one nor three bands, or limits that are none.
    """
    sensor, names = get_sensor(str(node.attrs["sensor"])), [str(n) for n in np.atleast_1d(node["band"].to_numpy())]
    bands = (bands,) if isinstance(bands, str) else bands
    for name in bands:
        if name not in names:
            raise UnknownNameError.of("band", name, names)
    if len(bands) not in (0, 1, 3):
        raise ConfigError("a picture shows one band or three", why=f"{len(bands)} bands", fix="name one, or three")
    dtype = node["data"].dtype
    chosen = [names.index(b) for b in bands] or shown_bands(sensor, names, dtype)
    small = preview(node, sorted(set(chosen)), step=step, side=side)
    values = small.values[[sorted(set(chosen)).index(k) for k in chosen]]
    specs = [sensor.band(names[k]) for k in chosen]
    told = classes_of(node["data"])
    picture = colours_of(values, specs, stretch=stretch, ratio=not bands, dtype=dtype, classes=told)
    return replace(picture, every=small.every)


def shown_bands(sensor: SensorSpec, names: Sequence[str], dtype: Any = None) -> list[int]:
    """Return which bands show a modality: one, two polarisations, or three for red, green and blue.

    Args:
        sensor: of the modality.
        names: of its bands.
        dtype: that its numbers are stored in, where known: three or four bands of bytes are a picture.
    """
    if _is_photo(sensor, names, dtype):
        return [0, 1, 2]
    return list(dict.fromkeys(sensor.shown(names))) if len(names) > 1 else [0]


def is_natural(node: xr.Dataset) -> bool:
    """Say whether a modality can be shown in natural colours."""
    sensor, names = get_sensor(str(node.attrs["sensor"])), [str(n) for n in np.atleast_1d(node["band"].to_numpy())]
    if _is_photo(sensor, names, node["data"].dtype):
        return True
    specs = [sensor.band(names[k]) for k in shown_bands(sensor, names)]
    seen = zip(specs, _VISIBLE, strict=False)
    return len(specs) == 3 and all(low <= (s.wavelength or 0.0) <= high for s, (low, high) in seen)


def _is_photo(sensor: SensorSpec, names: Sequence[str], dtype: Any) -> bool:
    """Say whether bands of no sensor are red, green and blue as cameras store them, perhaps with a fourth."""
    return not sensor.bands and len(names) in (3, 4) and dtype is not None and np.dtype(dtype) == np.uint8


def colours_of(
    values: NDArray[np.float32],
    specs: Sequence[BandSpec],
    *,
    stretch: Stretch = "robust",
    ratio: bool = True,
    dtype: Any = None,
    classes: Sequence[ClassSpec] = (),
) -> Picture:
    """Turn physical values into colours.

    Args:
        values: ``(band, y, x)`` of one, two or three bands, NaN where invalid.
        specs: what the bands are.
        stretch: limits of the values.
        ratio: whether the third colour of two bands of backscatter is their ratio; else two bands are one too many.
        dtype: that the numbers are stored in, where known; floats of no sensor are no digital numbers, and three bands
            of bytes are stretched as one.
        classes: that are known, of classes.
    """
    first, title, unit = specs[0], " ".join(s.name for s in specs), UNITS.get(specs[0].unit, specs[0].unit)
    stored = np.dtype(dtype if dtype is not None else np.uint16)
    unit = "" if first.unit == "dn" and stored.kind == "f" else unit
    if first.kind == "class":
        seen, rgba = class_colours(values[0], classes)
        return Picture(rgba, 1, title, "classes", (), classes=seen)
    shown, mixed = _decibels(values, first), ratio and len(values) == 2
    if mixed:  # of powers, as a difference of decibels
        shown = np.concatenate([shown, shown[:1] - shown[1:]])
        title = f"{title} {specs[0].name}/{specs[1].name}"
    if first.unit == "dn" and stored == np.uint8 and len(shown) == 3:  # its colours are as they should be
        alike = (0.0, 255.0) if stretch == "fixed" else _limits(shown, first, stretch, ratio=False)
        limits: tuple[tuple[float, float], ...] = (alike, alike, alike)
    else:
        limits = tuple(_limits(v, first, stretch, ratio=mixed and k == 2) for k, v in enumerate(shown))
    if len(shown) == 1:
        colours = {"temperature": "inferno", "reflectance": "gray", "elevation": "terrain"}.get(first.kind, "")
        colours = colours or ("gray" if first.kind in BACKSCATTER else "viridis")
        return Picture(heat(shown[0], limits[0], colours), 1, title, unit, limits, colours)
    natural = first.kind == "reflectance" and stretch == "robust"
    limits = _balanced(limits) if natural else limits
    return Picture(_mixed(shown, limits, _GAMMA if natural else 1.0), 1, title, unit, limits)


def _decibels(values: NDArray[np.float32], spec: BandSpec) -> NDArray[np.float32]:
    """Return values as they are shown: backscatter in decibels."""
    if spec.kind == "power":
        return np.asarray(radiometry.to_db(values), np.float32)
    if spec.kind == "amplitude":
        return np.asarray(radiometry.to_db(values**2), np.float32)
    return values


def _limits(values: NDArray[np.float32], spec: BandSpec, stretch: Stretch, *, ratio: bool) -> tuple[float, float]:
    if isinstance(stretch, tuple):
        if len(stretch) != 2 or not stretch[0] < stretch[1]:
            raise ConfigError("a stretch needs two limits, the lower first", why=f"got {stretch}", fix="(low, high)")
        return stretch
    if stretch == "fixed":
        return (0.0, 15.0) if ratio else (-25.0, 0.0) if spec.kind in ("power", "db") else _fixed(spec)
    if stretch != "robust":
        raise ConfigError("unknown stretch", why=f"got {stretch!r}", fix="'robust', 'fixed', or two numbers")
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (0.0, 1.0)
    low, high = (float(v) for v in np.quantile(finite, _SHARES.get(spec.kind, (0.02, 0.98))))
    least = _LEAST.get("db" if spec.kind in BACKSCATTER else spec.kind, 0.0) or max(abs(low), 1.0) * 1e-6
    middle = (low + high) / 2
    return (low, high) if high - low >= least else (middle - least / 2, middle + least / 2)


def _fixed(spec: BandSpec) -> tuple[float, float]:
    if spec.kind == "amplitude":
        return (20.0, 54.0)
    return spec.display


def _balanced(limits: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Give three colours one distance from dark to bright, so that white stays white; haze is taken off each."""
    reach = max(high - low for low, high in limits)
    return tuple((low, low + reach) for low, _ in limits)


def heat(values: NDArray[Any], limits: tuple[float, float], name: str) -> NDArray[np.uint8]:
    """Return the colours of a map of matplotlib, ``(y, x, 4)``, transparent where a value is NaN."""
    from matplotlib import colormaps

    share = np.clip((np.nan_to_num(values) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    rgba = np.asarray(colormaps[name](share, bytes=True))
    rgba[..., 3] = np.isfinite(values) * np.uint8(255)
    return rgba


def _mixed(values: NDArray[np.float32], limits: Sequence[tuple[float, float]], gamma: float) -> NDArray[np.uint8]:
    low, high = (np.array([pair[k] for pair in limits], np.float32)[:, None, None] for k in (0, 1))
    colours = (np.clip(np.nan_to_num((values - low) / (high - low)), 0, 1) ** gamma * 255).astype(np.uint8)
    alpha = np.isfinite(values).all(0)[None] * np.uint8(255)
    return np.moveaxis(np.concatenate([colours, alpha]), 0, -1)
