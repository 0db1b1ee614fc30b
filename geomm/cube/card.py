"""What a cube looks like in a notebook: where, when, what of it was resampled, how much there is to read."""

from __future__ import annotations

import datetime as dt

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geomm.cards import beside, card, facts, table, timeline, world
from geomm.catalog import Grid
from geomm.cube.areas import plan_of
from geomm.cube.grid import geobox_of
from geomm.cube.place import ALIGNED, turned
from geomm.cube.show import byte_text, footprint, ground_text, share_text
from geomm.errors import GridError


def cube_card(cube: xr.DataTree) -> str:
    """Return HTML that says what a cube is; no pixel is read."""
    root = cube.to_dataset()
    nodes = {n: c.to_dataset() for n, c in cube.children.items() if "data" in c}
    box = footprint(root)
    stamps = {n: _times(d) for n, d in nodes.items()}
    every = [t for times in stamps.values() for t in times]
    dated = len(set(every)) > 1
    head = ["modality", "sensor", "bands", "unit", "time", *([""] if dated else []), "pixels", "valid", "size"]
    rows = []
    for name, node in nodes.items():
        times = stamps[name]
        span = " to ".join(dict.fromkeys(f"{t:%Y-%m-%d}" for t in (min(times), max(times)))) if times else "-"
        rows.append(
            [
                name,
                str(node.attrs.get("sensor", "?")),
                _bands(node),
                str(node.attrs.get("units", "?")).replace("_", " "),
                f"{span} ({len(times)})" if len(times) > 1 else span,
                *([timeline(times, min(every), max(every))] if dated else []),
                resampling(node),
                share_text(node),
                byte_text(node.nbytes),
            ]
        )
    about = facts(
        {
            "grid": f"{root.sizes.get('y', 0)} x {root.sizes.get('x', 0)} pixels of {_ground(root)}",
            "footprint": ", ".join(f"{v:.4f}" for v in box) + " (west, south, east, north)" if box else "",
            "size": byte_text(sum(d.nbytes for d in nodes.values())) + ", read when it is asked for",
        }
    )
    place = beside(world([box]), about) if box else about
    return card("cube", [place, table(head, rows)], kind=f"{len(nodes)} modalities on one grid")


def resampling(node: xr.Dataset) -> str:
    """Say how the pixels of the sources become those of the grid; empty where that is not known any more."""
    plan = plan_of(node)
    if plan is None:
        return ""
    grids = {b.grid for step in plan.steps for scene in step for n, b in scene.bands.items() if n in plan.bands}
    return ", ".join(sorted({_change(g, node) for g in grids if g is not None}))


def _change(grid: Grid, node: xr.Dataset) -> str:
    try:
        geobox = geobox_of(node)
    except GridError:
        return ""
    source = turned(grid, geobox)
    if source.transform is None:
        return "placed by ground control points"
    crs = geobox.crs.__class__(source.crs)
    if crs != geobox.crs:
        return f"warped from {crs}"
    a, _, x0, _, e, y0 = source.transform[:6]
    mine = geobox.affine
    across, down = a / mine.a, e / mine.e
    shift = np.array([(x0 - mine.c) / mine.a, (y0 - mine.f) / mine.e])
    if abs(across - 1) < ALIGNED and abs(down - 1) < ALIGNED:
        return "copied" if np.abs(shift - shift.round()).max() < ALIGNED else "shifted by part of a pixel"
    return f"from {abs(a):g} to {abs(mine.a):g}{_unit(geobox)}"


def _ground(root: xr.Dataset) -> str:
    """Return pixel size with its unit, and CRS."""
    size, within, crs = ground_text(root).partition(" in ")
    return f"{size}{_unit(geobox_of(root))}{within}{crs}" if within else size


def _unit(geobox: GeoBox) -> str:
    """Return the unit of a grid's coordinates, as it stands behind a number."""
    if geobox.crs.geographic:
        return "°"
    name = str(geobox.crs.units[0])
    return " m" if name in ("metre", "meter") else f" {name}"


def _bands(node: xr.Dataset) -> str:
    names = [str(b) for b in np.atleast_1d(node["band"].to_numpy())] if "band" in node.coords else []
    return " ".join(names) if len(names) <= 8 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _times(node: xr.Dataset) -> list[dt.datetime]:
    if "time" not in node.coords:
        return []
    return [t.astype("datetime64[s]").item() for t in np.atleast_1d(node["time"].to_numpy())]
