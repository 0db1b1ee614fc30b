"""From what a catalog holds to units of work: the same catalog, model and recipe give the same units and places."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm._version import __version__
from geomm.batch.source import Imagery
from geomm.catalog import Outline, safe_name
from geomm.config import CompositeStage, RunConfig, Stage
from geomm.errors import GeommError
from geomm.ledger import Part, Unit

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
    settings, units, names = _settings(stage, imagery), list[Unit](), set[str]()
    for group in pair(looks, sensors, within):
        lead = of[group[0]]
        longer = (
            lead.id,
            f"{lead.id}-{looks[group[0]].sensor}",
            f"{lead.id}-{looks[group[0]].sensor}-{lead.collection}",
        )
        name = next((n for n in longer if n not in names), f"{lead.id}-{lead.fingerprint}")
        names.add(name)
        if not imagery.covers(lead.start) or set(required) - {looks[k].sensor for k in group}:
            continue
        members = [(of[k], looks[k].sensor) for k in group]
        units.append(_unit(stage, name, members, settings, model=model))
    return units


def tile_units(stage: CompositeStage, imagery: Imagery) -> list[Unit]:
    """Plan a unit for every tile and period that a scene touches: tiles are cut from the CRS itself, so they stay."""
    from geomm.cube.tiles import tiles_under

    members: dict[tuple[str, int, int], list[tuple[Outline, str]]] = {}
    cut = {"day": 10, "month": 7, "year": 4}[stage.period]
    for outline in imagery.outline([stage.sensor], around=None):  # a period is made of all its scenes, or not at all
        period = outline.start.isoformat()[:cut]
        try:
            tiles = tiles_under(outline.footprint, stage.crs, stage.resolution, stage.size)
        except GeommError as error:
            imagery.rejected.append((outline.id, str(error)))
            continue
        for column, row in tiles:
            members.setdefault((period, column, row), []).append((outline, stage.sensor))
    settings = _settings(stage, imagery)
    return [
        _unit(stage, f"{period}-{_signed(column, 'e', 'w')}-{_signed(row, 'n', 's')}", found, settings,
              note={"tile": [column, row]})
        for (period, column, row), found in sorted(members.items())
        if any(imagery.covers(o.start) for o, _ in found)
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


def _settings(stage: Stage, imagery: Imagery | None = None) -> dict[str, Any]:
    """Return what a stage says, but for where imagery and models lie: they count by their content."""
    told = stage.model_dump(mode="json", exclude={"name", "source", "scenes", "model", "recipe", "overrides", "chips"})
    return told | ({} if imagery is None else {"sentinel2_offset": imagery.scenes.sentinel2_offset})


def rejected_units(stage: Stage, rejected: Iterable[tuple[str, str]]) -> list[Unit]:
    """Return units for items that cannot be understood: they are put aside like files that cannot be read."""
    return [
        Unit(
            stage.name, unit_id("rejected", {}, [(name, why)], ""), name, "", state="QUARANTINED", code="E201",
            message=why, item=name,
        )
        for name, why in dict(rejected).items()
    ]  # fmt: skip


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
    items = tuple(Part(o.id, sensor, o.fingerprint, o.collection) for o, sensor in members)
    return Unit(stage.name, number, name, place, when, lead.bbox if lead else None, items, dict(note or {}))


def _signed(number: int, positive: str, negative: str) -> str:
    return f"{positive if number >= 0 else negative}{abs(number)}"
