"""``cube.geomm``: pictures of a cube, without arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geomm.cube.grid import geobox_of
from geomm.cube.plan import STATUS
from geomm.cube.plots.chosen import When, imagery, node_of, steps_of
from geomm.cube.plots.draw import canvas, frame, legend, show
from geomm.cube.plots.explore import explore_pictures
from geomm.cube.plots.stretch import BACKSCATTER, SIDE, Picture, Stretch, picture_of
from geomm.errors import ConfigError
from geomm.sensors import BandSpec, get_sensor
from geomm.types import ClassSpec

MOST_STEPS = 12
"""Dates that are shown where none is named."""

_STATUS = (
    ClassSpec(STATUS["valid"], "valid", "#2c7fb8"),
    ClassSpec(STATUS["quality"], "excluded by quality", "#fdae61"),
    ClassSpec(STATUS["nodata"], "nodata", "#525252"),
    ClassSpec(STATUS["outside"], "outside", "#d9d9d9"),
    ClassSpec(STATUS["unreadable"], "unreadable", "#d7191c"),
)


@xr.register_datatree_accessor("geomm")  # type: ignore[no-untyped-call]
class CubeAccessor:
    """What geomm adds to a cube: ``plot`` and ``explore``."""

    def __init__(self, cube: xr.DataTree) -> None:
        self._cube = cube

    @property
    def plot(self) -> CubePlots:
        """Pictures with matplotlib."""
        return CubePlots(self._cube)

    def explore(self, modality: str = "", *, time: When = None, map: Any | None = None) -> Any:  # noqa: A002
        """Lay a modality, or all of them, over a map to pan in.

        Args:
            modality: to show; default each as a layer of its own.
            time: position or date of the time step; default the first.
            map: folium map to add to; default a new one.

        Returns:
            A folium map, which a notebook shows. Its background comes from the network, the pictures do not.

        Raises:
            UnknownNameError: the cube has no such modality.
            DependencyError: folium is not installed.
        """
        names = [modality] if modality else imagery(self._cube)
        pictures = {}
        for name in names:
            node = node_of(self._cube, name)
            pictures[name] = picture_of(node, step=steps_of(node, time)[0], side=1600)
        return explore_pictures(pictures, geobox_of(self._cube), onto=map)


class CubePlots:
    """Pictures of a cube: called, of all of it; else of one kind of imagery."""

    def __init__(self, cube: xr.DataTree) -> None:
        self._cube = cube

    def __call__(self, modality: str = "", *, time: When = None) -> Any:
        """Show every modality at one time, and which pixels are valid.

        Args:
            modality: to show; default all.
            time: position or date of the time step; default the first.

        Returns:
            Array of axes.
        """
        names = [modality] if modality else imagery(self._cube)
        geobox = geobox_of(self._cube)
        axes = canvas(len(names) + 1, shape=geobox.shape)
        for ax, name in zip(axes, names, strict=False):
            node = node_of(self._cube, name)
            step = steps_of(node, time)[0]
            picture = picture_of(node, step=step)
            show(ax, picture, _title(name, node, step, picture), geobox)
        _status(axes[-1], self._cube, time, modality)
        return axes

    def rgb(
        self,
        modality: str = "",
        *,
        bands: Sequence[str] = (),
        time: When = None,
        stretch: Stretch = "robust",
        ax: Any | None = None,
    ) -> Any:
        """Show reflectance in natural colours, or three bands of any modality.

        Args:
            modality: to show; default the first that has three bands of reflectance.
            bands: for red, green and blue; default those nearest to their wavelengths.
            time: position or date of the time step; default every one, up to 12.
            stretch: limits of the values: of this picture, of the sensor (``fixed``), or two numbers.
            ax: axes to draw on.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: nothing in the cube can be shown so, or there is no such time.
        """
        name = modality or self._first("in natural colours", lambda s: s[0].kind == "reflectance" and len(s) >= 3)
        return self._draw(name, bands, time, stretch, ax)

    def sar(
        self,
        modality: str = "",
        *,
        bands: Sequence[str] = (),
        time: When = None,
        stretch: Stretch = "robust",
        ax: Any | None = None,
    ) -> Any:
        """Show backscatter in decibels: two polarisations and their ratio as colours, or one in grey.

        Args:
            modality: to show; default the first of backscatter.
            bands: one or three; default both polarisations.
            time: see :meth:`rgb`.
            stretch: see :meth:`rgb`, in decibels.
            ax: axes to draw on.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: there is no backscatter, or no such time.
        """
        name = modality or self._first("as backscatter", lambda s: s[0].kind in BACKSCATTER)
        return self._draw(name, bands, time, stretch, ax)

    def thermal(
        self,
        modality: str = "",
        *,
        bands: Sequence[str] = (),
        time: When = None,
        stretch: Stretch = "robust",
        ax: Any | None = None,
    ) -> Any:
        """Show temperature in kelvin with its colour bar.

        Args:
            modality: to show; default the first of temperature.
            bands: one; default the first.
            time: see :meth:`rgb`.
            stretch: see :meth:`rgb`, in kelvin.
            ax: axes to draw on.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: there is no temperature, or no such time.
        """
        name = modality or self._first("as temperature", lambda s: s[0].kind == "temperature")
        return self._draw(name, bands, time, stretch, ax)

    def valid(self, modality: str = "", *, time: When = None, ax: Any | None = None) -> Any:
        """Show which pixels are usable, and why others are not.

        Args:
            modality: to show; default each.
            time: position or date of the time step; default the first.
            ax: axes to draw on, for one modality.

        Returns:
            Axes, an array of them for several modalities.

        Raises:
            UnknownNameError: no such modality.
        """
        names = [modality] if modality else imagery(self._cube)
        axes = canvas(len(names), ax, shape=geobox_of(self._cube).shape)
        for one, name in zip(axes, names, strict=True):
            _status(one, self._cube, time, name)
        return axes[0] if len(names) == 1 else axes

    def _first(self, how: str, fits: Callable[[list[BandSpec]], bool]) -> str:
        specs = {n: _specs(node_of(self._cube, n)) for n in imagery(self._cube)}
        found = [n for n, s in specs.items() if fits(s)]
        if not found:
            raise ConfigError(
                f"nothing in the cube can be shown {how}",
                why="it has " + ", ".join(f"{n} ({s[0].kind}, {len(s)} bands)" for n, s in specs.items()),
                fix="plot() shows whatever there is",
            )
        return found[0]

    def _draw(
        self, name: str, bands: Sequence[str], time: When, stretch: Stretch, ax: Any | None
    ) -> Any:  # fmt: skip
        node, geobox = node_of(self._cube, name), geobox_of(self._cube)
        steps = steps_of(node, time)[: 1 if ax is not None else MOST_STEPS]
        pictures = [
            picture_of(node, bands, step=k, stretch=stretch, side=800 if len(steps) < 4 else 400) for k in steps
        ]
        axes = canvas(len(steps), ax, shape=geobox.shape)
        for one, step, picture in zip(axes, steps, pictures, strict=True):
            show(one, picture, _title(name, node, step, picture), geobox)
        return axes[0] if len(steps) == 1 else axes


def _specs(node: xr.Dataset) -> list[BandSpec]:
    sensor = get_sensor(str(node.attrs["sensor"]))
    return [sensor.band(str(n)) for n in np.atleast_1d(node["band"].to_numpy())]


def _title(name: str, node: xr.Dataset, step: int, picture: Picture) -> str:
    day = str(np.atleast_1d(node["time"].to_numpy())[step])[:10] if "time" in node.coords else ""
    unit = "" if picture.colours else f" ({picture.unit})"
    return "\n".join([f"{name}, {day}" if day else name, f"{picture.title}{unit}"])


def _status(ax: Any, cube: xr.DataTree, time: When, name: str = "") -> None:
    """Draw how the pixels of a modality came about; without a name, where all modalities are valid."""
    names = [name] if name else imagery(cube)
    found = np.stack([_codes(cube, n, time) for n in names])
    codes = found.min(0)
    colours = np.zeros((256, 4), np.uint8)
    for spec in _STATUS:
        colours[spec.value] = (*spec.rgb, 255)
    shares = [float((codes == spec.value).mean()) for spec in _STATUS]
    seen = [k for k, share in enumerate(shares) if share]
    title = f"{name}: valid" if name else "valid in all modalities"
    frame(ax, colours[codes], title, geobox_of(cube), _every(cube))
    legend(ax, [_STATUS[k] for k in seen], [shares[k] for k in seen])


def _codes(cube: xr.DataTree, name: str, time: When) -> np.ndarray:
    """Return the status of a modality, sampled; what was taken out of ``valid`` later counts as excluded by quality."""
    node, step = node_of(cube, name), slice(None, None, _every(cube))
    part = node.isel(time=steps_of(node, time)[0]) if "time" in node.dims else node
    seen = part[[n for n in ("status", "valid") if n in part]].isel(y=step, x=step).compute()  # files are read once
    valid = seen["valid"].to_numpy()
    if "status" not in seen:
        return np.where(valid, STATUS["valid"], STATUS["nodata"])
    codes = seen["status"].to_numpy()
    return np.where((codes == STATUS["valid"]) & ~valid, STATUS["quality"], codes)


def _every(cube: xr.DataTree) -> int:
    return max(1, -(-int(max(geobox_of(cube).shape)) // SIDE))
