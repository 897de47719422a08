"""Promise 14: there are several distinct objectives, each of which is what it says it is."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import FGSM, PGD, AutoPGD, CosPGD, SegPGD
from monai_advdef.objectives import OBJECTIVES, SURROGATES, objective, surrogate_of


def gradients(head: str, targeted: bool = False) -> dict[str, torch.Tensor]:
    """The direction in which every objective pulls the logits of one case."""
    g = torch.Generator().manual_seed(1)
    z = 2 * torch.randn(1, 3, 6, 6, generator=g, dtype=torch.float64)
    aim = torch.randint(0, 3, (1, 1, 6, 6), generator=g) if head == "softmax" else (torch.rand(z.shape, generator=g) > 0.7).double()
    found = {}
    for name in OBJECTIVES:
        x = z.clone().requires_grad_()
        (found[name],) = torch.autograd.grad(objective(name, head)(x, aim, targeted).sum(), x)
    return found


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_no_two_pull_the_same_way(head):
    """But Dice and IoU: of one class each rises with the other, so they differ in how they weigh the classes alone."""
    for (a, one), (b, other) in itertools.combinations(gradients(head).items(), 2):
        if {a, b} == {"dice", "jaccard"}:
            continue
        assert float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0)) < 0.995, (a, b)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_each_rises_as_the_answer_gets_worse_and_targeted_as_it_gets_nearer(name, head):
    aim = torch.tensor([[1, 0], [1, 1]]).reshape(1, 1, 2, 2)
    if head == "sigmoid":
        right = (2.0 * aim - 1) * 3
    else:
        right, aim = 3 * F.one_hot(aim[:, 0], 2).movedim(-1, 1).float(), aim
    # still right, but less so: then every objective has something to say, those included that look at what is still right alone
    sure, unsure = (objective(name, head)(share * right, aim, False) for share in (1.0, 0.2))
    assert bool((unsure > sure).all())
    wrong, less_wrong = (objective(name, head)(-share * right, aim, True) for share in (1.0, 0.2))
    assert bool((less_wrong > wrong).all())


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("dims", [2, 3])
def test_a_case_without_foreground_has_a_value_and_a_gradient(name, head, dims):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(2, 3, *[4] * dims, generator=g).sub_(1)
    z[:, 0] += 2
    z.requires_grad_()
    aim = torch.zeros(2, 1 if head == "softmax" else 3, *[4] * dims)
    value = objective(name, head)(z, aim.long() if head == "softmax" else aim)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(gradient).all())
    assert bool((gradient.flatten(1).abs().amax(1) > 0).all())


def test_balanced_cross_entropy_listens_to_the_small_class():
    """A lesion of 4 pixels of 400: half of the loss at the start, where plain cross-entropy gives it a hundredth."""
    aim = torch.zeros(1, 1, 20, 20, dtype=torch.long)
    aim[..., :2, :2] = 1
    z = (2.0 * F.one_hot(aim[:, 0], 2).movedim(-1, 1).double()).requires_grad_()
    for name, share in (("cross_entropy", 0.01), ("balanced_cross_entropy", 0.5)):
        (gradient,) = torch.autograd.grad(objective(name)(z, aim).sum(), z)
        assert float(gradient.abs()[..., :2, :2].sum() / gradient.abs().sum()) == pytest.approx(share, rel=1e-6)


def test_attacks_by_every_objective_lower_dice_and_say_which(victim, cases):
    clean = run(PGD(steps=1), victim, ThreatModel(eps=0.0), *cases).score
    for name in OBJECTIVES:
        attack = PGD(steps=8, objective=name)
        assert float((run(attack, victim, ThreatModel(eps=6.0), *cases).score - clean).min()) > 0.01, name
        assert attack.label == ("PGD" if name == "cross_entropy" else f"PGD {name}")


def test_defaults_attack_the_reported_metric():
    assert {name: surrogate_of(name) for name in SURROGATES} == {"dice": "dice", "iou": "jaccard"}
    with pytest.raises(ValueError, match="no objective stands for the metric 'hd95'"):
        surrogate_of("hd95")
    assert PGD().objective == AutoPGD().objective == surrogate_of("dice")
    assert [a.label for a in (PGD(), AutoPGD(), SegPGD(), CosPGD(), FGSM())] == [
        "PGD dice",
        "Auto-PGD dice",
        "SegPGD",
        "CosPGD",
        "FGSM",
    ]
    assert PGD(momentum=0.75, objective="margin", target="inverted").label == "PGD momentum 0.75 margin to inverted"


def test_the_default_is_stronger_than_equal_steps_on_cross_entropy(victim, cases):
    """At equal cost, as measured on real images; what Dice is left is what counts."""
    old = PGD(steps=10, objective="cross_entropy", schedule="constant")
    threat = ThreatModel(eps=8.0)
    assert float(run(PGD(steps=10), victim, threat, *cases).score.mean()) > float(run(old, victim, threat, *cases).score.mean())
