"""What pretrained weights want to see, turned into a normalisation: by an explicit conversion, or not at all."""

from __future__ import annotations

from dataclasses import replace

from geomm import radiometry
from geomm.models.encoders import Wants
from geomm.transforms import Normaliser
from geomm.types import Unit


def normalise_as(fitted: Normaliser, name: str, wants: Wants, unit: Unit) -> Normaliser:
    """Replace the normalisation of a modality by the one that its weights were trained with.

    Args:
        fitted: on the imagery at hand; kept where the weights leave the statistics open.
        name: of the modality.
        wants: what the weights want.
        unit: of the imagery.

    Raises:
        UnitError: the imagery is in a unit that cannot be converted into the one that is wanted, such as surface
            temperature into brightness temperature, or gamma0 into sigma0.
    """
    radiometry.convert(1.0, unit, wants.unit)
    bands = len(fitted.mean[name])
    mean, std = wants.mean or fitted.mean[name], wants.std or fitted.std[name]
    if unit != wants.unit and not wants.mean:
        wants = replace(wants, unit=unit)  # statistics of the imagery are in its own unit
    return replace(
        fitted,
        mean={**fitted.mean, name: mean[:bands]},
        std={**fitted.std, name: std[:bands]},
        decibels=(*fitted.decibels, name) if unit != wants.unit and wants.unit.endswith("_db") else fitted.decibels,
        ceiling={**fitted.ceiling, name: wants.ceiling} if wants.ceiling else fitted.ceiling,
        by_image=(*fitted.by_image, name) if wants.scaling == "image" else fitted.by_image,
    )
