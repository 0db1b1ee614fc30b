"""How a recipe is read from YAML: each key once, dates as text, and numbers as people write them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from geomm.errors import ConfigError, did_you_mean

_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but that ``1e-3`` is a number, that a date stays text, and that no key occurs twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the loaders of PyYAML are made like this
        first: [(tag, pattern) for tag, pattern in known if tag != _TIMESTAMP]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set[str]()
        for key, _ in node.value:
            if key.value != "<<" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConfigError(
                        f"{key.value} occurs twice",
                        where=f"{self.name}, line {key.start_mark.line + 1}",
                        why="the second would take the place of the first in silence",
                        fix=f"put what both hold under one {key.value}, or remove one",
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str | IO[bytes]) -> Any:
    """Return what YAML holds.

    Raises:
        ConfigError: a key occurs twice.
        yaml.YAMLError: it is no YAML.

    >>> parse("{rate: 1e-3, datetime: 2020-06-01}")
    {'rate': 0.001, 'datetime': '2020-06-01'}
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader


def find_recipe(path: str | Path) -> Path:
    """Return the file of a recipe: the path as it is, or, for a bare name, one that comes with geomm.

    They lie beside the package in a checkout, inside it once installed.

    Raises:
        ConfigError: it is no path.
    """
    given: object = path
    if not isinstance(given, (str, Path)):
        fix = "give the path of a YAML file; recipes to begin with are in pipelines/"
        raise ConfigError("the recipe cannot be read", where=repr(given)[:80], fix=fix)
    named = Path(path)
    if named.exists() or named.parent != Path() or named.suffix not in ("", ".yaml"):
        return named
    return next((p for folder in _shipped() if (p := folder / f"{named.stem}.yaml").is_file()), named)


def read_yaml(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a mapping from YAML, with some of its fields replaced.

    Raises:
        ConfigError: the file cannot be read or is no mapping, or there is no place for an override.
    """
    changes: object = overrides or {}
    if not isinstance(changes, Mapping):
        fix = 'give fields with their values: {"train.steps": 50}'
        raise ConfigError("overrides are no mapping", where=repr(overrides)[:80], fix=fix)
    place = find_recipe(path)
    try:
        with place.open("rb") as file:
            raw = parse(file)
    except OSError as error:
        raise ConfigError(
            "the recipe cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            fix=did_you_mean(_called(place), _beside(place), "check the path; recipes to begin with are in pipelines/"),
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
    for key, value in changes.items():
        _put(raw, str(key), value.isoformat() if isinstance(value, dt.date) else value, str(path))
    return raw


def _put(raw: dict[str, Any], key: str, value: object, path: str) -> None:
    """Set a field by its dotted key."""
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


def _shipped() -> tuple[Path, Path]:
    """Return the folders that recipes come in: inside the package, and beside it."""
    here = Path(__file__).parents[1]
    return here / "pipelines", here.parent / "pipelines"


def _called(path: Path) -> str:
    """Return a recipe's name: of a bare one without its ending, as those that come with geomm are called."""
    return path.stem if path.parent == Path() else path.name


def _beside(path: Path) -> list[str]:
    """Return names of recipes: of a bare name, those that come with geomm; of a path, those of its folder."""
    bare = path.parent == Path()
    folders = (*_shipped(), path.parent) if bare else (path.parent,)
    return [p.stem if bare else p.name for folder in folders for p in folder.glob("*.yaml")]
