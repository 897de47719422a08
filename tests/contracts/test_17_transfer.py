"""Promise 17: images transferred from elsewhere are no stronger than those of who knows the weights, else the number is flagged."""

from __future__ import annotations

import pytest
from broken import Posterised
from checked import verdict

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.defenses import JPEG
from monai_advdef.networks.standardized import Standardized

UNDEFENDED = "transfer from the undefended network"


@pytest.fixture
def network(trained):
    return Standardized(trained, mean=127.5, std=127.5)


def test_images_of_the_undefended_network_that_win_are_flagged(network, cases, threat):
    masked = Victim(network, defense=Posterised(honest=False))
    found = verdict("White box", masked, threat, cases[0][:3], cases[1][:3])
    assert found.verdict == "suspect" and UNDEFENDED in found.evidence.split("(")[0]
    assert found.numbers[UNDEFENDED] > found.numbers["white box"] + 0.1


def test_images_of_another_network_that_win_are_flagged(network, victim, cases, threat):
    masked = Victim(network, defense=Posterised(honest=False))
    found = verdict("White box", masked, threat, cases[0][:3], cases[1][:3], source=victim)
    own = run(PGD(steps=10), victim, threat, cases[0][:3], cases[1][:3]).adversarial
    assert found.verdict == "suspect"
    known = run(PGD(steps=1, step_size=1e-9, random_start=False), masked, ThreatModel(eps=0), own, cases[1][:3]).score.mean()
    assert found.numbers["transfer from another network"] == pytest.approx(float(known))


def test_behind_a_defence_that_is_seen_through_nothing_transferred_wins(network, cases, threat):
    found = verdict("White box", Victim(network, defense=JPEG(quality=50)), threat, cases[0][:3], cases[1][:3])
    assert found.verdict == "ok" and found.numbers[UNDEFENDED] <= found.numbers["white box"] + 0.01
