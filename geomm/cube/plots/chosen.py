"""Which modality and which time of a cube are meant."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import xarray as xr

from geomm.errors import ConfigError, UnknownNameError

type When = int | str | dt.datetime | np.datetime64 | None
"""Position of a time step, the beginning of its date, or a time of its day; None for all, or the first."""


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
    """
    if not isinstance(name, str) or name not in cube.children:
        raise UnknownNameError.of("modality", str(name), cube.children)
    node = cube.children[name].to_dataset()
    if "time" in node.dims:
        return node
    first = {n: node[n].expand_dims("time") for n in ("data", "valid", "status") if n in node}
    table = {n: node[n].expand_dims("time") for n in ("scale", "offset", "k1", "k2") if n in node.coords}
    return node.drop_vars([*first, *table]).assign(first).assign_coords(table)


def steps_of(node: xr.Dataset, time: When) -> list[int]:
    """Return the positions of the time steps that are meant, at least one.

    Raises:
        ConfigError: there is none such.
    """
    number = node.sizes.get("time", 1)
    if time is None:
        return list(range(number))
    days = [str(t)[:10] for t in np.atleast_1d(node["time"].to_numpy())]
    if isinstance(time, (int, np.integer)):
        found = [int(time)] if -number <= time < number else []
    else:
        day = str(np.datetime64(time.replace(tzinfo=None)) if isinstance(time, dt.datetime) else time)[:10]
        found = [k for k, known in enumerate(days) if known.startswith(day)]
    if not found:
        raise ConfigError(
            "the cube has no such time step",
            where=f"time {time!r}",
            why=f"it has {', '.join(days)}",
            fix=f"name a day, or a position from 0 to {number - 1}",
        )
    return [found[0] % number]
