"""Frequency Refinement against scipy, the published code's rule, and an autograd reference for its surrogate."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from monai_advdef.dct import block_dct, block_idct, crop_to
from monai_advdef.defenses import FrequencyRefinement, fit_band_statistics, frequency_table, save_band_statistics, zone_table
from monai_advdef.defenses.bands import zigzag

JPEG_ZIGZAG = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28]
EXACT = {"round_input": False, "round_output": False, "clip": False}


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).double()


def by_scipy(x: np.ndarray, table: np.ndarray, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Edge padding, one scipy DCT per block, half-to-even rounding, cropping; also how far each block is from a rounding tie."""
    height, width = x.shape[-2:]
    padded = np.pad(x, ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8)), mode="edge") - shift
    out, margin = np.empty_like(padded), np.empty_like(padded)
    for b, c, i, j in np.ndindex(*padded.shape[:2], padded.shape[2] // 8, padded.shape[3] // 8):
        place = (b, c, slice(8 * i, 8 * i + 8), slice(8 * j, 8 * j + 8))
        levels = scipy.fft.dctn(padded[place], norm="ortho") / table
        margin[place] = np.abs(np.abs(levels - np.floor(levels)) - 0.5).min()
        out[place] = scipy.fft.idctn(np.round(levels) * table, norm="ortho")
    return out[..., :height, :width] + shift, margin[..., :height, :width]


@pytest.mark.parametrize("size", [(16, 24), (8, 8), (19, 33), (5, 7), (1, 1), (40, 8)])
@pytest.mark.parametrize("shift", [0, 128])
def test_equals_scipy_away_from_ties(size, shift):
    x = integers(2, 3, *size)
    expected, margin = by_scipy(x.numpy(), frequency_table().numpy(), shift)
    away = torch.from_numpy(margin > 1e-4)
    assert away.float().mean() > 0.8
    exact = FrequencyRefinement(level_shift=shift, **EXACT)(x)
    torch.testing.assert_close(exact[away], torch.from_numpy(expected)[away], atol=1e-9, rtol=0)
    stored = FrequencyRefinement(level_shift=shift)(x.float())
    assert float((stored.double() - torch.from_numpy(expected.clip(0, 255)).round())[away].abs().max()) <= 1
    assert torch.equal(stored, stored.round()) and stored.min() >= 0 and stored.max() <= 255


def test_zones_are_the_published_codes_table_and_blocks():
    """Published rule: the table is QS3, its top left 4x4 QS2, its top left 2x2 QS1; RGB channels alike, no shift, numpy rounding."""
    table = np.ones((8, 8)) * 80
    table[0:4, 0:4] = 5
    table[0:2, 0:2] = 30
    assert np.array_equal(zone_table((30, 5, 80)).numpy(), table)
    assert [int((zone_table() == step).sum()) for step in (30, 5, 80)] == [4, 12, 48]
    x = integers(1, 3, 24, 32, seed=3)
    expected, margin = by_scipy(x.numpy(), table)
    away = torch.from_numpy(margin > 1e-6)
    out = FrequencyRefinement(steps=(30, 5, 80), table="zones", **EXACT)(x)
    torch.testing.assert_close(out[away], torch.from_numpy(expected)[away], atol=1e-9, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2**31))
def test_a_second_pass_changes_nothing_without_clipping_and_rounding(height, width, seed):
    defense = FrequencyRefinement(**EXACT)
    x = integers(1, 2, 8 * height, 8 * width, seed=seed)
    once = defense(x)
    torch.testing.assert_close(defense(once), once, atol=1e-8, rtol=0)


def test_ranking_without_statistics_is_zigzag():
    flat = zigzag().flatten().tolist()
    assert [flat.index(k) for k in range(32)] == JPEG_ZIGZAG and sorted(flat) == list(range(64))
    table = frequency_table((30, 5, 80))
    order = zigzag()
    assert (table[order < 3] == 30).all() and (table[(order >= 3) & (order < 15)] == 5).all() and (table[order >= 15] == 80).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=64, max_size=64))
