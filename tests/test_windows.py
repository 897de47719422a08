"""The two-pass gradient through a sliding window equals differentiating MONAI's inferer as it stands."""

from __future__ import annotations

import pytest
import torch
from conftest import small_unet
from monai.inferers import SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import Tensor

from monai_advdef import Victim
from monai_advdef.defenses import JPEG, Blur, DefendedInferer
from monai_advdef.objectives import objective

GEOMETRIES = {
    "2-D gaussian": ((1, 3, 40, 48), {"roi_size": 32, "overlap": 0.25, "mode": "gaussian"}),
    "2-D constant, no overlap": ((1, 3, 32, 48), {"roi_size": 16, "overlap": 0.0}),
    "2-D dense overlap, several windows at once": (
        (1, 3, 40, 40),
        {"roi_size": (16, 32), "overlap": (0.75, 0.5), "sw_batch_size": 5},
    ),
    "2-D windows of both cases in one batch": (
        (2, 3, 40, 32),
        {"roi_size": 16, "overlap": 0.5, "sw_batch_size": 7, "mode": "gaussian"},
    ),
    "2-D image smaller than the window": ((2, 3, 25, 40), {"roi_size": 32, "mode": "gaussian"}),
    "2-D padded with a value": ((1, 3, 20, 20), {"roi_size": 32, "cval": 9.0}),
    "2-D whole axis as window": ((1, 3, 32, 40), {"roi_size": (0, 16), "overlap": 0.5}),
    "3-D gaussian": ((1, 3, 24, 16, 28), {"roi_size": 16, "overlap": 0.25, "mode": "gaussian"}),
    "3-D constant, several windows at once": ((2, 3, 16, 24, 16), {"roi_size": (16, 16, 8), "overlap": 0.5, "sw_batch_size": 3}),
    "3-D volume thinner than the window": ((1, 3, 11, 24, 16), {"roi_size": 16, "overlap": 0.5, "mode": "gaussian"}),
}


def given(shape: tuple[int, ...], classes: int = 3) -> tuple[Tensor, Tensor, torch.nn.Module]:
    """Image in [0, 255], label and network."""
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(shape, generator=generator)
    label = torch.randint(classes, (shape[0], 1, *shape[2:]), generator=generator)
    return image, label, small_unet(len(shape) - 2, shape[1], classes).eval()


