"""The imagery of a stage: what is in its catalog, and the scenes of a unit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

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

    def outline(self, sensors: Sequence[str], *, around: float = 0.0) -> list[Outline]:
        """Find what there is.

        Args:
            sensors: names from the table.
            around: days before and after :attr:`start` and :attr:`end` that are looked at too, for partners.
        """
        margin = dt.timedelta(days=around)
        ends = (
            None if self.start is None else self.start - margin,
            None if self.end is None else self.end + margin,
        )
        interval = None if ends == (None, None) else "/".join(".." if e is None else e.isoformat() for e in ends)
        found = self.catalog.outline(
            self.box, self.scenes.datetime, sensors=sensors, cloud_cover=self.scenes.cloud_cover
        )  # fmt: skip
        if interval is None:
            return found
        return [o for o in found if (ends[0] is None or o.end >= ends[0]) and (ends[1] is None or o.start <= ends[1])]

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
        ids = sorted({item for u in units for item, _, _ in u.items})
        sensors = sorted({sensor for u in units for _, sensor, _ in u.items})
        found: dict[tuple[str, str], Scene] = {}
        for scene in self.catalog.search(sensors=sensors, ids=ids, sentinel2_offset=self.scenes.sentinel2_offset):
            found.setdefault((scene.id, scene.sensor), scene)
        return {
            u.id: tuple(found[item, sensor] for item, sensor, _ in u.items)
            for u in units
            if all((item, sensor) in found for item, sensor, _ in u.items)
        }
