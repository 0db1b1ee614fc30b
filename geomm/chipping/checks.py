"""What a reader of chips is given is a cube, chips of it, and names that are in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geomm.chipping.batch import Target
from geomm.chips.grid import check_chips
from geomm.chips.split import SpatialSplit, check_split
from geomm.cube import cube_of, geobox_of
from geomm.cube.calibrate import CALIBRATION
from geomm.errors import ConfigError, GridError, SplitError, did_you_mean, typo_of


def check_reader(cube: Any, chips: Any, modalities: Any, target: Any, split: Any) -> None:
    """Check the arguments of :class:`geomm.ChipReader`.

    Raises:
        ConfigError: one is of another kind; the cube has none of the modalities, or lacks the target; a name that it
            lacks looks like a misspelling of a node that nobody asked for; or it is in physical units already.
        GridError: the chips, or the split, were made for another grid.
        SplitError: no chip has a pixel of the split.
    """
    cube_of(cube)
    if isinstance(modalities, str):
        raise ConfigError("modalities is one text", where=repr(modalities), fix=f"give a list: [{modalities!r}]")
    check_chips(chips, 'chips come second, modalities third: ChipDataset(cube, ChipGrid(grid.shape, 256), ["optical"])')
    if not hasattr(modalities, "__iter__") or not all(isinstance(n, str) for n in modalities):
        fix = f"give names of nodes: {list(cube.children)}"
        raise ConfigError("modalities are a list of names", where=repr(modalities)[:80], fix=fix)
    if target is not None and not isinstance(target, Target):
        fix = f"write Target({target if isinstance(target, str) else 'label'!r}, values=(0, 1, 2))"
        raise ConfigError("this is no target", where=repr(target)[:80], fix=fix)
    _check_names(cube, modalities, target)
    _check_stored(cube, modalities)
    _check_place(cube, chips)
    if split is not None:
        height, width = (int(n) for n in geobox_of(cube).shape)
        check_split(split, (height, width))
        _check_some(chips, *split)


def check_words(text: Any, within: Any) -> None:
    """Check the smaller arguments of a reader.

    Raises:
        ConfigError: the text is no function, or the distance in time no number of days.
    """
    if text is not None and not callable(text):
        fix = "give a function of a window: text=lambda window: 'sea'"
        raise ConfigError("text is no function of a window", where=repr(text)[:80], fix=fix)
    days = isinstance(within, (int, float, np.integer, np.floating)) and not isinstance(within, bool)
    if within is not None and not (days and within >= 0):
        fix = "give a number of days of at least 0, for example within=1"
        raise ConfigError("the distance in time is no number of days", where=f"within {within!r}"[:80], fix=fix)


def _check_names(cube: Any, modalities: Sequence[str], target: Target | None) -> None:
    """Refuse names that are misspelt; a modality that the cube merely lacks is left out."""
    nodes = list(cube.children)
    why = f"the cube has {', '.join(nodes) or 'no node'}"
    if target is not None and target.modality not in nodes:
        fix = did_you_mean(target.modality, nodes, "load it as a modality of the cube, or name another node")
        raise ConfigError("the cube lacks the target", where=f"target {target.modality!r}", why=why, fix=fix)
    unused = [n for n in nodes if n not in modalities and (target is None or n != target.modality)]
    for name in modalities:
        typo = None if name in nodes else typo_of(name, unused)
        if typo is not None:
            fix = f"did you mean {typo!r}? If the cube really lacks it, leave the name out"
            raise ConfigError("the cube has no such modality", where=f"modality {name!r}", why=why, fix=fix)
    if not set(modalities) & set(nodes):
        fix = did_you_mean(str(next(iter(modalities), "")), nodes, f"name at least one of {', '.join(nodes)}")
        wanted = ", ".join(modalities) or "none"
        raise ConfigError(
            "the cube has none of the modalities", why=f"wanted {wanted}; it has {', '.join(nodes)}", fix=fix
        )


def _check_stored(cube: Any, modalities: Sequence[str]) -> None:
    for name in modalities:
        if name in cube.children and not set(CALIBRATION) <= set(cube.children[name].coords):
            raise ConfigError(
                "the cube has no calibration",
                where=f"modality {name}",
                why="chips carry stored numbers and their calibration; this cube may be in physical units already",
                fix="give the cube as geomm.load_cube(...) returns it, not geomm.calibrated(cube)",
            )


def _check_place(cube: Any, chips: Sequence[Any]) -> None:
    if not len(chips):
        return
    height, width = (int(n) for n in geobox_of(cube).shape)
    for chip in (chips[0], chips[len(chips) - 1]):
        window = chip.read
        if window.y >= height or window.x >= width or window.y + window.height <= 0 or window.x + window.width <= 0:
            raise GridError(
                "the chips are of another grid",
                where=str(window),
                why=f"the cube has {height} x {width} pixels",
                fix=f"make them for this cube: ChipGrid(({height}, {width}), {window.height})",
            )


def _check_some(chips: Sequence[Any], split: SpatialSplit, name: str) -> None:
    """Refuse chips that all lie in other splits: every pixel of them would be invalid."""
    if not len(chips) or any(split.mask(name, chip.read).any() for chip in chips):
        return
    if any(split.mask(name, block).any() for block in split.blocks(name)):  # it has pixels, but elsewhere
        raise SplitError(
            f"no chip has a pixel of split {name!r}",
            why=f"all {len(chips)} lie in {', '.join(n for n in split.names if n != name)}, or in the buffer",
            fix=f"make the chips of that split, split.tiles({name!r}, {chips[0].read.height}), or name theirs",
        )
