"""Draw the picture of the README from what `make demo` leaves: what goes in, and the map that comes out.

`python docs/picture.py demo docs/images/scene.png`
"""

import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import rasterio
from PIL import Image

import geomm

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, Patch

PART = np.s_[180:600, 60:480]
"""Rows and columns that are shown: the edge of the clouds."""
SHOWN = {1: ("cirrus", (0.25, 0.62, 0.95), 0.55), 2: ("cloud", (0.98, 0.45, 0.25), 0.6)}
"""Class to its name, colour and opacity over the imagery; clear sky is left as it is."""


def main(demo: Path, out: Path) -> None:
    """Write the picture."""
    optical, kelvin = imagery(demo)
    with rasterio.open(demo / "clouds-class.tif") as file:
        classes = file.read(1)[PART]
    over = optical.copy()
    for value, (_, colour, alpha) in SHOWN.items():
        over[classes == value] = over[classes == value] * (1 - alpha) + np.array(colour) * alpha
    plt.rcParams["font.size"] = 12
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.7), dpi=100)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.87, bottom=0.1, wspace=0.09)
    axes[0].imshow(optical, interpolation="lanczos")
    axes[0].set_title("in: reflectance")
    shown = axes[1].imshow(kelvin, cmap="inferno", vmin=np.nanpercentile(kelvin, 1), vmax=np.nanpercentile(kelvin, 99))
    axes[1].set_title("in: brightness temperature")
    axes[2].imshow(over, interpolation="lanczos")
    axes[2].set_title("out: clouds, mapped")
    for axis in axes:
        axis.set_axis_off()
    box = axes[1].get_position()
    bar = figure.colorbar(shown, cax=figure.add_axes((box.x0, 0.065, box.width, 0.02)), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, length=2)
    bar.set_label("kelvin", fontsize=9, labelpad=-2)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour, _ in SHOWN.values()],
        loc="lower center", bbox_to_anchor=(axes[2].get_position().x0 + box.width / 2, -0.005), ncols=2, frameon=False,
    )  # fmt: skip
    for left, right in ((0, 1), (1, 2)):
        x0, x1 = axes[left].get_position().x1, axes[right].get_position().x0
        if left == 0:
            figure.text((x0 + x1) / 2, 0.485, "+", ha="center", va="center", fontsize=22)
        else:
            figure.add_artist(
                FancyArrowPatch(
                    (x0 + 0.003, 0.485), (x1 - 0.003, 0.485), arrowstyle="-|>", mutation_scale=22, lw=2, color="black"
                )
            )
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor="white")
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        out, optimize=True
    )


def imagery(demo: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return natural colours from 0 to 1, and brightness temperatures in kelvin."""
    scenes = geomm.open_catalog(demo / "catalog").search(sensors=["landsat-oli-l1", "landsat-tirs-l1"])
    streams = {
        "optical": geomm.Modality("landsat-oli-l1", ("B4", "B3", "B2")),
        "thermal": geomm.Modality("landsat-tirs-l1", ("B10",)),
    }
    cube = geomm.calibrated(geomm.load_cube(scenes, geomm.common_geobox(scenes), streams))
    colours = cube["optical"]["data"].to_numpy()[0][(slice(None), *PART)]
    haze = np.nanpercentile(colours, 1, axis=(1, 2), keepdims=True)
    stretched = np.nan_to_num(((colours - haze) / np.nanpercentile(colours - haze, 98)).clip(0, 1)) ** 0.6
    return np.moveaxis(stretched, 0, -1), cube["thermal"]["data"].to_numpy()[0, 0][PART]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
