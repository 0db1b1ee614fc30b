"""What each kind of stage needs to be planned: its sensors, its model, its imagery, and what its workers must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geomm.archive import Target
from geomm.batch.planning import file_digest, model_digest, rejected_units, scene_units, tile_units, training_unit
from geomm.batch.source import Imagery
from geomm.catalog import Catalog, ReadPolicy
from geomm.config import (
    BatchConfig,
    ChipsStage,
    CompositeStage,
    IndexStage,
    PredictStage,
    RunConfig,
    SourceConfig,
    Stage,
    TrainStage,
)
from geomm.errors import ConfigError
from geomm.ledger import Ledger, Unit
from geomm.pipeline.sources import open_source

MODEL = "model"
"""Folder of the model package in a unit of a training."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage consists of now."""

    stage: Stage
    """The stage."""
    units: tuple[Unit, ...]
    """All of its units in the searched place and time, whether they are done or not."""
    imagery: Imagery | None = None
    """Where the scenes of the units come from; None where workers find them themselves."""
    model: str = ""
    """Model package of the workers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else workers must know, JSON types."""
    waits_for: str = ""
    """Earlier stage that has to make something first; nothing is planned then."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans the stages of a batch, one after the other: later ones use what earlier ones published."""

    config: BatchConfig
    """The recipe."""
    out: Target
    """Where units are published."""
    state: Path
    """Folder of the ledger; catalogs of plain folders lie there too."""
    window: tuple[Any, Any] = (None, None)
    """Earliest and latest time of the imagery."""

    def plan(self, stage: Stage, ledger: Ledger | None) -> StagePlan:
        """Plan a stage.

        Args:
            stage: of the recipe.
            ledger: what was done before; None for nothing.

        Raises:
            GeommError: its catalog, model or training recipe cannot be used.
        """
        if isinstance(stage, TrainStage):
            return self._training(stage, ledger)
        imagery = self._imagery(stage)
        if isinstance(stage, CompositeStage):
            return _planned(stage, tile_units(stage, imagery), imagery)
        if isinstance(stage, ChipsStage):
            names = [m.sensor for m in stage.modalities.values()]
            label = [] if stage.label is None else [stage.label.sensor]
            sensors = list(dict.fromkeys([*names, *label]))
            return _planned(stage, scene_units(stage, imagery, sensors, required=label), imagery)
        return self._with_model(stage, imagery, ledger)

    def _with_model(self, stage: PredictStage | IndexStage, imagery: Imagery, ledger: Ledger | None) -> StagePlan:
        from geomm.package import load_package

        folder = self._model(stage, ledger)
        if folder is None:
            return StagePlan(stage, (), imagery, waits_for=stage.model)
        package = load_package(folder)
        contract = package.contract
        sensors = list(dict.fromkeys(m.sensor for m in contract.modalities.values()))
        required = {contract.modalities[n].sensor for n in contract.required}
        digest = model_digest(package)
        units = scene_units(stage, imagery, sensors, required=required, model=digest)
        settings: dict[str, Any] = {"model": digest}
        if isinstance(stage, IndexStage):  # vectors of two models have nothing to do with each other
            settings["index"] = str(self._local(stage.name) / f"index-{digest[:12]}")
        return replace(_planned(stage, units, imagery), model=str(folder), settings=settings)

    def _training(self, stage: TrainStage, ledger: Ledger | None) -> StagePlan:
        from geomm.batch.training import recipe_of

        config = recipe_of(stage, Path(self.config.root))
        if stage.chips:
            now = set() if ledger is None else set(ledger.current(stage.chips).values())
            stores = [] if ledger is None else [u for u in ledger.units(stage.chips, ("DONE",)) if u.id in now]
            if not stores:
                return StagePlan(stage, (), waits_for=stage.chips)
            unit = training_unit(stage, config, (), [u.id for u in stores])
            latest = max(u.time for u in stores)
            settings = {"stores": [str(self._local(u.place) / "chips") for u in stores]}
            return StagePlan(stage, (_at(unit, latest),), settings=settings)
        catalog = self._catalog(stage, config.source, Path(config.root))
        area, when = config.search.aoi, config.search.datetime
        sensors = list(dict.fromkeys(m.sensor for m in config.modalities.values()))
        found = catalog.outline(tuple(area) if area else None, when, sensors=[*sensors, *_label(config)])
        members = [(o, s) for o in found for s in o.sensors]
        return StagePlan(stage, (training_unit(stage, config, members, _files(config)),))

    def _imagery(self, stage: Stage) -> Imagery:
        source = stage.source or self.config.source
        assert source is not None
        catalog = self._catalog(stage, source, Path(self.config.root))
        return Imagery(catalog, stage.scenes or self.config.scenes, *self.window)

    def _catalog(self, stage: Stage, source: SourceConfig, root: Path) -> Catalog:
        trust, mine = self.config.trust, Path(self.config.root)
        policy = ReadPolicy(tuple(trust.hosts), tuple(str(mine / r) for r in trust.roots), trust.private)
        return open_source(source, root, self.state / f"catalog-{stage.name}", policy)

    def _model(self, stage: PredictStage | IndexStage, ledger: Ledger | None) -> Path | None:
        """Return the folder of a model package; None where the stage that trains it has not done so yet.

        Of a stage, that of what is planned now; where that could not be trained, the one that was trained last.
        """
        if stage.model not in self.config.before(stage):
            return Path(self.config.root) / stage.model
        done = [] if ledger is None else ledger.units(stage.model, ("DONE",), newest=True)
        now = set() if ledger is None else set(ledger.current(stage.model).values())
        found = next((u for u in done if u.id in now), done[0] if done else None)
        return None if found is None else self._local(found.place) / MODEL

    def _local(self, place: str) -> Path:
        """Return a place of the output as a folder.

        Raises:
            ConfigError: the output is an object store.
        """
        if "://" in self.out.root:
            raise ConfigError(
                "models, chips and indexes that other stages use lie in a local folder",
                where=self.out.root,
                fix="train into a folder first, and name the model package in the recipe",
            )
        return Path(self.out.root) / place


def _planned(stage: Stage, units: Sequence[Unit], imagery: Imagery) -> StagePlan:
    """Return the plan of a stage, with the items that cannot be understood as units that are put aside."""
    return StagePlan(stage, (*units, *rejected_units(stage, imagery.rejected)), imagery)


def _at(unit: Unit, time: str) -> Unit:
    """Return a unit of another time, and of the place that follows from it."""
    stage, _, name = unit.place.split("/")
    return replace(unit, time=time, place=f"{stage}/{time[:7]}/{name}")


def _label(config: RunConfig) -> Sequence[str]:
    return [config.label.sensor] if config.label is not None and config.label.sensor is not None else []


def _files(config: RunConfig) -> list[str]:
    """Return hashes of the files of labels and texts."""
    named = [config.label.polygons if config.label else None, config.text.file if config.text else None]
    return [file_digest(Path(config.root) / name) for name in named if name is not None]
