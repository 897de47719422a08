"""Promise 10: doubling the steps, or the restarts, changes mean Dice by less than 0.01, else the attack is not converged."""

from __future__ import annotations

import pytest
from checked import Threshold, halves, verdict

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD
from monai_advdef.checks import run_checks


def test_an_attack_that_was_stopped_early_is_suspect_with_what_more_steps_find(victim, cases, threat):
    image, label = cases[0][:3], cases[1][:3]
    found = verdict("Converged", victim, threat, image, label, attack=PGD(steps=2), seed=3)
    once, twice = (float(run(PGD(steps=n), victim, threat, image, label, seed=3).score.mean()) for n in (2, 4))
    assert found.verdict == "suspect" and found.evidence.startswith("not converged: ")
    assert found.numbers["once"] == pytest.approx(once) and found.numbers["twice the steps"] == pytest.approx(twice)
    assert twice - once > 0.01


def test_one_that_can_find_no_more_is_ok():
    found = verdict("Converged", Victim(Threshold(101.0)), ThreatModel(eps=4.0), *halves(8, 8), attack=PGD(steps=4))
    assert found.verdict == "ok" and set(found.numbers.values()) == {1.0}


def test_restarts_are_doubled_by_themselves(victim, cases, threat):
    found = verdict("Converged", victim, threat, cases[0][:2], cases[1][:2], attack=PGD(steps=3, restarts=2))
    known = run(PGD(steps=3, restarts=4), victim, threat, cases[0][:2], cases[1][:2]).score.mean()
    assert found.numbers["twice the restarts"] == pytest.approx(float(known))


@pytest.mark.parametrize(("attack", "eps"), [(FGSM(), 8.0), (PGD(steps=4), 0.0)], ids=["one step", "nothing may change"])
def test_where_there_is_nothing_to_double_nothing_is_said(victim, cases, attack, eps):
    assert run_checks(victim, ThreatModel(eps=eps), cases[0][:1], cases[1][:1], attack=attack, only=["Converged"]) == []
