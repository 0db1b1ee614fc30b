"""What a chip store holds, decided before a pixel moves: its arrays, its chips in their order, their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from geomm.chipping import ChipReader
from geomm.chips import ChipOrder, Itinerary
from geomm.errors import ConfigError
from geomm.store.codec import Codec
from geomm.store.shard import SHARD, ArraySpec, TableSpec, group_metadata

ARRAYS = "chips.zarr"
"""Folder of the zarr group in a store."""
MANIFEST = "manifest.parquet"
"""File with one row for every chip."""
RECORD = "store.json"
"""File that makes a store complete: its digests. Written last."""
PLAN = "plan.json"
"""File that says what the store will hold. Written first."""


@dataclass(frozen=True, slots=True)
class StorePart:
    """Chips of one cube."""

    site: str
    """Name of the place; parts of one scene, such as its splits, share it."""
    reader: ChipReader
    """Reads them; a :class:`geomm.ChipDataset` stands for the reader that it has."""
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Further columns of the manifest, one value for every chip, such as ``split``."""

    def __post_init__(self) -> None:
        reader: Any = getattr(self.reader, "reader", self.reader)
        if not isinstance(self.site, str) or not isinstance(reader, ChipReader):
            fix = 'give the name of the place and its chips: StorePart("north", ChipDataset(cube, chips, ["optical"]))'
            where = f"site {self.site!r:.40}, reader {type(reader).__name__}"
            raise ConfigError("a part of a store is a name and chips of a cube", where=where, fix=fix)
        object.__setattr__(self, "reader", reader)
        columns: Any = self.columns
        if not isinstance(columns, Mapping) or any(isinstance(v, str) for v in columns.values()):
            fix = f'give a value for every chip: {{"split": ["train"] * {len(reader)}}}'
            raise ConfigError("columns are lists by name", where=repr(columns)[:80], fix=fix)
        for name, values in self.columns.items():
            if len(values) != len(self.reader):
                raise ConfigError(
                    f"column {name} has not one value for every chip",
                    where=f"site {self.site}",
                    why=f"{len(values)} values, {len(self.reader)} chips",
                    fix="give as many values as the reader has chips, in the same order",
                )


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Everything that decides the content of a store."""

    parts: tuple[StorePart, ...]
    """In order."""
    orders: tuple[Itinerary, ...]
    """In which each part's chips are read, and stored."""
    arrays: tuple[ArraySpec, ...]
    """Images, validity and target."""
    tables: tuple[TableSpec, ...]
    """Calibration and bounds."""

    @classmethod
    def of(cls, parts: Sequence[StorePart], *, compress: bool = False, separator: str = ".") -> StorePlan:
        """Plan a store of some parts.

        Args:
            parts: in order.
            compress: whether imagery is compressed; what is valid, and the target, always are.
            separator: see :data:`geomm.store.shard.SEPARATORS`.

        Raises:
            ConfigError: there is no chip, or the parts differ in modalities, bands, times or the size of chips.
        """
        if not isinstance(parts, Sequence) or not all(isinstance(p, StorePart) for p in parts):
            fix = 'give a list: write_store([StorePart("north", dataset)], FOLDER)'
            raise ConfigError("the parts of a store are a list of StorePart", where=repr(parts)[:80], fix=fix)
        if not any(len(p.reader) for p in parts):
            raise ConfigError("there is no chip to store", fix="check the split and the chip size")
        specs = [_specs(p.reader, "lz4" if compress else "none", separator) for p in parts if len(p.reader)]
        if any(s != specs[0] for s in specs[1:]):
            shapes = [", ".join(f"{a.name} {a.shape} {a.dtype}" for a in arrays) for arrays, _ in specs]
            raise ConfigError(
                "the parts of a store differ",
                why="; ".join(f"{p.site}: {s}" for p, s in zip(parts, shapes, strict=False)),
                fix="name the bands of every modality, and use cubes with equally many times",
            )
        orders = tuple(ChipOrder(tuple(p.reader.chips), p.reader.shape).epoch(0) for p in parts)
        return cls(tuple(parts), orders, *specs[0])

    @property
    def chips(self) -> int:
        """Number of chips."""
        return sum(len(o.draws) for o in self.orders)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.chips // SHARD)

    def size_of(self, shard: int) -> int:
        """Return how many chips a shard holds."""
        return min(SHARD, self.chips - shard * SHARD)

    def rows_of(self, part: int, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Return the manifest's rows of some chips of a part, by their position in its list, but for what is read."""
        mine = self.parts[part]
        bounds = mine.reader.bounds([mine.reader.chips[k].read for k in positions]).tolist()
        a, _, left, _, e, top = mine.reader.geobox.affine[:6]
        epsg = mine.reader.geobox.crs.epsg
        crs, rows = f"EPSG:{epsg}" if epsg else str(mine.reader.geobox.crs), []
        beginning = mine.reader.time
        for k, box in zip(positions, bounds, strict=True):
            chip = mine.reader.chips[k]
            row = {"site": mine.site, "index": int(k), "y": chip.read.y, "x": chip.read.x, "size": chip.read.height}
            write = {"write_y": chip.write.y, "write_x": chip.write.x}
            write |= {"write_height": chip.write.height, "write_width": chip.write.width}
            when = chip.time.isoformat() if chip.time else beginning
            further = {name: values[k] for name, values in mine.columns.items()}
            place = dict(zip(("left", "bottom", "right", "top"), box, strict=True))
            place |= {"origin_x": left + a * chip.read.x, "origin_y": top + e * chip.read.y}
            place |= {"resolution": a, "resolution_y": e}
            rows.append(row | write | {"datetime": when} | further | place | {"crs": crs})
        return rows

    def describe(self) -> dict[str, Any]:
        """Return what two plans have in common exactly if they are of the same store."""
        sites = [
            {
                "site": p.site,
                "chips": len(p.reader),
                "items": sorted({i for n in p.reader.sources if n for i in p.reader.items(n)}),
                "digest": _digest(
                    [self.rows_of(k, range(len(p.reader))), o.draws[:, 1].tolist(), repr(p.reader.split)]
                ),
            }
            for k, (p, o) in enumerate(zip(self.parts, self.orders, strict=True))
        ]
        names = {} if self.arrays[0].separator == "/" else {"separator": self.arrays[0].separator}
        return {"format": 1, "shard": SHARD, **names, "arrays": [a.describe() for a in self.arrays], "sites": sites}

    def metadata(self) -> dict[Path, bytes]:
        """Return the zarr metadata, file by file."""
        root = Path(ARRAYS)
        files = {root / "zarr.json": group_metadata()}
        specs: tuple[ArraySpec | TableSpec, ...] = (*self.arrays, *self.tables)
        for spec in specs:
            if len(Path(spec.name).parts) > 1:
                files[root / Path(spec.name).parts[0] / "zarr.json"] = group_metadata()
            files[root / spec.name / "zarr.json"] = spec.metadata(self.chips)
        return files


def _specs(reader: ChipReader, codec: Codec, separator: str) -> tuple[tuple[ArraySpec, ...], tuple[TableSpec, ...]]:
    """Return the arrays and tables of a reader's chips; ``codec`` is that of imagery."""
    height, width = reader.chips[0].read.shape
    arrays, tables = [], []
    for name in (n for n in reader.sources if n):
        steps, bands, dtype = reader.layout(name)
        about = reader.about(name)
        axes, shape = (f"{name}_time", f"{name}_band"), (steps, bands, height, width)
        arrays.append(ArraySpec(f"images/{name}", shape, str(dtype), ("chip", *axes, "y", "x"), about, codec))
        arrays.append(ArraySpec(f"valid/{name}", (steps, height, width), "bool", ("chip", axes[0], "y", "x"), {}))
        tables.append(TableSpec(f"calibration/{name}", (steps, bands, 4), "float32", ("chip", *axes, "coefficient")))
    if reader.target is not None:
        values = {"values": list(reader.target.values), "ignore": 255}
        arrays.append(ArraySpec("target", (height, width), "uint8", ("chip", "y", "x"), values))
    tables.append(TableSpec("bounds", (4,), "float64", ("chip", "side")))
    return (
        tuple(replace(a, separator=separator) for a in arrays),
        tuple(replace(t, separator=separator) for t in tables),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
