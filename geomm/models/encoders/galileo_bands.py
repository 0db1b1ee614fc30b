"""Which bands Galileo reads, in which groups, and how they are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from geomm.errors import ContractError
from geomm.models.encoders.contract import Wants
from geomm.sensors import get_sensor
from geomm.types import Modality

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "S1": ("VV", "VH"),
        "S2_RGB": ("B02", "B03", "B04"),
        "S2_Red_Edge": ("B05", "B06", "B07"),
        "S2_NIR_10m": ("B08",),
        "S2_NIR_20m": ("B8A",),
        "S2_SWIR": ("B11", "B12"),
        "NDVI": (),
    }
)
"""Groups of bands that are one token per patch, in the order of the rows of ``s_t_channel_embed``. The group NDVI is
never read: the reference masks it where it is given Sentinel-2 alone (``construct_galileo_input``), and it cannot be
had from normalised bands."""

_STATISTICS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "VV": (-11.728724389184965, 4.887145774840316),
        "VH": (-18.85558188024017, 5.730270320384293),
        "B02": (1395.3408730676722, 917.7041440370853),
        "B03": (1338.4026921784578, 913.2988423581528),
        "B04": (1343.09883810357, 1092.678723527555),
        "B05": (1543.8607982512297, 1047.2206083460424),
        "B06": (2186.2022069512263, 1048.0101611156767),
        "B07": (2525.0932853316694, 1143.6903026819996),
        "B08": (2410.3377187373408, 1098.979177731649),
        "B8A": (2750.2854646886753, 1204.472755085893),
        "B11": (2234.911100061487, 1145.9774063078878),
        "B12": (1474.5311266077113, 980.2429840007796),
    }
)
"""Mean and standard deviation of the training data, in dB and in digital numbers of 1/10,000 without offset:
nasaharvest/galileo@4a57e57:config/normalization.json, key "13"."""

_SENSORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sentinel1-grd-db": GROUPS["S1"],
        "sentinel2-l1c": tuple(b for bands in list(GROUPS.values())[1:] for b in bands),
        "sentinel2-l2a": tuple(b for bands in list(GROUPS.values())[1:] for b in bands),
    }
)
"""Sensors of the table that have these bands in these units. Galileo was trained on sigma0 and Level-1C."""

_SIZE = 96
"""Side in pixels of the longest chips it was trained at: 12 patches of 8 (config.json, shape_time_combinations)."""


def galileo_groups(modality: Modality) -> dict[str, tuple[int, ...]]:
    """Return the groups that a modality fills: for each band of a group, where it is in the image.

    A band that is missing in a group is taken from the one given that is nearest in the group, normalised, as the
    reference's evaluation does (``impute_bands``); a group without any is left out, which is what masking it does.

    Args:
        modality: Sentinel-1 in dB or Sentinel-2, any of Galileo's bands in any order.

    Raises:
        ContractError: a sensor or bands that Galileo does not know, or none at all.
        UnknownNameError: bands that the sensor does not have.
    """
    at = {name: k for k, name in enumerate(_known(modality))}
    filled = {}
    for group, bands in GROUPS.items():
        here = [k for k, band in enumerate(bands) if band in at]
        if here:
            nearest = (min(here, key=lambda j, k=k: (abs(j - k), j)) for k in range(len(bands)))  # type: ignore[misc]
            filled[group] = tuple(at[bands[k]] for k in nearest)
    return filled


def galileo_wants(modality: Modality) -> Wants:
    """Return what Galileo wants to see of a modality, in the unit of its bands in the table of sensors.

    The reference brings mean - 2 standard deviations to 0 and mean + 2 to 1 and clips nothing
    (``Normalizer(std=True)`` in src/data/dataset.py, "normalization": "std" in config.json); as a z-score that is
    (x - (mean - 2 std)) / (4 std), in digital numbers or, divided by 10,000, in reflectance.

    Args:
        modality: as for :func:`galileo_groups`.

    Raises:
        ContractError: a sensor or bands that Galileo does not know.
        UnknownNameError: bands that the sensor does not have.
    """
    names = _known(modality)
    unit = get_sensor(modality.sensor).band(names[0]).unit
    scale = 1e-4 if unit == "reflectance" else 1.0
    return Wants(
        (modality.sensor,),
        modality.bands,
        unit,
        tuple((_STATISTICS[b][0] - 2 * _STATISTICS[b][1]) * scale for b in names),
        tuple(4 * _STATISTICS[b][1] * scale for b in names),
        size=_SIZE,
        source="nasaharvest/galileo: config/normalization.json, src/data/dataset.py",
    )


def _known(modality: Modality) -> tuple[str, ...]:
    """Return geomm's names of the bands, all of which Galileo knows."""
    if modality.sensor not in _SENSORS:
        raise ContractError(
            "Galileo does not know the sensor",
            where=modality.sensor,
            why=f"it knows {', '.join(_SENSORS)}",
            fix="give it one of these, or choose another encoder",
        )
    sensor = get_sensor(modality.sensor)
    names = tuple(sensor.band(b).name for b in modality.bands)
    unknown = [n for n in names if n not in _SENSORS[modality.sensor]]
    if unknown or not names or len(set(names)) < len(names):
        raise ContractError(
            "Galileo cannot read these bands",
            where=modality.sensor,
            why=f"unknown: {', '.join(unknown)}" if unknown else f"none, or one twice: {', '.join(names)}",
            fix=f"give it some of {', '.join(_SENSORS[modality.sensor])}",
        )
    return names
