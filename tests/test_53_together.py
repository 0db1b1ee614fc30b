"""All encoders with all fusions for both tasks: forward and backward, on small random networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.models import multimodal
from geomm.models.decoders import DECODERS
from geomm.models.encoders import ENCODERS, EncoderInput, build_encoder
from geomm.models.encoders.anysensor import CopernicusEncoder, DofaEncoder, PanopticonEncoder
from geomm.models.encoders.swin import SwinEncoder
from geomm.models.encoders.torchgeo import ADAPTERS
from geomm.models.encoders.vit import CromaEncoder, ViTEncoder
from geomm.models.fusion import FUSIONS
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import get_task
from geomm.types import ClassSpec, Modality

STREAMS = {
    "optical": Modality(
        "sentinel2-l2a", ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
    ),
    "radar": Modality("sentinel1-grd-db", ("VV", "VH")),
}
CLASSES = tuple(ClassSpec(k, str(k), "#000000") for k in range(3))


def _vit(given):
    import timm

    options = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0, "dynamic_img_size": True}
    return ViTEncoder(timm.create_model("vit_tiny_patch16_224", in_chans=given.bands, img_size=32, **options))


def _swin(given):
    from torchvision.models import SwinTransformer

    return SwinEncoder(SwinTransformer([4, 4], 16, [1, 1, 1, 1], [1, 2, 4, 8], [4, 4], num_classes=5), given.bands)


def _dofa(given):
    from torchgeo.models import DOFA

    return DofaEncoder(DOFA(embed_dim=32, depth=1, num_heads=2), tuple(0.4 + 0.1 * k for k in range(given.bands)))


def _copernicus(given):
    from torchgeo.models import CopernicusFM

    spectra = tuple((400.0 + 100 * k, 30.0) for k in range(given.bands))
    return CopernicusEncoder(CopernicusFM(embed_dim=32, depth=1, num_heads=2), spectra)


def _croma(given):
    from torchgeo.models import CROMA

    kind = "sar" if given.bands == 2 else "optical"
    return CromaEncoder(CROMA(modalities=[kind], encoder_dim=32, encoder_depth=2, image_size=32))


def _panopticon(given):
    import timm
    from torchgeo.models import Panopticon

    vit = timm.create_model("vit_small_patch14_dinov2", depth=1, embed_dim=32, num_heads=2, img_size=28)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda _name: vit)
        network = Panopticon(attn_dim=48, embed_dim=32, img_size=28).model
    return PanopticonEncoder(network, tuple(400 + 50 * k for k in range(given.bands)))


SMALL = {
    "tiny_cnn": (lambda given: build_encoder("tiny_cnn", given), 8),
    "tiny_vit": (lambda given: build_encoder("tiny_vit", given), 8),
    "galileo": (lambda given: build_encoder("galileo", given), 16),
    "timm": (lambda given: build_encoder("timm:test_resnet", given), 32),
    "resnet": (lambda given: build_encoder("torchgeo:resnet18", given), 32),
    "swin": (_swin, 32),
    "vit": (_vit, 32),
    "dofa": (_dofa, 32),
    "copernicus": (_copernicus, 32),
    "croma": (_croma, 16),
    "panopticon": (_panopticon, 28),
}
"""How to build a small one of every family, and a size of chip that it takes."""


READ_SENSORS = {"croma", "dofa", "copernicus", "panopticon", "galileo"}
"""They read wavelengths or polarisations, which an image that was merged early no longer has; they refuse it."""


def _streams(encoder):
    """Galileo knows no band of 60 m; CROMA wants all twelve."""
    known = [b for b in STREAMS["optical"].bands if encoder != "galileo" or b not in ("B01", "B09")]
    return STREAMS | {"optical": Modality("sentinel2-l2a", tuple(known))}


def _spec(encoder, fusion, task="segmentation", **options):
    streams = _streams(encoder)
    return ModelSpec(
        {n: len(m.bands) for n, m in streams.items()}, 3, task, encoder, fusion, 8, streams=streams, **options
    )


@pytest.fixture(scope="module")
def built():
    """Encoders are built once: their weights do not matter here."""
    kept: dict[tuple[str, int], nn.Module] = {}

    def build(name: str, given: EncoderInput) -> nn.Module:
        if name == "tiny_cnn" or (name, given.bands) not in kept:
            kept[name, given.bands] = SMALL[name][0](given)
        return kept[name, given.bands]

    return build


def _batch(size, bands):
    images = {n: torch.randn(2, 1, b, size, size) for n, b in bands.items()}
    valid = {n: torch.ones(2, 1, size, size, dtype=torch.bool) for n in bands}
    valid["radar"][0, :, : size // 2] = False
    images["radar"] *= valid["radar"].unsqueeze(2)
    return Sample(
        images, valid, {}, dict.fromkeys(bands, torch.ones(2, dtype=torch.bool)), torch.zeros(2, size, size).long()
    )


def test_every_family_is_tried():
    assert set(ENCODERS) - {"torchgeo"} <= set(SMALL)
    assert {a.build.__name__.strip("_") for a in ADAPTERS.values()} <= set(SMALL)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize(
    ("encoder", "fusion"),
    [(e, f) for e in SMALL for f in FUSIONS if not (e in READ_SENSORS and FUSIONS[f].stage == "early")],
)
def test_all_encoders_with_all_fusions_for_both_tasks(encoder, fusion, task, built, monkeypatch):
    monkeypatch.setattr(multimodal, "build_encoder", built)
    torch.manual_seed(0)
    size = SMALL[encoder][1]
    spec = _spec(encoder, fusion, task)
    model = MultimodalModel(spec).train()
    model.zero_grad()
    batch, chosen = _batch(size, spec.modalities), get_task(task, CLASSES)
    loss = chosen.losses(model, batch).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoders.parameters())
    shape = (2, 3, size, size) if task == "segmentation" else (2, 3)
    assert model(batch).shape == shape


@pytest.mark.parametrize("encoder", ["galileo", "torchgeo:dofa_small_patch16_224", "torchgeo:croma_base"])
def test_encoders_that_read_sensors_refuse_an_early_fusion(encoder):
    with pytest.raises(ContractError, match="needs to know sensor and bands"):
        MultimodalModel(_spec(encoder, "early_concat"))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ["tiny_cnn", "tiny_vit", "resnet", "swin"])
def test_decoders_take_pyramids_and_tokens(encoder, decoder, built, monkeypatch):
    monkeypatch.setattr(multimodal, "build_encoder", built)
    spec = _spec(encoder, "concat", decoder=decoder)
    if (encoder, decoder) == ("tiny_vit", "upernet"):
        with pytest.raises(ContractError, match="at least two levels"):
            MultimodalModel(spec)
        return
    model, size = MultimodalModel(spec), 2 * SMALL[encoder][1]
    out = model(_batch(size, spec.modalities))
    assert out.shape == (2, 3, size, size)
    out.sum().backward()


def test_modalities_may_have_encoders_of_different_strides(built, monkeypatch):
    monkeypatch.setattr(multimodal, "build_encoder", built)
    spec = _spec({"optical": "tiny_vit", "radar": "tiny_cnn"}, "attention")
    model = MultimodalModel(spec).eval()
    assert model.fusion.strides == (1, 2, 4)
    batch = _batch(16, spec.modalities)
    assert model(batch).shape == (2, 3, 16, 16)
    alone = Sample({"optical": batch.images["optical"]}, {"optical": batch.valid["optical"]}, {}, batch.present)
    masked = Sample(batch.images, batch.valid | {"radar": torch.zeros_like(batch.valid["radar"])}, {}, batch.present)
    assert torch.equal(model(alone), model(masked))