def plain(victim: Victim, image: Tensor, loss) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, losses and gradient with the graph of every window kept."""
    leaf = image.clone().requires_grad_()
    logits = victim(leaf)
    values = loss(logits)
    return logits.detach(), values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def assert_same(victim: Victim, image: Tensor, loss) -> None:
    with victim.frozen():
        expected = plain(victim, image, loss)
        for kept in (0, 2, 1000):
            victim.kept_windows = kept
            for own, other in zip(victim.gradient(image, loss), expected):
                assert own.shape == other.shape
                assert float((own - other).abs().max()) <= 1e-6 * float(other.abs().max())
    assert float(expected[2].abs().max()) > 0


@pytest.mark.parametrize("name", GEOMETRIES)
def test_equals_the_plain_gradient(name):
    shape, options = GEOMETRIES[name]
    image, label, network = given(shape)
    victim = Victim(network, normalize=(127.5, 127.5), inferer=SlidingWindowInferer(**options))
    assert_same(victim, image, lambda logits: objective("cross_entropy")(logits, label, False))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_every_way_of_padding(mode):
    image, label, network = given((1, 3, 25, 20))
    victim = Victim(network, inferer=SlidingWindowInferer(32, padding_mode=mode))
    assert_same(victim, image, lambda logits: objective("cross_entropy")(logits, label, False))


@pytest.mark.parametrize("loss", ["dice_ce", "margin"])
def test_losses_that_look_at_the_whole_image(loss):
    image, label, network = given((2, 3, 40, 32))
    victim = Victim(network, normalize=(127.5, 127.5), inferer=SlidingWindowInferer(16, overlap=0.5, mode="gaussian"))
    assert_same(victim, image, lambda logits: objective(loss)(logits, label, True))


def test_sigmoid_head_and_adaptive_inferer():
    image, label, network = given((1, 3, 40, 32))
    masks = torch.cat([label == k for k in range(3)], dim=1).float()
    victim = Victim(network, inferer=SlidingWindowInfererAdapt(16, overlap=0.5), activation="sigmoid")
    assert_same(victim, image, lambda logits: objective("cross_entropy", "sigmoid")(logits, masks, False))


@pytest.mark.parametrize("defense", [Blur(), JPEG(quality=60)], ids=["Blur", "JPEG"])
def test_with_a_defence_in_front(defense):
    image, label, network = given((2, 3, 40, 32))
    inferer = DefendedInferer(SlidingWindowInferer(32, overlap=0.25, mode="gaussian"), defense)
    victim = Victim(network, normalize=(127.5, 127.5), inferer=inferer)
    assert_same(victim, image, lambda logits: objective("cross_entropy")(logits, label, False))


def test_a_cached_weight_map():
    image, label, network = given((1, 3, 40, 32))
    inferer = SlidingWindowInferer((16, 16), overlap=0.5, mode="gaussian", cache_roi_weight_map=True)
    assert inferer.roi_weight_map is not None
    assert_same(Victim(network, inferer=inferer), image, lambda logits: objective("cross_entropy")(logits, label, False))


def test_one_window_is_alive_at_a_time():
    """A pass that records a graph sees at most ``sw_batch_size`` windows, and its graph is gone before the next."""
    image, label, network = given((1, 3, 48, 48))
    alive, most = 0, 0

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            nonlocal alive
            alive -= 1
            return gradient

    def watched(x: Tensor) -> Tensor:
        nonlocal alive, most
        if torch.is_grad_enabled():
            alive, most = alive + 1, max(most, alive + 1)
            assert len(x) <= 2
        return network(Watched.apply(x))

    victim = Victim(watched, inferer=SlidingWindowInferer(16, sw_batch_size=2, overlap=0.5))
    victim.gradient(image, lambda logits: objective("cross_entropy")(logits, label, False))
    assert (alive, most) == (0, 1)


@pytest.mark.parametrize(("kept", "forward"), [(0, 50), (10, 40), (1000, 25)])
def test_kept_graphs_save_the_second_forward_pass(kept, forward):
    image, label, network = given((1, 3, 48, 48))
    calls = []

    def watched(x: Tensor) -> Tensor:
        calls.append(len(x))
        return network(x)

    victim = Victim(watched, inferer=SlidingWindowInferer(16, sw_batch_size=1, overlap=0.5), kept_windows=kept)
    victim.gradient(image, lambda logits: objective("cross_entropy")(logits, label, False))
    assert len(calls) == forward
    assert victim.without_defense().kept_windows == kept


def test_an_inferer_of_unknown_order_keeps_no_graph():
    """A buffer visits windows in another order, and the adaptive inferer may start over on another device."""
    image, label, network = given((1, 3, 48, 48))
    for inferer in (SlidingWindowInferer(16, overlap=0.5, buffer_steps=1), SlidingWindowInfererAdapt(16, overlap=0.5)):
        assert_same(Victim(network, inferer=inferer), image, lambda logits: objective("cross_entropy")(logits, label, False))


def test_a_number_of_windows_below_zero_is_refused():
    with pytest.raises(ValueError, match="kept_windows"):
        Victim(small_unet(2, 3, 3), kept_windows=-1)


@pytest.mark.parametrize("windows_at_once", [1, 3])
def test_both_passes_batch_the_windows_alike(windows_at_once):
    """Another batch size may take other convolution kernels, whose rounding moves the gradient at the kinks of the network."""
    image, label, network = given((2, 3, 48, 32))
    calls: dict[bool, list[int]] = {False: [], True: []}

    def watched(x: Tensor) -> Tensor:
        calls[x.requires_grad].append(len(x))
        return network(x)

    victim = Victim(watched, inferer=SlidingWindowInferer(16, sw_batch_size=windows_at_once, overlap=0.5))
    victim.gradient(image, lambda logits: objective("cross_entropy")(logits, label, False))
    assert calls[True] == calls[False] and max(calls[True]) == windows_at_once


def test_frozen_restores_flags_and_touches_no_gradient():
    image, label, network = given((1, 3, 40, 32))
    network.train()
    parts, parameters = list(network.modules()), list(network.parameters())
    parts[3].eval()
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    flags, wanted = [m.training for m in parts], [p.requires_grad for p in parameters]
    victim = Victim(network, inferer=SlidingWindowInferer(16))
    with pytest.raises(RuntimeError, match="on purpose"), victim.frozen():
        assert not any(m.training for m in parts) and not any(p.requires_grad for p in parameters)
        victim.gradient(image, lambda logits: objective("cross_entropy")(logits, label, False))
        raise RuntimeError("on purpose")
    assert [m.training for m in parts] == flags and [p.requires_grad for p in parameters] == wanted
    assert torch.equal(parameters[1].grad, torch.ones_like(parameters[1]))
    assert all(p.grad is None for p in parameters[2:])
