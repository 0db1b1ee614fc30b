"""The chip store: samples cut once, read many times. Sharded zarr v3 with checksums, and a GeoParquet manifest.

One inner chunk holds all times and bands of one chip and modality, so that a chip is one read. Stored numbers stay
integers; calibration and validity lie beside them. Missing or damaged chunks raise, they never read as zeros.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geomm.dataset import ChipDataset, Sample
from geomm.errors import OutputError, PackageError

SHARD = 64
"""Chips per shard file."""


def write_store(dataset: ChipDataset, folder: str | Path, *, crs: str) -> Path:
    """Write a data set as a chip store; it appears whole or not at all.

    Args:
        dataset: chips of one size.
        folder: of the store; must not exist.
        crs: of the samples' bounds.

    Raises:
        OutputError: the folder exists already, or cannot be written.
    """
    import geopandas
    import zarr
    from shapely.geometry import box
    from zarr.codecs import ZstdCodec

    target = Path(folder)
    if target.exists():
        raise OutputError("the chip store exists already", where=str(folder), fix="name another folder")
    staging = target.with_name(f".{target.name}.staging-{os.getpid()}")
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    try:
        group = zarr.open_group(staging / "chips.zarr", mode="w-")
        buffers: dict[str, list[np.ndarray]] = {}
        for number in range(len(dataset)):
            sample, chip = dataset[number], dataset.chips[number]
            for key, value in _arrays(sample).items():
                if key not in arrays:
                    arrays[key] = group.create_array(
                        key,
                        shape=(len(dataset), *value.shape),
                        chunks=(1, *value.shape),
                        shards=(min(SHARD, len(dataset)), *value.shape),
                        dtype=value.dtype,
                        compressors=[ZstdCodec(level=3, checksum=True)],
                        config={"write_empty_chunks": True},
                    )
                buffers.setdefault(key, []).append(value)
            assert sample.bounds is not None
            rows.append(
                {
                    "chip": number,
                    "y": chip.read.y,
                    "x": chip.read.x,
                    "text": " ".join(sample.text),
                    "geometry": box(*sample.bounds.tolist()),
                }
            )
            if (number + 1) % SHARD == 0 or number + 1 == len(dataset):
                start = number + 1 - len(buffers[next(iter(buffers))])
                for key, values in buffers.items():
                    arrays[key][start : number + 1] = np.stack(values)
                buffers = {}
        geopandas.GeoDataFrame(rows, crs=crs).to_parquet(staging / "manifest.parquet")
        (staging / "store.json").write_text(json.dumps({"chips": len(dataset), "arrays": sorted(arrays)}))
        staging.rename(target)
    except OSError as error:
        raise OutputError("the chip store cannot be written", where=str(folder), why=str(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


class StoredChips(torch.utils.data.Dataset[Sample]):
    """A chip store behind the same interface as :class:`geomm.dataset.ChipDataset`.

    Args:
        folder: of the store.
        indices: which chips; default all.

    Raises:
        PackageError: the folder is no chip store; on reading, a missing or damaged chunk.
    """

    def __init__(self, folder: str | Path, indices: Sequence[int] | None = None) -> None:
        import zarr

        try:
            self.about = json.loads((Path(folder) / "store.json").read_text())
            self.group = zarr.open_group(Path(folder) / "chips.zarr", mode="r")
        except (OSError, ValueError) as error:
            raise PackageError("this is not a chip store", where=str(folder), why=str(error)) from error
        self.folder = Path(folder)
        self.indices = list(range(self.about["chips"])) if indices is None else list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        import zarr

        chip = self.indices[index]
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key in self.about["arrays"]:
            try:
                with zarr.config.set({"array.read_missing_chunks": False}):
                    value = np.asarray(self.group[key][chip])
            except Exception as error:
                raise PackageError(
                    "a chip of the store is missing or damaged",
                    where=f"{self.folder}, chip {chip}, array {key}",
                    why=str(error),
                    fix="build the store again",
                ) from error
            kind, _, name = key.partition("/")
            parts.setdefault(kind, {})[name] = torch.from_numpy(value)
        target = parts.get("target", {}).get("")
        return Sample(
            parts["images"],
            parts["valid"],
            parts["calibration"],
            {name: v.any() for name, v in parts["valid"].items()},
            None if target is None else target.long(),
            (),
            parts["bounds"][""],
        )


def _arrays(sample: Sample) -> dict[str, np.ndarray]:
    assert sample.bounds is not None
    out = {"bounds": sample.bounds.numpy()}
    for kind in ("images", "valid", "calibration"):
        out |= {f"{kind}/{name}": t.numpy() for name, t in getattr(sample, kind).items()}
    if sample.target is not None:
        out["target"] = sample.target.to(torch.uint8).numpy()
    return out
