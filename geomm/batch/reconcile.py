"""Compare what is planned with what is there: what is new, what can be left, what has to be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geomm.archive import FileRecord, Manifest, Target
from geomm.batch.stages import StagePlan
from geomm.batch.work import SUMS
from geomm.ledger import Ledger, Standing, Unit

Why = Literal["new", "again", "present", "quarantined", "damaged"]
"""``new`` was never done; ``again`` failed or was stopped before; ``present`` is published and whole; ``quarantined``
cannot succeed as it is; ``damaged`` was published, but is not whole any more."""


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done with a unit."""

    unit: Unit
    """As it is in the ledger, or as it was planned."""
    why: Why
    """See :data:`Why`."""
    bytes: int | None = None
    """Decoded pixels that it reads, where a dry run found out."""

    @property
    def does(self) -> bool:
        """Whether it is to be worked on."""
        return self.why in ("new", "again", "damaged")


def reconcile(plan: StagePlan, out: Target, ledger: Ledger | None, *, write: bool = True) -> list[Action]:
    """Decide what is to be done with every unit of a plan, and enter new ones into the ledger.

    Published units are looked at: a file that is missing or of another size makes the unit again. What a lost ledger
    knew is read from the output itself, where hashes lie beside the files.

    Args:
        plan: of a stage.
        out: where units are published.
        ledger: what was done before; None for nothing.
        write: whether to change ledger and output.
    """
    stage = plan.stage.name
    known = {} if ledger is None else ledger.standing(stage)
    fresh = [u for u in plan.units if u.id not in known]
    found = dict(_adopted(plan, fresh, out)) if fresh and not known else {}
    if ledger is not None and write:
        ledger.add(fresh)
        for unit in fresh:
            if unit.id in found:
                ledger.finish(unit, "DONE", manifest=found[unit.id].to_dict(), seconds={})
    actions = []
    for unit in plan.units:
        there = known.get(unit.id)
        if there is None:
            actions.append(Action(unit, "present" if unit.id in found else "new"))
            continue
        why = _why(there, out)
        if why == "damaged" and ledger is not None and write:
            out.remove(there.place)
            ledger.reset(stage, [unit.id])
        whole = unit if why == "present" or ledger is None else ledger.find(stage, unit.id)
        actions.append(Action(whole or unit, why))
    return actions


def _why(there: Standing, out: Target) -> Why:
    if there.state == "QUARANTINED":
        return "quarantined"
    if there.state not in ("DONE", "SKIPPED"):
        return "again" if there.state in ("FAILED", "ABORTED") or there.tried else "new"
    manifest = Manifest.from_dict(json.loads(there.manifest))
    return "damaged" if out.check(there.place, manifest, deep=False) else "present"


def _adopted(plan: StagePlan, units: list[Unit], out: Target) -> Iterator[tuple[str, Manifest]]:
    """Yield planned units that the output holds whole although no ledger knows them."""
    places = {u.place: u.id for u in units}
    for path in out.places(plan.stage.name):
        place = path.rpartition("/")[0]
        if place in places:
            manifest = _recovered(out, path)
            if manifest is not None:
                yield places[place], manifest


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
