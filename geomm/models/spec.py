"""What a model is made of, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from geomm.errors import ConfigError, ContractError
from geomm.types import Modality, check_whole


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to build a model again; travels in its package as JSON."""

    modalities: Mapping[str, int]
    """Modality to number of bands, in the order of the fusion."""
    outputs: int
    """Classes, or length of the embedding."""
    task: str = "segmentation"
    """Decides the head."""
    encoder: str | Mapping[str, str] = "tiny_cnn"
    """Encoder name, or one for every modality; see :mod:`geomm.models.encoders`."""
    fusion: str = "attention"
    """Fusion name, see :mod:`geomm.models.fusion`."""
    width: int = 16
    """Size of the local encoders and of images merged early."""
    text: str = ""
    """Name of the text encoder, see :mod:`geomm.models.text`; empty for none."""
    decoder: str = "light"
    """Decoder name, see :mod:`geomm.models.decoders`."""
    streams: Mapping[str, Modality] = field(default_factory=dict)
    """Modality to sensor and bands, for encoders that ask for them."""

    def __post_init__(self) -> None:
        given: Any = self.modalities
        if not isinstance(given, Mapping):
            fix = 'give the number of bands of every modality: ModelSpec({"optical": 6}, outputs=3)'
            raise ConfigError("modalities are a mapping of names", where=repr(self.modalities)[:80], fix=fix)
        fix = 'count bands and classes: ModelSpec({"optical": 6, "thermal": 2}, outputs=3)'
        check_whole({f"bands of {name}": bands for name, bands in self.modalities.items()}, fix=fix)
        check_whole({"outputs": self.outputs}, fix=fix)
        check_whole({"width": self.width}, least=None, fix="give for example width=16")
        if self.width < 4 or self.width % 4:
            raise ConfigError(
                "the width of a model is a multiple of 4",
                why=f"got {self.width}: there are four heads",
                fix=f"give for example width={max(4, round(self.width / 4) * 4)}",
            )
        taken = [n for n in self.modalities if not n.isidentifier() or hasattr(nn.ModuleDict, n)]
        if taken or not self.modalities:
            raise ConfigError(
                "a modality cannot have that name", why=", ".join(taken) or "there is none", fix="use letters, as in s2"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ModelSpec:
        """Read what :meth:`to_json` wrote."""
        streams = {n: Modality(m["sensor"], tuple(m["bands"])) for n, m in raw.get("streams", {}).items()}
        return cls(**{**raw, "streams": streams})

    def encoder_of(self, name: str) -> str:
        """Return the name of a modality's encoder.

        Raises:
            ContractError: it has none.
        """
        if isinstance(self.encoder, str):
            return self.encoder
        if name not in self.encoder:
            raise ContractError(
                "a modality has no encoder",
                where=f"modality {name}",
                why=f"only {', '.join(self.encoder)} have",
                fix="name an encoder for every modality, or one for all: encoder='tiny_cnn'",
            )
        return self.encoder[name]
