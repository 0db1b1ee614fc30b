"""What a shell offers after TAB: names of sensors, layers, fusions, recipes. Nothing heavy is imported for it.

Where there is nothing to offer, the shell completes files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

FUSIONS = (
    "early_concat", "early_sum", "early_product", "concat", "sum", "tfn", "lmf", "attention", "co_attention", "joint",
    "mbt", "perceiver", "gated", "late_mean", "late_probability", "late_vote", "late_weighted", "late_product",
    "late_stack",
)  # fmt: skip
"""Names of the table of fusions, which is not imported here as torch comes with it; a test compares them."""
LAYERS = ("class", "probability", "probability-uint8", "confidence", "entropy")
"""The same of the layers of a map."""
STATES = ("pending", "claimed", "done", "skipped", "quarantined", "failed", "aborted")
"""The same of the states of a unit."""


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion that offers some names."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        return [n for n in known if n.startswith(incomplete)]

    return complete


def sensors(incomplete: str) -> list[str]:
    """Offer the sensors of the table."""
    from geomm.sensors import SENSORS

    return [n for n in SENSORS if n.startswith(incomplete)]


def codes(incomplete: str) -> list[str]:
    """Offer the codes of errors."""
    from geomm.explanations import EXPLANATIONS

    return [c for c in EXPLANATIONS if c.startswith(incomplete.upper())]


def recipes(incomplete: str) -> list[str]:
    """Offer YAML files that begin like this, and those of ``pipelines/`` where that is here."""
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml"), *Path("pipelines").glob("*.yaml")]
    return sorted({str(p) for p in found if str(p).startswith(incomplete.removeprefix("./"))})


def catalogs(incomplete: str) -> list[str]:
    """Offer public catalogs, once a letter is there: before that, the shell offers files."""
    from geomm.catalog.definition import public_names

    return [n for n in public_names() if incomplete and n.startswith(incomplete)]
