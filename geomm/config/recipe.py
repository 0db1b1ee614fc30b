"""A recipe, and how it is read from YAML."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from geomm.config.batch import BatchConfig
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
            raise ValueError("train.patience needs blocks to validate on: split.validation")
        return self

    @model_validator(mode="after")
    def _complete(self) -> RunConfig:
        if self.task == "segmentation" and self.label is None:
            raise ValueError("label: missing; a map needs classes")
        if self.task == "contrastive" and (self.text is None or not self.model.text):
            raise ValueError("text and model.text: a contrastive task needs texts and an encoder for them")
        if self.task == "segmentation" and (self.text is not None or self.model.text):
            raise ValueError("text and model.text are for a contrastive task")
        if self.text is not None and self.text.derive == "labels" and self.label is None:
            raise ValueError("text.derive: there are no labels to derive it from")
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
    raw = read_yaml(path, overrides)
    if not is_batch(raw):
        fix = "add stages to it, or train it: geomm.run(geomm.load_recipe(PATH), OUT)"
        raise ConfigError("this recipe is no batch", where=str(path), why="it has no stages", fix=fix)
    if "kind" in raw and "stages" not in raw:
        own = {k: raw.pop(k) for k in list(raw) if k not in BatchConfig.model_fields}
        raw["stages"] = [{"name": raw.get("name"), **own}]
    return _validated(BatchConfig, raw, Path(path))


def find_recipe(path: str | Path) -> Path:
    """Return the file of a recipe: the path as it is, or, for a bare name, one that comes with geomm.

    They lie beside the package in a checkout, inside it once installed.
    """
    named = Path(path)
    if named.exists() or named.parent != Path() or named.suffix not in ("", ".yaml"):
        return named
    here = Path(__file__).parents[1]
    shipped = [folder / "pipelines" / f"{named.stem}.yaml" for folder in (here, here.parent)]
    return next((p for p in shipped if p.is_file()), named)


def is_batch(raw: Mapping[str, Any]) -> bool:
    """Tell the recipe of a batch from one that trains and compares."""
    return "stages" in raw or "kind" in raw


def read_yaml(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a mapping from YAML, with some of its fields replaced.

    Raises:
        ConfigError: the file cannot be read or is no mapping, or there is no place for an override.
    """
    given: object = path
    if not isinstance(given, (str, Path)):
        fix = "give the path of a YAML file; recipes to begin with are in pipelines/"
        raise ConfigError("the recipe cannot be read", where=repr(given)[:80], fix=fix)
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(
            "the recipe cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            fix="check the path; recipes to begin with are in pipelines/",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the recipe is not YAML",
            where=str(path),
            why=str(error),
            fix="check the indentation and the colons of the line that is named",
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError("the recipe is not a mapping", where=str(path), fix="see pipelines/ for examples")
    for key, value in (overrides or {}).items():
        node: Any = raw
        *parents, last = key.split(".")
        try:
            for part in parents:
                node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
            node[int(last) if isinstance(node, list) else last] = value
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ConfigError(
                "there is no such field",
                where=f"{path}, {key}",
                why=str(error),
                fix="name a field by its path in the recipe, such as train.steps or stages.0.within",
            ) from error
    return raw


def _validated[Config: Strict](kind: type[Config], raw: dict[str, Any], path: Path) -> Config:
    try:
        return kind.model_validate({**raw, "root": str(path.parent.resolve())})
    except ValidationError as error:
        raise ConfigError(
            "the recipe is wrong",
            where=str(path),
            why=_explain(error),
            fix=_remedy(error),
        ) from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(p) for p in problem["loc"])
        text = problem["msg"]
        if problem["type"] == "extra_forbidden":
            near = _near(str(problem["loc"][-1]))
            text = "unknown key" + (f", did you mean {near}?" if near else "")
        lines.append(f"{place}: {text}")
    return "; ".join(lines)


def _near(key: str) -> str:
    """Return the key that a misspelt one stands for; a key that is right elsewhere stands for none."""
    known = _all_fields(Strict)
    return "" if key in known else next(iter(difflib.get_close_matches(key, known, 1, 0.7)), "")


def _remedy(error: ValidationError) -> str:
    """Return what to write in place of the first wrong field."""
    problem = error.errors()[0]
    *above, last = (str(p) for p in problem["loc"] or ("",))
    place = ".".join((*above, last))
    if problem["type"] == "extra_forbidden":
        near = _near(last)
        return f"write {'.'.join((*above, near))} in place of {place}" if near else f"remove {place}, or move it"
    if problem["type"] == "missing":
        return f"add {place}; recipes to begin with are in pipelines/"
    given = repr(problem["input"])
    shown = f", which is {given}" if len(given) <= 60 else ""
    return f"correct {place or 'the recipe'}{shown}; recipes to begin with are in pipelines/"


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


def _all_fields(kind: type[Strict]) -> list[str]:
    names = set(kind.model_fields)
    for derived in kind.__subclasses__():
        names |= set(_all_fields(derived))
    return sorted(names)
