"""Randomised Frequency Refinement: a draw is FR on a shifted grid with a jittered table; deployed, the pixels decide the draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_defenses_frequency import integers, reference_band_gradient

from monai_advdef.defenses import FrequencyRefinement, RandomizedFrequencyRefinement, frequency_table


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def shifted(x: torch.Tensor, shift: list[int]) -> torch.Tensor:
    """Edge padding in front of the last axes."""
    sides = [(0, 0)] * (x.ndim - len(shift)) + [(s, 0) for s in shift]
    return torch.from_numpy(np.pad(x.detach().numpy(), sides, mode="edge"))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"grid_shift": False},
        {"jitter": 0},
        {"color": "ycbcr", "subsampling": "4:2:0"},
        {"table": np.full((8, 8, 8), 30.0)},
        {"level_shift": 128, "table": "zones"},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(3, 3, 9, 21, 16), (3, 3, 8, 8, 13)])
def test_a_draw_is_fr_on_a_shifted_grid_with_another_table(arguments, shape):
    defense = RandomizedFrequencyRefinement(**arguments)
    x = integers(*shape)
    out = defense(x, streams(4, 5, 6))
    for case, given_case, generator in zip(out, x, streams(4, 5, 6)):
        shift, table = defense.draw(generator)
        assert len(shift) == table.ndim and all(0 <= s < 8 for s in shift)
        assert any(shift) == defense.grid_shift and torch.equal(table, defense.quantisation) == (defense.jitter == 0)
        plain = FrequencyRefinement(
            table=table, level_shift=defense.level_shift, color=defense.color, subsampling=defense.subsampling
        )
        expected = plain(shifted(given_case[None], shift))[0]
        back = tuple(slice(s, None) for s in ([0] * (3 - len(shift)) + shift))
        assert torch.equal(case, expected[(slice(None), *back)])


def test_draws_cover_the_grid_and_the_range_of_the_jitter():
    defense = RandomizedFrequencyRefinement(jitter=0.3)
    (generator,) = streams(0)
    draws = [defense.draw(generator) for _ in range(300)]
    shifts = np.array([shift for shift, _ in draws])
    logs = torch.stack([(table / defense.quantisation).log() for _, table in draws])
    assert set(shifts[:, 0]) == set(shifts[:, 1]) == set(range(8)) and abs(np.corrcoef(shifts.T)[0, 1]) < 0.2
    assert float(logs.abs().max()) <= 0.3 + 1e-6
    assert float(logs.mean()) == pytest.approx(0, abs=0.01) and float(logs.std()) == pytest.approx(0.3 / math.sqrt(3), rel=0.02)
    assert float(logs.std(0).min()) > 0.1, "every band has a jitter of its own"


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 2**40))
def test_deployed_draws_depend_on_the_case_and_the_seed_alone(order, seed):
    defense = RandomizedFrequencyRefinement(seed=seed)
    x = integers(4, 3, 19, 24, seed=1)
    out = defense(x)
    assert torch.equal(defense(x[order]), out[order]) and torch.equal(defense(x[1:2]), out[1:2])
    assert not torch.equal(RandomizedFrequencyRefinement(seed=seed + 1)(x), out)
    same = defense(x.float()) == out.float()
    assert same.float().mean() > 0.9, "the draw is of the stored image, not of its number format (which may turn a block at a tie)"


def test_cases_draw_differently():
    x = integers(1, 3, 32, 32)
    other = x.clone()
    other[..., 31, 31] = 255 - other[..., 31, 31]
    defense = RandomizedFrequencyRefinement()
    assert not torch.equal(defense(x)[..., :16, :16], defense(other)[..., :16, :16]), "one pixel far away changes the draw"
    one, two = defense(x.expand(2, 3, 32, 32), streams(1, 2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("size", [(16, 24), (13, 21)])
def test_band_surrogate_through_a_draw(size):
    """The steps before the jitter decide which bands always pass, so the three first do in every draw."""
    x = integers(1, 3, *size, seed=5).mul(0.2).add(90).round().requires_grad_()
    g = torch.randn_like(x)
    defense = RandomizedFrequencyRefinement(jitter=0.5, surrogate="band")
    shift, table = defense.draw(*streams(3))
    assert float(table[0, 0]) > 30 or float(table[0, 1]) > 30 or float(table[1, 0]) > 30
    (ours,) = torch.autograd.grad(defense(x, streams(3)), x, g)
    inner = shifted(x, shift).requires_grad_()
    rows, columns = (slice(s, None) for s in shift)
    outer = torch.zeros_like(inner)
    outer[..., rows, columns] = g
    always = torch.where(frequency_table() <= 30, -1.0, 1.0)
    back = reference_band_gradient(inner, outer, table * always, 0)
    for axis, s in zip((-2, -1), shift):  # what flowed into the repeated edge belongs to the edge
        kept = back.narrow(axis, s, back.shape[axis] - s).clone()
        kept.narrow(axis, 0, 1).add_(back.narrow(axis, 0, s).sum(axis, keepdim=True))
        back = kept
    torch.testing.assert_close(ours, back)


def test_no_lattice_to_aim_at():
    for call in (lambda d: d.levels(integers(1, 3, 8, 8)), lambda d: d.image_of(integers(1, 3, 8, 8), (8, 8))):
        with pytest.raises(ValueError, match="levels move with every draw"):
            call(RandomizedFrequencyRefinement())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jitter": -0.1}, "jitter must be ≥ 0 and finite, got -0.1"),
        ({"jitter": float("nan")}, "jitter must be ≥ 0 and finite, got nan"),
        ({"jitter": 0, "grid_shift": False}, "leave nothing random"),
        ({"steps": (30, 0, 80)}, "steps must be three positive"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomizedFrequencyRefinement(**arguments)
