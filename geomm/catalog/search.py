"""Open a catalog, wherever it lies, and search it by place, time and sensor."""

from __future__ import annotations

import dataclasses
import datetime as dt
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geomm.catalog.areas import area_of, meant
from geomm.catalog.criteria import Query, check_words, matches, names_of, parse_interval, touches
from geomm.catalog.interpret import Customs, holds, to_scene
from geomm.catalog.policy import POLICY, ReadPolicy
from geomm.catalog.scene import Scene
from geomm.catalog.scenes import Scenes
from geomm.errors import CatalogError, did_you_mean
from geomm.sensors import SENSORS, SensorSpec, get_sensor
from geomm.types import BBox

if TYPE_CHECKING:
    from geomm.catalog.outline import Outline


class Source(Protocol):
    """Where items come from."""

    def find(self, query: Query) -> Iterator[Any]:
        """Yield STAC items that may match."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """An opened catalog. It finds items; searching it makes scenes."""

    href: str
    """Where it was opened."""
    source: Source = field(repr=False)
    """Finds its items."""
    customs: Customs = field(default_factory=Customs, repr=False)
    """What it does in its own way."""
    policy: ReadPolicy = field(default=POLICY, repr=False)
    """What may be read of all that it names; see :meth:`ReadPolicy.of_catalog` for what follows from where it lies."""

    def items(self) -> tuple[Any, ...]:
        """All STAC items; of a STAC API, too many to ask for."""
        return tuple(self.source.find(Query()))

    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that a static catalog holds; of others, of those that they may hold."""
        from geomm.catalog.static import StaticSource

        if not isinstance(self.source, StaticSource):
            named = {s for held in self.customs.collections.values() for s in held}
            return tuple(s for s in SENSORS if s in named or not named)
        items = self.source.items
        return tuple(s.name for s in SENSORS.values() if any(holds(item, s, self.customs) for item in items))

    def search(
        self,
        aoi: BBox | Any | None = None,
        datetime: str | dt.date | None = None,
        *,
        sensors: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        cloud_cover: float | None = None,
        sentinel2_offset: float | None = None,
    ) -> Scenes:
        """Find scenes.

        Args:
            aoi: west, south, east, north in degrees, west greater than east across the antimeridian; or a geometry in
                degrees (GeoJSON, or any object with ``__geo_interface__``), or a GeoDataFrame in any CRS; None for
                everywhere.
            datetime: an instant, a day or an interval ``start/end`` in RFC 3339 (``..`` leaves an end open); or a
                datetime, which at midnight without a time zone stands for its day.
            sensors: names from the table; None for all that the catalog holds.
            ids: item ids; None for all.
            cloud_cover: greatest ``eo:cloud_cover`` in percent; items that do not say it are kept.
            sentinel2_offset: your word on the offset of Sentinel-2 in DN (0 or -1000), before all metadata.

        Returns:
            Scenes sorted by time, id and sensor; an empty list if nothing matches.

        Raises:
            UnknownNameError: a sensor that is not in the table.
            CatalogError: ``datetime`` or ``aoi`` cannot be understood, or the catalog cannot be read.
            UnsafeSourceError: an item names a file that the policy of the catalog forbids.
        """
        wanted = _sensors(sensors)
        check_words(ids=ids, cloud_cover=cloud_cover, sentinel2_offset=sentinel2_offset)
        query, area = self._query(aoi, datetime, wanted, ids)
        word = self.customs.sentinel2_offset if sentinel2_offset is None else sentinel2_offset
        customs = dataclasses.replace(
            self.customs, sentinel2_offset=word, unknown=set(), policy=self.policy.of_catalog(self.href)
        )
        names = {s.name for s in wanted}
        matched: dict[str, list[Scene]] = {}
        for item in self.source.find(query):
            if not isinstance(item.id, str) or not item.id.strip():
                raise CatalogError("an item has no id", where=f"{self.href}, id {item.id!r}", fix="give it one")
            if not matches(item, query, area, cloud_cover):
                continue
            found = (to_scene(item, s, customs) for s in wanted if holds(item, s, customs))
            # A collection may hold items without a sensor, such as Landsat scenes whose thermal instrument was off.
            matched.setdefault(item.id, []).extend(scene for scene in found if _has_imagery(scene))
        scenes = [scene for group in matched.values() for scene in group]
        if not matched:
            _warn_if_swapped(self.source, query)
        if matched and not scenes:
            warnings.warn(
                f"{len(matched)} items match place and time ({_some(matched)}), but none holds a band of "
                f"{', '.join(sorted(names)) if sensors is not None else 'a sensor of the table'}.",
                stacklevel=2,
            )
        if customs.unknown:
            warnings.warn(
                f"The Sentinel-2 processing baseline is unknown of {len(customs.unknown)} items "
                f"({_some(sorted(customs.unknown))}): no offset is applied. State it in the items "
                "(s2:processing_baseline), or say the offset in DN: search(sentinel2_offset=0 or -1000).",
                stacklevel=2,
            )
        return Scenes(sorted(scenes, key=lambda s: (s.time, s.id, s.sensor)))

    def outline(
        self,
        aoi: BBox | Any | None = None,
        datetime: str | dt.date | None = None,
        *,
        sensors: Sequence[str] | None = None,
        cloud_cover: float | None = None,
        rejected: list[tuple[str, str]] | None = None,
    ) -> list[Outline]:
        """Find what :meth:`search` finds, without making scenes of it: for planning over many items.

        The arguments are those of :meth:`search`, but for ``rejected``, which gets id and reason of items that cannot
        be understood; without it they raise.

        Returns:
            Outlines sorted by time and id.

        Raises:
            UnknownNameError: a sensor that is not in the table.
            CatalogError: as for :meth:`search`.
        """
        from geomm.catalog.outline import outline_items, outline_parquet
        from geomm.catalog.parquet import ParquetSource

        wanted = _sensors(sensors)
        check_words(ids=None, cloud_cover=cloud_cover, sentinel2_offset=None)
        query, area = self._query(aoi, datetime, wanted, None)
        if isinstance(self.source, ParquetSource):
            every = (o for f in self.source.files() for o in outline_parquet(f, query, wanted, self.customs))
            found = [o for o in every if area is None or o.footprint.intersects(area)]
            found = [o for o in found if cloud_cover is None or o.cloud_cover <= cloud_cover]
        else:
            found = list(
                outline_items(_records(self.source, query), (query, area, cloud_cover), wanted, self.customs, rejected)
            )
        return sorted(found, key=lambda o: (o.start, o.id))

    def _query(
        self,
        aoi: BBox | Any | None,
        datetime: str | dt.date | None,
        wanted: Sequence[SensorSpec],
        ids: Sequence[str] | None,
    ) -> tuple[Query, Any]:
        """Return what to look for, and the exact geometry where one was given."""
        start, end = parse_interval(datetime)
        boxes, area = area_of(aoi)
        names = {s.name for s in wanted}
        collections = {c for s in wanted for c in s.collections} | {
            c for c, held in self.customs.collections.items() if names & set(held)
        }
        return Query(boxes, start, end, None if ids is None else tuple(ids), tuple(sorted(collections))), area


