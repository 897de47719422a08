"""Promise 22: a zoo of broken defences is broken.

Labels are the victim's own clean prediction, so that every specimen starts at a score (1 - Dice) of 0 and can only look robust.
"""

from __future__ import annotations

import warnings

import pytest
from broken import ZOO

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import PGD, Noise
from monai_advdef.defenses import JPEG, FrequencyRefinement

THREAT = ThreatModel(eps=16.0)
STRONG = PGD(steps=20, step_size=None, objective="dice_ce")
DEFENSES = [FrequencyRefinement(), FrequencyRefinement(table="zones"), JPEG(quality=85), JPEG(quality=50, subsampling="4:4:4")]


def judged(victim, image, label):
    """Score of given images on the deployed victim, per case."""
    return run(Noise(), victim, ThreatModel(eps=0), image, label).score


@pytest.mark.parametrize("specimen", ZOO, ids=lambda s: s.name)
def test_looks_robust_to_the_careless_and_falls_to_us(trained, cases, specimen):
    victim, image = specimen.deployed(trained), cases[0]
    label = victim.predict(victim(image)).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NaN gradients are told
        careless = run(specimen.naive, specimen.careless(trained), THREAT, image, label).adversarial
    naive, ours = judged(victim, careless, label), run(specimen.ours, victim, THREAT, image, label).score
    assert float(naive.mean()) < 0.1, "it does not even look robust"
    assert float(ours.mean()) > 0.9
    assert bool((ours >= naive).all())


def test_gradients_of_nan_are_told(trained, cases):
    specimen = next(s for s in ZOO if s.name == "square root of nothing")
    with pytest.warns(UserWarning, match="NaN or infinite.*gradient masking"):
        run(PGD(steps=1), specimen.careless(trained), THREAT, *cases)


@pytest.mark.parametrize("defense", DEFENSES, ids=lambda d: d.label)
def test_published_image_defences_fall_and_an_adaptive_attacker_is_the_stronger(trained, victim, cases, defense):
    """Given the same attack, going through the surrogate beats ignoring the defence on the mean, and leaves next to nothing."""
    defended = type(victim)(trained, victim.normalize, defense=defense)
    oblivious = judged(defended, run(STRONG, defended.without_defense(), THREAT, *cases).adversarial, cases[1])
    adaptive = run(STRONG, defended, THREAT, *cases).score
    assert float(adaptive.mean()) >= float(oblivious.mean())
    assert float(adaptive.mean()) > 0.9


@pytest.mark.parametrize("smoothness", [0.5, 0.95])
@pytest.mark.parametrize("defense", DEFENSES, ids=lambda d: d.label)
def test_begun_at_the_oblivious_images_no_case_is_left_better_than_there(trained, victim, cases, defense, smoothness):
    """At a budget that leaves something: whatever the smoothness, case by case."""
    threat, attack = ThreatModel(eps=6.0), PGD(steps=6)
    defended = type(victim)(trained, victim.normalize, defense=defense, smoothness=smoothness)
    begun = run(attack, defended.without_defense(), threat, *cases).adversarial
    oblivious, adaptive = judged(defended, begun, cases[1]), run(attack, defended, threat, *cases, start=begun).score
    assert bool((adaptive >= oblivious).all()) and float(adaptive.mean()) > float(oblivious.mean())
