"""Parts of a recipe: strict records. Every field says what it means."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """A record that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceConfig(Strict):
    """Where the imagery lies: a catalog, or a folder that is catalogued first."""

    catalog: str | None = Field(
        None,
        description="STAC file or folder (relative to the recipe), stac-geoparquet, STAC API, or public catalog",
    )
    folder: str | None = Field(None, description="folder of GeoTIFFs; relative to the recipe, or to `package`")
    package: str | None = Field(None, description="installed Python package that carries the folder")
    sensors: list[str] = Field([], description="sensors of the folder's files, by file name")
    definition: str | None = Field(None, description="catalog definition (YAML) instead of sensors")
    datetime: str | None = Field(None, description="date or interval of the folder's items, where files have none")

    @model_validator(mode="after")
    def _one(self) -> SourceConfig:
        if (self.catalog is None) == (self.folder is None):
            raise ValueError("give either catalog or folder; write catalog: PATH, or folder: PATH with sensors")
        return self


class SearchConfig(Strict):
    """Which scenes of the catalog."""

    aoi: list[float] | None = Field(None, description="west, south, east, north in degrees", min_length=4, max_length=4)
    datetime: str | None = Field(None, description="instant or interval start/end, RFC 3339")


class ModalityConfig(Strict):
    """A stream of the model."""

    sensor: str = Field(description="name in the table of sensors")
    bands: list[str] = Field([], description="bands in the model's order; empty for all")


class ClassConfig(Strict):
    """A class of the map."""

    value: int = Field(description="code in label and map", ge=0, le=254)
    name: str = Field(description="name in the legend", min_length=1)
    color: str = Field(description="#rrggbb", pattern=r"^#[0-9a-fA-F]{6}$")


class LabelConfig(Strict):
    """Where the labels come from: a band of the catalog, or polygons that somebody drew."""

    sensor: str | None = Field(None, description="sensor that holds them")
    bands: list[str] = Field([], description="the band of the sensor; empty for its first")
    decode: Literal["values", "cloud_bqa"] = Field("values", description="how stored numbers become codes")
    polygons: str | None = Field(None, description="GeoJSON, GeoPackage or GeoParquet file, relative to the recipe")
    column: str = Field("class", description="column of the polygons that holds the name of the class")
    ignore: list[str] = Field([], description='names of the column that are left out; "" for polygons without a name')
    classes: list[ClassConfig] = Field(description="classes of the map", min_length=2)

    @model_validator(mode="after")
    def _one(self) -> LabelConfig:
        if (self.sensor is None) == (self.polygons is None):
            raise ValueError("give either sensor or polygons; write sensor: NAME, or polygons: FILE")
        useless = ("column", "ignore") if self.polygons is None else ("bands", "decode")
        set_anyway = [n for n in useless if getattr(self, n) != type(self).model_fields[n].default]
        if set_anyway:
            other = "polygons" if self.polygons is None else "a sensor"
            raise ValueError(f"{' and '.join(set_anyway)} are for labels of {other} only")
        names, values = [c.name for c in self.classes], [c.value for c in self.classes]
        for what, given in (("value", [*map(str, values)]), ("name", names)):
            twice = next((g for g in given if given.count(g) > 1), None)
            if twice is not None:
                raise ValueError(f"two classes have the {what} {twice}; give each a {what} of its own")
        if self.polygons is not None and len({*names, *self.ignore}) < len(names) + len(self.ignore):
            raise ValueError("polygons are matched by name: no two classes or names to ignore may be alike")
        return self


class TextConfig(Strict):
    """What is said of chips: written by somebody, or derived from labels or from the imagery itself."""

    file: str | None = Field(None, description="annotations (GeoParquet, GeoJSON, CSV ...), relative to the recipe")
    column: str = Field("text", description="column of the file that holds the text")
    derive: Literal["labels", "indices"] | None = Field(
        None, description="from the shares of the labels' classes, or of what spectral indices tell"
    )

    @model_validator(mode="after")
    def _one(self) -> TextConfig:
        if (self.file is None) == (self.derive is None):
            raise ValueError("give either file or derive; write file: PATH, or derive: labels")
        return self


