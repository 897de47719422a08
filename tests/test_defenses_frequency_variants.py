"""Frequency Refinement in YCbCr, its lattice, and its cubes, against scipy and an autograd reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from test_defenses_frequency import EXACT, by_scipy, integers
from torch.nn import functional

from monai_advdef.dct import block_dct, block_idct, crop_to
from monai_advdef.defenses import FrequencyRefinement, fit_band_statistics, frequency_table, save_band_statistics
from monai_advdef.defenses.bands import zigzag


def to_ycc(x):
    """BT.601 from its two weights, chroma centred on 0; arrays and tensors alike."""
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, (blue - luma) / 1.772, (red - luma) / 1.402


def from_ycc(luma, cb, cr):
    """Red, green, blue."""
    red, blue = luma + 1.402 * cr, luma + 1.772 * cb
    return red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue


def interpolation(n: int) -> torch.Tensor:
    """Doubling by scipy's bilinear zoom as a matrix, (2n, n)."""
    return torch.from_numpy(scipy.ndimage.zoom(np.eye(n), (2, 1), order=1, mode="nearest", grid_mode=True))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [(16, 32), (21, 38)])
def test_ycbcr_equals_scipy(size, subsampling):
    x = integers(2, 3, *size, seed=7).numpy()
    table = frequency_table().numpy()
    planes = []
    for number, plane in enumerate(to_ycc(x)):
        halved = number > 0 and subsampling == "4:2:0"
        if halved:
            even = np.pad(plane, ((0, 0), (0, 0), (0, size[0] % 2), (0, size[1] % 2)), mode="edge")
            plane = sum(even[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        plane = by_scipy(plane, table)[0]
        if halved:
            plane = scipy.ndimage.zoom(plane, (1, 1, 2, 2), order=1, mode="nearest", grid_mode=True)[..., : size[0], : size[1]]
        planes.append(plane)
    expected = np.concatenate(from_ycc(*planes), 1)
    exact = FrequencyRefinement(color="ycbcr", subsampling=subsampling, **EXACT)(torch.from_numpy(x))
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-5)
    stored = FrequencyRefinement(color="ycbcr", subsampling=subsampling)(torch.from_numpy(x + 0.3))
    assert np.abs(stored.numpy() - expected.clip(0, 255)).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_grey_stays_grey_in_ycbcr(subsampling):
    x = integers(1, 1, 24, 30).expand(1, 3, 24, 30)
    out = FrequencyRefinement(color="ycbcr", subsampling=subsampling, **EXACT)(x)
    torch.testing.assert_close(out, FrequencyRefinement(**EXACT)(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [(16, 32), (22, 36)])
def test_band_surrogate_in_ycbcr(size, subsampling):
    x = integers(2, 3, *size, seed=5).mul(0.2).add(90).round().requires_grad_()
    g = torch.randn_like(x)
    planes, out = to_ycc(x), []
    for number, plane in enumerate(planes):
        halved = number > 0 and subsampling == "4:2:0"
        plane = plane.view(2, 1, size[0] // 2, 2, size[1] // 2, 2).mean((3, 5)) if halved else plane
        padded = functional.pad(plane, (0, -plane.shape[3] % 8, 0, -plane.shape[2] % 8), mode="replicate")
        step = frequency_table().repeat(*(n // 8 for n in padded.shape[2:]))
        mask = (block_dct(padded.detach()) / step).round().ne(0) | (step <= 30)
        plane = crop_to(block_idct(block_dct(padded) * mask), plane.shape[2:])
        out.append(interpolation(size[0] // 2) @ plane @ interpolation(size[1] // 2).T if halved else plane)
    (expected,) = torch.autograd.grad(torch.cat(from_ycc(*out), 1), x, g)
    (ours,) = torch.autograd.grad(FrequencyRefinement(color="ycbcr", subsampling=subsampling, surrogate="band")(x), x, g)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("arguments", [{}, {"level_shift": 128}, {"value_range": (-1, 1)}, {"table": np.full((8, 8, 8), 9.0)}])
def test_levels_and_back(arguments):
    defense = FrequencyRefinement(**arguments)
    x = defense.from_grey(integers(2, 3, 9, 19, 24))
    levels = defense.levels(x)
    cubes = defense.quantisation.ndim == 3
    assert levels.shape == ((2, 3, 16, 24, 24) if cubes else (2, 3, 9, 24, 24))
    torch.testing.assert_close(defense.image_of(levels, x.shape[2:]), x)
    block = (0, 1, slice(0, 8) if cubes else 4, slice(8, 16), slice(8, 16))
    expected = scipy.fft.dctn(defense.to_grey(x)[block].numpy() - defense.level_shift, norm="ortho")
    np.testing.assert_allclose((levels[block] * defense.quantisation).numpy(), expected, atol=1e-8)


def test_a_point_of_the_lattice_survives_the_defence():
    defense = FrequencyRefinement(**EXACT)
    levels = defense.levels(integers(1, 3, 16, 24)).round() + 1
    image = defense.image_of(levels, (16, 24))
    torch.testing.assert_close(defense(image), image, atol=1e-8, rtol=0)
    x = integers(1, 1, 9, 8).requires_grad_()
    (g,) = torch.autograd.grad(defense.image_of(defense.levels(x), (9, 8)).sum(), x)
    torch.testing.assert_close(g, torch.ones_like(g))


def test_levels_need_one_lattice():
    defense = FrequencyRefinement(color="ycbcr", subsampling="4:2:0")
    for call in (lambda: defense.levels(integers(1, 3, 8, 8)), lambda: defense.image_of(integers(1, 3, 8, 8), (8, 8))):
        with pytest.raises(ValueError, match="levels of an image need color 'rgb', got 'ycbcr' with subsampling '4:2:0'"):
            call()
    with pytest.raises(ValueError, match="color 'ycbcr' needs 3 channels, red, green and blue, got 1"):
        defense(integers(1, 1, 8, 8))


def test_cubes_ranked_by_their_own_statistics(tmp_path):
    """The 3-D DCT of scipy gives the statistics; the same shares of 512 bands as of 64 take the three steps."""
    volumes = [integers(2, 17, 24, 16, seed=1), integers(1, 1, 8, 16, 20, seed=2)]
    smooth = [torch.from_numpy(scipy.ndimage.gaussian_filter(v.numpy(), 1.2, axes=(-3, -2, -1))) for v in volumes]
    parts = [v.reshape(-1, *v.shape[-3:])[:, : v.shape[-3] // 8 * 8, :, : v.shape[-1] // 8 * 8].numpy() for v in smooth]
    cubes = [
        c[:, i : i + 8, j : j + 8, k : k + 8] for c in parts for i, j, k in np.ndindex(c.shape[1:]) if i % 8 == j % 8 == k % 8 == 0
    ]
    std = scipy.fft.dctn(np.concatenate(cubes), axes=(1, 2, 3), norm="ortho").std(0)
    fitted = fit_band_statistics(iter(smooth), dims=3)
    np.testing.assert_allclose(fitted.numpy(), std, rtol=1e-6)
    save_band_statistics(fitted, tmp_path / "cubes.json")
    defense = FrequencyRefinement(steps=(30, 5, 80), band_std=str(tmp_path / "cubes.json"))
    ranks = (-std).argsort(None).argsort().reshape(8, 8, 8)
    assert np.array_equal(defense.quantisation.numpy(), np.select([ranks < 24, ranks < 120], [30, 5], 80))
    assert defense.label == "FR(30,5,80, 8x8x8)" and FrequencyRefinement(table=np.full((8,) * 3, 9.0)).label == "FR(table, 8x8x8)"
    flat = frequency_table(band_std=np.ones((8, 8, 8)))
    assert [int((flat == step).sum()) for step in (30, 5, 80)] == [24, 96, 392] and flat[0, 0, 0] == 30 and flat[7, 7, 7] == 80
    assert torch.equal(zigzag(dims=3)[0, :3, :3].flatten().argsort(), zigzag()[:3, :3].flatten().argsort())
