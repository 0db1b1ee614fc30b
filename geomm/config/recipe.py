"""A recipe, and how it is read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from geomm.config.batch import BatchConfig
from geomm.config.fixes import explained, remedy
from geomm.config.parts import (
    ChipsConfig,
    GridConfig,
    LabelConfig,
    ModalityConfig,
    ModelConfig,
    PredictConfig,
    SearchConfig,
    SourceConfig,
    SplitConfig,
    Strict,
    TextConfig,
    TrainConfig,
)
from geomm.config.reading import find_recipe, read_yaml
from geomm.errors import ConfigError
from geomm.types import ClassSpec, Modality


class RunConfig(Strict):
    """A recipe: from a catalog to a map."""

    name: str = Field(description="name of the run, also of its products", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = Field("", description="one paragraph for the report")
    source: SourceConfig
    search: SearchConfig = SearchConfig.model_construct(aoi=None, datetime=None)
    modalities: dict[str, ModalityConfig] = Field(min_length=1)
    task: Literal["segmentation", "contrastive"] = Field("segmentation", description="a map, or a search by words")
    label: LabelConfig | None = Field(None, description="labels; a contrastive task needs none")
    text: TextConfig | None = Field(None, description="what is said of chips, for a contrastive task")
    queries: list[str] = Field([], description="asked of the index of a contrastive task's run")
    grid: GridConfig = GridConfig.model_construct(crs=None, resolution=None)
    split: SplitConfig = SplitConfig.model_validate({})
    chips: ChipsConfig = ChipsConfig.model_validate({})
    model: ModelConfig = ModelConfig.model_validate({})
    train: TrainConfig = TrainConfig.model_validate({})
    predict: PredictConfig = PredictConfig.model_validate({})
    root: Annotated[str, Field(description="folder that relative paths start from; set on loading")] = "."

    @model_validator(mode="after")
    def _stops(self) -> RunConfig:
        if self.train.patience and not self.split.validation:
            raise ValueError("train.patience needs blocks to validate on; write split.validation: 0.2")
        return self

    @model_validator(mode="after")
    def _complete(self) -> RunConfig:
        if self.task == "segmentation" and self.label is None:
            raise ValueError("label is missing: a map needs classes; add label with a sensor or polygons, and classes")
        if self.task == "contrastive" and (self.text is None or not self.model.text):
            raise ValueError("text and model.text: a contrastive task needs texts and an encoder for them; add both")
        if self.task == "segmentation" and (self.text is not None or self.model.text):
            raise ValueError("text and model.text are for a contrastive task; write task: contrastive, or remove them")
        if self.text is not None and self.text.derive == "labels" and self.label is None:
            raise ValueError("text.derive: there are no labels to derive it from; add label, or write derive: indices")
        return self

    @property
    def labels(self) -> LabelConfig:
        """The labels, of a recipe that has some."""
        assert self.label is not None
        return self.label

    def streams(self) -> dict[str, Modality]:
        """Return the modalities of the model."""
        return {name: Modality(m.sensor, tuple(m.bands)) for name, m in self.modalities.items()}

    def classes(self) -> tuple[ClassSpec, ...]:
        """Return the classes of the labels; none where there are none."""
        given = self.label.classes if self.label else ()
        return tuple(ClassSpec(c.value, c.name, c.color) for c in given)


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read a recipe that trains and compares.

    Args:
        path: YAML file, or the name of a recipe that comes with geomm, such as ``clouds_landsat``.
        overrides: dotted keys to values, such as ``{"train.steps": 50}``.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing or wrong; the message names the field.
    """
    path = find_recipe(path)
    raw = read_yaml(path, overrides)
    if is_batch(raw):
        raise ConfigError("this is the recipe of a batch", where=str(path), fix="`geomm run` runs it")
    return _validated(RunConfig, raw, Path(path))


def load_batch(path: str | Path, overrides: dict[str, Any] | None = None) -> BatchConfig:
    """Read the recipe of a batch; one with a single stage may have ``kind`` and the fields of the stage at its top.

    Args:
        path: YAML file, or the name of a recipe that comes with geomm, such as ``cloud_maps``.
        overrides: dotted keys to values; stages count from 0: ``{"stages.0.layers": ["class"]}``.

    Raises:
        ConfigError: as for :func:`load_recipe`.
    """
    path = find_recipe(path)
    flat = read_yaml(path)
    whole = "kind" in flat and "stages" not in flat
    if whole and isinstance(overrides, dict):  # its fields may be named by both paths
        overrides = {key.removeprefix("stages.0."): value for key, value in overrides.items()}
    raw = read_yaml(path, overrides)
    if not is_batch(raw):
        fix = "add stages to it, or train it: geomm.run(geomm.load_recipe(PATH), OUT)"
        raise ConfigError("this recipe is no batch", where=str(path), why="it has no stages", fix=fix)
    whole = whole and "stages" not in raw
    if whole:
        own = {k: raw.pop(k) for k in list(raw) if k not in BatchConfig.model_fields}
        raw["stages"] = [{"name": raw.get("name"), **own}]
    return _validated(BatchConfig, raw, Path(path), whole=whole)


def is_batch(raw: Mapping[str, Any]) -> bool:
    """Tell the recipe of a batch from one that trains and compares."""
    return "stages" in raw or "kind" in raw


def _validated[Config: Strict](
    kind: type[Config], raw: dict[str, Any], path: Path, *, whole: bool = False
) -> Config:  # fmt: skip
    try:
        return kind.model_validate({**raw, "root": str(path.parent.resolve())})
    except ValidationError as error:
        raise ConfigError(
            "the recipe is wrong",
            where=str(path),
            why=explained(error, kind, whole=whole),
            fix=remedy(error, kind, whole=whole),
        ) from error


def recipe_of[Config: Strict](config: Any, kind: type[Config]) -> Config:
    """Return a recipe that was read.

    Raises:
        ConfigError: it is something else, such as its path.
    """
    if isinstance(config, kind):
        return config
    reader = "load_batch" if kind is BatchConfig else "load_recipe"
    path = repr(str(config)) if isinstance(config, (str, Path)) else "PATH"
    raise ConfigError("this is no recipe", where=repr(config)[:80], fix=f"read it first: geomm.{reader}({path})")
