"""Items of static STAC files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomm.errors import CatalogError

if TYPE_CHECKING:
    from geomm.catalog.query import Query


@dataclass(frozen=True, slots=True)
class StaticSource:
    """Items in memory."""

    items: tuple[Any, ...]
    """STAC items."""

    def find(self, query: Query) -> Iterator[Any]:  # noqa: ARG002 the caller filters
        """Yield all items."""
        yield from self.items


def _item(record: dict[str, Any], href: str) -> Any:
    import pystac

    item = pystac.Item.from_dict(record, migrate=True, preserve_dict=True)
    if item.get_self_href() is None or "://" not in str(item.get_self_href()):
        item.set_self_href(href)  # relative addresses of assets count from here
    return item


def read_static(href: str) -> StaticSource:
    """Read a static catalog, collection, item or item collection with all its items.

    Raises:
        CatalogError: nothing is there, or it is not STAC.
    """
    import pystac
    from urllib3.exceptions import HTTPError

    try:
        content = json.loads(pystac.StacIO.default().read_text(href))
        kind = content.get("type")
        if kind in ("Feature", "FeatureCollection"):  # read as they are: links to collections may lead nowhere
            records = content["features"] if kind == "FeatureCollection" else [content]
            return StaticSource(tuple(_item(record, href) for record in records))
        root = pystac.read_file(href)
        if not isinstance(root, pystac.Catalog):
            raise CatalogError("the catalog cannot be read", where=href, why=f"its type is {kind}")
        return StaticSource(tuple(root.get_items(recursive=True)))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, HTTPError, pystac.STACError, pystac.STACTypeError,
    ) as error:  # fmt: skip
        if isinstance(error, CatalogError):
            raise
        raise CatalogError("the catalog cannot be read", where=href, why=str(error)) from error
