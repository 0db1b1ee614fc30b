"""The imagery of a stage: what is in its catalog, and the scenes of a unit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from geomm.catalog import Catalog, Outline, Scene
from geomm.config import ScenesConfig
from geomm.ledger import Unit
from geomm.types import BBox


@dataclass(frozen=True, slots=True)
class Imagery:
    """What a stage works on."""

    catalog: Catalog
    """Opened."""
    scenes: ScenesConfig
    """Which of it."""
    start: dt.datetime | None = None
    """Units before this time are left out."""
    end: dt.datetime | None = None
    """Units after this time are left out."""

    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Id and reason of items that cannot be understood."""

    def outline(self, sensors: Sequence[str], *, around: float | None = 0.0) -> list[Outline]:
        """Find what there is.

        Args:
            sensors: names from the table.
            around: days before and after :attr:`start` and :attr:`end` that are looked at too, for partners; None for
                all times.
        """
        found = self.catalog.outline(
            self.box,
            self.scenes.datetime,
            sensors=sensors,
            cloud_cover=self.scenes.cloud_cover,
            rejected=self.rejected,
        )
        if self.box and not found and not self.rejected:  # a search says where longitude and latitude are exchanged
            self.catalog.search(self.box, self.scenes.datetime, sensors=sensors, cloud_cover=self.scenes.cloud_cover)
        if around is None:
            return found
        margin = dt.timedelta(days=around)
        return [
            o
            for o in found
            if (self.start is None or o.end >= self.start - margin)
            and (self.end is None or o.start <= self.end + margin)
        ]

    @property
    def box(self) -> BBox | None:
        """The area, west, south, east, north in degrees."""
        aoi = self.scenes.aoi
        return (aoi[0], aoi[1], aoi[2], aoi[3]) if aoi else None

    def covers(self, time: dt.datetime) -> bool:
        """Tell whether units of a time are wanted now."""
        return (self.start is None or time >= self.start) and (self.end is None or time <= self.end)

    def load(self, units: Sequence[Unit]) -> dict[str, tuple[Scene, ...]]:
        """Make the scenes of units, in the order of their items; a unit whose items are gone is left out."""
        ids = sorted({i.id for u in units for i in u.items})
        sensors = sorted({i.sensor for u in units for i in u.items})
        found: dict[tuple[str, str, str], Scene] = {}
        for scene in self.catalog.search(sensors=sensors, ids=ids, sentinel2_offset=self.scenes.sentinel2_offset):
            found.setdefault((scene.collection, scene.id, scene.sensor), scene)
        keys = {u.id: [(i.collection, i.id, i.sensor) for i in u.items] for u in units}
        return {n: tuple(found[k] for k in mine) for n, mine in keys.items() if all(k in found for k in mine)}
