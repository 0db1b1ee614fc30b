"""Items of static STAC files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomm.errors import CatalogError

if TYPE_CHECKING:
    from geomm.catalog.search import Query


@dataclass(frozen=True, slots=True)
class StaticSource:
    """Items in memory."""

    items: tuple[Any, ...]
    """STAC items."""

    def find(self, query: Query) -> Iterator[Any]:  # noqa: ARG002 the caller filters
        """Yield all items."""
        yield from self.items


def read_static(href: str) -> StaticSource:
    """Read a static catalog, collection, item or item collection with all its items.

    Raises:
        CatalogError: nothing is there, or it is not STAC.
    """
    import pystac

    try:
        root = pystac.read_file(href)
        if isinstance(root, pystac.Catalog):
            return StaticSource(tuple(root.get_items(recursive=True)))
        return StaticSource(tuple(root.items) if isinstance(root, pystac.ItemCollection) else (root,))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pystac.STACError, pystac.STACTypeError) as error:
        raise CatalogError("the catalog cannot be read", where=href, why=str(error)) from error
