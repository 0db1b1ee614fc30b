"""What each kind of stage needs to be planned: its sensors, its model, its imagery, and what its workers must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomm.archive import Target
from geomm.batch.planning import file_digest, model_digest, scene_units, tile_units, training_unit
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
            return StagePlan(stage, tuple(tile_units(stage, imagery)), imagery)
        if isinstance(stage, ChipsStage):
            names = [m.sensor for m in stage.modalities.values()]
            label = [] if stage.label is None else [stage.label.sensor]
            sensors = list(dict.fromkeys([*names, *label]))
            return StagePlan(stage, tuple(scene_units(stage, imagery, sensors, required=label)), imagery)
        return self._with_model(stage, imagery, ledger)

    def _with_model(self, stage: PredictStage | IndexStage, imagery: Imagery, ledger: Ledger | None) -> StagePlan:
        from geomm.package import load_package

        folder = self._model(stage.model, ledger)
        if folder is None:
            return StagePlan(stage, (), imagery, waits_for=stage.model)
        package = load_package(folder)
        contract = package.contract
        sensors = list(dict.fromkeys(m.sensor for m in contract.modalities.values()))
        required = {contract.modalities[n].sensor for n in contract.required}
        units = scene_units(stage, imagery, sensors, required=required, model=model_digest(package))
        settings: dict[str, Any] = {}
        if isinstance(stage, IndexStage):
            settings["index"] = str(self._local(stage.name) / "index")
        return StagePlan(stage, tuple(units), imagery, str(folder), settings)

    def _training(self, stage: TrainStage, ledger: Ledger | None) -> StagePlan:
        from geomm.batch.training import recipe_of

        root = Path(self.config.root)
        config = recipe_of(stage, root)
        if stage.chips:
            stores = [] if ledger is None else ledger.units(stage.chips, ("DONE",))
            if not stores:
                return StagePlan(stage, (), waits_for=stage.chips)
            unit = training_unit(stage, config, (), [u.id for u in stores])
            latest = max(u.time for u in stores)
            settings = {"stores": [str(self._local(u.place) / "chips") for u in stores]}
            return StagePlan(stage, (_at(unit, latest),), settings=settings)
        catalog = open_source(config.source, Path(config.root), self.state / f"catalog-{stage.name}")
        area, when = config.search.aoi, config.search.datetime
        sensors = list(dict.fromkeys(m.sensor for m in config.modalities.values()))
        found = catalog.outline(tuple(area) if area else None, when, sensors=[*sensors, *_label(config)])
        members = [(o, s) for o in found for s in o.sensors]
        return StagePlan(stage, (training_unit(stage, config, members, _files(config)),))

    def _imagery(self, stage: Stage) -> Imagery:
        source = stage.source or self.config.source
        assert source is not None
        return Imagery(self._catalog(stage, source), stage.scenes or self.config.scenes, *self.window)

    def _catalog(self, stage: Stage, source: SourceConfig) -> Catalog:
        root, trust = Path(self.config.root), self.config.trust
        policy = ReadPolicy(tuple(trust.hosts), tuple(str(root / r) for r in trust.roots), trust.private)
        return open_source(source, root, self.state / f"catalog-{stage.name}", policy)

    def _model(self, name: str, ledger: Ledger | None) -> Path | None:
        """Return the folder of a model package; None where the stage that trains it has not done so yet."""
        if name not in {s.name for s in self.config.stages}:
            return Path(self.config.root) / name
        done = [] if ledger is None else ledger.units(name, ("DONE",), newest=True)
        return self._local(done[0].place) / MODEL if done else None

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


def _at(unit: Unit, time: str) -> Unit:
    """Return a unit of another time, and of the place that follows from it."""
    from dataclasses import replace

    stage, _, name = unit.place.split("/")
    return replace(unit, time=time, place=f"{stage}/{time[:7]}/{name}")


def _label(config: RunConfig) -> Sequence[str]:
    return [config.label.sensor] if config.label is not None and config.label.sensor is not None else []


def _files(config: RunConfig) -> list[str]:
    """Return hashes of the files of labels and texts."""
    named = [config.label.polygons if config.label else None, config.text.file if config.text else None]
    return [file_digest(Path(config.root) / name) for name in named if name is not None]
