"""Promise 23: attacks and objectives agree with implementations written apart from them, and with other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import blobs
from scipy.spatial.distance import jensenshannon
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, AutoPGD, CosPGD, SegPGD
from monai_advdef.attacks.auto_pgd import checkpoints
from monai_advdef.objectives import objective


def logits(dims: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (3, k, *S), a class map that lacks class 1 in its first case, and a mask per class with an empty one there."""
    g = torch.Generator().manual_seed(dims * 10 + k)
    z = 3 * torch.randn(3, k, *[5] * dims, generator=g, dtype=torch.float64)
    label, mask = torch.randint(0, k, (3, 1, *[5] * dims), generator=g), (torch.rand(z.shape, generator=g) > 0.5).double()
    label[0][label[0] == 1] = 0
    mask[0, 0] = 0
    return z, label, mask


def certain(label: torch.Tensor, k: int) -> torch.Tensor:
    """The one-hot distribution of every pixel, (B, k, N)."""
    return F.one_hot(label[:, 0], k).movedim(-1, 1).flatten(2).double()


@pytest.mark.parametrize("dims", [2, 3])
def test_jensen_shannon_is_scipy_s(dims):
    z, label, mask = logits(dims, 4)
    theirs = jensenshannon(z.softmax(1).flatten(2).numpy(), certain(label, 4).numpy(), axis=1) ** 2
    np.testing.assert_allclose(objective("jensen_shannon")(z, label), theirs.mean(1), rtol=1e-9)
    np.testing.assert_allclose(objective("jensen_shannon")(z, label, True), -theirs.mean(1), rtol=1e-9)
    p, y = torch.stack([z.sigmoid(), 1 - z.sigmoid()]), torch.stack([mask, 1 - mask])
    theirs = jensenshannon(p.numpy(), y.numpy(), axis=0) ** 2
    np.testing.assert_allclose(objective("jensen_shannon", "sigmoid")(z, mask), theirs.reshape(3, -1).mean(1), rtol=1e-9)


def test_jensen_shannon_and_its_gradient_are_finite_where_probabilities_are_0_and_1():
    z = torch.tensor([400.0, -400.0, 90.0, -90.0, 0.0]).reshape(1, 1, 1, 5).requires_grad_()
    value = objective("jensen_shannon", "sigmoid")(z, torch.ones(1, 1, 1, 5))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert bool(torch.isfinite(gradient).all())
    half = math.log(2) + (0.5 * math.log(0.5) - 1.5 * math.log(1.5)) / 2
    assert float(value.detach()) == pytest.approx((2 * math.log(2) + half) / 5, rel=1e-6)


def soft_overlap(soft: torch.Tensor, mask: torch.Tensor, name: str) -> float:
    """One class of one case, from its definition; of a class that the case lacks, with one voxel in common."""
    both, either = float((soft * mask).sum()), float(soft.sum() + mask.sum())
    more = 1e-5 if bool(mask.any()) else 1.0
    return (2 * both + more) / (either + more) if name == "dice" else (both + more) / (either - both + more)


@pytest.mark.parametrize("name", ["dice", "jaccard"])
@pytest.mark.parametrize("dims", [2, 3])
def test_soft_overlaps_are_those_of_the_definition(name, dims):
    z, label, mask = logits(dims, 3)
    for i in range(3):
        p, truth = z[i].softmax(0), certain(label, 3)[i].reshape(z[i].shape)
        theirs = 1 - np.mean([soft_overlap(p[k], truth[k], name) for k in (1, 2)])
        assert float(objective(name)(z, label)[i]) == pytest.approx(theirs, rel=1e-9)
        theirs = 1 - np.mean([soft_overlap(z[i, k].sigmoid(), mask[i, k], name) for k in range(3)])
        assert float(objective(name, "sigmoid")(z, mask, True)[i]) == pytest.approx(-theirs, rel=1e-9)


