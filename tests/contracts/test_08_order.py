"""Promises 8, 9, 11, 12: stronger attacks are stronger, effort never hurts, the curve falls, without a bound nothing is left."""

from __future__ import annotations

import pytest
import torch

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import FGSM, PGD, AutoPGD, CosPGD, IterativeFGSM, Noise, SegPGD


def test_noise_fgsm_pgd10_pgd100(victim, cases, threat):
    ladder = [Noise(), FGSM(), PGD(steps=10), PGD(steps=100)]
    scores = [float(run(a, victim, threat, *cases).score.mean()) for a in ladder]
    assert scores == sorted(scores), scores
    assert scores[0] < 0.1 and scores[2] > scores[0] + 0.2


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("objective", ["cross_entropy", "dice_ce", "margin"])
def test_more_steps_never_weaken(victim, cases, threat, random_start, objective):
    """Of one length, the longer descent goes on where the shorter one ended."""
    settings = {"step_size": 2.0, "random_start": random_start, "objective": objective}
    few, more = (run(PGD(steps=n, **settings), victim, threat, *cases) for n in (4, 9))
    assert torch.equal(few.trace[:4], more.trace[:4])
    assert bool((more.score >= few.score).all())
    assert torch.equal(more.score, more.trace.amax(0))


@pytest.mark.parametrize("kind", [PGD, AutoPGD, SegPGD, CosPGD])
def test_more_steps_of_a_schedule_do_not_weaken_on_average(victim, cases, kind):
    """The steps of a schedule depend on how many there are, so no two descents go the same way: a measurement, with its slack."""
    few, more = (float(run(kind(steps=n), victim, ThreatModel(eps=4.0), *cases).score.mean()) for n in (5, 20))
    assert more > few - 0.005


def test_iterates_are_kept_per_case(victim, cases, threat):
    """The reported score is that of the returned image, for each case alone."""
    outcome = run(PGD(steps=6, step_size=6.0), victim, threat, *cases)
    again = run(Noise(), victim, ThreatModel(eps=0), outcome.adversarial, cases[1])
    torch.testing.assert_close(again.score, outcome.score)


def test_restarts_only_help(victim, cases, threat):
    one, three = (run(PGD(steps=3, restarts=r), victim, ThreatModel(eps=4.0), *cases) for r in (1, 3))
    assert torch.equal(three.trace[:4], one.trace)
    assert bool((three.score >= one.score).all())
    assert (three.forwards, three.backwards) == (3 * one.forwards, 3 * one.backwards)


def test_the_curve_falls(victim, cases):
    dice = [1 - float(run(PGD(steps=20), victim, ThreatModel(eps=e), *cases).score.mean()) for e in (0, 1, 2, 4, 8, 16, 32)]
    assert all(b <= a + 0.01 for a, b in zip(dice, dice[1:])), dice
    assert dice[0] > 0.9 and dice[-1] < 0.2


def test_without_a_bound_nothing_is_left(victim, cases):
    outcome = run(PGD(steps=60, step_size=12.0), victim, ThreatModel(eps=255), *cases)
    assert float(outcome.score.min()) > 0.98


def test_grey_level_rule_takes_the_papers_steps():
    """n(eps) of the NLCEN paper's attack."""
    expected = {
        0.5: 1,
        1: 2,
        2: 3,
        4: 5,
        6: 8,
        8: 10,
        10: 13,
        12: 15,
        14: 18,
        16: 20,
        18: 22,
        20: 24,
        22: 26,
        24: 28,
        26: 30,
        28: 32,
        30: 34,
        32: 36,
    }
    attack = IterativeFGSM(rule="grey_level")
    assert {e: attack.count(ThreatModel(eps=e)) for e in expected} == expected
    assert {e: attack.count(ThreatModel(eps=e / 255, value_range=(0, 1), unit="1")) for e in expected} == expected
