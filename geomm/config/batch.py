"""Recipes of batches: stages over a catalog, each of which does what is new and leaves what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from geomm.config.parts import GridConfig, ModalityConfig, SourceConfig, Strict

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class ScenesConfig(Strict):
    """Which scenes of the catalog."""

    aoi: list[float] | None = Field(None, description="west, south, east, north in degrees", min_length=4, max_length=4)
    datetime: str | None = Field(None, description="instant or interval start/end, RFC 3339")
    cloud_cover: float | None = Field(None, description="greatest eo:cloud_cover in percent", ge=0, le=100)
    sentinel2_offset: float | None = Field(None, description="your word on the offset of Sentinel-2 in DN")


class TrustConfig(Strict):
    """What addresses in the catalog may point to, and how files come here."""

    hosts: list[str] = Field([], description="hosts that may be read from; empty for all public ones")
    roots: list[str] = Field([], description="folders that local files lie in; empty for all. Relative to the recipe")
    private: bool = Field(False, description="also hosts of the local network")
    fetch: bool = Field(
        False, description="copy remote files here whole, checked against file:checksum, before they are read"
    )

    @field_validator("hosts")
    @classmethod
    def _bare(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if (
                re.match("https?://", host, re.IGNORECASE)
                or "/" in host.partition("://")[2]
                or "/" in host.split("://")[0]
            ):
                bare = re.sub("^[a-z]+://", "", host.lower()).partition("/")[0]
                raise ValueError(f"hosts are bare names; write {bare!r} in place of {host!r}")
        return hosts


class StageConfig(Strict):
    """What all stages have."""

    name: str = Field(pattern=NAME, description="of the stage, and of its folder in the output")
    source: SourceConfig | None = Field(None, description="imagery; default that of the recipe")
    scenes: ScenesConfig | None = Field(None, description="which of it; default as in the recipe")


class ChipsStage(StageConfig):
    """Cut every new scene into a chip store."""

    kind: Literal["chips"]
    modalities: dict[str, ModalityConfig] = Field(min_length=1)
    label: ModalityConfig | None = Field(None, description="sensor and band of labels, kept beside the imagery")
    classes: list[int] = Field([], description="values of the label that are classes, in order")
    grid: GridConfig = GridConfig.model_construct(crs=None, resolution=None)
    size: int = Field(128, description="height and width in pixels", gt=0)
    block: int = Field(512, description="side in pixels of the blocks that validation is drawn from", gt=0)
    buffer: int = Field(64, description="smallest distance of training and validation in pixels", ge=0)
    validation: float = Field(0.0, description="share of blocks for validation", ge=0, lt=1)
    within: float = Field(1.0, description="greatest distance in time of scenes of different sensors, in days", ge=0)

    @model_validator(mode="after")
    def _labels(self) -> ChipsStage:
        if (self.label is None) != (not self.classes):
            raise ValueError("label and classes go together; add the one that lacks")
        return self


class TrainStage(StageConfig):
    """Train a model when its data or its recipe are new."""

    kind: Literal["train"]
    recipe: str = Field(description="training recipe, relative to this one")
    overrides: dict[str, int | float | str | bool | list[int]] = Field(
        {}, description="fields of the training recipe to change, such as train.steps"
    )
    chips: str = Field("", description="stage of chips to train on, in place of the imagery of the training recipe")


class PredictStage(StageConfig):
    """Map every new scene."""

    kind: Literal["predict"]
    model: str = Field(description="stage that trains it, or a model package relative to the recipe")
    layers: list[str] = Field([], description="what to map; empty for what the task answers with")
    polygons: bool = Field(False, description="also write the classes as polygons")
    within: float = Field(1.0, description="greatest distance in time of scenes of different sensors, in days", ge=0)
    grid: GridConfig = GridConfig.model_construct(crs=None, resolution=None)
    size: int | None = Field(None, description="chip that is written, in pixels; default what fits", gt=0)
    halo: int | None = Field(None, description="margin of a chip; default what the model needs", ge=0)
    blend: Literal["trim", "hann"] = Field("trim", description="how overlaps are merged")
    symmetries: Literal[1, 4, 8] = Field(1, description="views of a chip that are averaged")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="arithmetic of the model")

    @model_validator(mode="after")
    def _polygons(self) -> PredictStage:
        if self.polygons and self.layers and "class" not in self.layers:
            raise ValueError(f"polygons are made of the class map; write layers: [class, {', '.join(self.layers)}]")
        return self


class IndexStage(StageConfig):
    """Embed every new scene into one index that is searched in words."""

    kind: Literal["index"]
    model: str = Field(description="stage that trains it, or a model package relative to the recipe")
    size: int | None = Field(None, description="side of a chip in pixels; default as trained", gt=0)
    views: Literal["fused", "each", "both"] = Field("fused", description="vectors of a chip")
    within: float = Field(1.0, description="greatest distance in time of scenes of different sensors, in days", ge=0)


class CompositeStage(StageConfig):
    """Median and anomalies of a band over tiles of a fixed grid, period by period."""

    kind: Literal["composite"]
    sensor: str = Field(description="name in the table of sensors")
    band: str = Field(description="band of the sensor, such as a thermal one")
    crs: str = Field(description="of the tiles")
    resolution: float = Field(description="pixel size in units of the CRS", gt=0)
    size: int = Field(1024, description="side of a tile in pixels", gt=0)
    period: Literal["day", "month", "year"] = Field("month", description="time that one composite stands for")
    background: int = Field(31, description="side in pixels of what a pixel is compared with", ge=3)


Stage = Annotated[
    ChipsStage | TrainStage | PredictStage | IndexStage | CompositeStage, Field(discriminator="kind")
]  # fmt: skip


class BatchConfig(Strict):
    """A recipe of a batch."""

    name: str = Field(pattern=NAME, description="of the batch")
    description: str = Field("", description="one paragraph for the report")
    source: SourceConfig | None = Field(None, description="imagery of all stages that name no other")
    scenes: ScenesConfig = ScenesConfig.model_validate({})
    trust: TrustConfig = TrustConfig.model_validate({})
    stages: list[Stage] = Field(min_length=1, description="in order; later ones use what earlier ones made")
    root: Annotated[str, Field(description="folder that relative paths start from; set on loading")] = "."

    def before(self, stage: Stage) -> list[str]:
        """Return the names of the stages before one."""
        names = [s.name for s in self.stages]
        return names[: names.index(stage.name)]

    @model_validator(mode="after")
    def _chained(self) -> BatchConfig:
        kinds: dict[str, str] = {}
        later = {s.name for s in self.stages}
        for stage in self.stages:
            if stage.name in kinds:
                raise ValueError(f"stages: {stage.name} occurs twice; give each stage a name of its own")
            if isinstance(stage, TrainStage) and stage.chips and kinds.get(stage.chips) != "chips":
                raise ValueError(
                    f"stages.{stage.name}.chips: no earlier stage {stage.chips} makes chips; "
                    "name one of kind chips that stands before it"
                )
            if isinstance(stage, (PredictStage, IndexStage)) and kinds.get(stage.model, "train") != "train":
                raise ValueError(
                    f"stages.{stage.name}.model: the stage {stage.model} trains no model; name one of kind train"
                )
            if isinstance(stage, (PredictStage, IndexStage)) and stage.model in later - {stage.name, *kinds}:
                raise ValueError(
                    f"stages.{stage.name}.model: the stage {stage.model} comes later; move it before this one"
                )
            if getattr(stage, "model", "") == stage.name and not (Path(self.root) / stage.name).is_dir():
                raise ValueError(
                    f"stages.{stage.name}.model: the stage names itself; name an earlier stage that trains, or the "
                    "folder of a model package"
                )
            if isinstance(stage, TrainStage) and (stage.source or stage.scenes):
                raise ValueError(
                    f"stages.{stage.name}: a training takes its imagery from its own recipe; write source there"
                )
            if self.source is None and stage.source is None and not isinstance(stage, TrainStage):
                raise ValueError(
                    f"stages.{stage.name}: neither the stage nor the recipe has a source; add source: {{catalog: PATH}}"
                )
            kinds[stage.name] = stage.kind
        return self
