"""From a recipe to a chip store: every site's splits as tiles, labels beside them."""

from __future__ import annotations

from pathlib import Path

from geomm.chipping import ChipReader
from geomm.config import RunConfig
from geomm.pipeline.sites import load_sites, make_folds, target_of
from geomm.store import StorePart, write_store
from geomm.types import Progress, silent


def build_chips(
    config: RunConfig, out: str | Path, *, share: tuple[int, int] = (0, 1), progress: Progress = silent
) -> Path:
    """Store the chips of a recipe: every labelled site, every split, each pixel of a split once.

    Args:
        config: see :func:`geomm.load_recipe`; its ``chips.size`` is the size of the chips.
        out: folder of the store. The catalog of a plain folder is written beside it.
        share: number of this process and how many there are, each of which writes its own shards.
        progress: told how far it is.

    Raises:
        GeommError: any of the steps; what is stored by then stays, and the same command goes on from there.
    """
    target = Path(out)
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
    return write_store(parts, target, share=share, progress=progress)
