"""Feature pyramids of other libraries: timm's, and torchgeo's ResNet and Swin."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import UnknownNameError
from geomm.models.encoders.contract import EncoderInput, require_multiple
from geomm.models.features import FeatureMaps, shrink_valid


class PyramidEncoder(nn.Module):
    """A feature pyramid of another library behind the contract of geomm."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.channels = tuple(int(c) for c in network.feature_info.channels())
        self.strides = tuple(int(r) for r in network.feature_info.reduction())

    def forward(self, image: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b h w"]) -> FeatureMaps:
        """Encode an image; cells without a valid pixel are zeroed, as these networks take no mask."""
        require_multiple(image, self.strides[-1])
        maps = [m * shrink_valid(valid, tuple(m.shape[-2:])).unsqueeze(1) for m in self.network(image)]
        return FeatureMaps(tuple(maps), self.strides)


def build_timm(name: str, given: EncoderInput) -> PyramidEncoder:
    """Build a model of timm for ``features_only``.

    Raises:
        UnknownNameError: timm has none of that name.
    """
    import timm

    if not timm.is_model(name):
        raise UnknownNameError(f"timm has no model {name!r}", fix="timm.list_models() lists them")
    return PyramidEncoder(timm.create_model(name, features_only=True, in_chans=given.bands, pretrained=False))
