"""``cube.geomm``: pictures of a cube, without arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geomm.cube.grid import geobox_of
from geomm.cube.plots.chosen import When, day_of, imagery, matching, node_of, steps_of
from geomm.cube.plots.draw import show
from geomm.cube.plots.explore import explore_pictures
from geomm.cube.plots.layout import canvas, settle
from geomm.cube.plots.status import draw_status
from geomm.cube.plots.stretch import BACKSCATTER, Picture, Stretch, is_natural, picture_of
from geomm.errors import ConfigError
from geomm.sensors import BandSpec, get_sensor

MOST_STEPS = 12
"""Dates that are shown where none is named."""


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
            time: position or date of the time step; default the first. Of several modalities, those with one step only
                show it, and those without such a date are left out.
            map: folium map to add to; default a new one.

        Returns:
            A folium map, which a notebook shows. Its background comes from the network, the pictures do not.

        Raises:
            UnknownNameError: the cube has no such modality.
            ConfigError: there is no such time, or this is no map of folium.
            DependencyError: folium is not installed.
        """
        names, pictures = [modality] if modality else imagery(self._cube), {}
        for name, step in matching(self._cube, names, time).items():
            node = node_of(self._cube, name)
            title = f"{name}, {day_of(node, step)}" if node.sizes["time"] > 1 else name
            pictures[title] = picture_of(node, step=step, side=1600)
        return explore_pictures(pictures, geobox_of(self._cube), onto=map)


class CubePlots:
    """Pictures of a cube: called, of all of it; else of one kind of imagery."""

    def __init__(self, cube: xr.DataTree) -> None:
        self._cube = cube

    def __call__(self, modality: str = "", *, time: When = None) -> Any:
        """Show every modality at one time, and which pixels are valid.

        Args:
            modality: to show; default all.
            time: position or date of the time step; default the first. Of several modalities, each shows the first
                that matches, those with one step only that one, and those without a match are left out.

        Returns:
            Array of axes.

        Raises:
            UnknownNameError: there is no such modality.
            ConfigError: there is no such time.
        """
        names = [modality] if modality else imagery(self._cube)
        geobox, steps = geobox_of(self._cube), matching(self._cube, names, time)
        axes = canvas([*steps, "valid"])
        for ax, (name, step) in zip(axes, steps.items(), strict=False):
            node = node_of(self._cube, name)
            picture = picture_of(node, step=step)
            show(ax, picture, _title(name, node, step, picture), geobox)
        every = "all modalities" if len(steps) == len(names) else "all that is shown"
        draw_status(axes[-1], self._cube, steps, f"{modality}: valid" if modality else f"valid in {every}")
        settle(axes)
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
            time: position or date of the time step, or the beginning of several dates; default every one, up to 12.
            stretch: limits of the values: of this picture, of the sensor (``fixed``), or two numbers.
            ax: axes to draw on; several for several times.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: nothing in the cube can be shown so, or there is no such time.
        """
        name = modality or self._first(
            "in natural colours",
            lambda node, _: is_natural(node),
            lambda _, s: s[0].kind == "reflectance" and len(s) >= 3,
        )
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
            ax: axes to draw on; several for several times.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: there is no backscatter, or no such time.
        """
        name = modality or self._first("as backscatter", lambda _, s: s[0].kind in BACKSCATTER)
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
            ax: axes to draw on; several for several times.

        Returns:
            Axes, an array of them for several times.

        Raises:
            UnknownNameError: no such modality or band.
            ConfigError: there is no temperature, or no such time.
        """
        name = modality or self._first("as temperature", lambda _, s: s[0].kind == "temperature")
        return self._draw(name, bands, time, stretch, ax)

    def valid(self, modality: str = "", *, time: When = None, ax: Any | None = None) -> Any:
        """Show which pixels are usable, and why others are not.

        Args:
            modality: to show; default each.
            time: see :meth:`__call__`.
            ax: axes to draw on; several for several modalities.

        Returns:
            Axes, an array of them for several modalities.

        Raises:
            UnknownNameError: no such modality.
            ConfigError: there is no such time.
        """
        names = [modality] if modality else imagery(self._cube)
        steps = matching(self._cube, names, time)
        axes = canvas(list(steps), ax, fix=f'name a modality: valid("{names[0]}", ax=ax)')
        for one, (name, step) in zip(axes, steps.items(), strict=True):
            day = day_of(node_of(self._cube, name), step)
            draw_status(one, self._cube, {name: step}, f"{name}: valid" + (f", {day}" if day else ""))
        if ax is None:
            settle(axes)
        return axes[0] if len(axes) == 1 else axes

    def _first(self, how: str, *fits: Callable[[xr.Dataset, list[BandSpec]], bool]) -> str:
        """Return the first modality that fits, by the first of the rules that any fits."""
        nodes = {n: node_of(self._cube, n) for n in imagery(self._cube)}
        specs = {n: _specs(node) for n, node in nodes.items()}
        found = [n for fit in fits for n in nodes if fit(nodes[n], specs[n])]
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
        steps = steps_of(node, time, name)
        steps = steps if ax is not None else steps[:MOST_STEPS]
        titles = [f"{name}, {day_of(node, k)}" for k in steps]
        axes = canvas(titles, ax, fix=f'name one time step: time="{day_of(node, steps[0])}"')
        for one, step in zip(axes, steps, strict=True):
            side = 800 if len(steps) < 4 else 400
            picture = picture_of(node, bands, step=step, stretch=stretch, side=side)
            show(one, picture, _title(name, node, step, picture), geobox)
        if ax is None:
            settle(axes)
        return axes[0] if len(axes) == 1 else axes


def _specs(node: xr.Dataset) -> list[BandSpec]:
    sensor = get_sensor(str(node.attrs["sensor"]))
    return [sensor.band(str(n)) for n in np.atleast_1d(node["band"].to_numpy())]


def _title(name: str, node: xr.Dataset, step: int, picture: Picture) -> str:
    day = day_of(node, step)
    unit = f" ({picture.unit})" if picture.unit and not (picture.colours or picture.classes) else ""
    return "\n".join([f"{name}, {day}" if day else name, f"{picture.title}{unit}"])
