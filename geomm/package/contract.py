"""What a model wants to see, as data, and the check that imagery meets it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from geomm.errors import ConfigError, ContractError, UnitError, UnknownNameError
from geomm.radiometry import convert
from geomm.types import ClassSpec, Modality, Unit, check_classes, check_kind, check_known, check_real, check_whole

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True)
class InputContract:
    """What a model wants to see and what it answers."""

    modalities: Mapping[str, Modality]
    """Model stream to sensor and bands, in the model's order."""
    units: Mapping[str, Unit]
    """Physical unit of each modality."""
    classes: tuple[ClassSpec, ...]
    """Classes in the order of the outputs."""
    resolution: float
    """Pixel size in metres that it was trained at."""
    size: int = 256
    """Recommended chip for prediction, in pixels."""
    halo: int = 32
    """Margin on each side, at least the receptive field."""
    required: tuple[str, ...] = ()
    """Modalities that may not be missing; the others may."""

    def __post_init__(self) -> None:
        fix = "write InputContract.of(cube, names, classes, size=256, halo=32)"
        for table in (self.modalities, self.units):
            check_kind(table, Mapping, "a contract says sensor, bands and unit of every modality", fix=fix)
        for name, modality in self.modalities.items():
            check_kind(modality, Modality, f"modality {name!r} is no Modality", fix=fix)
            check_known(f"unit of modality {name}", self.units.get(name), get_args(Unit))
        for name in self.required:
            check_known("modality of the contract", name, self.modalities)
        check_classes(self.classes)
        check_whole({"size": self.size}, fix=fix)
        check_whole({"halo": self.halo}, least=0, fix=fix)
        check_real({"resolution": self.resolution}, fix=fix)
        if not self.modalities or not self.resolution > 0:
            where = f"resolution {self.resolution}, modalities {', '.join(self.modalities) or 'none'}"
            raise ConfigError("a model wants at least one modality, of pixels that have a size", where=where, fix=fix)

    @classmethod
    def of(
        cls,
        cube: xr.DataTree,
        modalities: Sequence[str],
        classes: Sequence[ClassSpec],
        *,
        size: int = 256,
        halo: int = 32,
        required: Sequence[str] = (),
    ) -> InputContract:
        """Return the contract of a model that was trained on a cube.

        Args:
            cube: what it was trained on, or one like it.
            modalities: names of the nodes that it sees, in its order.
            classes: in the order of its outputs.
            size: recommended chip for prediction, in pixels.
            halo: margin on each side.
            required: modalities that it cannot do without.

        Raises:
            UnknownNameError: the cube has no such modality.
            ConfigError: this is no cube, or something else is no part of a contract.
        """
        from geomm.cube import cube_of, geobox_of, ground_size

        cube_of(cube)
        if isinstance(modalities, str) or isinstance(required, str):
            what = "modalities is one text" if isinstance(modalities, str) else "required is one text"
            raise ConfigError(what, fix=f"give a list: [{modalities if isinstance(modalities, str) else required!r}]")
        for name in (*modalities, *required):
            if name not in cube.children:
                raise UnknownNameError.of("modality", name, cube.children)
        nodes = {n: cube.children[n].to_dataset() for n in modalities}
        streams = {n: Modality(d.attrs["sensor"], tuple(map(str, d["band"].to_numpy()))) for n, d in nodes.items()}
        units = {n: d.attrs["units"] for n, d in nodes.items()}
        pixel = ground_size(geobox_of(cube))
        return cls(streams, units, tuple(classes), pixel, size, halo, tuple(required))


def check_cube(contract: InputContract, cube: xr.DataTree) -> None:
    """Refuse a cube that does not meet a contract.

    Raises:
        ContractError: a required modality is missing, or bands, sensor or unit differ; the message says which.
    """
    present = [name for name in contract.modalities if name in cube.children]
    missing = [n for n in contract.required if n not in present] or ([] if present else list(contract.modalities))
    if missing:
        raise ContractError(
            f"the model needs modality {', '.join(missing)}",
            why=f"the imagery has {', '.join(cube.children) or 'nothing'}",
            fix="; ".join(f"load {n} from sensor {contract.modalities[n].sensor}" for n in missing),
        )
    for name in present:
        node, wanted = cube.children[name], contract.modalities[name]
        bands = tuple(str(b) for b in node["band"].to_numpy())
        if bands != wanted.bands:
            raise ContractError(
                "the bands are not those of the model",
                where=f"modality {name}",
                why=f"got {', '.join(bands)}; the model was trained on {', '.join(wanted.bands)} in this order",
                fix="load those bands",
            )
        unit = str(node.attrs.get("units", "dn"))
        if unit != contract.units[name]:
            raise ContractError(
                "the unit is not that of the model",
                where=f"modality {name}, sensor {node.attrs.get('sensor')}",
                why=f"got {unit}; the model was trained on {contract.units[name]}",
                fix=_advice(unit, contract.units[name]),
            )
        sensor = str(node.attrs.get("sensor", wanted.sensor))
        if sensor != wanted.sensor:
            raise ContractError(
                "the sensor is not that of the model",
                where=f"modality {name}",
                why=f"got {sensor}; the model was trained on {wanted.sensor}; bands of one name differ",
                fix=f"load {name} from sensor {wanted.sensor}, or train on {sensor}",
            )


SCALE = 1.5
"""Factor by which pixels may differ in size from those that a model was trained on."""


def check_scale(contract: InputContract, metres: float) -> None:
    """Refuse pixels of another size than those that a model was trained on.

    Args:
        contract: of the model.
        metres: pixel size on the ground.

    Raises:
        ContractError: they differ by more than :data:`SCALE`.
    """
    # Packages of geomm before 0.2 say degrees where they were trained on a grid in degrees.
    wanted = contract.resolution if contract.resolution > 0.02 else contract.resolution * 111_320
    if not wanted / SCALE <= metres <= wanted * SCALE:
        raise ContractError(
            "the pixels are not of the size that the model was trained on",
            why=f"{metres:g} m on the ground; the model was trained at {wanted:g} m",
            fix=f"load the imagery on a grid of {wanted:g} m: common_geobox(scenes, crs='utm', resolution={wanted:g})",
        )


def _advice(got: str, wanted: str) -> str:
    try:
        convert(1.0, got, wanted)  # type: ignore[arg-type]
    except UnitError:
        return "choose imagery of the sensor that the model names"
    return f"convert it first: geomm.radiometry.convert(data, {got!r}, {wanted!r})"
