"""Pictures of a run, as PNG bytes: what went in, what came out, how well, how training went."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rasterio
import xarray as xr

from geomm.config import RunConfig
from geomm.cube import calibrated
from geomm.export import Product
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.sites import LABEL, Fold, Site, target_of
from geomm.sensors import get_sensor
from geomm.types import INVALID_CLASS, ClassSpec

SIDE = 800
"""Longest side of a quicklook in pixels."""

COLORS = ("#4477aa", "#cc6677", "#ddaa33", "#228833", "#66ccee", "#aa3377")


def quicklook(node: xr.Dataset) -> tuple[np.ndarray, str]:
    """Return a picture of a modality and its caption.

    Args:
        node: one node of a cube; its first time step is shown, thinned to :data:`SIDE` pixels.

    Returns:
        RGBA floats ``(y, x, 4)``, transparent where invalid, and what is shown.
    """
    sensor = get_sensor(str(node.attrs["sensor"]))
    names = [str(b) for b in node["band"].to_numpy()]
    specs = [sensor.band(n) for n in names]
    chosen = sensor.shown(names)
    shown = "-".join(dict.fromkeys(names[k] for k in chosen))
    caption = f"{shown}, {specs[0].unit.replace('_', ' ')}"
    step = max(1, -(-max(node.sizes["y"], node.sizes["x"]) // SIDE))
    part = calibrated(
        node.isel(time=0, y=slice(None, None, step), x=slice(None, None, step)).isel(band=sorted(set(chosen)))
    )
    values = part.data.to_numpy()[[sorted(set(chosen)).index(k) for k in chosen]]
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2, 98]) if finite.size else (0.0, 1.0)
    scaled = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1)
    alpha = np.isfinite(values).all(0)[None]
    return np.moveaxis(np.concatenate([scaled, alpha]), 0, -1), caption


def site_figure(config: RunConfig, site: Site, fold: Fold, product: Product) -> bytes:
    """Show a site: each modality, the labels with the split, the predicted classes, and the confidence."""
    classes = config.classes()
    panels: list[tuple[str, Any, str | None]] = []
    for name in config.modalities:
        picture, caption = quicklook(site.cube.children[name].to_dataset())
        gray = bool((picture[..., 0] == picture[..., 1]).all())
        panels.append((f"{name}\n{caption}", picture[..., 0] if gray else picture, "inferno" if gray else None))
    target, node = target_of(config), site.cube.children[LABEL].to_dataset().isel(time=0)
    labels = target.index(node.data.isel(band=0).to_numpy())
    labels[~node.valid.to_numpy()] = INVALID_CLASS
    values = np.array([*(c.value for c in classes), *[INVALID_CLASS] * (256 - len(classes))], np.uint8)
    shade = np.ones(labels.shape, np.float32) * 0.35
    split = fold.splits[site.name]
    for name in split.names:
        shade[split.mask(name)] = 1.0 if name == "train" else 0.75
    where = "labels\nfull: training, dimmed: test, dark: buffer" if len(split.names) > 1 else "labels"
    panels.append((where, _paint(values[labels], classes) * shade[..., None], None))
    predicted = _thin(product, "class")[0]
    panels.append(("predicted class", _paint(predicted, classes), None))
    panels.append(
        (
            "agreement with the labels\ngreen: same, red: other, white: no label",
            _agreement(values[labels], predicted),
            None,
        )
    )
    panels.append(("highest probability", _thin(product, "probability").max(0), "viridis"))
    return _draw_panels(panels, classes)


def comparison_figure(rows: Sequence[Row]) -> bytes:
    """Show mean IoU per variant: the bar is the mean over seeds, the dots are seeds, the line the block interval."""
    figure, axes = blank_figure(7.0, 0.5 + 0.42 * len(rows))
    variants = list(dict.fromkeys(r.variant for r in rows))
    for y, row in enumerate(reversed(rows)):
        color = COLORS[variants.index(row.variant) % len(COLORS)]
        interval = row.interval()
        axes.barh(y, row.seeds.mean(), color=color, height=0.6, alpha=1.0 if row.variant == FUSED else 0.65)
        axes.plot([interval.low, interval.high], [y, y], color="black", lw=1.2)
        axes.plot(row.seeds, [y] * len(row.seeds), "o", color="black", ms=3)
    labels = [r.variant if r.fold == "blocks" else f"{r.variant}, without {r.fold}" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlabel("mean IoU on test blocks (bar: mean of seeds, dots: seeds, line: 95 % over blocks)", fontsize=8)
    axes.set_xlim(0, 1)
    return png(figure)


def losses_figure(losses: Mapping[tuple[str, str], Sequence[Sequence[float]]]) -> bytes:
    """Show the training loss of every run, smoothed over 10 steps."""
    figure, axes = blank_figure(7.0, 2.6)
    variants = list(dict.fromkeys(v for _, v in losses))
    for (_, variant), runs in losses.items():
        for k, run in enumerate(runs):
            width = min(10, len(run))
            smooth = np.convolve(run, np.ones(width) / width, mode="valid")
            color = COLORS[variants.index(variant) % len(COLORS)]
            axes.plot(range(width - 1, len(run)), smooth, color=color, lw=1, label=variant if k == 0 else None)
    handles = {h.get_label(): h for h in axes.get_lines() if not str(h.get_label()).startswith("_")}
    axes.legend(handles.values(), handles.keys(), fontsize=8, frameon=False)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    return png(figure)


def _paint(codes: np.ndarray, classes: Sequence[ClassSpec]) -> np.ndarray:
    palette = np.zeros((256, 3), np.float32)
    for c in classes:
        palette[c.value] = np.array(c.rgb) / 255
    return np.asarray(palette[codes])


def _agreement(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    step = -(-max(labels.shape) // max(predicted.shape))
    codes = labels[::step, ::step][: predicted.shape[0], : predicted.shape[1]]
    colors = np.array([[1.0, 1.0, 1.0], [0.55, 0.75, 0.55], [0.8, 0.25, 0.25]])
    kind = np.where(codes == INVALID_CLASS, 0, np.where(codes == predicted[: codes.shape[0], : codes.shape[1]], 1, 2))
    return np.asarray(colors[kind])


def _thin(product: Product, layer: str) -> np.ndarray:
    with rasterio.open(product.files[layer]) as file:
        step = max(1, -(-max(file.shape) // SIDE))
        shape = (file.count, -(-file.height // step), -(-file.width // step))
        return np.asarray(file.read(out_shape=shape))


def _draw_panels(panels: Sequence[tuple[str, Any, str | None]], classes: Sequence[ClassSpec]) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = 3
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(11, 3.9 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, picture, cmap) in zip(grid, panels, strict=False):
        axes.imshow(picture, cmap=cmap, interpolation="nearest")
        axes.set_title(title, fontsize=9)
    for axes in grid:
        axes.set_axis_off()
    patches = [Patch(facecolor=c.color, edgecolor="black", lw=0.4, label=c.name) for c in classes]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    return png(figure)


def blank_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure and its axes, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def png(figure: Any) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    return buffer.getvalue()