def balanced(z: torch.Tensor, truth: torch.Tensor, targeted: bool) -> float:
    """Masked, class-balanced cross-entropy of one case by loops over classes and pixels: z (k, N), truth (N,)."""
    of_class = []
    for k in truth.unique():
        pixels = (truth == k).nonzero().flatten()
        lost = 0.0
        for n in pixels.tolist():
            right = int(z[:, n].argmax()) == int(k)
            lost += float(torch.logsumexp(z[:, n], 0) - z[k, n]) if right != targeted else 0.0
        of_class.append(lost / len(pixels))
    return float(np.mean(of_class)) * (-1 if targeted else 1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_balanced_cross_entropy_by_loops(dims, targeted):
    z, label, mask = logits(dims, 3)
    ours = objective("balanced_cross_entropy")(z, label, targeted)
    per_channel = objective("balanced_cross_entropy", "sigmoid")(z, mask, targeted)
    for i in range(3):
        assert float(ours[i]) == pytest.approx(balanced(z[i].flatten(1), label[i].flatten(), targeted), rel=1e-9)
        two = [torch.stack([torch.zeros_like(c), c]) for c in z[i].flatten(1)]
        theirs = np.mean([balanced(c, m, targeted) for c, m in zip(two, mask[i].flatten(1).long())])
        assert float(per_channel[i]) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_losses_of_segpgd_and_cospgd_from_the_papers(dims, targeted):
    z, label, mask = logits(dims, 3)
    sign = -1 if targeted else 1
    entropy = F.cross_entropy(z, label[:, 0], reduction="none")
    right = z.argmax(1) == label[:, 0]
    for step in (0, 3, 9):
        share = step / 20  # lambda of step 0..9 of 10
        weight = torch.where(right != targeted, 1 - share, share)
        theirs = sign * (weight * entropy).flatten(1).mean(1)
        torch.testing.assert_close(SegPGD().loss(z, label, targeted, "softmax", step / 10), theirs)
    cosine = F.cosine_similarity(z.softmax(1), certain(label, 3).reshape(z.shape), dim=1)
    weight = 1 - cosine if targeted else cosine
    torch.testing.assert_close(CosPGD().loss(z, label, targeted, "softmax"), sign * (weight * entropy).flatten(1).mean(1))
    for attack in (SegPGD(), CosPGD()):  # a channel of a sigmoid head is a pixel of two classes
        two = torch.stack([torch.zeros_like(z), z], 2).flatten(0, 1)
        by_channel = attack.loss(two, mask.flatten(0, 1)[:, None].long(), targeted, "softmax", 0.3).reshape(3, -1).mean(1)
        torch.testing.assert_close(attack.loss(z, mask, targeted, "sigmoid", 0.3), by_channel)


@pytest.mark.parametrize("attack", [SegPGD(), CosPGD()], ids=lambda a: a.label)
def test_no_gradient_flows_through_the_weights(attack):
    z, label, _ = logits(2, 3)
    z.requires_grad_()
    (ours,) = torch.autograd.grad(attack.loss(z, label, False, "softmax", 0.5).sum(), z)
    weight = attack.weight(z.detach(), label, False, "softmax", 0.5)
    entropy = F.cross_entropy(z, label[:, 0], reduction="none")
    (theirs,) = torch.autograd.grad((weight * entropy).flatten(1).mean(1).sum(), z)
    torch.testing.assert_close(ours, theirs)


class Recorder(nn.Module):
    """A network that keeps the images it was shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x):
        if torch.is_grad_enabled():
            self.seen.append(x.detach().clone())
        return self.network((x - 127.5) / 127.5)


def project(x: np.ndarray, image: np.ndarray, eps: float, norm: str) -> np.ndarray:
    """Into the ball of one case, and then into 0..255."""
    if norm == "linf":
        return np.clip(np.clip(x, image - eps, image + eps), 0, 255)
    length = np.sqrt(((x - image) ** 2).sum())
    return np.clip(image + (x - image) * min(1.0, eps / max(length, 1e-12)), 0, 255)


def unit(gradient: np.ndarray, norm: str) -> np.ndarray:
    return np.sign(gradient) if norm == "linf" else gradient / np.sqrt((gradient**2).sum())


def looked_at(network: nn.Module, x: np.ndarray, label: torch.Tensor) -> tuple[float, np.ndarray]:
    """Soft Dice loss of one case, and its gradient."""
    there = torch.tensor(x, dtype=torch.float32)[None].requires_grad_()
    soft = network((there - 127.5) / 127.5).softmax(1)[:, 1]
    loss = 1 - (2 * (soft * label[0]).sum() + 1e-5) / (soft.sum() + label.sum() + 1e-5)
    (gradient,) = torch.autograd.grad(loss, there)
    return float(loss), gradient[0].double().numpy()


CLOSE = 2e-6  # of losses between 0 and 1 in float32: which of two is higher, rounding decides


def auto_pgd(network: nn.Module, image: np.ndarray, label: torch.Tensor, eps: float, steps: int, norm: str) -> list[np.ndarray]:
    """Croce & Hein's algorithm 1 for one case, written from the paper and its code: the images at which gradients are taken, up to
    the first checkpoint at which rounding may decide how it goes on."""
    window, less, least = max(int(0.22 * steps), 1), max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    x, previous, length = image.copy(), image.copy(), 2 * eps
    value, gradient = looked_at(network, x, label)
    seen, values = [x], [value]
    best, best_x, best_gradient, best_then, halved_then, since = value, x, gradient, math.inf, True, 0
    for k in range(steps - 1):
        z = project(x + length * unit(gradient, norm), image, eps, norm)
        a = 1.0 if k == 0 else 0.75
        following = project(x + a * (z - x) + (1 - a) * (x - previous), image, eps, norm)
        previous, x = x, following
        value, gradient = looked_at(network, x, label)
        seen.append(x)
        values.append(value)
        if value > best:
            best, best_x, best_gradient = value, x, gradient
        since += 1
        if since == window:
            pairs = list(zip(values[-window - 1 :], values[-window:]))
            doubted = sum(abs(b - a) < CLOSE for a, b in pairs)
            rose = sum(b > a for a, b in pairs)
            if (rose - doubted <= 0.75 * window) != (rose + doubted <= 0.75 * window):
                return seen
            halved = rose <= 0.75 * window or (not halved_then and best <= best_then)
            if halved:
                length, x, gradient = length / 2, best_x, best_gradient
            halved_then, best_then, since, window = halved, best, 0, max(window - less, least)
    return seen


@pytest.mark.parametrize(("norm", "eps"), [("linf", 3.0), ("l2", 60.0)])
def test_auto_pgd_takes_the_steps_of_a_second_implementation(trained, norm, eps):
    image, label = blobs(1, seed=7)
    recorder, steps = Recorder(trained), 24
    threat = ThreatModel(norm=norm, eps=eps)
    run(AutoPGD(steps=steps, random_start=False), Victim(recorder), threat, image, label)
    theirs = auto_pgd(trained, image[0].double().numpy(), label, eps, steps, norm)
    assert len(recorder.seen) == steps and len(theirs) > steps // 2
    apart = [float(np.abs(ours[0].numpy() - x).max()) for ours, x in zip(recorder.seen, theirs)]
    if norm == "l2":
        assert max(apart) < 1e-3, apart  # of 255
    else:  # the sign of a gradient of all but 0 is anybody's, so a few pixels may go the other way
        share = [float((np.abs(ours[0].numpy() - x) > 1e-3).mean()) for ours, x in zip(recorder.seen, theirs)]
        assert max(share) < 1e-3, share


def test_checkpoints_of_a_hundred_steps_are_the_paper_s():
    """w_j = ceil(p_j N), p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06)."""
    p, found = [0.0, 0.22], set()
    while p[-1] < 1:
        found.add(math.ceil(round(100 * p[-1], 6)))
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    assert checkpoints(100) == found


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 3.0), ("l2", 60.0)])
def test_pgd_takes_the_steps_of_its_schedule(trained, schedule, norm, eps):
    image, label = blobs(1, seed=7)
    recorder, steps = Recorder(trained), 5
    threat = ThreatModel(norm=norm, eps=eps)
    run(PGD(steps=steps, schedule=schedule, momentum=0.0, random_start=False), Victim(recorder), threat, image, label)
    lengths = {
        "linear": [1.8, 1.4, 1.0, 0.6, 0.2],
        "cosine": [2 * math.cos(math.pi * (k + 0.5) / 10) ** 2 for k in range(5)],
        "constant": [0.5] * 5,
    }[schedule]
    clean = x = image[0].double().numpy()
    for k, length in enumerate(lengths):
        apart = np.abs(recorder.seen[k][0].numpy() - x)
        assert (apart > 1e-3).mean() < 1e-3, (k, apart.max())
        x = project(x + length * eps * unit(looked_at(trained, x, label)[1], norm), clean, eps, norm)


class Scaled(nn.Module):
    """A network of images in [0, 1], as other libraries want them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x * 255 - 127.5) / 127.5)


