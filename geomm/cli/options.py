"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomm.errors import ConfigError

if TYPE_CHECKING:
    from geomm.package import ModelPackage

CATALOG = "STAC file, folder or API, stac-geoparquet, or a public catalog such as earth_search"
AoiOption = Annotated[str | None, typer.Option(help="west,south,east,north in degrees")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="override a field: train.steps=50")]
TimeOption = Annotated[str | None, typer.Option(help="date or interval start/end")]


def box(text: str | None) -> tuple[float, float, float, float] | None:
    """Read an area.

    Raises:
        ConfigError: it is not four numbers.
    """
    if text is None:
        return None
    try:
        west, south, east, north = (float(v) for v in text.split(","))
    except ValueError as error:
        raise ConfigError(
            "the area is not west,south,east,north", where=text, fix="--aoi=-87.5,30.6,-87.3,30.8"
        ) from error
    return west, south, east, north


def assignment(text: str) -> tuple[str, object]:
    """Read ``field=value``.

    Raises:
        ConfigError: there is no ``=``, or the value is no YAML.
    """
    import yaml

    from geomm.config.reading import parse

    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise ConfigError("an override has the form field=value", where=text, fix="for example --set train.steps=50")
    try:
        return key.strip(), parse(value)
    except yaml.YAMLError as error:
        why, fix = "its value is no YAML", "close brackets and quotes, for example --set 'train.seeds=[0, 1]'"
        raise ConfigError("an override cannot be understood", where=text, why=why, fix=fix) from error


def each(option: str, values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the values of an option that may be repeated.

    Raises:
        ConfigError: several are joined by a comma.
    """
    for value in values or ():
        if "," in value:
            names = [v.strip() for v in value.split(",") if v.strip()]
            fix = "repeat the option: " + " ".join(f"{option} {n}" for n in names)
            raise ConfigError("one option names one thing", where=f"{option} {value}", fix=fix)
    return tuple(values or ())


def opened(model: Path, source: str) -> ModelPackage:
    """Open a model package.

    Raises:
        ConfigError: model and imagery are exchanged.
        PackageError: it is no model package, or damaged.
    """
    from geomm.package import load_package

    if not (model / "mlm.json").is_file() and (Path(source) / "mlm.json").is_file():
        raise ConfigError(
            "model and imagery are exchanged",
            where=str(model),
            why=f"the model package is {source}",
            fix=f"exchange them: {source} where {model} stands, and the other way round",
        )
    return load_package(model)
