"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from geomm.errors import ConfigError

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

    key, found, value = text.partition("=")
    if not found:
        raise ConfigError("an override has the form field=value", where=text, fix="for example --set train.steps=50")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        why, fix = "its value is no YAML", "close brackets and quotes, for example --set 'train.seeds=[0, 1]'"
        raise ConfigError("an override cannot be understood", where=text, why=why, fix=fix) from error
