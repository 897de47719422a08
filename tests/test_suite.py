"""Suites against one batch: what is kept of each case, what it costs, and every kind of victim and head."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import blobs, small_unet
from hypothesis import given
from hypothesis import strategies as st
from suites import BEHIND, MEMBERS, Counted, alone, dice_of, made

from monai_advdef import ThreatModel, Victim
from monai_advdef.defenses import Blur, Defense, FrequencyRefinement, RandomizedFrequencyRefinement
from monai_advdef.suite import attack_with, pooled, worst_set
from monai_advdef.suite.plan import seen_through

THREAT = ThreatModel(eps=4.0)


def volumes(activation: str) -> tuple[Victim, torch.Tensor, torch.Tensor]:
    """An untrained 3D network of three classes and labels that it partly agrees with."""
    network = small_unet(dims=3, channels=1, classes=3)
    victim = Victim(network, normalize=(127.5, 127.5), activation=activation)
    image = (255 * torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))).round()
    with torch.no_grad(), victim.frozen():
        found = victim.predict(victim(image)).float()
    found[..., :4] = 0
    return victim, image, found


def case(name: str, trained) -> tuple[Victim, torch.Tensor, torch.Tensor]:
    if name == "2D softmax":
        return (Victim(trained, normalize=(127.5, 127.5)), *blobs(4, seed=2))
    return volumes(name.split()[1])


@pytest.mark.parametrize("name", ["2D softmax", "3D softmax", "3D sigmoid"])
def test_of_every_case_the_image_with_the_lowest_dice_is_kept(trained, name):
    """Against each member by itself, judged by a Dice written out with sets."""
    victim, image, label = case(name, trained)
    outcome = attack_with(made(), victim, THREAT, image, label, seed=5)
    images = [alone(m, victim, THREAT, image, label, seed=5) for m in MEMBERS]
    dice = torch.stack([dice_of(victim, x, label).mean(1) for x in [image, *images]])
    torch.testing.assert_close(1 - outcome.score, dice.amin(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(dice_of(victim, outcome.adversarial, label).mean(1), dice.amin(0), atol=1e-6, rtol=0)
    for ran, own in zip(outcome.members, dice[1:]):
        torch.testing.assert_close(1 - ran.outcome.score, own, atol=1e-6, rtol=0)
        assert not ran.adaptive
    for i, number in enumerate(outcome.which.tolist()):
        assert torch.equal(outcome.adversarial[i], image[i] if number < 0 else images[number][i])
    assert [r.label for r in outcome.members] == ["PGD dice", "PGD", "ti-FGSM to background"]
    assert outcome.assessed and outcome.notes == ()


def test_a_targeted_member_tells_its_own_success_and_counts_by_the_same_metric(victim, cases):
    image, label = cases[0][:3], cases[1][:3]
    members = [{"attack": "TargetedIterativeFGSM", "target": "inverted", "steps": 8}]
    outcome = attack_with(made(members), victim, ThreatModel(eps=16.0), image, label)
    of = outcome.members[0].outcome
    torch.testing.assert_close(of.success, dice_of(victim, outcome.adversarial, 1 - label).mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(1 - of.score, dice_of(victim, outcome.adversarial, label).mean(1), atol=1e-6, rtol=0)
    assert bool((of.judged.target_iou >= 0).all()) and bool((of.judged.target_overlap == 0).all())


def test_a_case_does_not_see_its_batch(victim, cases):
    defended = Victim(victim.network, victim.normalize, FrequencyRefinement())
    seeds = [11, 12, 13, 14]
    image, label = cases[0][:4], cases[1][:4]
    whole = attack_with(made(), defended, THREAT, image, label, seed=seeds)
    for i in range(4):
        one = attack_with(made(), defended, THREAT, image[i : i + 1], label[i : i + 1], seed=[seeds[i]])
        torch.testing.assert_close(one.score, whole.score[i : i + 1], atol=2e-3, rtol=0)
        assert torch.equal(one.passes, whole.passes[i : i + 1])
        assert [r.label for r in one.members] == [r.label for r in whole.members]


def test_cases_at_dice_0_leave_the_batch(trained, cases):
    """So large a budget that the first member wins: nobody looks at the images again."""
    network = Counted(trained)
    victim = Victim(network, normalize=(127.5, 127.5))
    first = made(MEMBERS[:1])
    threat = ThreatModel(eps=80.0)
    once = attack_with(first, victim, threat, *cases)
    assert bool((once.score == 1).all()), "the first member does not win"
    looks = network.forwards
    outcome = attack_with(made(), victim, threat, *cases)
    assert network.forwards - looks <= looks
    for ran in outcome.members[1:]:
        assert bool(ran.outcome.score.isnan().all()) and int(ran.outcome.passes.sum()) == 0 and ran.outcome.forwards == 0
    assert torch.equal(outcome.adversarial, once.adversarial) and outcome.which.tolist() == [0] * len(cases[0])


def test_without_foreground_a_case_counts_as_the_rule_for_empty_masks_says(victim, cases):
    """A network that sees something where nothing is has Dice 0 to begin with: its clean image is the worst there is."""
    image, label = cases[0][:2], torch.zeros_like(cases[1][:2])
    outcome = attack_with(made(), victim, THREAT, image, label)
    assert outcome.score.tolist() == [1, 1] and outcome.which.tolist() == [-1, -1] and torch.equal(outcome.adversarial, image)
    black = torch.full_like(image, 128.0)  # of which the network predicts nothing
    empty = dice_of(victim, black, label).mean(1)
    outcome = attack_with(made(), victim, ThreatModel(eps=0), black, label)
    assert outcome.score.tolist() == (1 - empty).tolist()


def test_nothing_allowed_is_the_clean_image_bit_for_bit(victim, cases):
    outcome = attack_with(made(), victim, ThreatModel(eps=0), *cases)
    assert torch.equal(outcome.adversarial, cases[0]) and outcome.which.tolist() == [-1] * len(cases[0])
    assert bool((outcome.members[0].outcome.linf == 0).all())


# ------------------------------------------------------------------ defences


def test_behind_a_defence_every_member_attacks_without_and_with_knowledge_of_it(victim, cases):
    image, label = cases[0][:3], cases[1][:3]
    defended = Victim(victim.network, victim.normalize, FrequencyRefinement())
    outcome = attack_with(made(), defended, THREAT, image, label, seed=3)
    told = [(r.label, r.adaptive) for r in outcome.members]
    assert told[:3] == [("PGD dice", False), ("PGD dice", True), ("PGD dice from the oblivious images", True)] and len(told) == 9
    ways = {}
    for member in MEMBERS:
        bare = alone(member, defended.without_defense(), THREAT, image, label, seed=3)
        own = alone(member, defended, THREAT, image, label, seed=3)
        begun = alone(member, defended, THREAT, image, label, seed=3, start=bare)
        ways[member["steps"]] = [dice_of(defended, x, label).mean(1) for x in (bare, own, begun)]
    dice = torch.stack([d for of in ways.values() for d in of])
    for ran, expected in zip(outcome.members, dice):
        torch.testing.assert_close(1 - ran.outcome.score, expected, atol=1e-6, rtol=0)
    clean = dice_of(defended, image, label).mean(1)
    torch.testing.assert_close(1 - outcome.score, torch.minimum(dice.amin(0), clean), atol=1e-6, rtol=0)
    assert outcome.assessed


def test_unaware_of_the_defence_only_the_oblivious_attacks_run(victim, cases):
    image, label = cases[0][:3], cases[1][:3]
    defended = Victim(victim.network, victim.normalize, FrequencyRefinement())
    both = attack_with(made(), defended, THREAT, image, label)
    outcome = attack_with(made(), defended, THREAT, image, label, adaptive=False)
    assert [r.adaptive for r in outcome.members] == [False] * 3 and not outcome.assessed and outcome.notes == ()
    assert bool((both.score >= outcome.score).all())
    for mine, other in zip(outcome.members, [r for r in both.members if not r.adaptive]):
        torch.testing.assert_close(mine.outcome.score, other.outcome.score)


class Sealed(Defense):
    """Rounding to steps of 4 grey levels that offers no gradient."""

    surrogate = None

    def refine(self, grey):
        return (grey / 4).round() * 4


def test_a_defence_without_surrogate_is_attacked_obliviously_and_said_not_to_be_assessed(victim, cases):
    image, label = cases[0][:2], cases[1][:2]
    outcome = attack_with(made(), Victim(victim.network, victim.normalize, Sealed()), THREAT, image, label)
    assert not outcome.assessed and [r.adaptive for r in outcome.members] == [False] * 3
    assert "not assessed: Sealed passes no gradient; give it a surrogate" in " ".join(outcome.notes)


def test_ways_that_are_one_through_this_defence_are_taken_once(victim, cases):
    """A blur has a gradient of its own: no surrogate changes it."""
    ways = [{"surrogate": "smooth", "smoothness": 0.9}, {"surrogate": "smooth", "smoothness": 0.5}, {"begin": "oblivious"}]
    outcome = attack_with(
        made(MEMBERS[:1], ways), Victim(victim.network, victim.normalize, Blur()), THREAT, cases[0][:1], cases[1][:1]
    )
    assert [r.label for r in outcome.members] == ["PGD dice", "PGD dice", "PGD dice from the oblivious images"]


def test_one_that_only_asks_asks_once_behind_a_defence(victim, cases):
    """No surrogate changes what a search without gradient does."""
    defended = Victim(victim.network, victim.normalize, FrequencyRefinement())
    ways = [{"surrogate": "smooth", "smoothness": 0.9}, {"surrogate": "identity"}, {"begin": "oblivious"}]
    outcome = attack_with(made([{"attack": "Square", "queries": 5}], ways), defended, THREAT, cases[0][:1], cases[1][:1])
    assert [r.adaptive for r in outcome.members] == [False, True] and outcome.backwards == 0 and outcome.assessed


def test_a_stochastic_victim_is_judged_on_draws_that_nobody_has_seen(victim, cases):
    image, label = cases[0][:2], cases[1][:2]
    defended = Victim(victim.network, victim.normalize, RandomizedFrequencyRefinement(), draws=3)
    outcome = attack_with(made(MEMBERS[:1]), defended, ThreatModel(eps=8.0), image, label, seed=[1, 2])
    again = attack_with(made(MEMBERS[:1]), defended, ThreatModel(eps=8.0), image, label, seed=[1, 2])
    assert torch.equal(outcome.score, again.score) and torch.equal(outcome.adversarial, again.adversarial)
    assert bool((outcome.score > 0.1).all())
    fresh = [torch.Generator().manual_seed(900 + i) for i in range(2)]
    with torch.no_grad(), defended.frozen():
        logits = torch.stack([defended(outcome.adversarial, fresh) for _ in range(20)]).mean(0)
    overlap = [
        2 * float(((p == 1) & (t == 1)).sum()) / float((p == 1).sum() + (t == 1).sum())
        for p, t in zip(logits.argmax(1), label[:, 0])
    ]
    np.testing.assert_allclose(1 - outcome.score.numpy(), overlap, atol=0.1)


def test_no_surrogate_given_leaves_the_victim_as_it_is(victim):
    defended = Victim(victim.network, victim.normalize, FrequencyRefinement())
    twin = seen_through(defended, made().ways[0])
    assert twin.defense is defended.defense and twin.network is defended.network


# ------------------------------------------------------------------ what it costs


@pytest.mark.parametrize("defense", [None, FrequencyRefinement()], ids=["undefended", "defended"])
def test_the_passes_are_those_of_the_attacks_and_hardly_more(trained, cases, defense):
    image, label = cases[0][:2], cases[1][:2]
    members = [{"attack": "PGD", "objective": "dice", "steps": 12, "step_size": None}]
    network = Counted(trained)
    victim = Victim(network, (127.5, 127.5), defense)
    outcome = attack_with(made(members), victim, THREAT, image, label)
    spent = network.forwards + network.backwards
    runs = [victim] if defense is None else [victim.without_defense(), victim, victim]
    network.forwards = network.backwards = 0
    for one in runs:
        alone(members[0], one, THREAT, image, label)
    assert spent <= 1.1 * (network.forwards + network.backwards)
    assert int(outcome.passes.sum()) == spent - 1, "once a case is looked at by itself, to see whether the network draws"


# ------------------------------------------------------------------ transfer


def test_members_that_transfer_need_a_source_and_are_judged_on_the_victim(trained, victim, cases):
    image, label = cases[0][:2], cases[1][:2]
    other = Victim(small_unet().eval(), normalize=(127.5, 127.5))
    members = [MEMBERS[0], {**MEMBERS[0], "transfer": True}]
    without = attack_with(made(members), victim, THREAT, image, label)
    assert [r.label for r in without.members] == ["PGD dice"] and "PGD dice transferred not run" in " ".join(without.notes)
    outcome = attack_with(made(members), victim, THREAT, image, label, source=other)
    images = alone(MEMBERS[0], other, THREAT, image, label)
    assert outcome.members[1].label == "PGD dice transferred"
    torch.testing.assert_close(1 - outcome.members[1].outcome.score, dice_of(victim, images, label).mean(1), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="suite mine runs nothing here: PGD dice transferred not run"):
        attack_with(made(members[1:]), victim, THREAT, image, label)


# ------------------------------------------------------------------ the set as a whole


def tables(attacks: int, cases: int, classes: int, draw) -> torch.Tensor:
    g = np.random.default_rng(draw)
    predicted, labelled = g.integers(0, 30, (attacks, cases, classes)), g.integers(0, 30, (1, cases, classes)).repeat(attacks, 0)
    tp = (g.random(predicted.shape) * (np.minimum(predicted, labelled) + 1)).astype(int)
    return torch.tensor(np.stack([tp, predicted, labelled], -1), dtype=torch.float64)


@given(st.integers(0, 10_000), st.sampled_from(["dice", "iou"]))
def test_the_greedy_worst_case_of_a_set_is_a_fixed_point_below_every_attack_alone(draw, metric):
    counts = tables(3, 4, 2, draw)
    found = worst_set(counts, metric)

    def value(choice):
        return float(pooled(counts[torch.tensor(choice), torch.arange(4)], metric))

    assert found.value == pytest.approx(value(found.choice.tolist()))
    assert found.value <= min(float(v) for v in pooled(counts, metric)) + 1e-9
    best = min(value(choice) for choice in itertools.product(range(3), repeat=4))
    assert best <= found.value + 1e-9 <= best + 0.06
    for i, m in itertools.product(range(4), range(3)):
        assert value([*found.choice[:i].tolist(), m, *found.choice[i + 1 :].tolist()]) >= found.value - 1e-9


def test_set_level_agrees_with_its_definition_and_refuses_what_it_cannot_count(victim, cases):
    outcome = attack_with(made(), victim, THREAT, *cases)
    counts = outcome.counts()
    assert counts.shape == (4, 6, 1, 3)
    tp, predicted, labelled = counts[0, :, 0].sum(0).tolist()
    assert float(pooled(counts)[0]) == pytest.approx(2 * tp / (predicted + labelled))
    assert float(pooled(counts, "iou")[0]) == pytest.approx(tp / (predicted + labelled - tp))
    assert worst_set(counts).value <= float(pooled(counts).min())
    holes = counts.clone()
    holes[1, 2] = torch.nan
    assert worst_set(holes).choice[2] != 1
    holes[:, 2] = torch.nan
    with pytest.raises(ValueError, match="case 2 has no counts of any attack"):
        worst_set(holes)
    with pytest.raises(ValueError, match="unknown metric 'dise'; did you mean 'dice'"):
        worst_set(counts, "dise")
    with pytest.raises(ValueError, match="counts must be"):
        worst_set(counts[0])


def test_words_for_a_wrong_batch(victim, cases):
    with pytest.raises(ValueError, match="seed has 2 numbers for 6 cases"):
        attack_with(made(), victim, THREAT, *cases, seed=[1, 2])
    with pytest.raises(ValueError, match="label has shape"):
        attack_with(made(), victim, THREAT, cases[0], cases[1][:2])


def test_the_ways_are_named(victim):
    assert [w.words for w in made(behind=[{"surrogate": "smooth", "smoothness": 0.7, "begin": "oblivious"}, *BEHIND]).ways] == [
        "through smooth 0.7 from the oblivious images",
        "",
        "from the oblivious images",
    ]
