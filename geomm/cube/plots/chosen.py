"""Which modality and which time of a cube are meant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from geomm.errors import ConfigError, UnknownNameError

type When = int | str | dt.datetime | np.datetime64 | None
"""Position of a time step, the beginning of its date, or a time of its day; None for all, or the first."""

LISTED = 12
"""Dates that a message lists."""


def imagery(cube: Any) -> list[str]:
    """Return the modalities of a cube: nodes with data of a sensor.

    Raises:
        ConfigError: it is no cube.
    """
    nodes = cube.children if isinstance(cube, xr.DataTree) else {}
    names = [n for n, c in nodes.items() if "data" in c and "sensor" in c.attrs]
    if not names:
        part = "sensor" in getattr(cube, "attrs", {})
        raise ConfigError(
            "this is one modality of a cube" if part else "this is no cube",
            where=type(cube).__name__,
            why=f"its nodes are {', '.join(nodes) or 'none'}",
            fix='plot the whole cube, and name the modality: cube.geomm.plot("optical")' if part else "see load_cube",
        )
    return names


def node_of(cube: xr.DataTree, name: str) -> xr.Dataset:
    """Return a modality of a cube, with a time step where one was taken out.

    Raises:
        UnknownNameError: there is none of that name.
        ConfigError: it was averaged together with its flags.
    """
    if not isinstance(name, str) or name not in cube.children:
        raise UnknownNameError.of("modality", str(name), cube.children)
    node = cube.children[name].to_dataset()
    if "valid" in node and node["valid"].dtype != bool:
        sensor = node.attrs.get("sensor", "generic")
        raise ConfigError(
            "an averaged cube says no longer what is valid",
            where=f"modality {name}, valid is {node['valid'].dtype}",
            why="mean() averages flags too, and leaves the calibration behind",
            fix=f'average what is valid: mean = geomm.calibrated(cube)["{name}"]["data"].mean("time"), then write '
            f'geomm.from_xarray({{"{name}": mean}}, {{"{name}": "{sensor}"}}, time="2024-07"); or take one time '
            "step: cube.isel(time=0)",
        )
    if "time" in node.dims:
        return node
    first = {n: node[n].expand_dims("time") for n in ("data", "valid", "status") if n in node}
    table = {n: node[n].expand_dims("time") for n in ("scale", "offset", "k1", "k2") if n in node.coords}
    return node.drop_vars([*first, *table]).assign(first).assign_coords(table)


def steps_of(node: xr.Dataset, time: When, name: str) -> list[int]:
    """Return the positions of the time steps that are meant, at least one.

    Args:
        node: of a cube.
        time: see :data:`When`.
        name: of the modality, for messages.

    Raises:
        ConfigError: there is none such.
    """
    found = _found(node, time)
    if not found:
        raise _lacking({name: node}, time)
    return found


def matching(cube: xr.DataTree, names: Sequence[str], time: When) -> dict[str, int]:
    """Return which time step of each modality is shown at a time: the first that matches.

    Of several modalities, those with one time step only, such as labels, show it whatever its date; those without a
    match are left out.

    Raises:
        UnknownNameError: there is no such modality.
        ConfigError: none of them has such a time step.
    """
    nodes = {n: node_of(cube, n) for n in names}
    found = {n: _found(node, time) for n, node in nodes.items()}
    if not any(found.values()):
        raise _lacking(nodes, time)
    alone = [n for n, node in nodes.items() if node.sizes["time"] == 1]
    return {n: (steps or [0])[0] for n, steps in found.items() if steps or n in alone}


def day_of(node: xr.Dataset, step: int) -> str:
    """Return the date of a time step, with its hour where it shares the date with others; empty without any."""
    stamps = _stamps(node)
    if not stamps:
        return ""
    day = stamps[step][:10]
    return f"{day} {stamps[step][11:16]}" if sum(s.startswith(day) for s in stamps) > 1 else day


def _stamps(node: xr.Dataset) -> list[str]:
    return [str(t) for t in np.atleast_1d(node["time"].to_numpy())] if "time" in node.coords else []


def _found(node: xr.Dataset, time: Any) -> list[int]:
    """Return the positions of the time steps that are meant."""
    number = node.sizes["time"]
    if isinstance(time, xr.DataArray) and time.size == 1:
        time = time.to_numpy().ravel()[0]
    if time is None:
        return list(range(number))
    if isinstance(time, (int, np.integer)):
        return [int(time) % number] if -number <= time < number else []
    if isinstance(time, dt.datetime):
        time = np.datetime64(time.astimezone(dt.UTC).replace(tzinfo=None) if time.tzinfo else time)
    text, stamps = str(time).strip().replace(" ", "T").removesuffix("Z"), _stamps(node)
    exact = [k for k, known in enumerate(stamps) if text and known.startswith(text)]
    return exact or [k for k, known in enumerate(stamps) if text and known.startswith(text[:10])]


def _lacking(nodes: dict[str, xr.Dataset], time: When) -> ConfigError:
    """Say which time steps there are instead."""
    number = max(node.sizes["time"] for node in nodes.values())
    if not number:
        return ConfigError(
            "there is no time step to show",
            where=f"modality {', '.join(nodes)}",
            why="a selection of times has left none",
            fix="select a period that the cube holds; print(cube) says which",
        )
    return ConfigError(
        "the cube has no such time step",
        where=f"modality {', '.join(nodes)}, time {time!r}",
        why="; ".join(f"{name} has {_dates(node)}" for name, node in nodes.items()),
        fix=f"name a day, or a position from 0 to {number - 1}",
    )


def _dates(node: xr.Dataset) -> str:
    days = [day_of(node, k) for k in range(node.sizes["time"])]
    more = f" and {len(days) - LISTED} more, the last {days[-1]}" if len(days) > LISTED else ""
    return ", ".join(days[:LISTED]) + more if days else "none"
