"""Zarr v3 shards: many chunks in one file, each with its own checksum, found through an index at the end.

Written and read here without zarr-python, whose cost per chunk is several times that of decoding it; what is written
is plain zarr that it, xarray and GDAL read. Format: https://zarr-specs.readthedocs.io, sharding indexed codec 1.0.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geomm.errors import PackageError
from geomm.store.codec import CODECS, Codec, check, check_sealed, checksum, codecs_of, decode, encode, sealed_codecs

SHARD = 64
"""Chips in a shard."""
PAGE = 4096
"""Bytes of which what is written past the page cache is a multiple, in place and length."""
NONE = 2**64 - 1
"""Offset and size of a chunk that is not there."""
SEPARATORS = ("/", ".")
"""Between the parts of a shard's name: a folder for every axis, as in stores of old, or none."""
_INDEX = SHARD * 16 + 4
"""Bytes of the index and its checksum."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """An array of chips: the first axis counts them."""

    name: str
    """Path in the group, such as ``images/optical``."""
    shape: tuple[int, ...]
    """Of one chip."""
    dtype: str
    """numpy dtype name."""
    dims: tuple[str, ...]
    """Names of the axes, the first is ``chip``."""
    attrs: dict[str, Any]
    """For people and xarray."""

    codec: Codec = "lz4"
    """How chunks are stored."""
    separator: str = "/"
    """One of :data:`SEPARATORS`."""

    @classmethod
    def of(cls, about: Mapping[str, Any], separator: str = "/") -> Self:
        """Return the array of a description; those of stores before codecs could be chosen do not name theirs.

        Raises:
            PackageError: the codec is none of :data:`CODECS`, the separator none of :data:`SEPARATORS`.
        """
        shape, codec = tuple(about["shape"]), about.get("codec", "lz4")
        if codec not in CODECS or separator not in SEPARATORS:
            raise PackageError(
                "the chip store was written by a newer geomm",
                why=f"{about['name']} is stored as {codec!r}, its names have {separator!r}",
                fix="update geomm: pip install --upgrade geomm",
            )
        return cls(about["name"], shape, about["dtype"], (), about["attrs"], codec, separator)

    def describe(self) -> dict[str, Any]:
        """Return what decides the content of the array; see :meth:`of`."""
        about = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "attrs": self.attrs}
        return about if self.codec == "lz4" else {**about, "codec": self.codec}

    @property
    def paged(self) -> bool:
        """Whether every chunk begins on a page of the file: whole pages, of which one more is no matter."""
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        return self.codec == "none" and size % PAGE == 0 and size >= 16 * PAGE

    def encode(self, value: NDArray[Any]) -> tuple[Any, bytes]:
        """Return what is stored of one chip's array, which may be its own memory, and the checksum."""
        data = encode(np.ascontiguousarray(value, self.dtype), self.codec)
        return data, checksum(data)

    def decode(self, data: bytes, out: NDArray[Any]) -> None:
        """Turn a chunk into one chip's array.

        Raises:
            ValueError: the checksum is not that of the data.
        """
        check_sealed(data)
        decode(memoryview(data)[:-4], self.codec, out)

    def read(self, file: ShardReader, slot: int, out: NDArray[Any]) -> None:
        """Read one chip's array, which is contiguous.

        Raises:
            PackageError: it is not there.
            ValueError: the checksum is not that of the data.
        """
        if self.codec == "none":
            file.chunk_into(slot, out)
        else:
            self.decode(file.chunk(slot), out)

    def metadata(self, chips: int) -> bytes:
        """Return the content of the array's ``zarr.json``."""
        sharding = {
            "chunk_shape": [1, *self.shape],
            "codecs": codecs_of(self.dtype, self.codec),
            "index_codecs": sealed_codecs(),
            "index_location": "end",
        }
        grid = {"name": "regular", "configuration": {"chunk_shape": [SHARD, *self.shape]}}
        return _array_metadata(
            self, chips, grid, [{"name": "sharding_indexed", "configuration": sharding}], self.attrs
        )  # fmt: skip

    def path(self, root: Path, shard: int) -> Path:
        """Return the file of a shard."""
        return _path(self, root, shard)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A small array whose chunks hold a row for every chip of a shard."""

    name: str
    """Path in the group, such as ``bounds``."""
    shape: tuple[int, ...]
    """Of one chip."""
    dtype: str
    """numpy dtype name."""
    dims: tuple[str, ...]
    """Names of the axes, the first is ``chip``."""
    separator: str = "/"
    """One of :data:`SEPARATORS`."""

    def encode(self, rows: NDArray[Any]) -> bytes:
        """Return the chunk of up to :data:`SHARD` rows."""
        full = np.zeros((SHARD, *self.shape), self.dtype)
        full[: len(rows)] = rows
        return full.tobytes() + checksum(full.tobytes())

    def read(self, root: Path, shard: int) -> NDArray[Any]:
        """Return the rows of a shard.

        Raises:
            PackageError: the file is missing or damaged.
        """
        path = self.path(root, shard)
        try:
            data = path.read_bytes()
            check_sealed(data)
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
        return np.frombuffer(data[:-4], self.dtype).reshape(SHARD, *self.shape)

    def metadata(self, chips: int) -> bytes:
        """Return the content of the array's ``zarr.json``."""
        grid = {"name": "regular", "configuration": {"chunk_shape": [SHARD, *self.shape]}}
        return _array_metadata(self, chips, grid, sealed_codecs(), {})

    def path(self, root: Path, shard: int) -> Path:
        """Return the file of a shard."""
        return _path(self, root, shard)


