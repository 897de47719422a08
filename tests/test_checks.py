"""Checks: each has a case that triggers its verdict and a clean one that does not; those of masking stand under contracts."""

from __future__ import annotations

import json

import pytest
import torch
from checked import Changed, Threshold, halves, verdict
from conftest import small_unet
from monai.inferers import SlidingWindowInferer

from monai_advdef import ThreatModel, Victim
from monai_advdef.attacks import ASMA, PGD, TargetedIterativeFGSM
from monai_advdef.checks import CHECKS, Verdict, cost, run_checks
from monai_advdef.checks.bounds import declared, same
from monai_advdef.defenses import RandomizedFrequencyRefinement

THREAT = ThreatModel(eps=8.0)
SOUND = {"ok"}


@pytest.fixture
def few(cases):
    return cases[0][:2], cases[1][:2]


def changed(trained, change, **options) -> Victim:
    return Victim(Changed(trained, change), (127.5, 127.5), **options)


def of(name, found):
    return next(v for v in found if v.name == name)


def test_a_sound_victim_passes_them_all(victim, few):
    found = run_checks(victim, THREAT, *few, attack=PGD(steps=30, restarts=2), declared=THREAT)
    assert [v.name for v in found] == list(CHECKS)
    doubted = {v.name: v.evidence for v in found if v.verdict != "ok" and v.name != "Converged"}
    assert doubted == {}
    assert all(v.evidence and json.loads(json.dumps(v.plain())) == v.plain() for v in found)


# -- outputs

OUTPUTS = {
    "softmax": (lambda n, x: n(x).softmax(1), "suspect", "sum to 1: probabilities,"),
    "softmax twice": (lambda n, x: n(x).softmax(1).softmax(1), "suspect", "already be taken twice"),
    "log-softmax": (lambda n, x: n(x).log_softmax(1), "ok", "log-probabilities"),
    "sigmoids": (lambda n, x: n(x).sigmoid(), "suspect", "probabilities of single classes"),
    "one class": (lambda n, x: n(x)[:, 1:], "broken", "set activation to 'sigmoid'"),
    "constant": (lambda n, x: 0 * n(x) + 3, "broken", "3 for every voxel"),
    "logits": (lambda n, x: n(x), "ok", "for 2 classes"),
}


@pytest.mark.parametrize(("change", "expected", "words"), OUTPUTS.values(), ids=OUTPUTS)
def test_what_is_no_logit_is_named(trained, few, change, expected, words):
    found = verdict("Outputs", changed(trained, change), THREAT, *few)
    assert found.verdict == expected and words in found.evidence


def test_probabilities_behind_a_sigmoid_head_are_broken_and_nothing_else_is_asked(trained, few):
    probable = changed(trained, lambda n, x: n(x).softmax(1)[:, 1:], activation="sigmoid")
    found = run_checks(probable, THREAT, *few)
    assert [v.name for v in found] == ["Randomness", "Outputs"] and found[-1].verdict == "broken"
    sound = changed(trained, lambda n, x: n(x)[:, 1:] - n(x)[:, :1], activation="sigmoid")
    assert verdict("Outputs", sound, THREAT, *few).verdict == "ok"


# -- randomness


def test_a_network_that_draws_is_suspect_and_one_that_mixes_its_batch_broken(trained, few):
    drawing = changed(trained, lambda n, x: torch.nn.functional.dropout(n(x), 0.3, training=True))
    assert "draws at random in evaluation mode" in verdict("Randomness", drawing, THREAT, *few).evidence
    assert verdict("Randomness", drawing, THREAT, *few).verdict == "suspect"
    mixing = changed(trained, lambda n, x: n(x) - 5 * n(x).mean((0, 2, 3), keepdim=True))
    found = run_checks(mixing, THREAT, *few)
    assert [v.verdict for v in found] == ["broken"] and "others stand beside it" in found[0].evidence


@pytest.mark.parametrize(("draws", "expected"), [(1, "suspect"), (8, "ok")])
def test_a_defence_that_draws_is_attacked_in_expectation(trained, few, draws, expected):
    found = verdict("Randomness", Victim(trained, (127.5, 127.5), RandomizedFrequencyRefinement(), draws=draws), THREAT, *few)
    assert found.verdict == expected and "RandomizedFrequencyRefinement draws at random" in found.evidence


# -- cases and bounds


def test_a_case_without_foreground_is_named(victim, few):
    image, label = few
    assert verdict("Foreground", victim, THREAT, image, label).verdict == "ok"
    label = label.clone()
    label[1] = 0
    found = verdict("Foreground", victim, THREAT, image, label, names=["anna", "berta"])
    assert found.verdict == "suspect" and "case berta" in found.evidence and found.numbers == {"empty": 1}


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (ThreatModel(norm="l2", eps=8.0), "norm l2, the bundle's is linf"),
        (ThreatModel(value_range=(0, 250)), "value_range [0, 250], the bundle's is [0, 255]"),
        (ThreatModel(region="nonzero"), "region nonzero, the bundle's is None"),
        (ThreatModel(eps=1.0, relative=True), "relative True, the bundle's is False"),
        (ThreatModel(unit="percent"), "unit percent, the bundle's is grey level"),
    ],
    ids=["norm", "range", "region", "relative", "unit"],
)
def test_another_threat_than_the_bundles_is_suspect(victim, few, mine, words):
    bundle = declared({"norm": "linf", "eps": 4, "value_range": [0, 255], "unit": "grey level"})
    found = verdict("Threat", victim, mine, few[0].clamp(0, 250), few[1], declared=bundle)
    assert found.verdict == "suspect" and words in found.evidence


