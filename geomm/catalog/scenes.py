"""What a search found: a list that says what is in it."""

from __future__ import annotations

from geomm.cards import beside, card, facts, table, timeline, world
from geomm.catalog.scene import Scene


class Scenes(list[Scene]):
    """Scenes in order of time, id and sensor; in all else a plain list."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        if not self:
            return card("no scene", [facts({"why": "nothing in the catalog matches the search"})], kind="search")
        first, last = self[0].time, max(s.time for s in self)
        rows = []
        for sensor in dict.fromkeys(s.sensor for s in self):
            mine = [s for s in self if s.sensor == sensor]
            bands = list(dict.fromkeys(b for s in mine for b in s.bands))
            rows.append([sensor, str(len(mine)), " ".join(bands), timeline([s.time for s in mine], first, last)])
        about = {
            "scenes": f"{len(self):,} of {len({s.id for s in self}):,} items",
            "time": " to ".join(dict.fromkeys(f"{t:%Y-%m-%d}" for t in (first, last))),
            "items": ", ".join(list(dict.fromkeys(s.id for s in self))[:4]) + (", ..." if len(self) > 4 else ""),
        }
        where = beside(world([s.bbox for s in self]), facts(about))
        return card("scenes", [where, table(["sensor", "scenes", "bands", "when"], rows)], kind="search")
