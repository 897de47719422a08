"""PGD of other libraries on a segmentation network. None takes a mask as it is without help; each adapter is the shortest way in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Call = Callable[[], Any]


def attacks(network: nn.Module, image: Tensor, label: Tensor, *, eps: float, step: float, steps: int) -> dict[str, Call]:
    """Name -> one attack on the batch, for every library that can be imported; the others are named in one printed line.

    Args:
        network: in evaluation mode, its parameters taking gradients as a user's network does.
        image, label: (B, 1, H, W) in [0, 1] and class maps of the same shape.
    """
    makers = {"captum": _captum, "torchattacks": _torchattacks, "foolbox": _foolbox, "ART": _art}
    found: dict[str, Call] = {}
    missing = []
    for name, make in makers.items():
        try:
            found[name] = make(network, image, label[:, 0], eps, step, steps)
        except ImportError:
            missing.append(name)
    if missing:
        print(f"\n{', '.join(missing)}: not installed; pip install -e .[bench]")
    return found


def _captum(network: nn.Module, image: Tensor, mask: Tensor, eps: float, step: float, steps: int) -> Call:
    from captum.robust import PGD

    def per_case(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, reduction="none").mean((1, 2))

    pgd = PGD(network, loss_func=per_case, lower_bound=0.0, upper_bound=1.0)
    return lambda: pgd.perturb(image, radius=eps, step_size=step, step_num=steps, target=mask, random_start=True)


def _torchattacks(network: nn.Module, image: Tensor, mask: Tensor, eps: float, step: float, steps: int) -> Call:
    import torchattacks

    pgd = torchattacks.PGD(network, eps=eps, alpha=step, steps=steps)
    return lambda: pgd(image, mask)


def _foolbox(network: nn.Module, image: Tensor, mask: Tensor, eps: float, step: float, steps: int) -> Call:
    import eagerpy
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD
    from foolbox.criteria import Misclassification

    class Segmentation(LinfPGD):
        def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
            def loss(inputs: Any) -> Any:
                return eagerpy.astensor(functional.cross_entropy(model(inputs).raw, labels.raw, reduction="sum"))

            return loss

    pgd, model, criterion = (
        Segmentation(abs_stepsize=step, steps=steps),
        PyTorchModel(network, bounds=(0, 1)),
        Misclassification(mask),
    )
    return lambda: pgd.run(model, image, criterion, epsilon=eps)


def _art(network: nn.Module, image: Tensor, mask: Tensor, eps: float, step: float, steps: int) -> Call:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    logging.getLogger("art").setLevel(logging.ERROR)
    with torch.no_grad():
        shape = network(image[:1]).shape[1:]

    class Loss(nn.Module):
        """ART knows one label per image: logits and one-hot masks travel flattened and are unfolded here."""

        def forward(self, flat: Tensor, target: Tensor) -> Tensor:
            return functional.cross_entropy(flat.unflatten(1, shape), target.unflatten(1, shape).argmax(1))

    one_hot = functional.one_hot(mask, shape[0]).movedim(-1, 1).float().flatten(1).numpy()
    classifier = PyTorchClassifier(
        nn.Sequential(network, nn.Flatten()),
        loss=Loss(),
        input_shape=tuple(image.shape[1:]),
        nb_classes=shape.numel(),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    pgd = ProjectedGradientDescentPyTorch(
        classifier, eps=eps, eps_step=step, max_iter=steps, num_random_init=1, batch_size=len(image), verbose=False
    )
    pixels = image.numpy()
    return lambda: pgd.generate(pixels, one_hot)
