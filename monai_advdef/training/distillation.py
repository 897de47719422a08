"""Defensive distillation, per voxel: a student learns the soft labels of a teacher at a temperature T and is deployed at 1.

The teacher is trained with softmax(z / T), its soft labels are q = softmax(z / T), the student is trained with CE(q, softmax(z / T))
and deployed with softmax(z). Its logits are then about T times as large as usual, so that the gradient of the cross-entropy
underflows: gradient masking, not robustness. Evaluate it also with ``logit_scale`` 1/T (see
:class:`monai_advdef.handlers.AttackHandler`), with a margin loss and by transfer.

Trained literally at T = 20, a network of the usual initialisation and learning rate stays at one class. As the last layer is linear,
z = T z' is the same class of functions: so z' is trained at temperature 1, and :class:`monai_advdef.networks.ScaledLogits` deploys
T z'. The loss is the same, softmax(z / T) = softmax(z'); only the path of the optimiser differs. The teacher z' is then the clean
network. ``literal`` trains z itself, with a teacher trained so (:class:`TemperedLoss`).

Source: Papernot et al., "Distillation as a Defense to Adversarial Perturbations against Deep Neural Networks", 2016; its weakness:
Carlini & Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section VIII.
"""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.nn import functional as F

from monai_advdef.handlers.cell import Engine
from monai_advdef.networks.scaled import ScaledLogits
from monai_advdef.switches import as_written


@as_written
def student(network: nn.Module, *, temperature: float = 20.0, literal: bool = False) -> ScaledLogits:
    """The network in the form it is distilled and deployed in: T times its logits, or, literally, its logits.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    return ScaledLogits(network, factor=1.0 if literal else _positive(temperature))


class SoftCrossEntropy(nn.Module):
    """−Σ q log softmax(z / T), mean over pixels, of logits z and soft labels q, both (B, K, \\*S); of several heads their mean.

    Raises:
        ValueError: ``temperature`` is not positive.
    """

    def __init__(self, *, temperature: float = 20.0) -> None:
        super().__init__()
        self.temperature = _positive(temperature)

    def forward(self, prediction: Any, soft: Tensor) -> Tensor:
        """Cross-entropy of logits / T (B, K, \\*S), the mean over several heads, against soft labels of the same shape."""
        heads = prediction if isinstance(prediction, (list, tuple)) else [prediction]
        return torch.stack([F.cross_entropy(z / self.temperature, soft) for z in heads]).mean()


class TemperedLoss(nn.Module):
    """``loss(z / T, label)``: what the literal teacher is trained with.

    Raises:
        ValueError: ``temperature`` is not positive.
    """

    def __init__(self, loss: nn.Module, *, temperature: float = 20.0) -> None:
        super().__init__()
        self.loss, self.temperature = loss, _positive(temperature)

    def forward(self, prediction: Any, label: Tensor) -> Tensor:
        """The loss of logits / T, of every head."""
        several = isinstance(prediction, (list, tuple))
        return self.loss([z / self.temperature for z in prediction] if several else prediction / self.temperature, label)


class TeacherHandler:
    """While the loss is computed, the label of the batch is the teacher's softmax(z / T) (B, K, \\*S); before and after, its own.

    Args:
        teacher: a trained network; of the exact way its logits are z', so no temperature divides them.
        temperature: T; counts only if ``literal``.
        literal: the teacher was trained at temperature T itself.

    Raises:
        ValueError: ``temperature`` is not positive.
    """

    @as_written
    def __init__(
        self,
        teacher: nn.Module,
        *,
        temperature: float = 20.0,
        literal: bool = False,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        self.teacher = teacher.eval()
        self.temperature = _positive(temperature) if literal else 1.0
        self.image_key, self.label_key = image_key, label_key
        self._label: Any = None

    def attach(self, engine: Engine) -> None:
        """Put the teacher's labels in before an iteration, and the mask back after its backward pass."""
        engine.add_event_handler(Events.ITERATION_STARTED, self.soften)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.restore)

    def soften(self, engine: Engine) -> None:
        """The teacher's probabilities at temperature T in place of the label."""
        batch, device = engine.state.batch, engine.state.device
        image = batch[self.image_key].to(device)
        with torch.no_grad():
            logits = self.teacher.to(device)(image.as_tensor() if hasattr(image, "as_tensor") else image)
        self._label = batch[self.label_key]
        batch[self.label_key] = (logits / self.temperature).softmax(1)

    def restore(self, engine: Engine) -> None:
        """The label as it was, for the metrics."""
        engine.state.batch[self.label_key] = self._label
        engine.state.output[CommonKeys.LABEL] = self._label.to(engine.state.device)


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}; 20 is usual, 1 distils without a temperature")
    return float(temperature)
