"""Items of a live STAC API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from geomm.catalog.policy import POLICY
from geomm.catalog.web import guard, reachable
from geomm.errors import CatalogUnavailableError

if TYPE_CHECKING:
    from geomm.catalog.criteria import Query

PAGE = 250
"""Items asked for at a time."""


@dataclass(frozen=True, slots=True)
class ApiSource:
    """A STAC API; it is asked for what is searched, page by page, and again where an answer fails."""

    url: str
    """Landing page."""
    collections: tuple[str, ...] = ()
    """Collections that are of use; empty for all."""

    def find(self, query: Query) -> Iterator[Any]:
        """Yield the items that the server finds.

        Raises:
            CatalogUnavailableError: it cannot be reached, or refuses.
        """
        from pystac_client.exceptions import APIError
        from pystac_client.warnings import DoesNotConformTo  # a warning by type, but search raises it

        client = _client(self.url)
        try:
            offered = self.collections or tuple(c.id for c in client.get_collections())
            known = tuple(c for c in offered if c in query.collections) or offered
            seen: set[tuple[str | None, str]] = set()
            for box in query.boxes or (None,):
                found = client.search(
                    collections=list(known),
                    bbox=box,
                    datetime=(query.start, query.end) if query.start or query.end else None,
                    ids=list(query.ids) if query.ids is not None else None,
                    limit=PAGE,
                )
                for item in found.items():
                    if (item.collection_id, item.id) not in seen:
                        seen.add((item.collection_id, item.id))
                        yield item
        except (APIError, DoesNotConformTo, OSError, ValueError, KeyError) as error:
            raise CatalogUnavailableError(
                "the STAC API did not answer the search", where=self.url, why=_short(error), fix="try again later"
            ) from error


@lru_cache(maxsize=16)
def _client(url: str) -> Any:
    import pystac
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO
    from urllib3.util import Retry

    class Guarded(StacApiIO):  # pages and redirects may lead to other hosts
        def request(self, href: str, *args: Any, **kwargs: Any) -> Any:
            reachable(href, policy)
            return super().request(href, *args, **kwargs)

    policy = POLICY.of_catalog(url)
    try:
        # Searches are POST requests, which urllib3 does not repeat unasked; they change nothing.
        again = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
        io = Guarded(max_retries=again, timeout=60)
        guard(io.session, policy)
        return Client.open(url, stac_io=io)
    except (APIError, OSError, ValueError, KeyError, TypeError, pystac.STACError, pystac.STACTypeError) as error:
        raise CatalogUnavailableError(
            "the STAC API cannot be opened", where=url, why=_short(error), fix="check the address, and try again later"
        ) from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
