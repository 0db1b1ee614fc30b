"""Files of an index: written aside, brought to the disk, known by size and digest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_NONE = "0" * 64


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a manifest knows of a file."""

    size: int
    """Bytes."""
    sha256: str
    """Of all of them."""

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Read a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path.stat().st_size, digest)


class ArrayWriter:
    """Writes a ``.npy`` file piece by piece along the first axis; its header gets the length at the end."""

    def __init__(self, path: Path, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.dtype, self.shape, self.length = np.dtype(dtype), shape, 0
        self.file = path.open("wb")
        self.file.write(self._header())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self.file.seek(0)
            self.file.write(self._header())  # of the same size: NumPy leaves room for the first axis to grow

    def add(self, values: NDArray[Any]) -> None:
        """Append rows of the array."""
        assert values.shape[1:] == self.shape
        self.file.write(np.ascontiguousarray(values, self.dtype).data)
        self.length += len(values)

    def _header(self) -> bytes:
        buffer = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        about = {"descr": descr, "fortran_order": False, "shape": (self.length, *self.shape)}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()


def open_array(path: Path) -> NDArray[Any]:
    """Map an array of a file into memory, read-only."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """Make an array read-only, as mapped ones are: kernels are compiled for one kind of them."""
    values.flags.writeable = False
    return values


def seal(about: Mapping[str, Any]) -> bytes:
    """Return a record with the digest of its own bytes, those of the digest counted as zeros."""
    text = json.dumps({"sha256": _NONE, **about}, indent=0, allow_nan=False).encode()
    return text.replace(_NONE.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def unseal(content: bytes) -> dict[str, Any]:
    """Read a sealed record.

    Raises:
        ValueError: it is none, or any of its bytes has changed.
    """
    about: dict[str, Any] = json.loads(content)
    digest = about["sha256"] if isinstance(about, dict) and isinstance(about.get("sha256"), str) else ""
    if len(digest) != len(_NONE):
        raise ValueError("it holds no digest")
    if hashlib.sha256(content.replace(digest.encode(), _NONE.encode(), 1)).hexdigest() != digest:
        raise ValueError("its content has changed")
    return about
