"""Promise 22: what a defence seems to gain against a careless attacker is gone under a suite, by nine parts of ten at least.

The apparent gain: the Dice that the careless attacker leaves behind the defence, less what the suite leaves of the undefended twin.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from broken.twins import CARELESS, TWINS, Twin, distilled, standardized, undefended
from conftest import blobs, small_unet

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import Noise
from monai_advdef.suite import Suite, attack_with, digest_of, load_suite

THREAT = ThreatModel(eps=12.0)
BEHIND = [{"surrogate": "smooth", "smoothness": 0.95}, {"surrogate": "smooth", "smoothness": 0.7, "begin": "oblivious"}]


def calm(cases: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with next to no noise of their own: what an attack adds is what a defence may take away."""
    noisy, label = blobs(cases, seed=seed)
    clean = []
    for image, mask in zip(noisy, label):
        inside = mask[0] > 0
        means = [image[:, part].mean(1) for part in (inside, ~inside)]
        clean.append(torch.where(inside, means[0][:, None, None], means[1][:, None, None]))
    calmed = torch.stack(clean) + 2 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(seed))
    return calmed.round().clamp(0, 255), label


@pytest.fixture(scope="module")
def network(once):
    """A small U-Net that segments :func:`calm`."""

    def train(folder):
        net = small_unet()
        optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
        image, mask = calm(64, seed=1)
        for step in range(60):
            at = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:16]
            loss = torch.nn.functional.cross_entropy(net((image[at] - 127.5) / 127.5), mask[at, 0].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.save(net.state_dict(), folder / "model.pt")

    net = small_unet()
    net.load_state_dict(torch.load(once("calm_unet", train) / "model.pt", weights_only=True))
    return net.eval()


@pytest.fixture(scope="module")
def cases():
    return calm(4, seed=2)


def suite(*objectives: str, steps: int = 30) -> Suite:
    members = [{"attack": "AutoPGD", "objective": name, "steps": steps} for name in objectives]
    named = {"name": "broken", "version": 1, "members": members, "behind": BEHIND}
    return load_suite({**named, "digest": digest_of(members, BEHIND, 1, "broken")})


def left(victim: Victim, image, label) -> float:
    """Dice of given images on the deployed victim."""
    return 1 - float(run(Noise(), victim, ThreatModel(eps=0, value_range="image"), image, label).score.mean())


@pytest.fixture(scope="module")
def twin(network, cases) -> float:
    """What the suite leaves of the undefended network."""
    return 1 - float(attack_with(suite("dice"), undefended(network), THREAT, *cases).score.mean())


def gain_and_what_is_left_of_it(specimen: Twin, network, cases, twin: float) -> tuple[float, float]:
    victim = specimen.deployed(network)
    attacked = undefended(network) if specimen.blind is None else specimen.blind(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        careless = left(victim, run(CARELESS, attacked, THREAT, *cases).adversarial, cases[1])
    ours = 1 - float(attack_with(suite(*specimen.objectives), victim, THREAT, *cases).score.mean())
    return careless - twin, ours - twin


@pytest.mark.parametrize("specimen", TWINS, ids=lambda s: s.name)
def test_what_a_defence_seems_to_gain_is_gone(network, cases, twin, specimen):
    assert left(specimen.deployed(network), *cases) > 0.95, "it does not work without an attack"
    gain, kept = gain_and_what_is_left_of_it(specimen, network, cases, twin)
    assert gain > 0.25, "it does not even look robust"
    assert kept <= 0.1 * gain


def test_what_distillation_seems_to_gain_is_gone(network, cases, twin):
    pupil = distilled(network, calm(16, seed=1)[0])
    specimen = Twin("distillation", lambda _: Victim(standardized(pupil)), lambda _: Victim(standardized(pupil)), ("margin", "dice"))
    assert left(specimen.deployed(network), *cases) > 0.95
    gain, kept = gain_and_what_is_left_of_it(specimen, network, cases, twin)
    assert gain > 0.25 and kept <= 0.1 * gain
