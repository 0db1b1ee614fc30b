"""Products appear whole: what is there, and how new files take its place."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geomm.errors import OutputError
from geomm.export.item import digest_of
from geomm.types import LayerSpec


@dataclass(frozen=True, slots=True)
class Product:
    """What was published."""

    item: Path
    """STAC item; written last, so that its presence says the product is whole."""
    files: dict[str, Path] = field(default_factory=dict)
    """Layer name to COG."""


def publish(staging: Path, target: Path, name: str, layers: Sequence[tuple[LayerSpec, Path]]) -> Product:
    """Move verified files into place: sidecars, rasters, last the item; remove what the older product had more.

    Raises:
        OutputError: something that is not a file stands where one goes.
    """
    files = [p for p in staging.iterdir() if p.is_file()]
    order = sorted(files, key=lambda p: (p.suffix == ".json", p.suffix == ".tif", p.name))
    for path in order:
        if (target / path.name).is_dir():
            raise OutputError(
                "a folder stands where a file goes",
                where=str(target / path.name),
                fix="move the folder elsewhere, or write to another one",
            )
    stale = _files_of(target, name) - {p.name for p in order}
    (target / f"{name}.json").unlink(missing_ok=True)
    for path in order:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        if path is order[-1]:
            for old in stale:
                (target / old).unlink(missing_ok=True)
        path.replace(target / path.name)
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return Product(target / f"{name}.json", {layer.name: target / path.name for layer, path in layers})


def _files_of(target: Path, name: str) -> set[str]:
    """Return the names of the files of a published product, with their sidecars."""
    try:
        assets = json.loads((target / f"{name}.json").read_text())["assets"]
        found = {Path(a["href"]).name for a in assets.values() if str(a["href"]).startswith("./")}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return found | {f"{n}.aux.xml" for n in found} - {f"{name}.json"}


def published(folder: str | Path, name: str, identity: str) -> Product | None:
    """Return a product that is there already, whole and made of the same; None if it is not.

    Args:
        folder: of the products.
        name: of the product.
        identity: see :func:`write_products`.
    """
    target, layers = Path(folder), {}
    try:
        item = json.loads((target / f"{name}.json").read_text())
        if not identity or item["properties"].get("geomm:identity") != identity:
            return None
        for key, asset in item["assets"].items():
            path = target / Path(asset["href"]).name
            names = Path(f"{path}.aux.xml")
            if not path.is_file() or ("classification:classes" in asset and not names.is_file()):
                return None
            if "file:checksum" in asset and digest_of(path) != asset["file:checksum"]:
                return None
            if "bands" in asset:
                layers[key] = path
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Product(target / f"{name}.json", layers)