def test_ranking_by_falling_deviation_with_zigzag_ties(values):
    order = zigzag().flatten().tolist()
    ranked = sorted(range(64), key=lambda k: (-values[k], order[k]))
    expected = np.empty(64)
    expected[ranked[:3]], expected[ranked[3:15]], expected[ranked[15:]] = 20, 10, 60
    table = frequency_table((20, 10, 60), np.reshape(values, (8, 8)).tolist())
    assert np.array_equal(table.flatten().numpy(), expected)


def test_band_statistics_are_the_pooled_standard_deviation():
    batch, single = integers(2, 3, 24, 17), integers(1, 8, 40, seed=1).numpy()
    coefficients = [block_dct(batch[..., :16]).reshape(-1, 8, 2, 8), block_dct(torch.from_numpy(single)[None]).reshape(-1, 8, 5, 8)]
    pooled = torch.cat([c.movedim(1, -2).reshape(-1, 8, 8) for c in coefficients])
    fitted = fit_band_statistics(iter([batch, single]))
    assert fitted.dtype == torch.float64
    torch.testing.assert_close(fitted, pooled.std(0, correction=0))
    torch.testing.assert_close(fit_band_statistics([batch / 255, single / 255], value_range=(0, 1)), fitted)


def test_band_statistics_travel_through_a_file(tmp_path):
    std = fit_band_statistics([integers(3, 64, 64)])
    path = tmp_path / "skin.json"
    save_band_statistics(std, path)
    assert torch.equal(frequency_table(band_std=path), frequency_table(band_std=std))
    defense = FrequencyRefinement(band_std=str(path))
    assert defense.to_config()["band_std"] == str(path)
    assert torch.equal(defense.quantisation, FrequencyRefinement(band_std=std).quantisation)
    assert json.loads(json.dumps(FrequencyRefinement(band_std=std).to_config()))["band_std"] == std.tolist()


def test_a_table_from_a_file(tmp_path):
    table = torch.arange(1.0, 65).view(8, 8).tolist()
    for name, content in (("bare", table), ("keyed", {"table": table})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        assert FrequencyRefinement(table=str(path)).quantisation.tolist() == table
    assert FrequencyRefinement(table=table).label == "FR(table)"


def test_volumes_slice_by_slice_and_as_cubes():
    x = integers(2, 2, 9, 16, 20)
    flat = FrequencyRefinement()
    out = flat(x)
    for k in range(9):
        assert torch.equal(out[:, :, k], flat(x[:, :, k]))
    cube = torch.full((8, 8, 8), 40.0)
    cube[:2, :2, :2] = 6
    volumetric = FrequencyRefinement(table=cube.tolist(), **EXACT)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 7), (0, 0), (0, 4)), mode="edge")
    blocks = padded.reshape(2, 2, 2, 8, 2, 8, 3, 8)
    levels = scipy.fft.dctn(blocks, axes=(3, 5, 7), norm="ortho") / cube.numpy()[:, None, :, None, :]
    back = scipy.fft.idctn(np.round(levels) * cube.numpy()[:, None, :, None, :], axes=(3, 5, 7), norm="ortho")
    np.testing.assert_allclose(volumetric(x).numpy(), back.reshape(padded.shape)[:, :, :9, :, :20], atol=1e-9)
    with pytest.raises(ValueError, match="an 8x8x8 table needs volumes"):
        volumetric(integers(1, 1, 16, 16))


def reference_band_gradient(x: torch.Tensor, g: torch.Tensor, table: torch.Tensor, largest: float) -> torch.Tensor:
    """The surrogate as autograd sees it: replicate padding, DCT, a constant mask, inverse, cropping."""
    size = x.shape[2:]
    padding = [side for n in reversed(size) for side in (0, -n % 8)]
    padded = functional.pad(x, padding, mode="replicate")
    step = table.repeat(*(n // 8 for n in padded.shape[2:]))
    mask = (block_dct(padded.detach().round()) / step).round().ne(0) | (step <= largest)
    return torch.autograd.grad(crop_to(block_idct(block_dct(padded) * mask), size), x, g)[0]


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (3, 4)])
@pytest.mark.parametrize("largest", [30, 4, 100])
def test_band_surrogate(size, largest):
    x = integers(2, 3, *size, seed=5).mul(0.2).add(90).round().requires_grad_()
    g = torch.randn_like(x)
    defense = FrequencyRefinement(surrogate="band", surrogate_step=largest)
    (ours,) = torch.autograd.grad(defense(x), x, g)
    torch.testing.assert_close(ours, reference_band_gradient(x, g, frequency_table(), largest))
    if largest == 100:
        torch.testing.assert_close(ours, g)


