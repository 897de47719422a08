"""Cases that are won leave the batch, descents begin where they are told, and every pass is counted where it was spent."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import blobs
from monai.inferers import SlidingWindowInferer

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import ASMA, PGD, AutoPGD, IterativeFGSM, Noise, run_sweep
from monai_advdef.attacks.core import Attack
from monai_advdef.defenses import RandomizedFrequencyRefinement

NORMALIZE = (127.5, 127.5)


class Counter:
    """How many images a network was shown."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.images = 0
        self.hook = network.register_forward_hook(self)

    def __call__(self, module, inputs, output) -> None:
        self.images += len(inputs[0])


@pytest.fixture
def counted(trained):
    """The victim in float64, so that a batch of another size changes no sign, and what it was shown."""
    network = copy.deepcopy(trained).double()
    victim = Victim(network, lambda x: (x.double() - 127.5) / 127.5)
    victim.random = False  # nothing is looked at twice
    return victim, Counter(network)


ATTACKS = [
    (PGD(steps=12, restarts=2), 14.0),
    (AutoPGD(steps=14), 14.0),
    (IterativeFGSM(steps=8, keep="best", objective="dice"), 20.0),
    (PGD(steps=8, momentum=0.75, step_size=4.0), 20.0),
]


@pytest.mark.parametrize(("attack", "eps"), ATTACKS, ids=lambda a: getattr(a, "label", a))
def test_won_cases_leave_and_the_rest_goes_on_as_alone(counted, attack, eps):
    victim, counter = counted
    image, label = blobs(5, seed=4)
    outcome = run(attack, victim, ThreatModel(eps=eps), image, label, seed=list(range(5)))
    won = outcome.score == 1
    assert bool(won.any()) and not bool(won.all()), outcome.score
    assert counter.images == int(outcome.passes[:, 0].sum())
    assert outcome.passes.amax(0).tolist() == [outcome.forwards, outcome.backwards]
    full = attack.restarts * (attack.count(ThreatModel()) + 1)
    assert (
        len(outcome.trace) == full and bool((outcome.passes[won, 0] < full).all()) and bool((outcome.passes[~won, 0] == full).all())
    )
    torch.testing.assert_close(outcome.score, outcome.trace.amax(0))
    for i in range(5):
        alone = run(attack, victim, ThreatModel(eps=eps), image[i : i + 1], label[i : i + 1], seed=i)
        torch.testing.assert_close(alone.adversarial[0], outcome.adversarial[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.trace[:, 0], outcome.trace[:, i])
        assert torch.equal(alone.passes[0], outcome.passes[i])
        torch.testing.assert_close(alone.zero_gradient[0], outcome.zero_gradient[i])
    again = run(Noise(), victim, ThreatModel(eps=0), outcome.adversarial, label)
    torch.testing.assert_close(again.score, outcome.score)


def test_a_targeted_attack_stops_at_the_target(counted):
    victim, _ = counted
    image, label = blobs(3, seed=4)
    threat = ThreatModel(eps=6.0)
    there = run(PGD(steps=5), victim, threat, image, label).adversarial[:2]
    target, start = victim.predict(victim(image)), image.clone()
    target[:2], start[:2] = victim.predict(victim(there)), there
    target[2] = 1 - target[2]
    outcome = run(PGD(steps=4), victim, threat, image, label, target=target, start=start)
    assert outcome.score[:2].tolist() == [1, 1] and outcome.passes.tolist() == [[1, 1], [1, 1], [5, 4]]
    assert torch.equal(outcome.adversarial[:2], there) and torch.equal(outcome.target, target)


@pytest.mark.parametrize(
    ("attack", "change"),
    [
        (PGD(steps=6, keep="last"), {}),
        (PGD(steps=6), {"defense": RandomizedFrequencyRefinement(), "draws": 2}),
        (ASMA(steps=6, tau=1.0, target="background"), {}),
    ],
    ids=["last", "stochastic", "a rank of its own"],
)
def test_nobody_leaves_where_more_than_the_score_counts(trained, attack, change):
    image, label = blobs(3, seed=4)
    victim = Victim(trained, NORMALIZE, **change)
    outcome = run(attack, victim, ThreatModel(eps=40.0), image, label)
    assert bool((outcome.passes[:, 1] == 6 * victim.passes).all())


def test_a_sweep_of_budgets_lets_go_of_each_case_where_it_is_won(trained):
    image, label = blobs(3, seed=4)
    victim, threats = Victim(trained, NORMALIZE), [ThreatModel(eps=e) for e in (2.0, 9.0, 30.0)]
    attack = IterativeFGSM(rule="grey_level", keep="best", restarts=2)
    for threat, found in zip(threats, run_sweep(attack, victim, threats, image, label)):
        alone = run(attack, victim, threat, image, label)
        assert torch.equal(found.adversarial, alone.adversarial) and torch.equal(found.passes, alone.passes)
        assert torch.equal(found.trace, alone.trace)


def test_through_a_sliding_window(trained):
    image, label = blobs(3, seed=4)
    victim = Victim(trained, NORMALIZE, inferer=SlidingWindowInferer((32, 32), overlap=0.25))
    outcome = run(PGD(steps=8), victim, ThreatModel(eps=12.0), image, label)
    assert bool((outcome.score == 1).any())
    again = run(Noise(), victim, ThreatModel(eps=0), outcome.adversarial, label)
    torch.testing.assert_close(again.score, outcome.score)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_restart_begins_at_the_given_images(trained, norm):
    image, label = blobs(2, seed=4)
    victim = Victim(trained, NORMALIZE)
    threat = ThreatModel(norm=norm, eps=3.0 if norm == "linf" else 100.0)
    start = (image + 20 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    kept = start.clone()
    nothing = run(PGD(steps=1, step_size=1e-9, keep="last"), victim, threat, image, label, start=start).adversarial
    torch.testing.assert_close(nothing, threat.around(image).project(start.clone()), atol=1e-4, rtol=0)
    assert torch.equal(start, kept)
    outcome = run(PGD(steps=3, restarts=2), victim, threat, image, label, start=start)
    torch.testing.assert_close(outcome.trace[0], outcome.trace[4])
    assert bool((outcome.size <= threat.eps * (1 + 1e-6)).all())


def test_a_start_of_an_attack_goes_on_from_it(trained):
    image, label = blobs(2, seed=4)
    victim, threat = Victim(trained, NORMALIZE), ThreatModel(eps=3.0)
    first = run(PGD(steps=5), victim, threat, image, label)
    second = run(PGD(steps=5), victim, threat, image, label, start=first.adversarial)
    assert bool((second.score >= first.score - 1e-6).all())


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda x: x[:, :1], r"start has shape \(2, 1, 48, 48\), the image \(2, 3, 48, 48\)"),
        (lambda x: x[..., :-1], "cases and sizes must agree"),
        (lambda x: x + 300, r"the start spans .* outside value_range"),
        (lambda x: x * torch.nan, "the start holds NaN"),
        (lambda x: x.numpy(), "start must be a torch tensor"),
    ],
    ids=["channels", "size", "range", "NaN", "numpy"],
)
def test_a_start_that_cannot_be_one_is_refused(trained, start, words):
    image, label = blobs(2, seed=4)
    with pytest.raises(ValueError, match=words):
        run(PGD(steps=1), Victim(trained, NORMALIZE), ThreatModel(eps=3.0), image, label, start=start(image))


def test_steps_know_their_value_and_how_far_they_are(trained):
    seen = []

    class Watched(PGD):
        def loss(self, logits, aim, targeted, head, done=0.0):
            seen.append(done)
            return super().loss(logits, aim, targeted, head, done)

        def step(self, at):
            torch.testing.assert_close(at.value, Attack.loss(self, at.logits, at.aim, False, "softmax"))
            seen.append((at.number, at.steps))
            return super().step(at)

    run(Watched(steps=4), Victim(trained, NORMALIZE), ThreatModel(eps=1.0), *blobs(1, seed=4))
    assert seen == [0.0, (0, 4), 0.25, (1, 4), 0.5, (2, 4), 0.75, (3, 4), 1.0]


def test_a_step_without_a_bound_needs_a_length(trained):
    image, label = blobs(1, seed=4)
    victim, threat = Victim(trained, NORMALIZE), ThreatModel(norm="unbounded")
    for attack in (PGD(random_start=False), AutoPGD(random_start=False)):
        with pytest.raises(ValueError, match="for an unbounded threat"):
            run(attack, victim, threat, image, label)
    with pytest.raises(ValueError, match="unknown schedule 'linaer'; did you mean 'linear'"):
        PGD(schedule="linaer")
