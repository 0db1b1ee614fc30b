"""Pictures of a place of a run: what went in, the labels, what came out, and how far they agree."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio

from geomm.config import RunConfig
from geomm.cube import picture_of
from geomm.export import Product
from geomm.pipeline.sites import LABEL, Fold, Site, target_of
from geomm.types import INVALID_CLASS, ClassSpec

SIDE = 448
"""Longest side of a quicklook in pixels."""
_AGREE, _DIFFER = (0.36, 0.66, 0.45, 1.0), (0.82, 0.26, 0.28, 1.0)
_UNSIGNED: Any = {"Software": None}
"""No version in the file, so that the same picture gives the same bytes."""


@dataclass(frozen=True, slots=True)
class Look:
    """A picture and what it shows."""

    title: str
    """What it is."""
    caption: str
    """What the colours mean."""
    png: bytes
    """The picture; transparent where nothing is known."""


def site_looks(config: RunConfig, site: Site, fold: Fold, product: Product) -> list[Look]:
    """Show a site: each modality it has, the labels with the split, the classes, the agreement, the confidence."""
    classes = config.classes()
    looks = []
    for name in config.modalities:
        if name in site.cube.children:
            picture = picture_of(site.cube.children[name].to_dataset(), side=SIDE)
            looks.append(Look(name, f"{picture.title}, {picture.unit}", _png(picture.rgba / 255)))
    labels = _labels(config, site)
    values = np.array([*(c.value for c in classes), *[INVALID_CLASS] * (256 - len(classes))], np.uint8)
    split, painted = fold.splits[site.name], _paint(values[labels], classes)
    painted[..., :3] *= _shade(fold, site, labels.shape)[..., None]
    said = "full: training; dimmed: test; dark: between them" if len(split.names) > 1 else f"all {split.names[0]}"
    predicted = _thin(product, "class")[0]
    sure = _thin(product, "probability").max(0)
    return [
        *looks,
        Look("labels", said, _png(painted)),
        Look("predicted classes", "of the fused model", _png(_paint(predicted, classes))),
        Look("agreement", "green: as labelled; red: another class", _png(_agreement(values[labels], predicted))),
        Look("confidence", _between(sure), _png(_coloured(np.dstack([sure] * 3 + [np.isfinite(sure)]), "viridis"))),
    ]


def _labels(config: RunConfig, site: Site) -> np.ndarray:
    """Return the class index of every shown pixel, 255 where there is none."""
    node = site.cube.children[LABEL].to_dataset().isel(time=0)
    step = max(1, -(-max(node.sizes["y"], node.sizes["x"]) // SIDE))
    node = node.isel(y=slice(None, None, step), x=slice(None, None, step))
    labels = target_of(config).index(node.data.isel(band=0).to_numpy())
    labels[~node.valid.to_numpy()] = INVALID_CLASS
    return labels


def _shade(fold: Fold, site: Site, shape: tuple[int, ...]) -> np.ndarray:
    """Return how bright each shown pixel is: training, then test, then what lies between."""
    split = fold.splits[site.name]
    step = max(1, -(-max(split.shape) // SIDE))
    shade = np.full(shape, 0.35)
    for name in split.names:
        shade[split.mask(name)[::step, ::step]] = 1.0 if name == "train" or len(split.names) == 1 else 0.72
    return shade


def _paint(codes: np.ndarray, classes: Sequence[ClassSpec]) -> np.ndarray:
    """Return colours of classes ``(y, x, 4)``, transparent where there is none."""
    palette = np.zeros((256, 4))
    for c in classes:
        palette[c.value] = (*(np.array(c.rgb) / 255), 1.0)
    return np.asarray(palette[codes])


def _agreement(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    rows, columns = (min(n) for n in zip(labels.shape, predicted.shape, strict=True))
    labels, predicted = labels[:rows, :columns], predicted[:rows, :columns]
    known = (labels != INVALID_CLASS) & (predicted != INVALID_CLASS)
    found = np.zeros((rows, columns, 4))
    found[known & (labels == predicted)] = _AGREE
    found[known & (labels != predicted)] = _DIFFER
    return found


def _thin(product: Product, layer: str) -> np.ndarray:
    with rasterio.open(product.files[layer]) as file:
        step = max(1, -(-max(file.shape) // SIDE))
        shape = (file.count, -(-file.height // step), -(-file.width // step))
        return np.asarray(file.read(out_shape=shape))


def _coloured(picture: np.ndarray, colours: str) -> np.ndarray:
    """Return one quantity in colours of its own, ``(y, x, 4)``, over its range; what is transparent stays so."""
    from matplotlib import colormaps

    values, there = picture[..., 0], picture[..., 3] > 0
    low, high = (np.min(values[there]), np.max(values[there])) if there.any() else (0.0, 1.0)
    found = np.asarray(colormaps[colours]((np.nan_to_num(values) - low) / max(high - low, 1e-9)))
    found[..., 3] = there
    return found


def _between(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "of the predicted class"
    return f"of the predicted class, {known.min():.2f} (dark) to {known.max():.2f} (bright)"


def _png(picture: np.ndarray) -> bytes:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.clip(picture, 0, 1), format="png", metadata=_UNSIGNED)
    return buffer.getvalue()
