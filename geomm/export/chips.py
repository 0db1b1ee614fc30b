"""Chips of a store as GeoTIFFs, for tools that read nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import GeommError, OutputError
from geomm.types import INVALID_CLASS, Progress, silent

if TYPE_CHECKING:
    from geomm.store import StoredChips


def export_chips(store: StoredChips, folder: str | Path, *, progress: Progress = silent) -> int:
    """Write ``<chip>_<modality>.tif`` and ``<chip>_target.tif``, and the manifest as ``chips.gpkg``.

    Bands are those of all times in order; pixels that are not valid are masked.

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
    try:
        target.mkdir(parents=True, exist_ok=True)
        table = store.table
        for k, row in enumerate(table.itertuples()):
            arrays = store.read([k])
            for name, image in arrays.images.items():
                bands = [b for spec in store.arrays if spec.name == f"images/{name}" for b in spec.attrs["bands"]]
                valid = arrays.valid[name][0].all(axis=0)
                pixels = image[0].reshape(-1, *image.shape[-2:])
                _write(target / f"{row.chip:06d}_{name}.tif", pixels, valid, row, bands * image.shape[1])
                written += 1
            if arrays.target is not None:
                label = arrays.target[:1]
                _write(target / f"{row.chip:06d}_target.tif", label, label[0] != INVALID_CLASS, row, ["target"])
                written += 1
            progress("export chips", k + 1, len(store))
        table.to_file(target / "chips.gpkg", layer="chips")
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
