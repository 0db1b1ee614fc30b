"""Compare what is planned with what is there: what is new, what can be left, what has to be done again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geomm.archive import Manifest, Target
from geomm.batch.published import adopted
from geomm.batch.stages import StagePlan
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

    Published units are looked at: a file that is missing or of another size makes the unit again.

    Args:
        plan: of a stage.
        out: where units are published.
        ledger: what was done before; None for nothing.
        write: whether to change ledger and output.
    """
    stage = plan.stage.name
    known = {} if ledger is None else ledger.standing(stage)
    fresh = [u for u in plan.units if u.id not in known]
    if ledger is not None and write:
        ledger.add(fresh)
        ledger.choose(stage, [u for u in plan.units if u.place])
    if ledger is None:  # a dry run without one
        known = {u.id: Standing(u.state, False, u.place, json.dumps(m.to_dict())) for u, m in adopted(out)}
    lost = "index" in plan.settings and not (Path(str(plan.settings["index"])) / "index.json").is_file()
    actions = []
    for unit in plan.units:
        there = known.get(unit.id)
        if there is None:
            actions.append(Action(unit, "quarantined" if unit.state == "QUARANTINED" else "new"))
            continue
        why = _why(there, out)
        if why == "present" and lost:
            why = "damaged"
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
