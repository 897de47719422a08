"""Promise 20: what passes no gradient needs a surrogate, else an error names the module."""

from __future__ import annotations

import pytest
import torch
from broken import Detached, ScaledLogits
from monai.inferers import SlidingWindowInferer

from monai_advdef import Victim, run
from monai_advdef.attacks import FGSM, PGD
from monai_advdef.defenses import JPEG, Blur, EightBit, FrequencyRefinement

SLIDING = SlidingWindowInferer((32, 32), overlap=0.5)
INFERERS = pytest.mark.parametrize("inferer", [None, SLIDING], ids=["simple", "sliding window"])


@INFERERS
@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2)], ids=lambda a: a.label)
def test_defence_without_surrogate_is_named(trained, cases, threat, attack, inferer):
    victim = Victim(trained, (127.5, 127.5), FrequencyRefinement(surrogate=None), inferer)
    with pytest.raises(ValueError, match="FrequencyRefinement passes no gradient.*give it a surrogate, or attack obliviously"):
        run(attack, victim, threat, *cases)


@pytest.mark.parametrize(
    "inferer",
    [
        pytest.param(None, id="simple"),
        pytest.param(SLIDING, id="sliding window"),
    ],
)
def test_network_that_cuts_the_graph_is_named(trained, cases, threat, inferer):
    victim = Victim(Detached(trained), (127.5, 127.5), inferer=inferer)
    with pytest.raises(ValueError, match="Detached returned logits without a gradient.*needs the logits"):
        run(PGD(steps=2), victim, threat, *cases)


@INFERERS
@pytest.mark.parametrize(
    "defense",
    [
        FrequencyRefinement(),
        FrequencyRefinement(table="zones"),
        JPEG(),
        JPEG(backend="pillow"),
        JPEG(backend="simplejpeg", subsampling="4:4:4"),
        EightBit(),
        Blur(),
    ],
    ids=lambda d: f"{d.label} {getattr(d, 'backend', '')}".strip(),
)
def test_shipped_defences_pass_a_useful_gradient(trained, cases, defense, inferer):
    """Nonzero on most pixels of every case, and finite."""
    victim = Victim(trained, (127.5, 127.5), defense, inferer)
    label = cases[1].long()

    def loss(logits):
        return torch.nn.functional.cross_entropy(logits, label[:, 0], reduction="none").mean((1, 2))

    with victim.frozen():
        _, _, gradient = victim.gradient(cases[0], loss)
    assert bool(torch.isfinite(gradient).all())
    assert bool(((gradient != 0).flatten(1).float().mean(1) > 0.9).all())


def test_defence_by_name_in_the_deployed_forward_still_works_without_a_surrogate(trained, cases, victim, threat):
    """No surrogate is needed to be scored, nor by an attacker who does not know the defence."""
    defended = Victim(trained, (127.5, 127.5), FrequencyRefinement(surrogate=None))
    oblivious = run(PGD(steps=2), defended.without_defense(), threat, *cases)
    assert torch.equal(oblivious.adversarial, run(PGD(steps=2), victim, threat, *cases).adversarial)
    assert defended(oblivious.adversarial).shape == (6, 2, 48, 48)


def test_network_with_outputs_of_the_wrong_kind_is_named(trained, cases, threat):
    class ArgMax(ScaledLogits):
        def forward(self, x):
            return self.network(x).argmax(1)

    with pytest.raises(ValueError, match=r"ArgMax returned Tensor of shape \(6, 48, 48\).*must return logits"):
        run(PGD(steps=2), Victim(ArgMax(trained, 1.0), (127.5, 127.5)), threat, *cases)