def test_band_surrogate_of_cubes():
    size = (9, 8, 11)
    table = torch.full((8, 8, 8), 70.0, dtype=torch.float64)
    table[0, 0, 0] = 10
    x = integers(1, 2, *size).requires_grad_()
    g = torch.randn_like(x)
    (ours,) = torch.autograd.grad(FrequencyRefinement(table=table.tolist(), surrogate="band")(x), x, g)
    torch.testing.assert_close(ours, reference_band_gradient(x, g, table, 30))


def test_other_surrogates():
    x = integers(1, 3, 13, 16).requires_grad_()
    g = torch.randn_like(x)
    (straight,) = torch.autograd.grad(FrequencyRefinement(surrogate="straight_through")(x), x, g)
    assert torch.equal(straight, g)
    assert not FrequencyRefinement(surrogate=None)(x).requires_grad


def test_band_surrogate_respects_units():
    x = (integers(1, 1, 16, 16) / 255).requires_grad_()
    g = torch.randn_like(x)
    (scaled,) = torch.autograd.grad(FrequencyRefinement(value_range=(0, 1))(x), x, g)
    y = (x.detach() * 255).round().requires_grad_()
    torch.testing.assert_close(scaled, torch.autograd.grad(FrequencyRefinement()(y), y, g)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": (30, 0, 80)}, "steps must be three positive"),
        ({"steps": (30, 5)}, "steps must be three positive"),
        ({"table": [[1.0] * 8] * 7}, r"table must be 8x8 or 8x8x8 with positive steps, got shape \(7, 8\)"),
        ({"table": [[0.0] * 8] * 8}, "with positive steps"),
        ({"table": [[1.0], [1.0, 2.0]]}, "table must be a full table of numbers"),
        ({"table": "no/such/file.json"}, "table must be a table or the path of a JSON file"),
        ({"table": [[float("nan")] * 8] * 8}, "table must be finite"),
        ({"band_std": [[1.0] * 4] * 4}, "band_std must be 8x8 and non-negative"),
        ({"table": "zones", "band_std": [[1.0] * 8] * 8}, "table and band_std exclude each other"),
        ({"color": "hsv"}, "color must be 'rgb' or 'ycbcr', got 'hsv'"),
        ({"subsampling": "4:2:0"}, "subsampling must be '4:4:4', or with color 'ycbcr' '4:2:0', got '4:2:0' with color 'rgb'"),
        ({"color": "ycbcr", "subsampling": "4:2:2"}, "subsampling must be '4:4:4', .* got '4:2:2'"),
        ({"surrogate": "soft"}, "surrogate must be 'smooth', 'straight_through', 'identity' or 'band' or None, got 'soft'"),
        ({"smoothness": 1.5}, r"smoothness must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FrequencyRefinement(**arguments)


def test_bad_statistics():
    with pytest.raises(ValueError, match="at least one whole 8x8 block, got none"):
        fit_band_statistics([integers(3, 7, 20)])
    with pytest.raises(ValueError, match="at least one whole 8x8 block"):
        fit_band_statistics([])
    with pytest.raises(ValueError, match=r"images\[1\] must be finite"):
        fit_band_statistics([integers(3, 8, 8), integers(3, 8, 8) * torch.nan])
    with pytest.raises(ValueError, match=r"images\[0\] must be finite \(C, H, W\)"):
        fit_band_statistics([integers(8, 8)])
    with pytest.raises(ValueError, match=r"images\[0\] must be finite \(C, D, H, W\)"):
        fit_band_statistics([integers(8, 8, 8)], dims=3)
    with pytest.raises(ValueError, match="at least one whole 8x8x8 block"):
        fit_band_statistics([integers(1, 7, 8, 8)], dims=3)
    with pytest.raises(ValueError, match="dims must be 2 or 3, got 1"):
        fit_band_statistics([], dims=1)


def test_a_table_against_the_papers_constraints_warns():
    with pytest.warns(UserWarning, match="do not keep QS1 >= QS2 and QS2 <= QS3"):
        frequency_table((5, 30, 80))
