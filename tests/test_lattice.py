"""The lattice attack: what it crosses stays crossed, at the cost arithmetic gives, and it beats an oblivious attacker."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, Lattice
from monai_advdef.defenses import JPEG, Blur, FrequencyRefinement, RandomizedFrequencyRefinement

DC = 30.0  # step of the DC coefficient


class Brightness(nn.Module):
    """Two classes, the second the likelier the brighter the pixel."""

    def forward(self, x):
        return torch.cat((-x, x), 1) / 1000


def one_block(distance: float) -> torch.Tensor:
    """A flat block whose DC coefficient, 8 times its grey level, lies ``distance`` below a rounding boundary."""
    return torch.full((1, 1, 8, 8), ((4 + 0.5) * DC - distance) / 8)


def flat_table() -> list[list[float]]:
    table = torch.full((8, 8), 10000.0)
    table[0, 0] = DC
    return table.tolist()


@pytest.mark.parametrize("distance", [2.0, 6.0, 12.0])
@pytest.mark.parametrize(("share", "crosses"), [(0.95, False), (1.1, True)])
def test_crossing_costs_an_eighth_of_the_distance_in_grey_levels(distance, share, crosses):
    """Orthonormal DC: a uniform change by t moves it by 8 t; behind the boundary the output is a whole step, 30 / 8, brighter."""
    defense = FrequencyRefinement(table=flat_table(), round_input=False, round_output=False)
    image, label = one_block(distance), torch.zeros(1, 1, 8, 8)
    attack = Lattice(steps=3, margin=0.01, keep="last")
    outcome = run(attack, Victim(Brightness(), defense=defense), ThreatModel(eps=share * distance / 8), image, label)
    change = defense(outcome.adversarial) - defense(image)
    torch.testing.assert_close(change, torch.full_like(change, DC / 8 if crosses else 0.0), atol=1e-4, rtol=0)


def test_margin_survives_rounding_to_eight_bits():
    image, label = one_block(9.0).round(), torch.zeros(1, 1, 8, 8)
    defense = FrequencyRefinement(table=flat_table())
    outcome = run(Lattice(steps=3, keep="last"), Victim(Brightness(), defense=defense), ThreatModel(eps=3.0), image, label)
    assert defense(outcome.adversarial.round()).mean() > defense(image).mean() + 3


@pytest.mark.parametrize("eps", [4.0, 8.0])
@pytest.mark.parametrize("defense", [FrequencyRefinement(), FrequencyRefinement(steps=(20, 10, 60))], ids=lambda d: d.label)
def test_beats_the_oblivious_attacker(trained, cases, defense, eps):
    """Of the same objective and steps of one length, as its own are; at 8 grey levels falling steps are as strong obliviously."""
    victim, threat = Victim(trained, (127.5, 127.5), defense), ThreatModel(eps=eps)
    oblivious = run(PGD(steps=10, schedule="constant"), victim.without_defense(), threat, *cases).adversarial
    transferred = run(Lattice(steps=1, objective="dice"), victim, ThreatModel(eps=0), oblivious, cases[1]).score
    outcome = run(Lattice(steps=10, objective="dice"), victim, threat, *cases)
    assert outcome.score.mean() > transferred.mean()
    assert (outcome.forwards, outcome.backwards) == (11, 10)


def test_what_is_wanted_and_in_reach_is_crossed_in_the_wanted_direction(trained, cases):
    """The defence's own levels, recomputed from the adversarial image, moved along the gradient more than they would by PGD."""
    defense = FrequencyRefinement(table=torch.full((8, 8), 60.0).tolist())
    victim, threat = Victim(trained, (127.5, 127.5), defense), ThreatModel(eps=6.0)
    before = defense.levels(cases[0]).round()

    def crossed(attack):
        return (defense.levels(run(attack, victim, threat, *cases).adversarial).round() != before).float().mean()

    assert crossed(Lattice(steps=2, keep="last")) > 1.5 * crossed(PGD(steps=2, step_size=6.0, random_start=False, keep="last"))


@pytest.mark.parametrize(
    ("threat", "options"),
    [
        (ThreatModel(eps=5.0), {}),
        (ThreatModel(eps=5.0), {"random_start": True, "restarts": 2}),
        (ThreatModel(eps=(2.0, 5.0, 8.0)), {}),
        (ThreatModel(norm="l2", eps=300.0), {}),
        (ThreatModel(norm="unbounded"), {"step_size": 4.0}),
    ],
    ids=["linf", "restarts", "per channel", "l2", "unbounded"],
)
def test_within_bounds(trained, cases, threat, options):
    outcome = run(Lattice(steps=3, **options), Victim(trained, (127.5, 127.5), FrequencyRefinement()), threat, *cases)
    change, eps = (outcome.adversarial - cases[0]).abs(), torch.as_tensor(threat.eps).reshape(1, -1, 1, 1)
    assert bool((outcome.adversarial >= 0).all()) and bool((outcome.adversarial <= 255).all())
    assert bool((outcome.size > 0).all())
    if threat.norm == "linf":
        assert bool((change <= eps * (1 + 1e-6)).all())
    if threat.norm == "l2":
        assert bool((outcome.size <= threat.eps).all())


def test_a_case_does_not_depend_on_its_batch(trained, cases):
    victim, attack = Victim(trained, (127.5, 127.5), FrequencyRefinement()), Lattice(steps=2)
    together = run(attack, victim, ThreatModel(eps=4.0), *cases)
    alone = run(attack, victim, ThreatModel(eps=4.0), cases[0][2:3], cases[1][2:3])
    torch.testing.assert_close(together.score[2:3], alone.score, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        (None, "Lattice needs a defence .* got no defence; put FrequencyRefinement"),
        (Blur(), "Lattice needs a defence .* got Blur; put FrequencyRefinement"),
        (JPEG(), "levels of a colour image need subsampling '4:4:4'"),
        (RandomizedFrequencyRefinement(), "attack a randomised defence in expectation"),
    ],
)
def test_victims_without_a_lattice_are_named(trained, cases, threat, defense, message):
    with pytest.raises(ValueError, match=message):
        run(Lattice(steps=1), Victim(trained, (127.5, 127.5), defense), threat, *cases)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0}, "step_size must be > 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"price": 0.0}, "price must be > 0"),
        ({"corrections": -1}, "corrections must be a whole number"),
        ({"margin": -1.0}, "margin must be ≥ 0"),
        ({"steps": 0}, "steps must be a whole number"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Lattice(**options)


def test_unbounded_needs_a_step_size(trained, cases):
    victim = Victim(trained, (127.5, 127.5), FrequencyRefinement())
    with pytest.raises(ValueError, match="step_size must be given for an unbounded threat"):
        run(Lattice(steps=1), victim, ThreatModel(norm="unbounded"), *cases)
