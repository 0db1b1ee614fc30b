"""How a chip's array becomes the bytes of a chunk, and back: as it is, or compressed; always with a checksum."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Codec = Literal["none", "lz4"]
"""``lz4``: bytes (of bytes, bits) of equal weight together, LZ4."""
CODECS: tuple[Codec, ...] = get_args(Codec)
"""All of them."""
_UNIFORM = 128
"""How many times smaller a chunk is that may hold a single value: it is looked at once."""
_CRC = {"name": "crc32c"}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def encode(value: NDArray[Any], codec: Codec) -> Any:
    """Return what is stored of an array, but for its checksum: bytes, or the array's own memory."""
    plain = value.reshape(-1).view(np.uint8)
    if codec == "none":
        return plain
    if value.dtype.itemsize == 1 and plain.min() == plain.max():  # all is valid, or nothing labelled
        return _uniform(value.size, int(plain[0]))
    return _blosc(value)


def decode(data: Any, codec: Codec, out: NDArray[Any]) -> None:
    """Undo :func:`encode`.

    Raises:
        ValueError, RuntimeError: the data are not those of such an array.
    """
    plain = out.reshape(-1).view(np.uint8)
    if codec == "none":
        if len(data) != plain.size:
            raise ValueError(f"it has {len(data)} bytes, not {plain.size}")
        plain[:] = np.frombuffer(data, np.uint8)
        return
    value = _only_value(bytes(data), plain.size) if len(data) < plain.size // _UNIFORM else None
    if value is None:
        _inflate(data, plain)
    else:
        plain.fill(value)


def checksum(data: Any) -> bytes:
    """Return the CRC-32C of some bytes, as zarr appends it."""
    return _crc32c()(data).to_bytes(4, "little")


def check(data: Any, stored: Any) -> None:
    """Compare bytes with the checksum that was stored with them.

    Raises:
        ValueError: it is not theirs.
    """
    if checksum(data) != stored:
        raise ValueError("its checksum is wrong")


def check_sealed(data: bytes) -> None:
    """Compare bytes with the checksum at their end.

    Raises:
        ValueError: it is not theirs.
    """
    if len(data) < 4:
        raise ValueError("its checksum is wrong")
    check(memoryview(data)[:-4], data[-4:])


def sealed_codecs() -> list[dict[str, Any]]:
    """Return zarr's names of what is done to numbers that are only sealed with a checksum."""
    return [_BYTES, _CRC]


def codecs_of(dtype: str, codec: Codec) -> list[dict[str, Any]]:
    """Return zarr's names of what is done to a chip's array, in order."""
    size = np.dtype(dtype).itemsize
    plain = _BYTES if size > 1 else {"name": "bytes"}
    if codec == "none":
        return [plain, _CRC]
    options = {"cname": "lz4", "clevel": 5, "shuffle": _shuffle(size), "typesize": size, "blocksize": 0}
    return [plain, {"name": "blosc", "configuration": options}, _CRC]


@lru_cache(maxsize=1)
def _crc32c() -> Callable[[Any], int]:
    """Return what computes CRC-32C: ISA-L, in half the time, where it is built in and counts as zarr does."""
    import imagecodecs

    def fast(data: Any) -> int:
        return int(imagecodecs.isal_crc32c(data, 0xFFFFFFFF)) ^ 0xFFFFFFFF

    isal = getattr(imagecodecs, "ISAL", None)  # since imagecodecs 2026.6
    if isal is not None and isal.available and fast(b"123456789") == 0xE3069283:  # the check value of RFC 3720
        return fast
    import google_crc32c

    return lambda data: int(google_crc32c.value(np.frombuffer(data, np.uint8)))


@lru_cache(maxsize=64)
def _uniform(size: int, value: int) -> Any:
    return _blosc(np.full(size, value, np.uint8))


@lru_cache(maxsize=64)
def _only_value(data: bytes, size: int) -> int | None:
    """Return the byte of which a chunk consists, None where it has several."""
    plain = np.empty(size, np.uint8)
    _inflate(data, plain)
    return int(plain[0]) if plain.min() == plain.max() else None


def _inflate(data: Any, out: NDArray[np.uint8]) -> None:
    import imagecodecs

    if len(imagecodecs.blosc_decode(data, out=out.data, numthreads=1)) != out.size:
        raise ValueError(f"it does not hold {out.size} bytes")


def _blosc(value: NDArray[Any]) -> Any:
    import imagecodecs

    size = value.dtype.itemsize
    return imagecodecs.blosc_encode(
        value, compressor="lz4", level=5, shuffle=_shuffle(size), typesize=size, numthreads=1
    )


def _shuffle(size: int) -> str:
    return "bitshuffle" if size == 1 else "shuffle"
