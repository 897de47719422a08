"""Promise 18: masking is detected: gradients that are 0, NaN or absent, that are not those of the function, or of a flat loss."""

from __future__ import annotations

import pytest
import torch
from broken import Posterised, PseudoNoise, ScaledLogits, SquareRootOfNothing, Thermometer
from checked import Changed, verdict
from torch import nn

from monai_advdef import ThreatModel, Victim
from monai_advdef.attacks import PGD
from monai_advdef.checks import run_checks
from monai_advdef.defenses import JPEG, Blur, EightBit, FrequencyRefinement
from monai_advdef.networks.standardized import Standardized

THREAT = ThreatModel(eps=8.0)


@pytest.fixture
def few(cases):
    return cases[0][:2], cases[1][:2]


def behind(trained, defense) -> Victim:
    return Victim(Standardized(trained, mean=127.5, std=127.5), defense=defense)


def changed(trained, change) -> Victim:
    return Victim(Changed(trained, change), (127.5, 127.5))


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


def no_grad(network, x):
    with torch.no_grad():
        return network(x)


def inference(network, x):
    with torch.inference_mode():
        return network(x)


ABSENT = {
    "no_grad": no_grad,
    "inference_mode": inference,
    "detach": lambda network, x: network(x).detach(),
    "numpy": lambda network, x: torch.from_numpy(network(x).numpy()),
    "detached numpy": lambda network, x: torch.from_numpy(network(x).detach().numpy()),
    "argmax": lambda network, x: 10 * torch.nn.functional.one_hot(network(x).argmax(1), 2).movedim(-1, 1).float(),
}


@pytest.mark.parametrize("change", ABSENT.values(), ids=ABSENT)
def test_an_absent_gradient_is_broken_and_its_module_named(trained, few, change):
    found = run_checks(changed(trained, change), THREAT, *few)
    gradients = next(v for v in found if v.name == "Gradients")
    assert gradients.verdict == "broken" and "it ends at Changed: " in gradients.evidence
    assert not {v.name for v in found} & {"White box", "Converged", "Unbounded"}, "no attack can be run, so none is spoken of"


def test_a_module_deep_inside_is_named(trained, few):
    deep = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(Cut(), nn.ReLU()), trained)
    found = verdict("Gradients", Victim(deep, (127.5, 127.5)), THREAT, *few)
    assert found.verdict == "broken" and "it ends at Cut (1.0): " in found.evidence


def test_a_defence_without_a_surrogate_is_named(trained, few):
    found = verdict("Gradients", behind(trained, FrequencyRefinement(surrogate=None)), THREAT, *few)
    assert found.verdict == "broken" and "it ends at FrequencyRefinement: " in found.evidence


@pytest.mark.parametrize(("defense", "words"), [(Posterised, "becomes 0 at Posterised"), (SquareRootOfNothing, "NaN or infinite")])
def test_gradients_of_0_and_of_nan_are_broken_and_their_module_named(trained, few, defense, words):
    found = verdict("Gradients", behind(trained, defense(honest=False)), THREAT, *few)
    assert found.verdict == "broken" and words in found.evidence and defense.__name__ in found.evidence


def test_next_to_no_gradient_is_suspect(trained, few):
    found = verdict("Gradients", behind(trained, Thermometer(honest=False)), THREAT, *few)
    assert found.verdict == "suspect" and found.numbers["zero"] > 0.9


def test_a_gradient_leaves_both_the_network_and_its_verdict_as_they_were(trained, victim, few):
    trained.train()
    found = verdict("Gradients", victim, THREAT, *few)
    assert trained.training and found.verdict == "ok" and found.numbers["zero"] < 0.01
    assert not any(module._forward_hooks for module in trained.eval().modules())


def part(network, x):
    """All that is learnt passes no gradient; what does pass one decides next to nothing."""
    return network(x).detach() + 1e-3 * x.mean(1, keepdim=True) * torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)


def test_a_gradient_of_another_function_is_broken(trained, few):
    found = verdict("Finite differences", changed(trained, part), THREAT, *few)
    assert found.verdict == "broken" and "is not that of what is deployed" in found.evidence


def test_a_shattered_gradient_is_not_ok(trained, few):
    assert verdict("Finite differences", behind(trained, PseudoNoise(honest=False)), THREAT, *few).verdict != "ok"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_sound_gradient_agrees_with_differences_in_every_precision(trained, few, dtype):
    import copy

    found = verdict("Finite differences", Victim(copy.deepcopy(trained).to(dtype), (127.5, 127.5)), THREAT, *few)
    assert found.verdict == "ok" and "agree within" in found.evidence


@pytest.mark.parametrize(
    "defense", [JPEG(), FrequencyRefinement(), EightBit(), Blur(), Posterised(honest=True)], ids=lambda d: d.label
)
def test_a_surrogate_that_leads_uphill_is_ok(trained, few, defense):
    assert verdict("Finite differences", behind(trained, defense), THREAT, *few).verdict == "ok"


@pytest.mark.parametrize("threat", [ThreatModel(norm="l2", eps=200.0), ThreatModel(eps=[8, 0, 0])], ids=["l2", "by channel"])
def test_every_norm_and_budget_by_channel(victim, few, threat):
    assert verdict("Finite differences", victim, threat, *few).verdict == "ok"


def test_an_attack_that_is_stronger_on_scaled_logits_is_suspect(trained, few):
    saturated = Victim(ScaledLogits(trained, 100.0), (127.5, 127.5))
    attack = PGD(steps=10, objective="cross_entropy")
    found = verdict("Scaled logits", saturated, THREAT, *few, attack=attack)
    assert found.verdict == "suspect" and found.numbers["scaled"] > found.numbers["as they are"] + 0.03
    assert found.numbers["temperature"] >= 10 and "logit_scale" in found.evidence


def test_a_loss_that_does_not_saturate_is_ok(victim, few):
    assert verdict("Scaled logits", victim, THREAT, *few).verdict == "ok"
