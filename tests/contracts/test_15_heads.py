"""Promise 15: binary and multi-label heads are right, in two and three dimensions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, AutoPGD, CosPGD, SegPGD, TargetedIterativeFGSM, make_target
from monai_advdef.objectives import OBJECTIVES, objective


def _logits(dims: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(dims * 10 + k)
    z = 3 * torch.randn(3, k, *[6] * dims, generator=g, dtype=torch.float64)
    return z, torch.randint(0, k, (3, 1, *[6] * dims), generator=g), (torch.rand(z.shape, generator=g) > 0.5).double()


@pytest.mark.parametrize("dims", [2, 3])
def test_cross_entropy_is_torch_s(dims):
    z, label, mask = _logits(dims, 4)
    for i in range(3):
        torch.testing.assert_close(
            objective("cross_entropy")(z, label, False)[i], F.cross_entropy(z[i : i + 1], label[i : i + 1, 0])
        )
        torch.testing.assert_close(
            objective("cross_entropy", "sigmoid")(z, mask, False)[i], F.binary_cross_entropy_with_logits(z[i], mask[i])
        )


@pytest.mark.parametrize("dims", [2, 3])
def test_dice_is_monai_s(dims):
    from monai.losses import DiceLoss

    z, label, mask = _logits(dims, 3)
    soft = DiceLoss(include_background=False, softmax=True, to_onehot_y=True, reduction="none")(z, label).flatten(1).mean(1)
    torch.testing.assert_close(objective("dice")(z, label, False), soft, rtol=1e-4, atol=1e-5)
    multi = DiceLoss(sigmoid=True, reduction="none")(z, mask).flatten(1).mean(1)
    torch.testing.assert_close(objective("dice", "sigmoid")(z, mask, False), multi, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_one_sigmoid_channel_is_a_two_class_softmax(name, targeted, dims):
    """sigmoid(z) = softmax([0, z]): values and gradients must agree."""
    z, _, mask = _logits(dims, 1)
    two = torch.cat([torch.zeros_like(z), z], 1)
    a = objective(name, "sigmoid")(z, mask, targeted)
    b = objective(name, "softmax")(two, mask.long(), targeted)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_cases_do_not_see_each_other_and_gradients_are_right(name, head):
    z, label, mask = _logits(2, 3)
    aim = label if head == "softmax" else mask
    f = objective(name, head)
    alone = torch.cat([f(z[i : i + 1], aim[i : i + 1], False) for i in range(3)])
    torch.testing.assert_close(f(z, aim, False), alone)
    corner = aim[:, :, :3, :3]
    assert torch.autograd.gradcheck(lambda x: f(x, corner, False), z[:, :, :3, :3].clone().requires_grad_())


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_margin_stops_at_pixels_that_are_won(head):
    z, label, mask = _logits(2, 3)
    aim = label if head == "softmax" else mask
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective("margin", head)(x, aim, False).sum(), x)
    correct = (z.argmax(1, keepdim=True) == label).expand_as(z) if head == "softmax" else (z > 0) == mask.bool()
    assert bool((gradient[~correct] == 0).all()) and bool(gradient.abs().sum() > 0)


class Head(nn.Module):
    """K logits from three channels by fixed mixing."""

    def __init__(self, k: int, dims: int) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        torch.manual_seed(3)
        self.mix = conv(3, k, 3, padding=1)

    def forward(self, x):
        return self.mix(x)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("k", "head"), [(2, "softmax"), (4, "softmax"), (1, "sigmoid"), (3, "sigmoid")])
def test_attacks_work_on_every_head(dims, k, head):
    g = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(3, 3, *[8] * dims, generator=g)
    victim = Victim(Head(k, dims), normalize=(127.5, 64.0), activation=head)
    label = victim.predict(victim(image)).float().detach()
    for attack in (
        PGD(steps=6),
        PGD(steps=6, objective="cross_entropy"),
        AutoPGD(steps=6, objective="jaccard"),
        AutoPGD(steps=6, objective="balanced_cross_entropy", target="inverted"),
        SegPGD(steps=6),
        SegPGD(steps=6, target="inverted"),
        CosPGD(steps=6),
        CosPGD(steps=6, target="permuted"),
        TargetedIterativeFGSM(target="inverted"),
        PGD(target="permuted"),
    ):
        outcome = run(attack, victim, ThreatModel(eps=40), image, label)
        clean = run(attack, victim, ThreatModel(eps=0), image, label)
        assert bool((outcome.score > clean.score + 0.02).all()), (attack.label, outcome.score, clean.score)


def test_labels_outside_the_classes_and_wrong_heads_are_named(victim, cases, threat):
    image, label = cases
    with pytest.raises(ValueError, match=r"holds class 3, the network knows 0\.\.1"):
        run(PGD(), victim, threat, image, label * 3)
    with pytest.raises(ValueError, match="set activation to 'sigmoid'"):
        run(PGD(), Victim(Head(1, 2)), threat, image, label)
    with pytest.raises(ValueError, match="1 channels, the network 2; give one mask per output channel"):
        run(PGD(), Victim(victim.network, activation="sigmoid"), threat, image, label)
    with pytest.raises(ValueError, match="cases and sizes must agree"):
        run(PGD(), victim, threat, image, label[..., :-1])
    with pytest.raises(ValueError, match="did you mean 'cross_entropy'"):
        PGD(objective="crossentropy")
    with pytest.raises(ValueError, match="set activation to 'sigmoid'"):
        objective("jensen_shannon")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="unknown head 'softmx'; did you mean 'softmax'"):
        objective("dice", "softmx")
    with pytest.raises(ValueError, match="objective must be 'cross_entropy', got 'dice'; to raise another one take PGD"):
        SegPGD(objective="dice")
    with pytest.raises(ValueError, match="did you mean 'inverted'"):
        TargetedIterativeFGSM(target="invert")


def test_targets():
    label = torch.tensor([[0, 0, 1], [2, 2, 0]]).reshape(1, 1, 2, 3)
    logits = torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    assert make_target("background", label, logits, "softmax").sum() == 0
    assert make_target("permuted", label, logits, "softmax").flatten().tolist() == [1, 1, 2, 0, 0, 1]
    assert make_target("inverted", label, logits, "softmax").flatten().tolist() == [2, 2, 0, 0, 0, 2]
    assert torch.equal(make_target("least_likely", label, logits, "softmax"), logits.argmin(1, keepdim=True))
    with pytest.raises(ValueError, match="pass it as run"):
        make_target("other_case", label, logits, "softmax")


def test_one_hot_labels_are_the_class_map(victim, cases, threat):
    image, label = cases
    hot = torch.cat([1 - label, label], 1)
    assert torch.equal(
        run(PGD(steps=2), victim, threat, image, label).adversarial, run(PGD(steps=2), victim, threat, image, hot).adversarial
    )
