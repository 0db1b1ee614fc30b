"""Remember what functions of a target grid return, without asking PROJ each time which grid it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from odc.geo.geobox import GeoBox


class _Known:
    """A grid that is told from others by numbers and the name of its CRS.

    ``hash(geobox)`` has PROJ write its CRS out as text, a tenth of a millisecond in which no other thread runs.
    """

    __slots__ = ("_facts", "geobox")

    def __init__(self, geobox: GeoBox) -> None:
        self.geobox = geobox
        self._facts = (tuple(geobox.shape), geobox.affine[:6], str(geobox.crs))

    def __hash__(self) -> int:
        return hash(self._facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._facts == other._facts


def remembered[**P, R](most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep what a function returned for its last arguments, as :func:`functools.lru_cache` does; some are grids.

    Args:
        most: results to keep.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @lru_cache(maxsize=most)
        def known(args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> R:
            return function(*(a.geobox if isinstance(a, _Known) else a for a in args), **dict(options))

        @wraps(function)
        def ask(*args: P.args, **options: P.kwargs) -> R:
            return known(tuple(_Known(a) if isinstance(a, GeoBox) else a for a in args), tuple(options.items()))

        return ask

    return decorate
