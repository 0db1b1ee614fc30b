"""Feature pyramids of other libraries: timm's, and torchgeo's ResNet and Swin."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from geomm.errors import PackageError, UnknownNameError, did_you_mean
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
    """Build a model of timm for ``features_only``, for RGB or any number of bands.

    Pretrained weights are those of photographs: timm repeats their first layer over the bands, and the imagery keeps
    the normalisation that was fitted on it, as no unit of photographs is known.

    Raises:
        UnknownNameError: timm has none of that name.
        PackageError: weights that cannot be had, read, or do not fit.
    """
    import timm

    if not timm.is_model(name):
        raise UnknownNameError(
            f"timm has no model {name!r}", fix=did_you_mean(name, timm.list_models(), "timm.list_models() lists them")
        )
    try:
        network = timm.create_model(
            name,
            features_only=True,
            in_chans=given.bands,
            pretrained=given.pretrained or given.weights is not None,
            pretrained_cfg_overlay={"file": str(given.weights)} if given.weights else None,
        )
    except Exception as error:
        if not (given.pretrained or given.weights):
            raise
        raise PackageError(
            "the weights do not fit the encoder or cannot be had",
            where=str(given.weights or f"timm:{name}"),
            why=f"{type(error).__name__}: {str(error)[:200]}",
            fix="choose the file that was made for this model",
        ) from error
    return PyramidEncoder(network)
