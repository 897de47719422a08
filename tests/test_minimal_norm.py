"""The smallest change for which a case fails: against closed forms, per case, within eps; and cases that never fail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD, MinimalNorm
from monai_advdef.metrics import mean_dice
from monai_advdef.threat import measure


class Whole(nn.Module):
    """One margin for the whole image, w · x + 3: all voxels flip together."""

    def __init__(self, shape, sigmoid=False):
        super().__init__()
        self.w, self.sigmoid = torch.randn(shape, generator=torch.Generator().manual_seed(1)) / 50, sigmoid

    def forward(self, x):
        z = (x * self.w).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1)) + 3
        z = z.expand(-1, 1, *x.shape[2:])
        return z if self.sigmoid else torch.cat([torch.zeros_like(z), z], 1)


class Voxelwise(nn.Module):
    """A margin of its own for every voxel, w · x + 4."""

    w = torch.tensor([0.02, -0.05, 0.01])

    def forward(self, x):
        z = torch.einsum("c,bc...->b...", self.w.to(x), x)[:, None] + 4
        return torch.cat([torch.zeros_like(z), z], 1)


def images(*shape, seed=0):
    return 100 + 50 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def dual(w, norm):
    return w.abs().sum() if norm == "linf" else w.norm()


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8, 8)])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 20.0), ("l2", 400.0)])
def test_distance_to_a_hyperplane(norm, eps, shape, sigmoid):
    network, image = Whole(shape, sigmoid), images(4, *shape)
    margin = network(image)[:, -1].flatten(1)[:, 0]
    label = (margin > 0).float().reshape(-1, *[1] * len(shape)).expand(-1, 1, *shape[1:])
    image, label, margin = image[margin > 0], label[margin > 0], margin[margin > 0]
    outcome = run(
        MinimalNorm(steps=60),
        Victim(network, activation=("softmax", "sigmoid")[sigmoid]),
        ThreatModel(norm=norm, eps=eps),
        image,
        label,
    )
    closest = margin / dual(network.w, norm)
    assert len(image) and bool((closest < eps).all()) and outcome.reached.all()
    torch.testing.assert_close(outcome.size, closest.double(), rtol=0.01, atol=0)
    assert bool((outcome.size >= closest * (1 - 1e-4)).all())


@pytest.mark.parametrize(
    ("norm", "goal", "tolerance"), [("linf", 0.5, 0.01), ("linf", 0.2, 0.01), ("l2", 0.5, 0.08), ("l2", 0.2, 0.25)]
)
def test_only_as_many_voxels_as_it_takes(norm, goal, tolerance):
    """All voxels are foreground, so Dice is 2 (n - m) / (2 n - m) when m of n are lost: the cheapest m, each at its own distance."""
    image, label, n = images(3, 3, 16, 16), torch.ones(3, 1, 16, 16), 256
    lost = math.ceil(n * (2 - 2 * goal) / (2 - goal))
    margin = Voxelwise()(image)[:, 1].flatten(1).clamp_min(0)
    cheapest = (margin / dual(Voxelwise.w, norm)).sort(1).values[:, :lost]
    closest = cheapest[:, -1] if norm == "linf" else cheapest.norm(dim=1)
    threat = ThreatModel(norm=norm, eps=60.0 if norm == "linf" else 1500.0)
    outcome = run(MinimalNorm(goal=goal), Victim(Voxelwise()), threat, image, label)
    assert outcome.reached.all() and bool((1 - outcome.score <= goal).all())
    torch.testing.assert_close(outcome.size, closest.double(), rtol=tolerance, atol=0)
    assert bool((outcome.size >= closest * (1 - 1e-4)).all())


def test_logits_of_any_scale_are_the_same(victim, cases, trained):
    class Louder(nn.Module):
        def forward(self, x):
            return 1000 * trained((x - 127.5) / 127.5)

    plain, loud = (run(MinimalNorm(steps=30), v, ThreatModel(eps=32), *cases).size for v in (victim, Victim(Louder())))
    assert float((plain / loud).median()) == pytest.approx(1, abs=0.05)


def test_the_image_handed_out_fails_and_pgd_below_its_size_does_not(victim, cases):
    outcome = run(MinimalNorm(steps=60), victim, ThreatModel(eps=32), *cases)
    with torch.no_grad():
        dice = mean_dice(victim.predict(victim(outcome.adversarial)), cases[1].long(), 2)
    assert outcome.reached.all() and bool((dice <= 0.5).all())
    torch.testing.assert_close(measure(outcome.adversarial, cases[0])["linf"], outcome.size)
    for i, size in enumerate(outcome.size.tolist()):
        weaker = run(PGD(steps=30), victim, ThreatModel(eps=0.8 * size), cases[0][i : i + 1], cases[1][i : i + 1])
        assert float(weaker.score) < 0.5


def test_cases_that_never_fail_and_cases_that_need_no_change(victim, cases):
    image, label = cases[0][:2], cases[1][:2].clone()
    label[1] = 1 - label[1]
    outcome = run(MinimalNorm(steps=8), victim, ThreatModel(eps=0.5), image, label)
    assert outcome.reached.tolist() == [False, True]
    assert float(outcome.score[0]) < 0.5 and float(outcome.size[1]) == 0
    assert torch.equal(outcome.adversarial[1], image[1])
    assert run(PGD(steps=1), victim, ThreatModel(eps=0.5), image, label).reached is None


def test_a_case_does_not_see_its_batch_and_channels_keep_their_proportions(victim, cases):
    threat = ThreatModel(eps=[32, 0, 16])
    together = run(MinimalNorm(steps=20), victim, threat, *cases)
    alone = run(MinimalNorm(steps=20), victim, threat, cases[0][2:3], cases[1][2:3])
    torch.testing.assert_close(together.size[2:3], alone.size, rtol=1e-3, atol=1e-3)
    change = (together.adversarial - cases[0]).abs().amax((2, 3))
    assert bool((change[:, 1] == 0).all()) and bool((change[:, 2] <= change[:, 0].max() / 2 + 1e-3).all())


def test_targeted_it_is_the_smallest_change_that_reaches_the_target(victim, cases):
    outcome = run(MinimalNorm(steps=30, target="grow 0.5", goal=0.1), victim, ThreatModel(eps=32), *cases)
    assert outcome.reached.all() and bool((outcome.score >= 0.9).all()) and bool((outcome.size < 32).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"goal": 1}, "goal must be a Dice"), ({"goal": -0.1}, "goal must be"), ({"keep": "last"}, "keep must be 'best'")],
)
def test_other_values_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MinimalNorm(**options)


def test_without_a_bound_there_is_nothing_to_search_in(victim, cases):
    with pytest.raises(ValueError, match="a minimal norm needs one: set norm to 'linf' or 'l2'"):
        run(MinimalNorm(), victim, ThreatModel(norm="unbounded"), *cases)
