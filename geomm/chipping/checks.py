"""What a reader of chips is given is a cube, chips of it, and names that are in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geomm.chipping.batch import Target
from geomm.chips import SpatialSplit
from geomm.cube import cube_of, geobox_of
from geomm.cube.calibrate import CALIBRATION
from geomm.errors import ConfigError, GridError, UnknownNameError, did_you_mean, typo_of


def check_reader(cube: Any, chips: Any, modalities: Any, target: Any, split: Any) -> None:
    """Check the arguments of :class:`geomm.ChipReader`.

    Raises:
        ConfigError: one is of another kind; the cube has none of the modalities, or lacks the target; a name that it
            lacks looks like a misspelling of a node that nobody asked for; or it is in physical units already.
        GridError: the chips were made for another grid.
    """
    cube_of(cube)
    if isinstance(modalities, str):
        raise ConfigError("modalities is one text", where=repr(modalities), fix=f"give a list: [{modalities!r}]")
    if not isinstance(chips, Sequence) and not hasattr(chips, "__len__"):
        fix = "give a list of chips, for example ChipGrid((1000, 1000), 256)"
        raise ConfigError("there are no chips", where=repr(chips)[:80], fix=fix)
    if target is not None and not isinstance(target, Target):
        fix = f"write Target({target if isinstance(target, str) else 'label'!r}, values=(0, 1, 2))"
        raise ConfigError("this is no target", where=repr(target)[:80], fix=fix)
    if split is not None and not (isinstance(split, tuple) and len(split) == 2 and isinstance(split[0], SpatialSplit)):
        fix = 'give both: split=(SpatialSplit.draw(...), "train")'
        raise ConfigError("a split is a pair of SpatialSplit and name", where=repr(split)[:80], fix=fix)
    if split is not None and split[1] not in split[0].names:
        raise UnknownNameError.of("split", split[1], split[0].names)
    _check_names(cube, modalities, target)
    _check_stored(cube, modalities)
    _check_place(cube, chips)


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
