"""Chips of a store as GeoTIFFs, for tools that read nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import GeommError, OutputError
from geomm.export.style import colours_qml, distinct, qml
from geomm.export.symbols import add_style, categories_qml
from geomm.radiometry import to_stored
from geomm.sensors import SensorSpec, get_sensor
from geomm.types import INVALID_CLASS, ClassSpec, LayerSpec, Progress, silent

if TYPE_CHECKING:
    from geomm.store import StoredChips


def export_chips(store: StoredChips, folder: str | Path, *, progress: Progress = silent) -> int:
    """Write ``<chip>_<modality>.tif`` and ``<chip>_target.tif``, and the manifest as ``chips.gpkg``.

    Bands are those of all times in order; pixels that are not valid are masked. Each has a style for QGIS beside it:
    imagery in natural colours where it can be had, of the first time.

    Args:
        store: chips to write.
        folder: for the files.
        progress: told how many chips are written.

    Returns:
        Number of GeoTIFFs.

    Raises:
        OutputError: a file cannot be written.
    """
    target, written = Path(folder), 0
    if store.folder.resolve() in (target.resolve(), *target.resolve().parents):
        fix = f"name another folder: {store.folder.name}-tiles"
        raise OutputError("the GeoTIFFs cannot lie in the store itself", where=str(folder), fix=fix)
    try:
        target.mkdir(parents=True, exist_ok=True)
        table = store.table
        about = {spec.name.removeprefix("images/"): spec.attrs for spec in store.arrays}
        sensors = {n: get_sensor(str(a.get("sensor", "generic"))) for n, a in about.items() if "bands" in a}
        for k, row in enumerate(table.itertuples()):
            arrays = store.read([k])
            for name, image in arrays.images.items():
                bands = list(about[name]["bands"])
                valid = arrays.valid[name][0].all(axis=0)
                pixels = image[0].reshape(-1, *image.shape[-2:])
                _write(target / f"{row.chip:06d}_{name}.tif", pixels, valid, row, bands * image.shape[1])
                style = _style(sensors[name], bands, arrays.calibration[name][0, 0], pixels)
                (target / f"{row.chip:06d}_{name}.qml").write_text(style)
                written += 1
            if arrays.target is not None:
                label = arrays.target[:1]
                _write(target / f"{row.chip:06d}_target.tif", label, label[0] != INVALID_CLASS, row, ["target"])
                (target / f"{row.chip:06d}_target.qml").write_text(_classes(about["target"]["values"]))
                written += 1
            progress("export chips", k + 1, len(store))
        _manifest(table, target / "chips.gpkg")
    except GeommError:  # of which some are OSErrors too
        raise
    except OSError as error:
        raise OutputError(
            "the chips cannot be written",
            where=str(folder),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk",
        ) from error
    return written


def _style(
    sensor: SensorSpec, bands: Sequence[str], calibration: NDArray[np.float32], pixels: NDArray[Any]
) -> str:  # fmt: skip
    """Return how stored numbers ``(band, y, x)`` are shown: as the sensor's pictures are, else by what they hold."""

    def limits(k: int) -> tuple[float, float]:
        if not sensor.bands:
            low, high = (float(v) for v in np.nanpercentile(pixels[k], (2, 98)))
            return low, max(high, low + 1e-6)
        c = [float(v) for v in calibration[k]]
        dark, light = (to_stored(v, *c) for v in sensor.band(bands[k]).display)
        return dark, light

    if len(bands) > 1:
        shown = sensor.shown(bands)
        return colours_qml([k + 1 for k in shown], [limits(k) for k in shown], alpha=len(pixels) + 1)
    return qml(
        LayerSpec(bands[0], "continuous", str(pixels.dtype), 0.0, tuple(bands)), limits(0), alpha=len(pixels) + 1
    )


def _classes(values: Sequence[int]) -> str:
    """Return how class indices are shown; a store knows the values that its labels had, not their names."""
    pairs = enumerate(zip(values, distinct(len(values)), strict=True))
    classes = tuple(ClassSpec(k, f"label {value}", color) for k, (value, color) in pairs)
    return qml(LayerSpec("target", "class", "uint8", INVALID_CLASS, ("target",), classes=classes), alpha=2)


def _manifest(table: Any, path: Path) -> None:
    """Write where the chips lie, coloured by their split where they have one, else by their place."""
    table.to_file(path, layer="chips")
    column = "split" if "split" in table else "site"
    names = sorted({str(v) for v in table[column]})
    pairs = enumerate(zip(names, distinct(len(names)), strict=True))
    add_style(path, "chips", categories_qml([ClassSpec(k, name, color) for k, (name, color) in pairs], column))


def _write(path: Path, pixels: NDArray[Any], valid: NDArray[np.bool_], row: Any, bands: list[str]) -> None:
    import rasterio
    from affine import Affine

    step = row.resolution
    place = Affine(step, 0, row.origin_x, 0, -step, row.origin_y)
    staging = path.with_name(f".{path.name}")
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            staging, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=len(pixels),
            dtype=pixels.dtype, crs=row.crs, transform=place, compress="deflate",
        ) as file,
    ):  # fmt: skip
        file.write(pixels)
        file.write_mask(valid)
        file.descriptions = bands
    staging.replace(path)