class GridConfig(Strict):
    """The one grid of a site."""

    crs: str | None = Field(None, description="target CRS; default that of most scenes")
    resolution: float | None = Field(None, description="pixel size in units of the CRS; default the finest", gt=0)


class SplitConfig(Strict):
    """How training and test are kept apart."""

    kind: Literal["blocks", "sites"] = Field("blocks", description="spatial blocks, or leave one site out")
    block: int = Field(96, description="block in pixels", gt=0)
    buffer: int = Field(32, description="smallest distance between training and test pixels", ge=0)
    test: float = Field(0.3, description="share of blocks for the test", gt=0, lt=1)
    validation: float = Field(0.0, description="share of blocks that decide which epoch is kept", ge=0, lt=1)
    seed: int = Field(0, description="of the drawing")

    @model_validator(mode="after")
    def _shares(self) -> SplitConfig:
        if self.test + self.validation >= 1 or (self.validation and self.kind != "blocks"):
            raise ValueError(
                "test and validation leave nothing to train on, or sites are left out one by one; "
                "write smaller shares that sum to less than 1, or kind: blocks"
            )
        return self


class ChipsConfig(Strict):
    """Chips for training."""

    size: int = Field(64, description="height and width in pixels", gt=0)
    number: int = Field(400, description="chips drawn from the training blocks", gt=0)


class ModelConfig(Strict):
    """The model."""

    encoder: str | dict[str, str] = Field(
        "tiny_cnn", description="see geomm.models.encoders: one name, or one for every modality"
    )
    weights: dict[str, str] = Field({}, description="modality to local file of weights, relative to the recipe")
    pretrained: bool = Field(False, description="download the weights that the encoder names ask for")
    fusion: str = Field("attention", description="see geomm.models.fusion")
    decoder: Literal["light", "unet", "upernet"] = Field("light", description="from features to the map")
    width: int = Field(16, description="size of the local encoders", gt=0)
    text: str = Field("", description="see geomm.models.text; for a contrastive task")
    embedding: int = Field(128, description="length of the vectors of a contrastive task", gt=0)


class TrainConfig(Strict):
    """How to train, and what to compare."""

    steps: int = Field(200, description="optimiser steps", gt=0)
    batch: int = Field(16, description="chips per step and device", gt=0)
    rate: float = Field(3e-3, description="peak learning rate", gt=0)
    schedule: Literal["one_cycle", "cosine", "constant"] = Field("one_cycle", description="of the rate")
    warmup: int = Field(0, description="steps that cosine and constant start with", ge=0)
    weight_decay: float = Field(1e-2, description="of AdamW", ge=0)
    clip: float = Field(1.0, description="largest norm of the gradient; 0 for none", ge=0)
    accumulate: int = Field(1, description="batches that make one step", gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="automatic mixed precision")
    average: float = Field(0.0, description="decay of the moving average of the weights; 0 for none", ge=0, lt=1)
    loss: str = Field("", description="of the task, several joined by +: cross_entropy, focal, dice; clip, siglip ...")
    modality_dropout: float = Field(0.0, description="probability of hiding a modality of a sample", ge=0, lt=1)
    augment: bool = Field(True, description="turn and mirror every chip in a way of its own")
    patience: int = Field(0, description="epochs without better validation after which training stops", ge=0)
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to train")
    devices: int = Field(1, description="processes of a distributed training", gt=0)
    seeds: list[int] = Field([0, 1, 2], description="each variant is trained once per seed", min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each may be named once; write seeds: [0, 1, 2]")
        return self


class PredictConfig(Strict):
    """How to map whole scenes."""

    size: int = Field(256, description="written chip in pixels", gt=0)
    halo: int = Field(32, description="margin that is read on each side", ge=0)
