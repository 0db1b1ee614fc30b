"""From a recipe to sites: scenes on their own grid, and splits of their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm import radiometry
from geomm.catalog import Scene
from geomm.chips import SpatialSplit, label_counts
from geomm.config import RunConfig
from geomm.cube import check_radiometry, common_geobox, geobox_of, group_sites, load_cube
from geomm.errors import ConfigError, SplitError
from geomm.pipeline.areas import check_classes, draw_whole
from geomm.pipeline.labels import AREA, check_places, label_node, read_polygons
from geomm.pipeline.sources import find_scenes
from geomm.types import INVALID_CLASS, Modality

if TYPE_CHECKING:
    from geomm.dataset import Target

LABEL = "label"
"""Name of the node that holds the labels."""

IN_MEMORY = 2**30
"""Cubes below this many bytes are read once and kept while training."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place of a run: its scenes on its own grid."""

    name: str
    """Id of its first item."""
    scenes: tuple[Scene, ...]
    """What was found there."""
    cube: xr.DataTree
    """Lazy cube of all modalities and the label."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One way of keeping training and test apart."""

    name: str
    """``blocks``, or the site that is left out."""
    splits: Mapping[str, SpatialSplit]
    """Site to split; a site is in the fold's training or test by the names of its split."""


def load_sites(config: RunConfig, out: Path) -> list[Site]:
    """Find the scenes and put those of each place on its own grid.

    Raises:
        GeommError: the catalog, the imagery or the labels cannot be used.
    """
    label = config.label
    drawn = read_polygons(label, Path(config.root)) if label and label.polygons else None
    streams = config.streams()
    if label and label.sensor is not None:
        streams[LABEL] = Modality(label.sensor, tuple(label.bands))
    scenes = find_scenes(config, tuple(dict.fromkeys(m.sensor for m in streams.values())), out)
    imagery = {m.sensor for m in config.streams().values()}
    sites = []
    for name, group in group_sites(scenes).items():
        geobox = common_geobox(
            [_only_wanted(s, streams) for s in group if s.sensor in imagery],
            crs=config.grid.crs,
            resolution=config.grid.resolution,
        )
        here = {s.sensor for s in group}
        found = {n: m for n, m in streams.items() if m.sensor in here or n == LABEL}
        cube: xr.DataTree = load_cube(group, geobox, found, errors="raise")
        check_radiometry(cube)
        if drawn is not None:
            areas = label_node(drawn, geobox, config.labels, group[0].time)
            cube = cube.assign({LABEL: xr.DataTree(areas)})
        sites.append(Site(name, tuple(group), cube.compute() if cube.nbytes < IN_MEMORY else cube))
    if drawn is not None:
        check_places(drawn, {s.name: geobox_of(s.cube) for s in sites}, config.labels)
    return sites


def make_folds(config: RunConfig, sites: list[Site]) -> list[Fold]:
    """Split by blocks inside every site, or leave one site out at a time.

    Raises:
        SplitError: a split would be empty.
    """
    shapes = {s.name: shape_of(s) for s in sites}
    if config.split.kind == "blocks":
        labels = {s.name: labels_of(config, s) for s in sites if config.label}
        splits = {s.name: _draw(config, s, labels.get(s.name)) for s in sites}
        if config.label and config.label.polygons is not None:
            check_classes(config.label, [(labels[name], split) for name, split in splits.items()])
        return [Fold("blocks", splits)]
    if len(sites) < 2:
        raise SplitError(
            "leaving one site out needs at least two sites", why=f"found {len(sites)}", fix="split: {kind: blocks}"
        )
    return [
        Fold(
            out.name,
            {
                s.name: SpatialSplit.whole(shapes[s.name], "test" if s is out else "train", config.split.block)
                for s in sites
            },
        )
        for out in sites
    ]


def target_of(config: RunConfig) -> Target:
    """Return how the recipe's labels become class indices."""
    from geomm.dataset import Target

    decode = radiometry.cloud_classes_from_bqa if config.labels.decode == "cloud_bqa" else None
    return Target(LABEL, tuple(c.value for c in config.labels.classes), decode)


def labels_of(config: RunConfig, site: Site) -> NDArray[np.uint8]:
    """Return the class index of every pixel, 255 where there is none."""
    node = site.cube.children[LABEL].to_dataset().isel(time=0)
    labels = target_of(config).index(node.data.isel(band=0).to_numpy())
    labels[~node.valid.to_numpy()] = INVALID_CLASS
    if not (labels != INVALID_CLASS).any():
        raise SplitError(
            "there is no labelled pixel",
            where=f"site {site.name}",
            fix="check the classes' values" if config.labels.sensor else "search only where there are polygons",
        )
    return labels


def _draw(config: RunConfig, site: Site, labels: NDArray[np.uint8] | None) -> SpatialSplit:
    """Assign blocks to training, test and, where asked for, validation; polygons stay whole."""
    split = config.split
    given = {"train": 1.0 - split.test - split.validation, "validation": split.validation, "test": split.test}
    fractions = {name: share for name, share in given.items() if share > 0}
    if labels is not None and config.labels.polygons is not None:
        area = site.cube.children[LABEL][AREA].to_numpy()
        return draw_whole(labels, area, fractions, block=split.block, buffer=split.buffer, seed=split.seed)
    return SpatialSplit.draw(
        shape_of(site),
        fractions,
        block=split.block,
        buffer=split.buffer,
        seed=split.seed,
        counts=None if labels is None else label_counts(labels, split.block, len(config.labels.classes)),
    )


def node_of(sites: Sequence[Site], name: str) -> Any:
    """Return the node of a modality at the first site that has it.

    Raises:
        ConfigError: none has.
    """
    for site in sites:
        if name in site.cube.children:
            return site.cube.children[name]
    raise ConfigError(
        "no place has the modality", where=name, why=f"sites {', '.join(s.name for s in sites)}", fix="widen the search"
    )


def shape_of(site: Site) -> tuple[int, int]:
    """Return height and width of a site's grid."""
    height, width = geobox_of(site.cube).shape
    return int(height), int(width)


def _only_wanted(scene: Scene, streams: Mapping[str, Modality]) -> Scene:
    """Return the scene with the bands that any modality names; all where a modality names none."""
    wanted = [m.bands for m in streams.values() if m.sensor == scene.sensor]
    if any(not bands for bands in wanted):
        return scene
    return scene.only([b for b in scene.bands if any(b in bands for bands in wanted)])
