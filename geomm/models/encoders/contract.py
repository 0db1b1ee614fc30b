"""What an encoder is, what it is told of its modality, and what pretrained weights want to see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from geomm.errors import ContractError
from geomm.models.features import FeatureMaps
from geomm.sensors import get_sensor
from geomm.types import Modality, Unit


class Encoder(Protocol):
    """What the model needs of an encoder: an ``nn.Module`` that also says what it returns."""

    channels: tuple[int, ...]
    """Channels per level, finest first."""
    strides: tuple[int, ...]
    """Input pixels per cell, by level."""

    def __call__(self, image: Tensor, valid: Tensor) -> FeatureMaps:
        """Encode a normalised image ``(B, C, H, W)`` whose invalid pixels are 0, with ``valid (B, H, W)``."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """What an encoder is built for."""

    bands: int
    """Number of bands of the modality."""
    modality: Modality | None = None
    """Sensor and bands; encoders that read wavelengths or polarisations need them, and so do pretrained weights."""
    width: int = 16
    """Size of the local encoders; those of libraries have their own."""
    pretrained: bool = False
    """Load the weights that the name asks for; False where a package brings its own."""
    weights: Path | None = None
    """Local file (safetensors, or a state dict that torch loads with ``weights_only``) instead of a download."""

    def wavelengths(self, name: str) -> tuple[float | None, ...]:
        """Return the centre of every band in micrometres, None where it has none.

        Raises:
            ContractError: nobody said which sensor it is.
        """
        sensor = get_sensor(self.known(name).sensor)
        return tuple(sensor.band(b).wavelength for b in self.known(name).bands)

    def polarisations(self, name: str) -> tuple[str | None, ...]:
        """Return the polarisation of every band, None where it has none.

        Raises:
            ContractError: nobody said which sensor it is.
        """
        sensor = get_sensor(self.known(name).sensor)
        return tuple(sensor.band(b).polarisation for b in self.known(name).bands)

    def known(self, name: str) -> Modality:
        """Return sensor and bands, for the encoder ``name`` that needs them.

        Raises:
            ContractError: nobody said which they are.
        """
        if self.modality is None or len(self.modality.bands) != self.bands:
            raise ContractError(
                "the encoder needs to know sensor and bands of its modality",
                where=name,
                why=f"{self.bands} bands, {self.modality or 'no sensor given'}",
                fix="give the model's spec its streams: ModelSpec(..., streams={name: Modality(sensor, bands)})",
            )
        return self.modality


Scaling = Literal["z-score", "image"]


@dataclass(frozen=True, slots=True)
class Wants:
    """What pretrained weights want to see; what cannot be turned into it without loss is refused."""

    sensors: tuple[str, ...]
    """Sensors of the table whose bands have these names."""
    bands: tuple[str, ...]
    """Bands in order."""
    unit: Unit
    """Unit of ``mean`` and ``std``."""
    mean: tuple[float, ...] = ()
    """Subtracted, one for each band; empty with ``z-score``: that of the data at hand."""
    std: tuple[float, ...] = ()
    """Divided by, one for each band; empty like ``mean``."""
    scaling: Scaling = "z-score"
    """``z-score``: with mean and std. ``image``: every band of every image from its mean - 2 standard deviations to
    its mean + 2, brought to 0 .. 1 and clipped (CROMA)."""
    ceiling: tuple[float, ...] = ()
    """Values are kept within 0 and this before they are normalised, one for each band in ``unit``, as in the bytes that
    the weights saw; empty: nothing is clipped."""
    size: int = 224
    """Side in pixels that the weights were trained at; others work, less well."""
    source: str = ""
    """Where this is written."""


def check_wants(name: str, wants: Wants, given: EncoderInput) -> None:
    """Refuse a modality that is not what the weights ``name`` want.

    Raises:
        ContractError: sensor, bands or their order differ.
    """
    modality = given.known(name)
    if modality.bands != wants.bands or modality.sensor not in wants.sensors:
        raise ContractError(
            "the weights want other bands",
            where=name,
            why=f"{modality.sensor} {', '.join(modality.bands)} given; "
            f"{' or '.join(wants.sensors)} {', '.join(wants.bands)} wanted",
            fix="give the modality those bands, in that order",
        )


def require_multiple(image: Tensor, stride: int) -> None:
    """Refuse an image whose sides are no multiples of a stride.

    Raises:
        ContractError: they are not.
    """
    if image.shape[-2] % stride or image.shape[-1] % stride:
        raise ContractError(
            "the chip size does not fit the encoder",
            why=f"{tuple(image.shape[-2:])} is not a multiple of its coarsest stride {stride}",
            fix=f"choose size and halo so that size + 2 halo is a multiple of {stride}",
        )
