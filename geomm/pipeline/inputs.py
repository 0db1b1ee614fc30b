"""What went into a run, as it is shown and noted: items, files and checksums, and where they lie on a map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomm.catalog import Scene
from geomm.catalog.policy import shown
from geomm.chips import SpatialSplit
from geomm.cube import geobox_of
from geomm.pages import Outline, code, digest, map_of, size, table, text
from geomm.pipeline.sites import Fold, Site

LISTED = 200
"""Most items of a page."""
_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


def input_facts(sites: Sequence[Site]) -> list[dict[str, Any]]:
    """Return the scenes with their files, JSON types; addresses without what signs them."""
    return [
        {
            "site": site.name,
            "item": scene.id,
            "collection": scene.collection,
            "sensor": scene.sensor,
            "time": scene.time.isoformat(),
            "bands": list(scene.bands),
            "href": shown(scene.href),
            "files": _files(scene),
        }
        for site in sites
        for scene in site.scenes
    ]


def inputs_table(facts: Sequence[Mapping[str, Any]]) -> str:
    """Return the items as a table."""
    rows = [_row(about) for about in facts[:LISTED]]
    rest = len(facts) - LISTED
    more = f'<p class="soft">{rest:,} more are in run.json.</p>' if rest > 0 else ""
    return table(["Item", "Sensor", "Taken", "Bands", "Files", "Checksums", "Size"], rows, figures=1) + more


def places_map(sites: Sequence[Site], folds: Sequence[Fold]) -> str:
    """Return a map of the footprints of all items; of one place, with the blocks of its split."""
    alone = sites[0] if len(sites) == 1 else None
    blocks = [] if alone is None else _blocks(alone, folds[0].splits[alone.name])
    grids = [] if alone is not None else [_grid_outline(s) for s in sites]
    scenes = list(dict.fromkeys(_scene_outline(c) for s in sites for c in s.scenes))
    names = {"scene": f"footprint{'s' if len(scenes) > 1 else ''} of items"}
    names |= {"site": "grids of the places"} if grids else {}
    return map_of([*scenes, *grids, *blocks], names | _legend(blocks), label="Map of the inputs")


def split_map(site: Site, split: SpatialSplit) -> str:
    """Return a map of the blocks of a place; nothing where all of it is in one part."""
    if len(split.names) < 2:
        return ""
    blocks = _blocks(site, split)
    return map_of(blocks, _legend(blocks), label=f"Map of the split of {text(site.name)}")


def _row(about: Mapping[str, Any]) -> list[str]:
    files = about["files"]
    sums = [f["checksum"] for f in files if f["checksum"]]
    sizes = [f["size"] for f in files if f["size"]]
    stated = digest(sums[0]) if len(sums) == 1 == len(files) else f"{len(sums)} of {len(files)}" if sums else "-"
    names = [Path(f["href"]).name or f["href"] for f in files]
    bands = ", ".join(about["bands"])
    return [
        code(about["item"], 60),
        text(about["sensor"]),
        text(about["time"][:16].replace("T", " ")),
        f'<span title="{text(bands, 200)}">{text(bands, 40)}</span>',
        f'<span title="{text(files[0]["href"], 300)}">{code(names[0], 50)}</span>'
        + (f"<br><small>and {len(names) - 1} more</small>" if len(names) > 1 else ""),
        stated,
        size(sum(sizes)) if len(sizes) == len(files) else "-",
    ]


def _files(scene: Scene) -> list[dict[str, Any]]:
    found = {b.href: b for b in scene.bands.values()}
    return [{"href": shown(h), "size": b.size or _size(h), "checksum": b.checksum} for h, b in found.items()]


def _size(href: str) -> int | None:
    try:
        return Path(href).stat().st_size
    except (OSError, ValueError):
        return None


def _legend(blocks: Sequence[Outline]) -> dict[str, str]:
    there = {b.kind for b in blocks}
    return {kind: f"{name} blocks" for kind, name in _SPLITS.items() if kind in there}


def _scene_outline(scene: Scene) -> Outline:
    """Return the footprint of an item, a hole as a line of its own."""
    shape = scene.footprint
    parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    return Outline("scene", tuple(_together(ring) for part in parts for ring in part), text(scene.id, 60))


def _grid_outline(site: Site) -> Outline:
    height, width = geobox_of(site.cube).shape
    corners = np.array([(0, 0), (0, width), (height, width), (height, 0)], float)
    return Outline("site", (_degrees(site, corners),), text(site.name, 60))


def _blocks(site: Site, split: SpatialSplit) -> list[Outline]:
    """Return the blocks of each part of a split, those side by side in one piece."""
    found = []
    for name in (n for n in _SPLITS if n in split.names):
        rings = tuple(_degrees(site, corners) for corners in _runs(split, name))
        found.append(Outline(name, rings, f"{_SPLITS[name]}, {len(split.blocks(name))} blocks"))
    return found


def _runs(split: SpatialSplit, name: str) -> Iterator[np.ndarray]:
    """Yield the corners, as row and column, of the longest rows of blocks of a part."""
    mine, height, width = split.names.index(name), *split.shape
    for r, row in enumerate(split.assignment):
        inside = np.diff([0, *(int(v == mine) for v in row), 0])
        for first, after in zip(np.flatnonzero(inside == 1), np.flatnonzero(inside == -1), strict=True):
            top, bottom = r * split.block, min((r + 1) * split.block, height)
            left, right = first * split.block, min(after * split.block, width)
            yield np.array([(top, left), (top, right), (bottom, right), (bottom, left)], float)


def _degrees(site: Site, corners: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return corners of a grid, ``(n, 2)`` as row and column, in degrees."""
    geobox = geobox_of(site.cube)
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    rows, columns = corners.T
    lon, lat = geobox.crs.transformer_to_crs("EPSG:4326")(a * columns + b * rows + c, d * columns + e * rows + f)
    return _together(list(zip(np.asarray(lon).tolist(), np.asarray(lat).tolist(), strict=True)))


def _together(ring: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return corners without a jump at longitude 180."""
    lons = np.unwrap([float(p[0]) for p in ring], period=360.0)
    return tuple((float(x), float(p[1])) for x, p in zip(lons, ring, strict=True))