class ShardReader:
    """Reads chunks of one shard, from any thread.

    Args:
        path: of the file.

    Raises:
        PackageError: the file is missing, too short, or its index is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
            self.length = os.fstat(self._file).st_size
            tail = os.pread(self._file, _INDEX, max(self.length - _INDEX, 0))
        except OSError as error:
            raise damaged(path, f"the file is missing or cannot be read: {error.strerror}") from error
        if len(tail) != _INDEX or checksum(tail[:-4]) != tail[-4:]:
            raise damaged(path, "its index is damaged")
        self._index = np.frombuffer(tail[:-4], "<u8").reshape(SHARD, 2).tolist()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def chunk(self, slot: int) -> bytes:
        """Return the stored bytes of one chunk.

        Raises:
            PackageError: it is not there.
        """
        offset, size = self._found(slot)
        return os.pread(self._file, size, offset)

    def chunk_into(self, slot: int, out: NDArray[Any]) -> None:
        """Read one chunk, stored as it is, to where it belongs.

        Raises:
            PackageError: it is not there.
            ValueError: it has another size, or its checksum is wrong.
        """
        offset, size = self._found(slot)
        seal, data = bytearray(4), out.reshape(-1).view(np.uint8)
        if size != data.size + 4:
            raise ValueError(f"it has {size} bytes, not {data.size + 4}")
        if os.preadv(self._file, [data, seal], offset) != size:
            raise ValueError("the file ends in it")
        check(data, seal)

    def checksum(self, slot: int) -> bytes:
        """Return the length and the stored checksum of one chunk, without reading it.

        Raises:
            PackageError: it is not there.
        """
        offset, size = self._found(slot)
        return int(size).to_bytes(8, "little") + os.pread(self._file, 4, offset + size - 4)

    def strays(self) -> bool:
        """Tell whether anything stands between the chunks, where there are zeros at most."""
        end = 0
        for offset, size in [*sorted(found for found in self._index if found[0] != NONE), (self.length - _INDEX, 0)]:
            if any(os.pread(self._file, max(offset - end, 0), end)):
                return True
            end = offset + size
        return False

    def _found(self, slot: int) -> list[int]:
        offset, size = found = self._index[slot]
        if offset == NONE or offset + size > self.length:
            raise damaged(self.path, f"chunk {slot} is missing")
        return found


def damaged(path: Path, why: str) -> PackageError:
    """Return the error that names a damaged file of a store."""
    return PackageError(
        "the chip store is damaged", where=str(path), why=why, fix="remove the file and run `geomm chips build` again"
    )


def _path(spec: ArraySpec | TableSpec, root: Path, shard: int) -> Path:
    return root / spec.name / spec.separator.join(["c", str(shard), *["0"] * len(spec.shape)])


def _array_metadata(
    spec: ArraySpec | TableSpec, chips: int, grid: dict[str, Any], codecs: list[dict[str, Any]], attrs: dict[str, Any]
) -> bytes:
    kind = np.dtype(spec.dtype)
    about = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [chips, *spec.shape],
        "data_type": kind.name,
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": spec.separator}},
        "fill_value": "NaN" if kind.kind == "f" else False if kind.kind == "b" else 0,
        "codecs": codecs,
        "dimension_names": list(spec.dims),
        "attributes": attrs,
    }
    return json.dumps(about, indent=1).encode()


def group_metadata() -> bytes:
    """Return the content of a group's ``zarr.json``."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}, indent=1).encode()
