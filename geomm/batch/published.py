"""What is published: read back where the ledger was lost, and listed month by month."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geomm.archive import FileRecord, Manifest, Target, update_listing
from geomm.batch.work import SUMS
from geomm.errors import CatalogError, ConfigError
from geomm.ledger import Ledger, Unit

ROOT = "catalog.json"
"""Catalog of all that is published."""


def check_root(target: Target) -> None:
    """Refuse an output that is somebody else's catalog: it would be written over.

    Raises:
        ConfigError: it is.
    """
    content = target.read(ROOT)
    try:
        mine = content is None or json.loads(content)["id"] == "archive"
    except (ValueError, KeyError, TypeError):
        mine = False
    if not mine:
        raise ConfigError(
            "the output holds another catalog", where=f"{target.root}, {ROOT}", fix="name a folder of its own"
        )


def adopted(target: Target) -> Iterator[tuple[Unit, Manifest]]:
    """Yield every unit that an output holds whole, as far as its item tells: for a ledger that was lost."""
    for path in target.places(""):
        place = path.rpartition("/")[0]
        about = json.loads(target.read(path) or b"{}")
        told = about.get("properties", {})
        if "geomm:unit" not in told or place.count("/") != 2 or not place.startswith(f"{told['geomm:stage']}/"):
            continue
        manifest = _recovered(target, path)
        if manifest is not None:
            box = about.get("bbox")
            unit = Unit(
                told["geomm:stage"],
                told["geomm:unit"],
                told["geomm:name"],
                place,
                str(told.get("datetime") or ""),
                tuple(box) if box and len(box) == 4 else None,
                state="SKIPPED" if "geomm:skipped" in told else "DONE",
            )
            yield unit, manifest


def _recovered(out: Target, path: str) -> Manifest | None:
    """Return what a published unit consists of, by the hashes beside its files; None unless all is whole."""
    place, _, item = path.rpartition("/")
    content = out.read(f"{place}/{SUMS}")
    if content is None:
        return None
    lines = [line.partition("  ") for line in content.decode(errors="replace").splitlines()]
    wanted = {name: sha256 for sha256, _, name in lines}
    found = {SUMS: content, **{n: out.read(f"{place}/{n}") for n in wanted}} if "://" in out.root else None
    if found is None:
        manifest = Manifest.of(Path(out.root) / place, item)
    else:
        whole = {n: c for n, c in found.items() if c is not None}
        records = [FileRecord(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in sorted(whole.items())]
        manifest = Manifest(tuple(records), item)
    there = {f.name: f.sha256 for f in manifest.files if f.name != SUMS}
    return manifest if there == wanted else None


def list_published(target: Target, ledger: Ledger, title: str) -> None:
    """Bring the catalogs of months up to date in which anything changed.

    Of the units of one name, such as those of a scene that changed, the one is listed that is planned now; until that
    is finished, the one that was finished last.

    Raises:
        CatalogError: items of a month do not fit into one table; the other months are listed.
        OutputError: a file cannot be written.
    """
    behind = ledger.behind()
    wrong: CatalogError | None = None
    for stage in dict.fromkeys(s for s, _ in behind):
        mine = [m for s, m in behind if s == stage]
        months = _months(target, _shown(ledger, stage), mine)
        try:
            update_listing(target, title, {(stage, m): items for m, items in months.items()})
        except CatalogError:
            for month, items in months.items():
                try:
                    update_listing(target, title, {(stage, month): items})
                except CatalogError as error:
                    wrong = error
        for month in mine:
            ledger.listed(stage, month)
    if wrong is not None:
        raise wrong


def _shown(ledger: Ledger, stage: str) -> list[Unit]:
    """Return the units of a stage that its catalog lists."""
    current, chosen, older = ledger.current(stage), dict[str, Unit](), dict[str, Unit]()
    for unit in ledger.units(stage, ("DONE", "SKIPPED"), newest=True):
        if current.get(unit.name) == unit.id:
            chosen[unit.name] = unit
        elif unit.state == "DONE":
            older.setdefault(unit.name, unit)
    return sorted((u for u in (older | chosen).values() if u.state == "DONE"), key=lambda u: (u.time, u.name))


def _months(
    target: Target, units: Sequence[Unit], months: Sequence[str]
) -> Mapping[str, list[tuple[str, dict[str, Any]]]]:  # fmt: skip
    """Return path and content of the items of some months."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {m: [] for m in months}
    for unit in units:
        if unit.time[:7] in found:
            path = f"{unit.place}/{Manifest.from_dict(dict(unit.manifest)).item}"
            content = target.read(path)
            if content is not None:
                found[unit.time[:7]].append((path, json.loads(content)))
    return found
