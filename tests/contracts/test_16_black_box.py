"""Promise 16: attacks without a gradient run with stated queries, and take no gradient of the network."""

from __future__ import annotations

import pytest
import torch
from engines import evaluator, items, network
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, Noise, Square, UniversalPerturbation, fit_universal
from monai_advdef.defenses import RandomizedFrequencyRefinement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.records import read_records


class NoGradient(torch.autograd.Function):
    """The identity, whose backward pass must not be called."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("a gradient of the network was taken")


class Asked(nn.Module):
    """A network that counts the images it is asked about and refuses to be differentiated."""

    def __init__(self, network):
        super().__init__()
        self.network, self.images, self.calls = network, 0, 0

    def forward(self, x):
        self.images, self.calls = self.images + len(x), self.calls + 1
        return NoGradient.apply(self.network((x - 127.5) / 127.5))


@pytest.fixture
def asked(trained):
    made = Asked(trained)
    with torch.no_grad():
        yield made


def queried(asked, victim):
    """How often the network is asked before an attack begins: two looks at a victim that is new."""
    victim.random = False
    asked.images = asked.calls = 0
    return victim


def test_a_gradient_of_that_network_is_an_error(trained, cases):
    with pytest.raises(AssertionError, match="a gradient of the network was taken"):
        run(PGD(steps=1), Victim(Asked(trained)), ThreatModel(), *cases)


@pytest.mark.parametrize(
    "attack", [Square(queries=1), Square(queries=12), Square(queries=12, judge="score"), Square(queries=7, restarts=2)]
)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 4.0), ("l2", 200.0)])
def test_as_many_queries_as_stated_and_no_gradient(asked, cases, attack, norm, eps):
    outcome = run(attack, queried(asked, Victim(asked)), ThreatModel(norm=norm, eps=eps), *cases)
    told = attack.queries * attack.restarts
    assert (outcome.forwards, outcome.backwards) == (told, 0) and asked.calls == told and asked.images == told * len(cases[0])
    assert outcome.passes.tolist() == [[told, 0]] * len(cases[0]) and outcome.zero_gradient.isnan().all()


def test_cases_that_are_lost_are_asked_no_more(asked, cases):
    outcome = run(Square(queries=300), queried(asked, Victim(asked)), ThreatModel(eps=80), *cases)
    lost = outcome.score == 1
    assert bool(lost.any()) and bool((outcome.passes[lost, 0] < 300).all()) and asked.images == int(outcome.passes[:, 0].sum())


def test_a_target_costs_no_query_more(asked, cases):
    outcome = run(Square(queries=9, target="grow 0.5"), queried(asked, Victim(asked)), ThreatModel(eps=4), *cases)
    assert outcome.forwards == asked.calls == 9


def test_behind_a_stochastic_defence_a_query_takes_all_its_draws(asked, cases):
    victim = queried(asked, Victim(asked, defense=RandomizedFrequencyRefinement(), draws=3))
    outcome = run(Square(queries=5), victim, ThreatModel(eps=4), cases[0][:2], cases[1][:2])
    assert outcome.forwards - 3 == 5 * 3 - 3 + 3 and outcome.backwards == 0  # and three fresh draws for the score


def test_noise_and_a_universal_perturbation_ask_once(asked, victim, cases, tmp_path):
    threat = ThreatModel(eps=8)
    fit_universal(victim, [{"image": cases[0], "label": cases[1]}], threat, tmp_path / "u.pt", epochs=1)
    for attack in (Noise(), UniversalPerturbation(weights=str(tmp_path / "u.pt"))):
        outcome = run(attack, queried(asked, Victim(asked)), threat, *cases)
        assert (outcome.forwards, outcome.backwards, asked.calls) == (1, 0, 1)


def test_the_records_say_how_many(trained, tmp_path):
    attack = AttackHandler("Square", queries=6, eps=4)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False, gallery=False, gradients=True)
    evaluator(network(trained), [records, attack]).run()
    rows = read_records(tmp_path / "records")
    assert (rows["forwards"] == 6).all() and (rows["backwards"] == 0).all()
    assert (rows["attack"] == "Square (6 queries) dice").all() and (rows["linf"] == 4).all()


def test_a_transferred_image_is_made_without_asking_the_attacked_network(trained, tmp_path):
    """What is spent is the other network's; the attacked one sees each image once, to be scored."""
    deployed, other = Asked(trained), network(trained)
    attack = AttackHandler("PGD", steps=3, eps=4, source=other, source_name="another")
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False, gallery=False)
    evaluator(deployed, [records, attack], data=items(4), batch_size=2).run()
    rows = read_records(tmp_path / "records")
    assert deployed.images == 4 and (rows["forwards"] == 4).all() and (rows["backwards"] == 3).all()
    assert (rows["attack"] == "PGD dice from another").all()


@pytest.mark.parametrize("queries", [0, -1, True])
def test_no_queries_are_refused(queries):
    with pytest.raises(ValueError, match="queries must be a whole number ≥ 1"):
        Square(queries=queries)
