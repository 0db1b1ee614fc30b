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
    classes = [{"value": c.value, "name": c.name, "color_hint": c.color[1:].upper()} for c in contract.classes]
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
            "mlm:architecture": f"{_encoders(spec)} + {spec.fusion} fusion",
            "mlm:tasks": ["semantic-segmentation" if spec.task == "segmentation" else spec.task],
            "mlm:framework": "pytorch",
            "mlm:total_parameters": sum(p.numel() for p in fitted.model.parameters()),
            "mlm:pretrained": False,
            "mlm:input": inputs,
            "mlm:output": [
                {
                    "name": "probability",
                    "tasks": ["semantic-segmentation"],
                    "result": {
                        "shape": [-1, len(classes), side, side],
                        "dim_order": ["batch", "class", "height", "width"],
                        "data_type": "float32",
                    },
                    "classification:classes": classes,
                }
            ],
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


def _encoders(spec: ModelSpec) -> str:
    return spec.encoder if isinstance(spec.encoder, str) else ", ".join(dict.fromkeys(spec.encoder.values()))


def model_card(contract: InputContract, name: str, metrics: dict[str, Any]) -> str:
    """Return the card: what goes in, what comes out, how good it was."""
    rows = "\n".join(
        f"| {key} | {m.sensor} | {', '.join(m.bands)} | {contract.units[key]} |"
        for key, m in contract.modalities.items()
    )
    classes = "\n".join(f"- {c.value}: {c.name}" for c in contract.classes)
    quality = json.dumps(metrics, indent=2) if metrics else "not reported"
    return f"""# {name}

| modality | sensor | bands | unit |
|---|---|---|---|
{rows}

Trained at {contract.resolution:g} m; predict with chips of {contract.size} pixels and a margin of {contract.halo}.

Classes:
{classes}

Quality, as measured on held-out blocks of the training run (it says nothing about other places or seasons):

```json
{quality}
```
"""
