"""VAFA: the identity at zero strength, tables of a call, rounding against its definition, in 2D and 3D, within any bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import small_unet
from scipy.fft import dctn, idctn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import VAFA
from monai_advdef.attacks.spectral import _rounded

FREE = ThreatModel(norm="unbounded")


@pytest.mark.parametrize("threat", [FREE, ThreatModel(eps=4), ThreatModel(norm="l2", eps=50)])
def test_the_identity_at_zero_strength_bit_for_bit(victim, cases, threat):
    image = (cases[0] + 0.123).clamp(0, 255)
    assert torch.equal(run(VAFA(q_max=0, steps=2), victim, threat, image, cases[1]).adversarial, image)
    assert torch.equal(run(VAFA(steps=2), victim, ThreatModel(eps=0), image, cases[1]).adversarial, image)


def test_a_constant_slice_stays_where_it_is(victim, cases):
    """The published code divides by the range of every slice."""
    flat = torch.full_like(cases[0], 128.0)
    outcome = run(VAFA(steps=2), victim, FREE, flat, cases[1])
    assert bool(torch.isfinite(outcome.adversarial).all()) and float((outcome.adversarial - flat).abs().max()) < 20


def test_a_second_call_begins_anew(victim, cases):
    attack = VAFA(steps=3, block=16)
    first, _, again = (run(attack, victim, FREE, cases[0][i : i + 2], cases[1][i : i + 2]) for i in (0, 2, 0))
    assert torch.equal(first.adversarial, again.adversarial) and torch.equal(first.trace, again.trace)
    whole = run(attack, victim, FREE, *cases)
    torch.testing.assert_close(whole.adversarial[:2], first.adversarial, rtol=0, atol=2e-2)


def test_it_begins_with_every_coefficient_rounded_to_the_largest_step(victim, cases):
    """Against scipy, block by block: at the first look the tables hold ``q_max``, and the rounding is soft."""
    attack, q = VAFA(steps=1, block=16, q_max=20, keep="last"), 20
    ball = FREE.around(cases[0][:1])
    begun = ball.image + 0  # a copy
    begun = attack.init(ball, [])[0, 0].numpy().astype(float)
    x = cases[0][0, 0].numpy().astype(float)
    for i in range(0, 48, 16):
        block = (slice(i, i + 16), slice(16, 32))
        c = dctn(x[block] - 128, norm="ortho")
        soft = _rounded(torch.tensor(c), torch.full((16, 16), float(q)), 0.1).numpy()
        np.testing.assert_allclose(begun[block], x[block] + idctn(soft - c, norm="ortho"), atol=5e-3)


def test_soft_rounding_becomes_rounding():
    c = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    tables = torch.full_like(c, 7)
    hard = 7 * (c / 7).round()
    apart = [float((_rounded(c, tables, s) - hard).abs().mean()) for s in (0.1, 1e-2, 1e-4, 1e-8)]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 0.3
    assert torch.equal(_rounded(c, torch.zeros_like(c), 0.1), c)
    leaf = tables.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q: _rounded(c[1::50] + 0.013, q, 0.1), leaf[1::50])


@pytest.mark.parametrize("block", [8, 20])
def test_it_lowers_dice_more_the_longer_it_learns(victim, cases, block):
    scores = [float(run(VAFA(steps=n, block=block), victim, FREE, *cases).score.mean()) for n in (1, 10, 30)]
    assert scores == sorted(scores) and scores[-1] > scores[0] + 0.01


def test_similarity_is_kept(victim, cases):
    from monai_advdef.synthesis import ssim

    near, far = (run(VAFA(steps=15, ssim_weight=w, keep="last"), victim, FREE, *cases).adversarial for w in (20.0, 0.0))
    assert float(ssim(near, cases[0]).mean()) > float(ssim(far, cases[0]).mean())


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_volumes_that_no_block_divides_within_a_bound(head):
    g = torch.Generator().manual_seed(0)
    image, label = torch.randn(2, 2, 20, 24, 28, generator=g), torch.randint(0, 2, (2, 2, 20, 24, 28), generator=g).float()
    label = label if head == "sigmoid" else label[:, :1]
    threat = ThreatModel(eps=0.1, value_range="image", unit="sigma")
    outcome = run(VAFA(steps=3, block=16), Victim(small_unet(3, 2).eval(), activation=head), threat, image, label)
    assert float(outcome.size.max()) == pytest.approx(0.1) and bool((outcome.size > 0).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"q_min": 30}, "q_min and q_max must be ≥ 0 and in this order"),
        ({"q_max": -1}, "q_min and q_max must be"),
        ({"block": 1}, "block must be a whole number of voxels ≥ 2"),
        ({"ssim_weight": -1}, "ssim_weight must be ≥ 0"),
    ],
)
def test_other_values_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        VAFA(**options)
