from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import log_softmax, softmax

from monai_advdef.networks import available_networks, segmentation_network, training_loss
from monai_advdef.networks.losses import ClassMapCrossEntropy, EndPointError


def sample(seed: int, classes: int, side: int = 9):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, classes, side, side + 2, generator=generator, dtype=torch.double)
    label = torch.randint(0, classes, (3, 1, side, side + 2), generator=generator)
    label[:, :, 0, 0] = classes - 1
    return logits, label


def cross_entropy(logits, label):
    return -np.take_along_axis(log_softmax(logits.numpy(), axis=1), label.numpy(), axis=1).mean()


def end_point_error(logits, label):
    u, v = 1 - softmax(logits.numpy(), axis=1)[:, 0], (label.numpy()[:, 0] > 0).astype(float)
    images = [(ndimage.sobel(a, 0, mode="nearest"), ndimage.sobel(a, 1, mode="nearest")) for a in (*u, *v)]
    edges = np.array(images).reshape(2, len(u), 2, *u.shape[1:])
    return np.sqrt(((edges[0] - edges[1]) ** 2).sum(axis=1) + 1e-8).mean()


def overlap(logits, label, quotient):
    """Mean over cases and foreground classes of 1 - quotient(Σ ty, t, y)."""
    y = softmax(logits.numpy(), axis=1)[:, 1:]
    t = np.stack([label.numpy()[:, 0] == k for k in range(1, logits.shape[1])], axis=1).astype(float)
    return np.mean([1 - quotient(t[b, k], y[b, k]) for b, k in np.ndindex(y.shape[:2])])


def jaccard(t, y):
    both = (t * y).sum()
    return both / ((t**2).sum() + (y**2).sum() - both)


def dice(t, y):
    return 2 * (t * y).sum() / (t.sum() + y.sum())


CLOSED_FORMS = {
    "cdnn": lambda logits, label: overlap(logits, label, jaccard),
    "invertednet": lambda logits, label: overlap(logits, label, dice),
    "slsdeep": lambda logits, label: cross_entropy(logits, label) + 0.5 * end_point_error(logits, label),
    "unet": lambda logits, label: cross_entropy(logits, label) + overlap(logits, label, dice),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@given(st.integers(0, 1000), st.integers(2, 4))
@settings(max_examples=10, deadline=None)
def test_loss_is_its_closed_form(name, seed, classes):
    logits, label = sample(seed, classes)
    assert training_loss(name)(logits, label.float()).item() == pytest.approx(CLOSED_FORMS[name](logits, label), rel=1e-5)


@pytest.mark.parametrize(("name", "heads", "weight"), [("nlcen", 5, 0.25), ("nlcen_no_nlce", 5, 0.25), ("nwcn", 2, 1.0)])
def test_heads_are_weighted_cross_entropies(name, heads, weight):
    samples = [sample(seed, 3) for seed in range(heads)]
    label = samples[0][1]
    loss = training_loss(name)([logits for logits, _ in samples], label.float())
    assert loss.item() == pytest.approx(weight * sum(cross_entropy(logits, label) for logits, _ in samples), rel=1e-5)
    assert training_loss(name)(samples[0][0], label).item() == pytest.approx(cross_entropy(samples[0][0], label), rel=1e-5)


def test_class_map_cross_entropy_takes_volumes_and_any_number_type():
    logits = torch.randn(2, 3, 4, 5, 6, dtype=torch.double)
    label = torch.randint(0, 3, (2, 1, 4, 5, 6))
    for dtype in (torch.uint8, torch.int64, torch.float32):
        assert ClassMapCrossEntropy()(logits, label.to(dtype)).item() == pytest.approx(cross_entropy(logits, label))


def test_end_point_error_is_differentiable_and_least_at_the_mask():
    logits, label = sample(0, 2, side=5)
    assert torch.autograd.gradcheck(lambda x: EndPointError()(x, label), logits.requires_grad_())
    exact = 60.0 * (label > 0)
    exact = torch.cat([-exact + 30, exact - 30], dim=1)
    assert EndPointError()(exact, label).item() == pytest.approx(1e-4)  # √1e-8 at every pixel
    assert EndPointError()(-exact, label) > 1


def test_end_point_error_sees_no_edge_at_the_border():
    """A constant mask has no gradient anywhere, and a constant prediction neither: nothing to tell them apart."""
    whole = torch.ones(1, 1, 6, 6)
    assert EndPointError()(torch.zeros(1, 2, 6, 6), whole).item() == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["unet", "resnet50fcn", "valid_unet"])
def test_plain_networks_choose_their_loss(name):
    logits, label = sample(3, 2)
    assert training_loss(name, plain="cross_entropy")(logits, label).item() == pytest.approx(cross_entropy(logits, label))


OPTIONS = {"unet": {"channels": [4, 8, 8, 8, 8]}, "valid_unet": {"channels": [4, 4, 4, 4, 4]}}
SCALED = ("cdnn", "invertednet", "nwcn", "slsdeep")


@pytest.mark.parametrize("name", [*SCALED, *OPTIONS, "nlcen"])
def test_loss_takes_what_the_network_gives_in_training(name):
    torch.manual_seed(0)
    options = OPTIONS.get(name, {"width": 0.1} if name in SCALED else {})
    network = segmentation_network(name, in_channels=1, **options).train()
    loss = training_loss(name)(network(255 * torch.rand(2, 1, 64, 64)), torch.randint(0, 2, (2, 1, 64, 64)).float())
    loss.backward()
    assert loss.ndim == 0 and torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_every_network_has_a_loss_and_others_have_none():
    for name in available_networks():
        assert isinstance(training_loss(name), torch.nn.Module)
    with pytest.raises(ValueError, match="no network 'slsdep'; did you mean 'slsdeep'"):
        training_loss("slsdep")
    with pytest.raises(ValueError, match="plain must be one of dice_ce, cross_entropy, got 'ce'"):
        training_loss("unet", plain="ce")
