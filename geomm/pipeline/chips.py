"""The chips of a recipe: every site's splits as tiles, labels beside them, to look at or in a store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from geomm.chipping import ChipReader
from geomm.config import RunConfig, recipe_of
from geomm.errors import UnknownNameError
from geomm.pipeline.learn import dataset_of
from geomm.pipeline.sites import load_sites, make_folds, target_of
from geomm.pipeline.sources import local_folder
from geomm.store import StorePart, write_store
from geomm.types import Progress, silent

if TYPE_CHECKING:
    from geomm.dataset import ChipDataset


def recipe_chips(config: RunConfig, *, split: str = "train") -> dict[str, ChipDataset]:
    """Lay out the chips of a recipe to look at them, with the labels or the texts that a model of it learns from.

    Args:
        config: see :func:`geomm.load_recipe`; its ``chips.size`` is the size of the chips.
        split: such as ``train``, ``validation`` or ``test``; each of its pixels is in one chip. Where sites are left
            out one by one, the first is the test.

    Returns:
        Chips by site, of those sites that have some; chips of which nothing is said are left out.

    Raises:
        UnknownNameError: no site has such a split.
        GeommError: the catalog, the imagery or the labels cannot be used.
    """
    config = recipe_of(config, RunConfig)
    with tempfile.TemporaryDirectory(prefix="geomm-") as scratch:
        sites = load_sites(config, Path(scratch))
    (fold, *_), found = make_folds(config, sites), {}
    names = sorted({n for s in fold.splits.values() for n in s.names})
    if split not in names:
        raise UnknownNameError.of("split", split, names)
    for site in sites:
        drawn = fold.splits[site.name]
        if split in drawn.names:
            tiles = drawn.tiles(split, config.chips.size)
            found[site.name] = dataset_of(config, site, tuple(config.modalities), tiles, (drawn, split))
    return {name: chips for name, chips in found.items() if len(chips)}


def build_chips(
    config: RunConfig,
    out: str | Path,
    *,
    compress: bool | None = None,
    share: tuple[int, int] = (0, 1),
    progress: Progress = silent,
) -> Path:
    """Store the chips of a recipe: every labelled site, every split, each pixel of a split once.

    Args:
        config: see :func:`geomm.load_recipe`; its ``chips.size`` is the size of the chips.
        out: folder of the store. The catalog of a plain folder is written beside it.
        compress: whether imagery is stored in LZ4; see :func:`geomm.write_store`.
        share: number of this process and how many there are, each of which writes its own shards.
        progress: told how far it is.

    Raises:
        GeommError: any of the steps; what is stored by then stays, and the same command goes on from there.
    """
    config, target = recipe_of(config, RunConfig), local_folder(out)
    sites = load_sites(config, target.with_name(f"{target.name}-source"))
    by_place = config.split.kind != "blocks"
    parts = []
    for fold in make_folds(config, sites)[:1]:
        for site in sites:
            split = fold.splits[site.name]
            for name in split.names:
                chips = split.tiles(name, config.chips.size)
                # Left out one by one, places are splits of their own: choose by the column.
                label = site.name if by_place else name
                reader = ChipReader(
                    site.cube, chips, tuple(config.modalities), target=target_of(config), split=(split, name)
                )
                parts.append(StorePart(site.name, reader, {"split": [label] * len(chips)}))
    return write_store(parts, target, compress=compress, share=share, progress=progress)
