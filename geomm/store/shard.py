"""Zarr v3 shards: many chunks in one file, each with its own checksum, found through an index at the end.

Written and read here without zarr-python, whose cost per chunk is several times that of decoding it; what is written
is plain zarr that it, xarray and GDAL read. Format: https://zarr-specs.readthedocs.io, sharding indexed codec 1.0.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from geomm.errors import PackageError

SHARD = 64
"""Chips in a shard."""
_NONE = 2**64 - 1  # offset and size of a chunk that is not there
_CRC = {"name": "crc32c"}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


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

    def encode(self, value: NDArray[Any]) -> tuple[bytes, bytes]:
        """Compress one chip's array: bytes (of bytes, bits) of equal weight together, LZ4.

        Returns:
            Data and checksum.
        """
        data = _codec(self.dtype).encode(np.ascontiguousarray(value, self.dtype))
        return data, checksum(data)

    def decode(self, data: bytes, out: NDArray[Any]) -> None:
        """Decompress one chip's array into ``out``.

        Raises:
            ValueError: the checksum is not that of the data.
        """
        check(data)
        _codec(self.dtype).decode(memoryview(data)[:-4], out)

    def metadata(self, chips: int) -> bytes:
        """Return the content of the array's ``zarr.json``."""
        codecs = [_BYTES if np.dtype(self.dtype).itemsize > 1 else {"name": "bytes"}, _blosc_metadata(self.dtype), _CRC]
        sharding = {
            "chunk_shape": [1, *self.shape],
            "codecs": codecs,
            "index_codecs": [_BYTES, _CRC],
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
            check(data)
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from error
        return np.frombuffer(data[:-4], self.dtype).reshape(SHARD, *self.shape)

    def metadata(self, chips: int) -> bytes:
        """Return the content of the array's ``zarr.json``."""
        grid = {"name": "regular", "configuration": {"chunk_shape": [SHARD, *self.shape]}}
        return _array_metadata(self, chips, grid, [_BYTES, _CRC], {})

    def path(self, root: Path, shard: int) -> Path:
        """Return the file of a shard."""
        return _path(self, root, shard)


class ShardWriter:
    """Appends chunks to a shard's file, which appears under its name when it is whole.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._staging = path, path.with_name(f".{path.name}.{os.getpid()}")
        self._file: IO[bytes] = self._staging.open("wb")
        self._index = np.full((SHARD, 2), _NONE, "<u8")

    def add(self, slot: int, data: bytes, checksum: bytes) -> None:
        """Append one chunk."""
        self._index[slot] = self._file.tell(), len(data) + len(checksum)
        self._file.write(data)
        self._file.write(checksum)

    def close(self) -> None:
        """Write the index and give the file its name."""
        index = self._index.tobytes()
        self._file.write(index + checksum(index))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._staging.replace(self._path)

    def abandon(self) -> None:
        """Remove what was written."""
        self._file.close()
        self._staging.unlink(missing_ok=True)


class ShardReader:
    """Reads chunks of one shard, from any thread.

    Args:
        path: of the file.

    Raises:
        PackageError: the file is missing, too short, or its index is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = SHARD * 16 + 4
        try:
            self._file = os.open(path, os.O_RDONLY)
            self.length = os.fstat(self._file).st_size
            tail = os.pread(self._file, size, max(self.length - size, 0))
        except OSError as error:
            raise damaged(path, f"the file is missing or cannot be read: {error.strerror}") from error
        if len(tail) != size or checksum(tail[:-4]) != tail[-4:]:
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

    def checksum(self, slot: int) -> bytes:
        """Return the length and the stored checksum of one chunk, without reading it.

        Raises:
            PackageError: it is not there.
        """
        offset, size = self._found(slot)
        return int(size).to_bytes(8, "little") + os.pread(self._file, 4, offset + size - 4)

    def _found(self, slot: int) -> list[int]:
        offset, size = found = self._index[slot]
        if offset == _NONE or offset + size > self.length:
            raise damaged(self.path, f"chunk {slot} is missing")
        return found


def damaged(path: Path, why: str) -> PackageError:
    """Return the error that names a damaged file of a store."""
    return PackageError(
        "the chip store is damaged", where=str(path), why=why, fix="remove the file and run `geomm chips build` again"
    )


def _path(spec: ArraySpec | TableSpec, root: Path, shard: int) -> Path:
    return root / spec.name / "c" / str(shard) / Path(*["0"] * len(spec.shape))


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
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if kind.kind == "f" else False if kind.kind == "b" else 0,
        "codecs": codecs,
        "dimension_names": list(spec.dims),
        "attributes": attrs,
    }
    return json.dumps(about, indent=1).encode()


def group_metadata() -> bytes:
    """Return the content of a group's ``zarr.json``."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}, indent=1).encode()


def checksum(data: bytes | bytearray | memoryview) -> bytes:
    """Return the CRC-32C of some bytes, as zarr appends it."""
    return int(google_crc32c.value(np.frombuffer(data, np.uint8))).to_bytes(4, "little")


def check(data: bytes) -> None:
    """Compare bytes with the checksum at their end.

    Raises:
        ValueError: it is not theirs.
    """
    if len(data) < 4 or checksum(memoryview(data)[:-4]) != data[-4:]:
        raise ValueError("its checksum is wrong")


def _codec(dtype: str) -> Any:
    from numcodecs import Blosc

    return Blosc("lz4", 5, Blosc.BITSHUFFLE if np.dtype(dtype).itemsize == 1 else Blosc.SHUFFLE)


def _blosc_metadata(dtype: str) -> dict[str, Any]:
    size = np.dtype(dtype).itemsize
    shuffle = "bitshuffle" if size == 1 else "shuffle"
    options = {"cname": "lz4", "clevel": 5, "shuffle": shuffle, "typesize": size, "blocksize": 0}
    return {"name": "blosc", "configuration": options}
