"""Describe a model: the MLM item for machines, the card for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from geomm.package.contract import InputContract
from geomm.sensors import get_sensor

if TYPE_CHECKING:
    from geomm.models.multimodal import ModelSpec
    from geomm.train import Fitted

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"

TASKS = {
    "segmentation": "semantic-segmentation",
    "classification": "classification",
    "multilabel": "classification",
    "contrastive": "similarity-search",
}
"""Task to its name in the vocabulary of the MLM extension."""


def mlm_item(fitted: Fitted, contract: InputContract, name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Describe the model as a STAC item with the MLM extension, worldwide and timeless."""
    spec, side = fitted.model.spec, contract.size + 2 * contract.halo
    inputs = [
        {
            "name": key,
            "bands": [{"name": b} for b in modality.bands],
            "input": {
                "shape": [-1, -1, len(modality.bands), side, side],
                "dim_order": ["batch", "time", "bands", "height", "width"],
                "data_type": "float32",
            },
            "description": f"{get_sensor(modality.sensor).title}, in {contract.units[key]}{_before(fitted, key)}",
            "value_scaling": _scaling(fitted, key),
        }
        for key, modality in contract.modalities.items()
    ]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "datetime": None,
            "start_datetime": "1972-07-23T00:00:00Z",
            "end_datetime": "9999-12-31T00:00:00Z",
            "mlm:name": name,
            "mlm:architecture": _architecture(spec),
            "mlm:tasks": [TASKS.get(spec.task, spec.task)],
            "mlm:framework": "pytorch",
            "mlm:total_parameters": _parameters(fitted),
            **_pretrained(spec),
            "mlm:input": inputs,
            "mlm:output": [_output(spec, contract)],
            "geomm:contract": asdict(contract),
            "geomm:spec": spec.to_json(),
            "geomm:normalisation": asdict(fitted.normaliser),
            "geomm:temperature": fitted.temperature,
            "geomm:metrics": metrics,
        },
        "links": [],
        "assets": {
            "weights": {
                "href": "./model.safetensors",
                "type": "application/octet-stream; application=safetensors",
                "roles": ["mlm:model", "mlm:weights"],
            }
        },
    }


def _output(spec: ModelSpec, contract: InputContract) -> dict[str, Any]:
    """Describe what the model answers."""
    from geomm.models.heads import answers_for_pixels

    task, side = TASKS.get(spec.task, spec.task), contract.size + 2 * contract.halo
    if spec.task == "contrastive":
        result = {"shape": [-1, spec.outputs], "dim_order": ["batch", "embedding"], "data_type": "float32"}
        return {"name": "embedding", "tasks": [task], "result": result, "description": "Unit vectors, as of the texts"}
    classes = [{"value": c.value, "name": c.name, "color_hint": c.color[1:].upper()} for c in contract.classes]
    where = [side, side] if answers_for_pixels(spec.task) else []
    result = {
        "shape": [-1, len(classes), *where],
        "dim_order": ["batch", "class", "height", "width"][: 2 + len(where)],
        "data_type": "float32",
    }
    return {"name": "probability", "tasks": [task], "result": result, "classification:classes": classes}


def _parameters(fitted: Fitted) -> int:
    """Count weights, those of a frozen text tower too."""
    tower = getattr(getattr(fitted.model, "text", None), "tower", None)
    parts = [*fitted.model.parameters(), *(tower.parameters() if tower is not None else ())]
    return sum({id(p): p.numel() for p in parts}.values())


def _pretrained(spec: ModelSpec) -> dict[str, Any]:
    """Say whether parts were trained elsewhere; only of the text encoder this is known."""
    if spec.text in ("", "tiny"):
        return {"mlm:pretrained": False}
    return {"mlm:pretrained": True, "mlm:pretrained_source": spec.text}


def _scaling(fitted: Fitted, key: str) -> list[dict[str, Any]]:
    """Say how a modality is normalised, in the words of the MLM extension."""
    if key in fitted.normaliser.by_image:
        stretch = "clip((x - mean(x)) / (4 * std(x)) + 0.5, 0, 1), over each band of each image"
        return [{"type": "processing", "format": "text", "expression": stretch}]
    return [
        {"type": "z-score", "mean": m, "stddev": s}
        for m, s in zip(fitted.normaliser.mean[key], fitted.normaliser.std[key], strict=True)
    ]


def _before(fitted: Fitted, key: str) -> str:
    """Say what happens to a modality before it is normalised."""
    steps = ["; turned into decibels first"] if key in fitted.normaliser.decibels else []
    if key in fitted.normaliser.ceiling:
        steps.append(f"; kept within 0 and {', '.join(f'{v:g}' for v in fitted.normaliser.ceiling[key])} first")
    return "".join(steps)


def _architecture(spec: ModelSpec) -> str:
    if spec.encoder == spec.text:
        return spec.text
    encoders = spec.encoder if isinstance(spec.encoder, str) else ", ".join(dict.fromkeys(spec.encoder.values()))
    return f"{encoders} + {spec.fusion} fusion" + (f" beside {spec.text} for text" if spec.text else "")


def model_card(spec: ModelSpec, contract: InputContract, name: str, metrics: dict[str, Any]) -> str:
    """Return the card: what goes in, what comes out, how good it was.

    Args:
        spec: of the model.
        contract: what it wants.
        name: title.
        metrics: quality; of a model of texts also ``captions``, what texts it was trained on, in a sentence or as data.
    """
    rows = "\n".join(
        f"| {key} | {m.sensor} | {', '.join(m.bands)} | {contract.units[key]} |"
        for key, m in contract.modalities.items()
    )
    rest = {k: v for k, v in metrics.items() if k != "captions"} if spec.task == "contrastive" else metrics
    quality = json.dumps(rest, indent=2) if rest else "not reported"
    return f"""# {name}

| modality | sensor | bands | unit |
|---|---|---|---|
{rows}

Trained at {contract.resolution:g} m; predict with chips of {contract.size} pixels and a margin of {contract.halo}.

{_answers(spec, contract, metrics)}

Quality, as measured on held-out blocks of the training run (it says nothing about other places or seasons):

```json
{quality}
```
"""


def _answers(spec: ModelSpec, contract: InputContract, metrics: dict[str, Any]) -> str:
    """Say in the card what comes out."""
    if spec.task != "contrastive":
        return "Classes:\n" + "\n".join(f"- {c.value}: {c.name}" for c in contract.classes)
    captions = metrics.get("captions", "not reported")
    return f"""Answers with unit vectors of {spec.outputs} numbers, for search: chips and sentences share one space.

- text encoder: {spec.text or "none"}
- captions it was trained on: {captions if isinstance(captions, str) else json.dumps(captions)}"""