def open_catalog(path: str | Path, *, policy: ReadPolicy = POLICY) -> Catalog:
    """Open a catalog.

    Args:
        path: a static STAC catalog, collection, item or item collection (a JSON file, or a folder that holds
            ``catalog.json`` or ``collection.json``, or items as files of their own); a stac-geoparquet file, or a
            folder of them; the address of a STAC API; a catalog definition (YAML, see ``catalogs/``) or the name of one
            that comes with geomm, such as ``earth_search`` or ``planetary_computer``.
        policy: which files and hosts it may name; by default local files only where it is local itself, and hosts of
            private networks only where it was opened from there.

    Raises:
        CatalogError: nothing is there, or it is no catalog.
    """
    from geomm.catalog.api import ApiSource
    from geomm.catalog.definition import find_definition, public_names
    from geomm.catalog.parquet import ParquetSource
    from geomm.catalog.static import check_path, loose_items, read_static

    check_path(path, policy)
    definition = find_definition(path)
    if definition is not None:
        source = ApiSource(definition.api, definition.collections)
        return Catalog(definition.api, source, definition.customs, policy)
    text = str(path)
    if text.startswith(("http://", "https://")) and not text.lower().endswith((".json", ".geojson", ".parquet")):
        return Catalog(text, ApiSource(text), policy=policy)
    location = Path(path)
    if (text.endswith(".parquet") and ("://" in text or location.is_file())) or (
        location.is_dir() and not _json_of(location) and any(location.glob("*.parquet"))
    ):
        return Catalog(text, ParquetSource(text), policy=policy)
    if location.is_dir():
        found = _json_of(location)
        loose = None if found else loose_items(location, policy)
        if loose is not None and loose.records:
            return Catalog(text, loose, policy=policy)
        if not found:
            raise CatalogError(
                "the folder holds no STAC catalog",
                where=text,
                why="neither catalog.json, collection.json, STAC items nor a .parquet file is there",
                fix=f"of GeoTIFFs, build one: geomm catalog build {path}",
            )
        text = str(found[0])
    if "://" not in text and not Path(text).exists():
        public = f"correct the path; public catalogs: {', '.join(public_names())}"
        raise CatalogError(
            "the catalog cannot be read",
            where=text,
            why="there is no such file or folder, nor a public catalog of that name",
            fix=did_you_mean(text, public_names(), public),
        )
    return Catalog(text, read_static(text, policy), policy=policy)


def _records(source: Source, query: Query) -> Iterator[tuple[Any, str]]:
    """Yield the JSON of items, and where relative addresses in it count from."""
    from geomm.catalog.static import StaticSource

    if isinstance(source, StaticSource):
        yield from ((r.content, r.href) for r in source.records)
        return
    for item in source.find(query):
        yield item.to_dict(include_self_link=False, transform_hrefs=False), item.get_self_href() or ""


def _warn_if_swapped(source: Source, query: Query) -> None:
    """Tell whether a file's items would match with numbers of the area exchanged; a server is not asked twice."""
    from geomm.catalog.parquet import ParquetSource
    from geomm.catalog.static import StaticSource

    boxes, exchanged = meant(query.boxes)
    for box in boxes:
        if isinstance(source, StaticSource):
            there = any(item.bbox and touches(item.bbox, box) for item in source.items)
        else:
            there = isinstance(source, ParquetSource) and any(source.find(dataclasses.replace(query, boxes=(box,))))
        if there:
            warnings.warn(
                f"Nothing lies in the area, but it would with {exchanged} exchanged. "
                f"Did you swap them? Search {tuple(round(v, 6) for v in box)}.",
                stacklevel=3,
            )
            return


def _sensors(names: Sequence[str] | None) -> list[SensorSpec]:
    return [get_sensor(name) for name in names_of(names)] if names is not None else list(SENSORS.values())


def _has_imagery(scene: Scene) -> bool:
    quality = SENSORS[scene.sensor].quality
    return any(quality is None or band != quality.band for band in scene.bands)


def _some(ids: Iterable[str]) -> str:
    names = list(ids)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _json_of(folder: Path) -> list[Path]:
    return [folder / name for name in ("catalog.json", "collection.json") if (folder / name).is_file()]
