"""The compiled kernels against the plain functions, pixel by pixel, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geomm.catalog import Grid
from geomm.cube import kernels
from geomm.cube.bilinear import bilinear, bilinear_warp
from geomm.cube.locate import lattice, source_coordinates
from geomm.cube.resample import resample

DTYPES = ["uint8", "uint16", "int16", "float32"]


def _source(seed, shape, dtype, holes):
    generator = np.random.default_rng(seed)
    values = (generator.random(shape) * 200 + 5).astype(dtype)
    valid = generator.random(shape) >= holes
    if np.dtype(dtype).kind == "f":
        values[~valid] = np.nan
    return values, valid


def _plain(values, valid, rows, columns, method, dtype, fill):
    """What the kernel should give: value, state; from the functions that know one pixel at a time."""
    value, good = resample(values, valid, rows, columns, method)
    if method in ("average", "conservative"):
        rows, columns = ((a[:-1, :-1] + a[1:, 1:]) / 2 for a in (rows, columns))
    inside = (rows >= 0) & (columns >= 0) & (rows < values.shape[0]) & (columns < values.shape[1])
    good = good & inside
    rounded = np.rint(value) if np.dtype(dtype).kind in "iu" else value
    return np.where(good, rounded, fill), np.where(good, kernels.VALID, inside), good, value


def _check(out, state, expected):
    value, states, good, exact = expected
    np.testing.assert_array_equal(state, states)
    if out.dtype.kind == "f":
        np.testing.assert_allclose(out, value.astype(out.dtype), rtol=1e-6)
        return
    np.testing.assert_array_equal(out[~good], value[~good])
    # An integer may differ only where the exact value lies on the edge between two.
    assert (np.abs(out[good].astype(float) - exact[good]) <= 0.5 + 1e-6).all()


axes = st.tuples(st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 0.1, 1.37, 0.62]), st.floats(-9, 30), st.integers(1, 80))


@settings(max_examples=200, deadline=None)
@given(axes, axes, st.integers(1, 30), st.integers(1, 200), st.sampled_from(DTYPES), st.sampled_from([0, 0.02, 0.6]))
def test_separate_axes(down, right, height, width, dtype, holes):
    values, valid = _source(width, (height, width), dtype, holes)
    rows, columns = (np.round((np.arange(n) * step + first) * 2**20) / 2**20 for step, first, n in (down, right))
    grid = np.meshgrid(rows, columns, indexing="ij")
    for method in ("bilinear", "nearest"):
        out, state = np.zeros(grid[0].shape, dtype), np.full(grid[0].shape, kernels.VALID, np.uint8)
        fill = out.dtype.type(77)
        if method == "bilinear":
            bilinear(values, valid, rows, columns, out, state, fill, out.dtype.kind != "f")
        else:
            kernels.nearest(values, valid, rows, columns, out, state, fill)
        _check(out, state, _plain(values, valid, *grid, method, dtype, 77))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(-7, 9), st.integers(-7, 9), st.integers(1, 25), st.integers(1, 25),
    st.sampled_from(DTYPES), st.sampled_from([0, 0.02, 0.6]),
)  # fmt: skip
def test_means_of_whole_pixels(down, right, top, left, height, width, dtype, holes):
    values, valid = _source(width, (31, 40), dtype, holes)
    rows, columns = top + np.arange(height + 1.0) * down, left + np.arange(width + 1.0) * right
    grid = np.meshgrid(rows, columns, indexing="ij")
    out, state = np.zeros((height, width), dtype), np.full((height, width), kernels.VALID, np.uint8)
    kernels.mean(values, valid, top, down, left, right, out, state, out.dtype.type(77), out.dtype.kind != "f")
    _check(out, state, _plain(values, valid, *grid, "average", dtype, 77))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-3000, 3000), st.floats(-3000, 3000), st.sampled_from([10.0, 20.0, 27.3, 60.0]),
    st.integers(1, 70), st.integers(1, 150), st.sampled_from(DTYPES), st.sampled_from([0, 0.02, 0.6]),
)  # fmt: skip
def test_warps_between_zones(east, north, size, height, width, dtype, holes):
    source = Grid("EPSG:32633", (size, 0.0, 240000.0, 0.0, -size, 5210000.0), (90, 110))
    corner = Affine(size, 0, 702000 + east, 0, -size, 5211000 + north)
    part = GeoBox((height, width), corner, "EPSG:32632")
    values, valid = _source(width, source.shape, dtype, holes)
    nodes = lattice(part, source)
    assert not nodes.rough.any()
    out, state = np.zeros(part.shape, dtype), np.full(part.shape, kernels.VALID, np.uint8)
    bilinear_warp(
        values, valid, nodes.rows, nodes.columns, nodes.first, (0, 0), out, state, out.dtype.type(77),
        out.dtype.kind != "f",
    )  # fmt: skip
    _check(out, state, _plain(values, valid, *source_coordinates(part, source), "bilinear", dtype, 77))


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
def test_what_holds_a_value(dtype):
    values = np.array([[0, 1, 5, 100, 7]], dtype)
    nodata = kernels.nodata_of(values.dtype, (5, None, 1.5, float("nan"), -1e30, 5.0))
    assert set(nodata.tolist()) >= {5}
    assert values.dtype.kind == "f" or nodata.tolist() == [5]
    flags = np.zeros(values.shape, bool)
    kernels.usable(values, nodata, (1, 99), flags)
    assert flags.tolist() == [[False, True, False, False, True]]
    if values.dtype.kind == "f":
        values[0, 1], values[0, 4] = np.nan, -np.inf
        kernels.usable(values, nodata, None, flags)
        assert flags.tolist() == [[True, False, False, True, False]]
        declared = kernels.nodata_of(values.dtype, (-3.4e38,))
        values[0, 0] = -3.4000001e38 if dtype == "float64" else np.float32(-3.4e38)
        kernels.usable(values, declared, None, flags)
        assert not flags[0, 0]