def test_pgd_is_that_of_torchattacks(trained):
    torchattacks = pytest.importorskip("torchattacks")
    image, label = blobs(2, seed=7)
    theirs = torchattacks.PGD(Scaled(trained), eps=8 / 255, alpha=2 / 255, steps=5, random_start=False)(
        image / 255, label[:, 0].long()
    )
    attack = PGD(steps=5, step_size=2.0, objective="cross_entropy", random_start=False, keep="last")
    ours = run(attack, Victim(trained, (127.5, 127.5)), ThreatModel(eps=8.0), image, label).adversarial
    assert float(((ours / 255 - theirs).abs() > 1e-4).float().mean()) < 1e-3


class Averaged(nn.Module):
    """A classifier of images in [0, 1]: the logits of a patch, averaged. No library attacks masks by Auto-PGD."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = Scaled(network)

    def forward(self, x):
        return self.network(x)[:, :, 16:32, 16:32].mean((2, 3))


class Everywhere(nn.Module):
    """The same for images of 0..255, its answer that of every pixel."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(x / 255)[:, :, None, None].expand(-1, -1, *x.shape[2:])


@pytest.mark.parametrize(("norm", "eps", "theirs"), [("linf", 2.0, "Linf"), ("l2", 60.0, "L2")])
def test_auto_pgd_is_that_of_torchattacks(trained, norm, eps, theirs):
    torchattacks = pytest.importorskip("torchattacks")
    classifier = Averaged(trained)
    image, _ = blobs(2, seed=7)
    label = classifier(image / 255).argmax(1)
    peer = torchattacks.APGD(classifier, norm=theirs, eps=eps / 255, steps=30)
    torch.manual_seed(0)
    t = 2 * torch.rand(image.shape) - 1 if norm == "linf" else torch.randn(image.shape)  # where it begins
    order = math.inf if norm == "linf" else 2
    start = (image / 255 + eps / 255 * t / t.flatten(1).norm(order, dim=1)[:, None, None, None]).clamp(0, 1)
    torch.manual_seed(0)
    _, _, reached, _ = peer.attack_single_run(image / 255, label)
    mask = label.float()[:, None, None, None].expand(-1, 1, *image.shape[2:])
    attack = AutoPGD(steps=30, objective="cross_entropy")
    victim, threat = Victim(Everywhere(classifier)), ThreatModel(norm=norm, eps=eps)
    outcome = run(attack, victim, threat, image, mask, start=start * 255)
    ours = F.cross_entropy(classifier(outcome.adversarial / 255), label, reduction="none")
    torch.testing.assert_close(ours, reached, rtol=1e-4, atol=1e-4)
