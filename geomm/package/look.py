"""What a model package looks like in a notebook: what it wants to see, what it answers, how well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomm.cards import card, facts, swatches, table

if TYPE_CHECKING:
    from geomm.package.files import ModelPackage


def package_card(package: ModelPackage) -> str:
    """Return HTML that says what a model is for; its weights are not read."""
    contract, spec = package.contract, package.spec
    rows = [
        [
            name,
            m.sensor,
            " ".join(m.bands),
            str(contract.units[name]).replace("_", " "),
            "must be there" if name in contract.required else "may be missing",
        ]
        for name, m in contract.modalities.items()
    ]
    told = {
        "task": str(spec.get("task", "")),
        "made of": ", ".join(str(spec[k]) for k in ("encoder", "fusion") if spec.get(k)),
        "pixels": f"{contract.resolution:g} m, chips of {contract.size} with {contract.halo} around",
        "tested": "; ".join(_figures(package.metrics)),
        "weights": f"sha256 {package.sha256[:12]}",
    }
    classes = swatches({c.name: c.color for c in contract.classes})
    head = ["modality", "sensor", "bands", "unit", ""]
    return card(package.path.name, [facts(told), classes, table(head, rows)], kind="model package")


def _figures(metrics: Mapping[str, Any], *, most: int = 4) -> list[str]:
    """Return the first figures of a model card; more of them are in its README.md."""
    flat = [f"{k} {v if isinstance(v, (str, int, float)) else json.dumps(v)}" for k, v in metrics.items()]
    return [text if len(text) < 200 else text[:198] + " ..." for text in flat[:most]]
