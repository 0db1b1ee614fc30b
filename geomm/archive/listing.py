"""The catalog of an archive: static STAC by stage and month, and stac-geoparquet beside it.

``catalog.json`` lists ``<stage>/<YYYY-MM>/catalog.json``, which lists the items; ``<stage>/parquet/<YYYY-MM>.parquet``
holds the same items for searches. All addresses are relative, those of assets in the parquet file to its own folder, so
that an archive can be moved or copied as a whole. Items stay as they were published and need no link upward: whoever
reads them through the catalog knows where they came from.
"""

from __future__ import annotations

import datetime as dt
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from geomm.archive.places import checked
from geomm.archive.target import Target
from geomm.catalog.parquet import parquet_of
from geomm.errors import CatalogError

ROOT = "catalog.json"
Listed = Sequence[tuple[str, Mapping[str, Any]]]
"""Paths of items in the archive, with their content."""


def month_of(item: Mapping[str, Any]) -> str:
    """Return the month that an item is listed under: of its ``datetime`` in UTC, else of its start.

    >>> month_of({"properties": {"datetime": "2024-06-30T23:30:00-02:00"}})
    '2024-07'
    """
    properties = item["properties"]
    when = dt.datetime.fromisoformat(properties.get("datetime") or properties["start_datetime"])
    return (when if when.tzinfo is None else when.astimezone(dt.UTC)).strftime("%Y-%m")


def update_listing(target: Target, title: str, months: Mapping[tuple[str, str], Listed]) -> None:
    """List the items of some months; all others stay as they are. The same items give the same bytes.

    Files are replaced one by one, each at once, in an order in which no link leads to a file that is not there: the
    table of a month, its catalog, the root. A stopped update is repeated as a whole.

    Args:
        target: the archive.
        title: of the root.
        months: stage and month (``2024-06``) to all items of that month; none of them takes the month off the list.

    Raises:
        CatalogError: the items do not fit into one table, or something else stands at the root.
        OutputError: a file cannot be written.
    """
    for (stage, month), items in sorted(months.items()):
        if items:
            _list_month(target, checked(stage), checked(month), sorted(items, key=lambda pair: pair[0]))
    target.update(ROOT, _change_of_root(target.root, title, months))
    for (stage, month), items in sorted(months.items()):
        if not items:
            for path in (_catalog(stage, month), _table(stage, month)):
                target.remove(path)


def _list_month(target: Target, stage: str, month: str, items: Listed) -> None:
    table, catalog = _table(stage, month), _catalog(stage, month)
    target.replace(table, parquet_of([_seen_from(table, path, item) for path, item in items], table))
    links = [
        {"rel": "root", "href": _relative(ROOT, catalog), "type": "application/json"},
        {"rel": "parent", "href": _relative(ROOT, catalog), "type": "application/json"},
        {"rel": "alternate", "href": _relative(table, catalog), "type": "application/vnd.apache.parquet"},
    ]
    links += [
        {"rel": "item", "href": _relative(path, catalog), "type": "application/geo+json", "title": item["id"]}
        for path, item in items
    ]
    target.replace(catalog, _encoded(f"{stage}-{month}", f"{stage}, {month}", links))


def _change_of_root(root: str, title: str, months: Mapping[tuple[str, str], Listed]) -> Callable[[bytes | None], bytes]:
    def change(content: bytes | None) -> bytes:
        children = _children(content, root)
        for (stage, month), items in months.items():
            href = _relative(_catalog(stage, month), ROOT)
            if items:
                children[href] = f"{stage}, {month}"
            else:
                children.pop(href, None)
        links = [{"rel": "root", "href": f"./{ROOT}", "type": "application/json"}]
        links += [
            {"rel": "child", "href": href, "type": "application/json", "title": name}
            for href, name in sorted(children.items())
        ]
        return _encoded("archive", title, links)

    return change


def _children(content: bytes | None, root: str) -> dict[str, str]:
    """Return addresses and titles of the months that a root lists."""
    if content is None:
        return {}
    try:
        links = json.loads(content)["links"]
        return {str(link["href"]): str(link["title"]) for link in links if link["rel"] == "child"}
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            "the catalog of the archive cannot be read",
            where=f"{root}, {ROOT}",
            why=f"{type(error).__name__}: {error}",
            fix="move it away, and list all months again",
        ) from error


def _seen_from(table: str, path: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item whose relative assets count from the folder of a table."""
    assets = {}
    for key, asset in item["assets"].items():
        href = str(asset["href"])
        if "://" not in href and not href.startswith("/"):
            href = _relative(posixpath.join(posixpath.dirname(path), href), table)
        assets[key] = {**asset, "href": href}
    return {**item, "assets": assets}


def _relative(path: str, base: str) -> str:
    """Return the address of a file as seen from another.

    >>> _relative("maps/2024-06/a/a.json", "maps/2024-06/catalog.json"), _relative("catalog.json", "a/b.json")
    ('./a/a.json', '../catalog.json')
    """
    found = posixpath.relpath(path, posixpath.dirname(base) or ".")
    return found if found.startswith("../") else f"./{found}"


def _catalog(stage: str, month: str) -> str:
    return f"{stage}/{month}/catalog.json"


def _table(stage: str, month: str) -> str:
    return f"{stage}/parquet/{month}.parquet"


def _encoded(name: str, title: str, links: list[dict[str, str]]) -> bytes:
    record = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": name,
        "title": title,
        "description": title,
        "links": links,
    }
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()