def test_another_eps_and_the_same_range_by_channel_are_the_bundles_own(victim, few):
    bundle = declared({"eps": 4.0, "value_range": [[0, 255]] * 3, "unit": "grey level"})
    assert verdict("Threat", victim, THREAT, *few, declared=bundle).verdict == "ok"
    assert run_checks(victim, THREAT, *few, only=["Threat"]) == [] and declared({}) is None


def test_fields_are_compared_by_what_they_say():
    mask = torch.ones(1, 1, 4, 4)
    assert same((0, 255), [[0, 255], [0, 255]]) and same(mask, mask.clone()) and same("image", "image") and same(None, None)
    assert not same((0, 255), "image") and not same(mask, None) and not same(mask, 0 * mask) and not same((0, 255), (0, 1))


# -- every kind of victim


def test_volumes_through_a_sliding_window():
    network = small_unet(3, 1, 2).eval()
    image = 200 * torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) - 100
    victim = Victim(network, (0, 100), inferer=SlidingWindowInferer((8, 16, 16), overlap=0.5))
    label = victim.predict(victim(image)).float().detach()
    threat = ThreatModel(eps=10.0, value_range=(-1000, 1000), unit="HU")
    found = run_checks(victim, threat, image, label, attack=PGD(steps=2), only=["Gradients", "Finite differences", "Stored"])
    assert {v.name: v.verdict for v in found} == dict.fromkeys(["Gradients", "Finite differences", "Stored"], "ok")
    assert "NIfTI" in of("Stored", found).evidence and "HU" in of("Stored", found).evidence


def test_scripted_networks_and_targeted_and_unbounded_attacks(trained, few):
    scripted = Victim(torch.jit.trace(trained, few[0] / 127.5 - 1), (127.5, 127.5))
    found = run_checks(scripted, THREAT, *few, attack=TargetedIterativeFGSM(steps=3))
    assert not any("could not be checked" in v.evidence for v in found)
    free = ThreatModel(norm="unbounded")
    found = run_checks(scripted, free, *few, attack=ASMA(steps=3, target="elsewhere"))
    assert not any("could not be checked" in v.evidence for v in found) and "White box" not in {v.name for v in found}


def test_an_empty_budget_is_checked_without_a_word_of_convergence(victim, few):
    assert {"Converged", "Finite differences"}.isdisjoint(v.name for v in run_checks(victim, ThreatModel(eps=0.0), *few))


def test_a_batch_of_one_gets_the_verdicts_of_its_case(victim, few):
    one = verdict("Finite differences", victim, THREAT, few[0][:1], few[1][:1], seed=[5])
    two = verdict("Finite differences", victim, THREAT, torch.cat([few[0][:1]] * 2), torch.cat([few[1][:1]] * 2), seed=[5, 5])
    assert one.numbers["along"] == pytest.approx(two.numbers["along"], rel=1e-4)


# -- words


def test_what_is_wrong_is_told(victim, few):
    with pytest.raises(ValueError, match="unknown check 'Gradient'; did you mean 'Gradients'"):
        run_checks(victim, THREAT, *few, only=["Gradient"])
    with pytest.raises(ValueError, match="seed has 1 entries for 2 cases"):
        run_checks(victim, THREAT, *few, seed=[1])
    with pytest.raises(ValueError, match="verdict must be one of ok, suspect, broken, got 'fine'"):
        Verdict("x", "fine", "")
    with pytest.raises(ValueError, match="outside value_range"):
        run_checks(victim, ThreatModel(value_range=(0, 10), eps=1.0), *few)


def test_what_cannot_be_checked_is_not_trusted():
    image, label = halves(8, 8)
    found = verdict("Converged", Victim(Threshold(101.0)), ThreatModel(norm="unbounded"), image, label, attack=PGD(steps=3))
    assert found.verdict == "suspect" and found.evidence.startswith("this could not be checked: ")


def test_every_member_of_a_suite_is_doubled(victim, few):
    """The first member may have converged, and the worst case still be lowered by another."""
    first, other = PGD(steps=2, random_start=False), PGD(steps=2, objective="margin", random_start=False)
    weak = few[0] + 0.5
    alone = verdict("Converged", victim, THREAT, *few, attack=first, adversarial=weak)
    both = verdict("Converged", victim, THREAT, *few, attack=first, others=[other], adversarial=weak)
    assert both.verdict == "suspect" and "2 steps × 1 and 2 steps × 1" in both.evidence and "of each" in both.evidence
    for name in ("twice the steps", "twice the restarts"):
        assert both.numbers[name] >= max(alone.numbers[name], both.numbers["once"])


def test_what_the_checks_cost_is_told_beforehand(trained, few):
    counted = {"passes": 0, "gradients": 0}

    def counting(network, x):
        counted["passes"] += len(x)
        counted["gradients"] += len(x) if x.requires_grad and torch.is_grad_enabled() else 0
        return network(x)

    attack, image, label = PGD(steps=10), few[0][:1], few[1][:1]
    run_checks(changed(trained, counting), THREAT, image, label, attack=attack)
    forwards, backwards = cost([attack], THREAT)
    assert counted["gradients"] <= backwards <= 1.5 * counted["gradients"]
    assert counted["passes"] <= 1.1 * forwards and forwards <= 1.5 * counted["passes"]
