"""Recipes are strict, explain themselves, and those that ship are valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from geomm.config import RunConfig, is_batch, load_batch, load_recipe, read_yaml
from geomm.config.parts import Strict
from geomm.errors import ConfigError

PIPELINES = Path(__file__).resolve().parents[1] / "pipelines"


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path):
    if is_batch(read_yaml(path)):
        batch = load_batch(path)
        assert batch.stages
        assert batch.description
        return
    config = load_recipe(path)
    assert config.root == str(PIPELINES)
    assert len(config.streams()) == len(config.modalities)


def _write(tmp_path, change):
    raw = yaml.safe_load((PIPELINES / "clouds_landsat.yaml").read_text())
    change(raw)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["train"].update(step=5), r"train.step: unknown key, did you mean steps"),
        (lambda r: r.update(label=None), "label"),
        (lambda r: r["train"].update(steps="many"), "train.steps: Input should be a valid integer"),
        (lambda r: r["train"].update(steps=True), "train.steps"),
        (lambda r: r["split"].update(kind="random"), "split.kind"),
        (lambda r: r["label"]["classes"][0].update(color="green"), "label.classes.0.color"),
        (lambda r: r.update(name="../evil"), "name: String should match"),
        (lambda r: r["source"].update(catalog="x"), "give either catalog or folder"),
    ],
)
def test_mistakes_name_the_field(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(_write(tmp_path, change))


def test_overrides_reach_nested_fields(tmp_path):
    path = _write(tmp_path, lambda r: None)
    assert load_recipe(path, {"train.steps": 7, "grid.crs": "EPSG:32617"}).train.steps == 7
    with pytest.raises(ConfigError, match="unknown key"):
        load_recipe(path, {"train.stepz": 7})


def test_unreadable_recipes(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_recipe(tmp_path / "a.yaml")


def test_every_field_is_described():
    kinds = [RunConfig, *Strict.__subclasses__()]
    missing = [
        f"{k.__name__}.{n}" for k in kinds for n, f in k.model_fields.items() if not f.description and not _record(f)
    ]
    assert missing == []


def _record(field):
    return any(kind.__name__ in str(field.annotation) for kind in Strict.__subclasses__())
