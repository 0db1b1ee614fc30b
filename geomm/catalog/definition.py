"""Definitions of public catalogs: address, collections and customs, as YAML."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from geomm.catalog.interpret import Customs
from geomm.errors import CatalogError, ConfigError
from geomm.sensors import get_sensor

YAML_BYTES = 2**20
"""The most that a definition may have."""
YAML_ALIASES = 100
"""The most references to what was said before."""
YAML_DEPTH = 50
"""The most lists and mappings within each other."""
_KEYS = {"title", "api", "collections", "signer", "sentinel2_offset"}


@dataclass(frozen=True, slots=True)
class Definition:
    """A public catalog."""

    api: str
    """Landing page of its STAC API."""
    collections: tuple[str, ...]
    """Collections that hold sensors of the table."""
    customs: Customs
    """What it does in its own way."""


def public_names() -> list[str]:
    """Names of the definitions that come with geomm."""
    found = {f.name.removesuffix(".yaml") for folder in _folders() if folder.is_dir() for f in folder.iterdir()}
    return sorted(name for name in found if "." not in name and find_named(name) is not None)


def find_named(name: str) -> Definition | None:
    """Return a definition that comes with geomm; None if there is none of that name, or it is one for folders."""
    for folder in _folders():
        file: Any = folder / f"{name}.yaml"
        if file.is_file() and "\napi:" in f"\n{file.read_text()}":
            return _parse(file.read_text(), name)
    return None


def find_definition(name: str | Path) -> Definition | None:
    """Return a definition by file or by the name of one that comes with geomm; None if it is neither.

    Raises:
        ConfigError: the file cannot be understood.
        UnknownNameError: it names a sensor that is not in the table.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise CatalogError(
                "the catalog definition does not exist",
                where=str(name),
                fix="name a catalog that comes with geomm, or the path of a YAML file as in catalogs/",
            )
        return _parse(path.read_text(), str(name))
    stem = str(name).replace("-", "_")
    if not stem.isidentifier() or path.exists():
        return None
    return find_named(stem)


def definition_text(name: str) -> str:
    """Return the text of a definition that comes with geomm, one for folders too.

    Raises:
        CatalogError: there is none of that name.
    """
    for folder in _folders():
        file: Any = folder / f"{name}.yaml"
        if file.is_file():
            return str(file.read_text())
    raise CatalogError("there is no definition of that name", where=name, fix="catalogs/ holds those that there are")


def _folders() -> tuple[Any, ...]:
    """Return where definitions lie: inside the package once installed, beside it in a checkout."""
    return files("geomm") / "catalogs", Path(__file__).resolve().parents[2] / "catalogs"


def parse_yaml(text: str, where: str) -> Any:
    """Parse a definition; one in which aliases repeat themselves without end is refused before it unfolds.

    Raises:
        ConfigError: it is not YAML, too long, or has too many aliases.
    """
    import yaml

    if len(text) > YAML_BYTES:
        raise ConfigError(
            "the definition is too long",
            where=where,
            why=f"more than {YAML_BYTES} characters",
            fix="leave out what a definition does not need, or split it into several",
        )
    try:
        aliases = depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > YAML_ALIASES or depth > YAML_DEPTH:
                raise ConfigError(
                    "the definition is too deep, or has too many aliases",
                    where=where,
                    why=f"at most {YAML_DEPTH} levels and {YAML_ALIASES} aliases are read",
                    fix="write it flat, without & and * of YAML",
                )
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            "the catalog definition is not YAML",
            where=where,
            why=str(error),
            fix="check the indentation and the colons of the line that is named",
        ) from error


def _parse(text: str, where: str) -> Definition:
    content = parse_yaml(text, where)
    if not isinstance(content, dict) or "api" not in content or set(content) - _KEYS:
        raise ConfigError(
            "the definition describes no STAC API",
            where=where,
            why=f"it needs api, and may have {', '.join(sorted(_KEYS - {'api'}))}",
            fix="definitions with items are for folders of files: geomm catalog build FOLDER --definition FILE",
        )
    collections = {
        str(name): tuple(get_sensor(s).name for s in sensors)
        for name, sensors in (content.get("collections") or {}).items()
    }
    customs = Customs(collections, content.get("signer", ""), content.get("sentinel2_offset"))
    return Definition(content["api"], tuple(collections), customs)
