"""Make model packages of models that others trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomm.errors import ConfigError, ContractError
from geomm.sensors import get_sensor
from geomm.types import Modality

if TYPE_CHECKING:
    from geomm.package import ModelPackage


def adopt_clip(
    name: str, out: str | Path, *, sensor: str = "sentinel2-l2a", resolution: float = 10.0, size: int = 224
) -> ModelPackage:
    """Package a CLIP model of open_clip for the natural colours of a sensor.

    Args:
        name: model and weights as open_clip names them, ``<model>[:<tag or file>]``.
        out: folder of the package.
        sensor: whose bands nearest to red, green and blue it sees.
        resolution: metres of a pixel that chips are cut at.
        size: side of a chip in pixels; chips are resized to what the model wants.

    Raises:
        ConfigError: no weights are named.
        UnknownNameError: no such model, weights or sensor.
        PackageError: weights that cannot be read or do not fit.
        ContractError: the sensor has no visible bands.
    """
    from geomm.models.clip import ClipModel, clip_normaliser, clip_spec
    from geomm.package import InputContract, save_package
    from geomm.train import Fitted

    spec = get_sensor(sensor)
    names = spec.band_names()
    bands = [spec.band(names[k]) for k in spec.shown(names)]
    if len({b.name for b in bands}) < 3:
        raise ContractError(
            "the sensor has no visible bands",
            where=sensor,
            why=", ".join(names),
            fix="give a sensor with red, green and blue, such as sentinel2-l2a; `geomm sensors` lists all",
        )
    plain = name.removeprefix("open_clip:")
    if ":" not in plain and not Path(plain).exists():
        raise ConfigError(
            "the model has no weights",
            where=name,
            why="without them it is random, and finds nothing",
            fix=f"name the file, {plain}:WEIGHTS.pt, or a tag of open_clip, such as {plain}:openai",
        )
    stream = Modality(sensor, tuple(b.name for b in bands))
    given = clip_spec(f"open_clip:{plain}", stream)
    fitted = Fitted(ClipModel(given).eval(), clip_normaliser(given), ())
    contract = InputContract({"rgb": stream}, {"rgb": bands[0].unit}, (), resolution, size, 0, ("rgb",))
    return save_package(fitted, contract, out, name=name.replace(":", "-"))
