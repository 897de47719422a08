"""The block DCT against scipy, its adjoint, and padding."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_advdef import dct


def reference(x: np.ndarray, block: int, inverse: bool = False) -> np.ndarray:
    """One scipy call per block."""
    out = np.empty_like(x)
    function = scipy.fft.idctn if inverse else scipy.fft.dctn
    size = x.shape[2:]
    for corner in np.ndindex(*(n // block for n in size)):
        place = (slice(None), slice(None), *(slice(block * i, block * (i + 1)) for i in corner))
        out[place] = function(x[place], axes=tuple(range(2, x.ndim)), norm="ortho")
    return out


@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (1, 5, 24, 8), (3, 1, 40, 104), (1, 2, 8, 16, 24), (2, 1, 24, 8, 8)])
@pytest.mark.parametrize("block", [8, 4])
def test_equals_scipy(shape, block):
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(dct.block_dct(torch.from_numpy(x), block).numpy(), reference(x, block), atol=1e-12)
    np.testing.assert_allclose(dct.block_idct(torch.from_numpy(x), block).numpy(), reference(x, block, inverse=True), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_orthonormal(blocks, batch, channels, seed):
    x = torch.randn(batch, channels, *(8 * n for n in blocks), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    c = dct.block_dct(x)
    assert c.shape == x.shape
    torch.testing.assert_close(c.square().sum(), x.square().sum())
    torch.testing.assert_close(dct.block_idct(c), x)


def test_many_chunks_equal_one(monkeypatch):
    x = torch.randn(3, 2, 40, 24, dtype=torch.float64)
    whole = dct.block_dct(x)
    for size in (1, 400, 1000):
        monkeypatch.setattr(dct, "CHUNK", size)
        torch.testing.assert_close(dct.block_dct(x), whole)


@pytest.mark.parametrize("shape", [(1, 2, 8, 16), (1, 1, 8, 8, 16)])
@pytest.mark.parametrize("function", [dct.block_dct, dct.block_idct])
def test_gradients(shape, function):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x,), fast_mode=True)


def test_non_contiguous_input_is_left_alone():
    x = torch.randn(2, 16, 24, 3).permute(0, 3, 1, 2)
    before = x.clone()
    torch.testing.assert_close(dct.block_idct(dct.block_dct(x)), x, atol=1e-5, rtol=0)
    assert torch.equal(x, before)


def test_a_size_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=r"multiple of block=8, got \(9, 16\); call pad_to_block"):
        dct.block_dct(torch.zeros(1, 1, 9, 16))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=3))
def test_padding_repeats_the_edge_and_its_adjoint_collects_it(size):
    x = torch.randn(2, 1, *size, dtype=torch.float64, requires_grad=True)
    padded = dct.pad_to_block(x)
    expected = np.pad(x.detach().numpy(), [(0, 0), (0, 0), *((0, -n % 8) for n in size)], mode="edge")
    assert np.array_equal(padded.detach().numpy(), expected)
    assert torch.equal(dct.crop_to(padded, size), x)
    g = torch.randn_like(padded)
    torch.testing.assert_close(dct.pad_adjoint(g, size), torch.autograd.grad(padded, x, g)[0])
