"""Find the scenes of a recipe, cataloguing a plain folder first where it names one."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from geomm.catalog import Catalog, ReadPolicy, Scene, build_catalog, open_catalog, parse_yaml
from geomm.config import RunConfig, SourceConfig
from geomm.errors import CatalogError, ConfigError, DependencyError
from geomm.types import BBox


def find_scenes(config: RunConfig, sensors: tuple[str, ...], out: Path) -> list[Scene]:
    """Search the recipe's catalog.

    Args:
        config: the recipe.
        sensors: names of the sensors that are needed.
        out: folder of the run; the catalog of a plain folder is written to ``out/catalog``.

    Raises:
        DependencyError: the package that carries the folder is not installed.
        CatalogError: nothing is found.
    """
    catalog = open_source(config.source, Path(config.root), out / "catalog")
    aoi = config.search.aoi
    box: BBox | None = (aoi[0], aoi[1], aoi[2], aoi[3]) if aoi else None
    scenes = catalog.search(box, config.search.datetime, sensors=sensors)
    if not scenes:
        raise CatalogError(
            "the search found nothing",
            where=catalog.href,
            why=f"no item with {', '.join(sensors)} in {box or 'any place'} at {config.search.datetime or 'any time'}",
            fix="widen the area or the time, or check the sensors",
        )
    return scenes


def open_source(source: SourceConfig, root: Path, made: Path, policy: ReadPolicy | None = None) -> Catalog:
    """Open the catalog of a source; a plain folder is catalogued first.

    Args:
        source: of a recipe.
        root: folder that relative paths start from.
        made: where the catalog of a plain folder is written.
        policy: what addresses in the catalog may point to.

    Raises:
        DependencyError: the package that carries the folder is not installed.
        CatalogError: there is no catalog, or no file fits.
    """
    if source.catalog is not None:
        beside = root / source.catalog
        return open_catalog(beside if beside.exists() else source.catalog, policy=policy or ReadPolicy())
    assert source.folder is not None
    folder = (package_folder(source.package) if source.package else root) / source.folder
    definition = _definition(root / source.definition) if source.definition else None
    return build_catalog(
        folder, made, sensors=source.sensors or ("generic",), definition=definition, datetime=source.datetime
    )


def local_folder(out: str | Path) -> Path:
    """Return a folder for what is made.

    Raises:
        ConfigError: it is the address of an object store, which only batches write to.
    """
    given: object = out
    if not isinstance(given, (str, Path)):
        raise ConfigError("the output is no folder", where=repr(given)[:80], fix="give a path, such as 'runs/NAME'")
    store = re.match("([a-z][a-z0-9]+):/", str(out))
    if store is not None:
        raise ConfigError(
            "the output must be a local folder",
            where=str(out),
            why=f"only the recipe of a batch writes to {store[1]}://",
            fix="write into a folder, such as runs/NAME, and copy it from there",
        )
    return Path(out)


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        DependencyError: it is not installed.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"the imagery package {name} is not installed",
            fix="run `make demo`, which installs it from the package index without its dependencies",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _definition(path: Path) -> dict[str, object]:
    try:
        content = parse_yaml(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(
            "the catalog definition cannot be read",
            where=str(path),
            why=str(error),
            fix="check source.definition of the recipe; examples are in catalogs/",
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "the catalog definition is not a mapping",
            where=str(path),
            fix="write keys and values, as the examples in catalogs/ do",
        )
    return content
