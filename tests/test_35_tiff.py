"""Tiles decoded without GDAL are what GDAL decodes, and whatever is different is left to GDAL."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geomm.catalog import BandSource
from geomm.cube.read import SourceReader
from geomm.cube.tiff import Tiles, tiles_of
from geomm.errors import ReadError

PLACE = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}


def write(path, values, **profile):
    """Write ``(band, y, x)`` as a deflated GeoTIFF, tiled unless told otherwise."""
    options = {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate", "interleave": "band"}
    count, height, width = values.shape
    kind = {"dtype": values.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", driver="GTiff", **PLACE, **kind, **(options | profile)) as file:
        file.write(values)
    return path


def values_of(dtype, shape=(1, 100, 150), seed=0):
    """Numbers of every size a dtype has, and NaN."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        values = generator.normal(size=shape).astype(dtype) * 10.0 ** generator.integers(-30, 30, shape)
        values[..., 3, 4] = np.nan
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@given(
    kind=st.sampled_from(
        [(d, p) for d in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32") for p in (1, 2)]
        + [("float32", 3)]
    ),
    bands=st.integers(1, 3),
    size=st.tuples(st.integers(1, 130), st.integers(65, 200)),
    cell=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_tiles_are_what_gdal_reads(tmp_path_factory, kind, bands, size, cell, seed):
    dtype, predictor = kind
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    write(path, values_of(dtype, (bands, 140, 210), seed)[:, : size[0], : size[1]], predictor=predictor)
    high, wide = 32 * cell[0], 64 * cell[1]
    wanted = tuple(range(bands, 0, -1))
    with rasterio.open(path) as src:
        tiles, truth = tiles_of(src, path), src.read(wanted)
        assert tiles is not None
        for y in range(0, size[0], high):
            for x in range(0, size[1], wide):
                part = (y, min(y + high, size[0]), x, min(x + wide, size[1]))
                out = np.empty((bands, size[0] + 8, size[1] + 8), dtype)[:, : part[1] - y, : part[3] - x]
                assert tiles.read(src, wanted, part, out)
                assert out.tobytes() == truth[:, y : part[1], x : part[3]].tobytes()


@pytest.mark.parametrize(
    ("dtype", "profile"),
    [
        ("uint16", {"compress": "lzw"}),
        ("uint16", {"compress": "zstd"}),
        ("uint16", {"compress": "none"}),
        ("uint16", {"tiled": False}),
        ("uint16", {"endianness": "big"}),
        ("uint16", {"nbits": 12}),
        ("uint16", {"interleave": "pixel"}),
        ("float64", {"predictor": 3}),
    ],
)
def test_other_files_are_left_to_gdal_and_read_alike(tmp_path, dtype, profile):
    values = np.arange(2 * 100 * 150).reshape(2, 100, 150).astype(dtype) % 4000
    path = write(tmp_path / "a.tif", values, **profile)
    with rasterio.open(path) as src:
        assert tiles_of(src, path) is None
    pixels = SourceReader().read([BandSource(str(path), 2)], (0, 100), (0, 150))
    assert (pixels.values[0] == values[1]).all()


def test_a_remote_file_is_left_to_gdal(tmp_path):
    with rasterio.open(write(tmp_path / "a.tif", values_of("uint16"))) as src:
        assert tiles_of(src, None) is None


def test_a_tile_that_was_left_out_is_filled_by_gdal(tmp_path):
    values = values_of("uint16")
    values[:, :32, 64:128] = 7
    path = write(tmp_path / "a.tif", values, sparse_ok=True, nodata=7)
    with rasterio.open(path) as src:
        out = np.empty((1, 32, 150), np.uint16)
        assert not tiles_of(src, path).read(src, (1,), (0, 32, 0, 150), out)
        truth = src.read()
    pixels = SourceReader().read([BandSource(str(path), 1)], (0, 100), (0, 150))
    assert (pixels.values == truth).all()
    assert (pixels.valid == (truth != 7)).all()


def test_a_file_that_was_removed_is_left_to_what_is_open(tmp_path):
    path = write(tmp_path / "a.tif", values_of("uint16"))
    with rasterio.open(path) as src:
        tiles = tiles_of(src, path)
        path.unlink()
        assert not tiles.read(src, (1,), (0, 32, 0, 64), np.empty((1, 32, 64), np.uint16))


@pytest.mark.parametrize("offset", [2**40, 2**63 + 5])
def test_a_tile_that_lies_nowhere_is_reported(tmp_path, offset):
    path = write(tmp_path / "a.tif", values_of("uint16", (1, 96, 192)), bigtiff="yes")
    with rasterio.open(path) as src:
        start = int(src.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content = path.read_bytes()
    assert content.count(start.to_bytes(8, "little")) == 1
    path.write_bytes(content.replace(start.to_bytes(8, "little"), offset.to_bytes(8, "little")))
    pixels = SourceReader().read([BandSource(str(path), 1)], (0, 96), (0, 192))
    assert isinstance(pixels.error, ReadError)
    assert pixels.unread[32:64, 64:128].all()


@pytest.mark.parametrize("dtype", ["float16", "complex64"])
def test_types_without_arithmetic_are_refused_by_name(tmp_path, dtype):
    profile = {"nbits": 16} if dtype == "float16" else {}
    path = write(tmp_path / "a.tif", np.ones((1, 96, 192), "float32" if profile else dtype), **profile)
    with pytest.raises(ReadError, match=f"type {dtype}"):
        SourceReader().read([BandSource(str(path), 1)], (0, 96), (0, 192))


@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_a_damaged_tile_is_refused_and_reported(tmp_path, harm):
    path = write(tmp_path / "a.tif", values_of("uint16", (1, 96, 192)), predictor=2)
    with rasterio.open(path) as src:
        start, size = (int(src.get_tag_item(f"BLOCK_{k}_2_2", "TIFF", bidx=1)) for k in ("OFFSET", "SIZE"))
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[start + size // 2] ^= 0xFF
    path.write_bytes(content if harm == "flipped" else content[: start + size // 2])
    with rasterio.open(path) as src:
        out = np.empty((1, 32, 64), np.uint16)
        tiles = tiles_of(src, path)
        assert isinstance(tiles, Tiles)
        assert not tiles.read(src, (1,), (64, 96, 128, 192), out)
        assert tiles.read(src, (1,), (0, 32, 0, 64), out)
    pixels = SourceReader().read([BandSource(str(path), 1)], (0, 96), (0, 192))
    assert isinstance(pixels.error, ReadError)
    assert pixels.unread[64:, 128:].all()
    assert pixels.unread.sum() == 32 * 64
