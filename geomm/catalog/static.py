"""Items of static STAC files: the one that is opened, and those below it that it links to."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from geomm.catalog.policy import ReadPolicy, check, local_path, shown
from geomm.catalog.web import text_of
from geomm.errors import CatalogError, SourceWarning, nearest

if TYPE_CHECKING:
    from geomm.catalog.criteria import Query

BYTES = 2**30
"""The most that one file may have."""
DEPTH = 32
"""The most catalogs below each other."""
DOCUMENTS = 1_000_000
"""The most files; who has more writes a table (stac-geoparquet)."""


@dataclass(frozen=True, slots=True)
class Record:
    """An item as it was read."""

    content: dict[str, Any]
    """Its JSON."""
    href: str
    """File that it was read from: relative addresses count from here."""


@dataclass(frozen=True)
class StaticSource:
    """Items in memory: as JSON, until they are asked for, as making thousands of items takes seconds."""

    records: tuple[Record, ...]
    """All of them."""

    @classmethod
    def of(cls, *items: Any) -> StaticSource:
        """Return the source of STAC items that somebody made."""
        return cls(
            tuple(
                Record(i.to_dict(include_self_link=False, transform_hrefs=False), i.get_self_href() or "")
                for i in items
            )
        )

    @cached_property
    def items(self) -> tuple[Any, ...]:
        """STAC items."""
        return tuple(_item(record) for record in self.records)

    def find(self, query: Query) -> Iterator[Any]:
        """Yield the items of some ids, or all; the caller looks further."""
        if query.ids is None:
            yield from self.items
            return
        wanted = frozenset(query.ids)
        for record in self.records:
            if record.content["id"] in wanted:
                yield _item(record)


def check_path(path: Any, policy: Any) -> None:
    """Refuse what cannot be a catalog before anything is opened.

    Raises:
        CatalogError: it cannot; the message says what to give.
    """
    if not isinstance(path, (str, Path)) or not str(path).strip():
        fix = "give a file, a folder, an address, or a name such as 'earth_search'"
        raise CatalogError("this is no path of a catalog", where=repr(path)[:80], fix=fix)
    text = str(path)
    scheme = re.match(r"([A-Za-z][\w+.-]*):?//", text)
    known = ("https", "http", "s3", "gs", "az", "file")
    if scheme and (scheme[1] not in known or "://" not in text):
        rest = text[scheme.end() :]
        raise CatalogError(
            "the address of the catalog is misspelt",
            where=shown(text),
            why=f"it begins with {scheme[0]}",
            fix=f"did you mean {shown(f'{next(iter(nearest(scheme[1], known)), "https")}://{rest}')!r}?",
        )
    if not isinstance(policy, ReadPolicy):
        fix = "leave it out, or give one: policy=geomm.catalog.ReadPolicy(private=True)"
        raise CatalogError("the policy is no ReadPolicy", where=repr(policy)[:80], fix=fix)
    if not Path(text).is_dir() and text.lower().endswith((".csv", ".txt", ".shp", ".gpkg", ".xml", ".zip")):
        fix = "give a STAC file (JSON), a stac-geoparquet file, or build one: geomm catalog build FOLDER"
        raise CatalogError("this file is no catalog", where=text, fix=fix)
    if not Path(text).is_dir() and text.lower().endswith((".tif", ".tiff", ".jp2", ".vrt", ".nc")):
        fix = "describe its folder first: geomm catalog build FOLDER --sensor SENSOR, or geomm.build_catalog(...)"
        raise CatalogError("an image is no catalog", where=text, fix=fix)


def read_static(href: str, policy: ReadPolicy) -> StaticSource:
    """Read a static catalog, collection, item or item collection with all its items.

    Links are followed within the folder of a local catalog, or on the host of a remote one, each once.

    Raises:
        CatalogError: nothing is there, or it is not STAC, or it is too large or too deep.
    """
    import pystac

    try:
        mine = policy.of_catalog(href)
        content = _read(href, mine)
        kind = content.get("type")
        if kind in ("Feature", "FeatureCollection"):  # read as they are: links to collections may lead nowhere
            records = content["features"] if kind == "FeatureCollection" else [content]
            return StaticSource(tuple(_record(record, href) for record in records))
        if not isinstance(pystac.read_dict(content, href=href), pystac.Catalog):
            raise CatalogError(
                "the catalog cannot be read",
                where=href,
                why=f"its type is {kind}",
                fix="give a STAC Catalog, Collection, Feature or FeatureCollection",
            )
        return StaticSource(tuple(_below(content, href, mine)))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
        pystac.STACError, pystac.STACTypeError,
    ) as error:  # fmt: skip
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            "the catalog cannot be read",
            where=href,
            why=str(error),
            fix="have the catalog written again; python -m json.tool FILE says where a file breaks off",
        ) from error


ITEM_BYTES = 2**24
"""No item is larger; vector files that lie beside imagery often are, and take long to read."""


def loose_items(folder: Path, policy: ReadPolicy) -> StaticSource:
    """Return the STAC items that lie in a folder as files of their own; other JSON files are left out, and large ones.

    Raises:
        CatalogError: one of them cannot be read.
    """
    named = (p for p in folder.iterdir() if p.suffix.lower() in (".json", ".geojson") and p.is_file())
    files = sorted(p for p in named if p.stat().st_size <= ITEM_BYTES)
    stac = [p for p in files if '"stac_version"' in p.read_text(encoding="utf-8", errors="replace")]
    return StaticSource(tuple(r for p in stac for r in read_static(str(p), policy).records))


def _record(content: Any, href: str) -> Record:
    """Return an item, once it has what every item has.

    Raises:
        ValueError: it has not.
    """
    wrong = [
        key
        for key, kind in (("id", str), ("properties", dict), ("assets", dict))
        if not isinstance(content.get(key), kind)
    ]
    if wrong or content.get("type") != "Feature":
        raise ValueError(f"an item ({str(content.get('id'))[:80]}) lacks {', '.join(wrong) or 'its type'}")
    return Record(content, href)


def _item(record: Record) -> Any:
    import pystac

    try:
        item = pystac.Item.from_dict(record.content, migrate=True, preserve_dict=True)
    except (ValueError, KeyError, TypeError, AttributeError, pystac.STACError, pystac.STACTypeError) as error:
        raise CatalogError(
            "an item cannot be read",
            where=f"{shown(record.href)}, {record.content['id']!r}",
            why=str(error),
            fix="correct the item in its catalog, or leave it out: search(ids=[...])",
        ) from error
    if item.get_self_href() is None or "://" not in str(item.get_self_href()) or "://" in record.href:
        item.set_self_href(record.href)  # relative addresses of assets count from here
    return item


def _below(content: dict[str, Any], href: str, policy: ReadPolicy) -> Iterator[Record]:
    """Yield the items that a catalog links to, and those of the catalogs that it links to."""
    waiting = deque([(content, href, 0)])
    seen, outside = {_normal(href)}, []
    while waiting:
        here, place, depth = waiting.popleft()
        for link in here.get("links") or ():
            if link.get("rel") not in ("child", "item") or not isinstance(link.get("href"), str):
                continue
            target = join(place, link["href"])
            if not _within(target, href):
                outside.append(target)
                continue
            if _normal(target) in seen:
                continue
            seen.add(_normal(target))
            if len(seen) > DOCUMENTS or depth >= DEPTH:
                raise CatalogError(
                    "the catalog is too large",
                    where=shown(target),
                    why=f"more than {DOCUMENTS} files, or {DEPTH} catalogs below each other",
                    fix="write its items as stac-geoparquet, or open a part of it",
                )
            found = _read(target, policy)
            if found.get("type") == "Feature":
                yield _record(found, target)
            else:
                waiting.append((found, target, depth + 1))
    if outside:
        warnings.warn(
            f"{len(outside)} links of the catalog {shown(href)} lead out of it and are not followed, for example "
            f"{shown(outside[0])}. Open that one by itself.",
            SourceWarning,
            stacklevel=2,
        )


def _read(href: str, policy: ReadPolicy) -> dict[str, Any]:
    """Read one file of a catalog."""
    import pystac

    path = local_path(href)
    if path is not None:
        if path.stat().st_size > BYTES or not path.is_file():
            raise CatalogError(
                "the catalog cannot be read",
                where=href,
                why=f"it is no file of at most {BYTES} bytes",
                fix="check the address; of a large catalog make a table: geomm catalog index CATALOG FILE",
            )
        text = path.read_text(encoding="utf-8-sig")
    elif re.match("https?:", href, re.IGNORECASE):
        text = text_of(href, policy, most=BYTES)
    else:
        check(href, policy)
        text = pystac.StacIO.default().read_text(href)
    content = json.loads(text)
    if not isinstance(content, dict):
        raise CatalogError(
            "the catalog cannot be read",
            where=href,
            why="it is no JSON object",
            fix="give a STAC catalog.json, collection.json or item as JSON",
        )
    return content


def join(base: str, href: str) -> str:
    """Return an address that may be relative to another; to none, as it is."""
    if not base or (href.startswith("/") and "://" not in base):
        return href
    if local_path(base) is None or local_path(href) is None:
        return urljoin(base, href)
    path = local_path(base)
    assert path is not None
    return os.path.normpath(path.parent / str(local_path(href)))


def _normal(href: str) -> str:
    path = local_path(href)
    return os.path.abspath(path) if path is not None else href.partition("#")[0]  # noqa: PTH100 links are kept


def _within(target: str, root: str) -> bool:
    """Tell whether a file lies in the folder of a local catalog, or on the host of a remote one."""
    mine, theirs = local_path(root), local_path(target)
    if mine is None or theirs is None:
        place = ReadPolicy().of_catalog(root)
        return (
            mine is None and theirs is None and bool(place.home) and ReadPolicy().of_catalog(target).home == place.home
        )
    return Path(_normal(str(mine))).parent in Path(_normal(str(theirs))).parents
