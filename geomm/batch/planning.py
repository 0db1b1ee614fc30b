"""From what a catalog holds to units of work: the same catalog, model and recipe give the same units and places."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm._version import __version__
from geomm.batch.source import Imagery
from geomm.catalog import Outline, safe_name
from geomm.config import CompositeStage, RunConfig, Stage
from geomm.ledger import Unit

if TYPE_CHECKING:
    from geomm.package import ModelPackage


def unit_id(kind: str, settings: Mapping[str, Any], items: Sequence[Sequence[str]], model: str) -> str:
    """Return the hash of all that decides what comes out of a unit.

    Args:
        kind: of the stage.
        settings: of the stage, JSON types.
        items: id, sensor and fingerprint of everything that goes in.
        model: hash of the model, or empty.
    """
    told = [__version__, kind, settings, items, model]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def scene_units(
    stage: Stage, imagery: Imagery, sensors: Sequence[str], *, required: Iterable[str] = (), model: str = ""
) -> list[Unit]:
    """Plan a unit for every scene of the first sensor, with what the others saw of it; see :mod:`geomm.pipeline.pairs`.

    Args:
        stage: with ``within``.
        imagery: what there is.
        sensors: the leading one first.
        required: sensors that no unit goes without.
        model: hash of the model, or empty.
    """
    from geomm.pipeline.pairs import Look, pair

    within = float(getattr(stage, "within", 0.0))
    outlines = imagery.outline(sensors, around=2 * within)
    looks = [Look(o.id, s, o.start, o.footprint) for o in outlines for s in o.sensors]
    of = [o for o in outlines for _ in o.sensors]
    settings, units, names = _settings(stage), list[Unit](), Counter[str]()
    for group in pair(looks, sensors, within):
        lead = of[group[0]]
        if not imagery.covers(lead.start) or set(required) - {looks[k].sensor for k in group}:
            continue
        names[lead.id] += 1
        name = lead.id if names[lead.id] == 1 else f"{lead.id}-{looks[group[0]].sensor}"
        members = [(of[k], looks[k].sensor) for k in group]
        units.append(_unit(stage, name, members, settings, model=model))
    return units


def tile_units(stage: CompositeStage, imagery: Imagery) -> list[Unit]:
    """Plan a unit for every tile and period that a scene touches: tiles are cut from the CRS itself, so they stay."""
    from geomm.cube.tiles import tiles_under

    members: dict[tuple[str, int, int], list[tuple[Outline, str]]] = {}
    cut = {"day": 10, "month": 7, "year": 4}[stage.period]
    for outline in imagery.outline([stage.sensor]):
        if not imagery.covers(outline.start):
            continue
        period = outline.start.isoformat()[:cut]
        for column, row in tiles_under(outline.footprint, stage.crs, stage.resolution, stage.size):
            members.setdefault((period, column, row), []).append((outline, stage.sensor))
    settings = _settings(stage)
    return [
        _unit(stage, f"{period}-{_signed(column, 'e', 'w')}-{_signed(row, 'n', 's')}", found, settings,
              note={"tile": [column, row]})
        for (period, column, row), found in sorted(members.items())
    ]  # fmt: skip


def training_unit(
    stage: Stage, config: RunConfig, members: Sequence[tuple[Outline, str]], further: Sequence[str]
) -> Unit:
    """Plan the one unit of a training: made again where recipe or data have changed.

    Args:
        stage: of the training.
        config: the training recipe.
        members: outlines of its imagery, and their sensors.
        further: hashes of whatever else goes in: chip stores, polygons, texts.
    """
    recipe = config.model_dump(mode="json") | {"root": ""}
    recipe["train"] = {k: v for k, v in recipe["train"].items() if k not in ("accelerator", "devices")}
    settings = _settings(stage) | {"recipe": recipe, "further": sorted(further)}
    return _unit(stage, config.name, members, settings)


def file_digest(path: Path) -> str:
    """Return the hash of a file, or empty where there is none: a later step says so."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def model_digest(package: ModelPackage) -> str:
    """Return the hash of all files of a model package."""
    return file_digest(package.path / "SHA256SUMS")


def _settings(stage: Stage) -> dict[str, Any]:
    """Return what a stage says, but for where imagery and models lie: they count by their content."""
    return stage.model_dump(mode="json", exclude={"name", "source", "scenes", "model", "recipe", "overrides", "chips"})


def _unit(
    stage: Stage,
    name: str,
    members: Sequence[tuple[Outline, str]],
    settings: Mapping[str, Any],
    *,
    model: str = "",
    note: Mapping[str, Any] | None = None,
) -> Unit:
    lead = members[0][0] if members else None
    number = unit_id(
        stage.kind, {**settings, **(note or {})}, [(o.id, sensor, o.fingerprint) for o, sensor in members], model
    )  # fmt: skip
    time = min((o.start for o, _ in members), default=None) if stage.kind == "composite" else lead and lead.start
    when = time.isoformat().replace("+00:00", "Z") if time else ""
    place = f"{stage.name}/{when[:7] or 'undated'}/{safe_name(name)}-{number[:12]}"
    items = tuple((o.id, sensor, o.fingerprint) for o, sensor in members)
    return Unit(stage.name, number, name, place, when, lead.bbox if lead else None, items, dict(note or {}))


def _signed(number: int, positive: str, negative: str) -> str:
    return f"{positive if number >= 0 else negative}{abs(number)}"
