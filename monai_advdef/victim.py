"""Whom the attack is aimed at: the whole deployed map from an image in image units to logits, as one differentiable function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from monai_advdef.defenses import DefendedInferer
from monai_advdef.metrics import class_map
from monai_advdef.types import Images, Logits
from monai_advdef.windows import is_plain_sliding_window, windowed_gradient

HEADS = ("softmax", "sigmoid")
PRECISIONS = ("float32", "bfloat16")
Generators = Sequence[torch.Generator] | None  # one per case


class Victim:
    """``inferer(network o normalize) o defense``: images (B, C, \\*S) in image units -> logits (B, K, \\*S).

    Args:
        network: the segmentation network; ``DataParallel`` wrappers are taken off.
        normalize: what stands between image units and the network: a callable, or ``(mean, std)``; ``None`` when the network
            does it.
        defense: an image defence in front of everything; its ``surrogate`` supplies the backward pass. If it is ``stochastic`` it
            takes the generators of its draws as second argument.
        inferer: a MONAI inferer; through a sliding window the gradient is exact and costs the memory of one window. A
            ``DefendedInferer`` is taken apart into its inferer and its defence.
        activation: ``"softmax"`` (one class per voxel) or ``"sigmoid"`` (each channel on its own).
        step_precision: ``"bfloat16"`` computes gradients under autocast (scores are then judged again in float32).
        compiled: compute gradients through ``torch.compile`` (pays after some hundred steps).
        heads: take gradients of the mean loss over all outputs of a network with several (deep supervision, its ``forward_heads``);
            logits and scores remain those of the deployed one.
        draws: over how many draws of a stochastic defence an attack takes its expectation (Athalye et al., "Synthesizing Robust
            Adversarial Examples", 2018); not used otherwise.
        kept_windows: of how many batches of sliding windows the gradient holds the graphs in memory and so saves their second
            forward pass; 0 keeps the memory of one.

    Raises:
        ValueError: unknown activation or precision; two defences; ``draws`` below 1, ``kept_windows`` below 0.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        normalize: Callable[[Tensor], Tensor] | tuple[Any, Any] | None = None,
        defense: Callable[..., Tensor] | None = None,
        inferer: Inferer | None = None,
        activation: str = "softmax",
        *,
        step_precision: str = "float32",
        compiled: bool = False,
        heads: bool = False,
        draws: int = 8,
        kept_windows: int = 0,
    ) -> None:
        if activation not in HEADS:
            raise ValueError(f"activation must be one of {', '.join(HEADS)}, got {activation!r}")
        if step_precision not in PRECISIONS:
            raise ValueError(f"step_precision must be one of {', '.join(PRECISIONS)}, got {step_precision!r}")
        if not isinstance(draws, int) or draws < 1:
            raise ValueError(f"draws must be a whole number ≥ 1, got {draws!r}; 8 is usual for a randomised defence")
        if not isinstance(kept_windows, int) or kept_windows < 0:
            raise ValueError(
                f"kept_windows must be a whole number ≥ 0, got {kept_windows!r}; 0 needs the memory of one batch of windows"
            )
        if isinstance(inferer, DefendedInferer):
            if defense is not None:
                raise ValueError("defense is given twice: once by itself, once inside the DefendedInferer; give one")
            defense = inferer.defense
            inferer = inferer.inferer
        self.network = unwrap(network)
        self.normalize = standardizer(*normalize) if isinstance(normalize, (tuple, list)) else normalize
        self.defense, self.inferer, self.activation = defense, inferer, activation
        self.step_precision, self.heads, self.draws, self.kept_windows = step_precision, heads, draws, kept_windows
        self._stepper = torch.compile(self.network) if compiled else self.network

    def without_defense(self) -> Victim:
        """The same victim as an attacker sees it who does not know of the defence."""
        settings: dict[str, Any] = {"step_precision": self.step_precision, "heads": self.heads, "draws": self.draws}
        settings["kept_windows"] = self.kept_windows
        twin = Victim(self.network, self.normalize, None, self.inferer, self.activation, **settings)
        twin._stepper = self._stepper
        return twin

    @property
    def stochastic(self) -> bool:
        """Whether the defence draws at random."""
        return bool(getattr(self.defense, "stochastic", False))

    @property
    def passes(self) -> int:
        """Passes through the network that one look at an image takes: ``draws`` behind a stochastic defence, else 1."""
        return self.draws if self.stochastic else 1

    def __call__(self, image: Images, generators: Generators = None) -> Logits:
        """Logits (B, K, \\*S), in float32; gradients as the caller set them.

        Behind a stochastic defence those of one draw: of the deployed one, or of a fresh one where ``generators``, one per case, are
        given.
        """
        return self._infer(self._defended(image, generators), self.network)

    def gradient(
        self, image: Images, loss: Callable[[Logits], Tensor], generators: Generators = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, K, \\*S), per-case losses (B,) and the gradient of their sum with respect to ``image``.

        Behind a stochastic defence the means of all three over ``draws`` fresh draws from ``generators``, one per case; without
        generators those of the deployed draw.

        Raises:
            ValueError: the defence or the network passes no gradient (the module is named).
        """
        draws = 1 if generators is None else self.passes
        logits, values, gradient = average(self._gradient(image, loss, generators) for _ in range(draws))
        return logits, values, gradient

    def _defended(self, image: Images, generators: Generators) -> Images:
        if self.defense is None:
            return image
        return self.defense(image, generators) if self.stochastic else self.defense(image)

    def _gradient(self, image: Images, loss: Callable[[Logits], Tensor], generators: Generators) -> tuple[Tensor, Tensor, Tensor]:
        x = image.detach().requires_grad_()
        defended = self._defended(x, generators)
        if not defended.requires_grad:
            raise ValueError(
                f"{type(self.defense).__name__} passes no gradient, so an adaptive attack cannot see through it; "
                "give it a surrogate, or attack obliviously and say so"
            )
        if is_plain_sliding_window(self.inferer) and not self.heads:
            leaf = defended.detach()
            with self._autocast(image):
                logits, values, gradient = windowed_gradient(
                    self.inferer,  # type: ignore[arg-type]
                    self._predict(self._stepper),
                    leaf,
                    loss,
                    self.kept_windows,
                )
            if self.defense is not None:
                (gradient,) = torch.autograd.grad(defended, x, gradient)
            return logits, values, gradient
        with self._autocast(image):
            outputs = self._all_heads(defended) if self.heads else [self._infer(defended, self._stepper)]
        (values,) = average((loss(logits),) for logits in outputs)
        if not values.requires_grad:
            raise ValueError(f"{type(self.inferer).__name__} passed no gradient on; give the victim an inferer that does")
        (gradient,) = torch.autograd.grad(values.sum(), x)
        return outputs[0].detach(), values.detach(), gradient

    def predict(self, logits: Logits) -> Tensor:
        """Class map (B, 1, \\*S) for softmax, boolean mask (B, K, \\*S) for sigmoid."""
        return class_map(logits) if self.activation == "softmax" else logits > 0

    def classes(self, logits: Logits) -> int | None:
        """Number of classes for :func:`monai_advdef.metrics.counts`: K for softmax, ``None`` for sigmoid."""
        return logits.shape[1] if self.activation == "softmax" else None

    def encode(self, label: Tensor, logits: Logits, name: str = "label") -> Tensor:
        """The label in the form the objectives take: integers (B, 1, \\*S) for softmax, floats (B, K, \\*S) for sigmoid.

        Raises:
            ValueError: wrong spatial size, wrong number of channels, values outside the classes, a softmax head of one channel.
        """
        k = logits.shape[1]
        if self.activation == "softmax" and k == 1:
            raise ValueError("the network has one output channel, which softmax cannot use; set activation to 'sigmoid'")
        if label.shape[0] != logits.shape[0] or label.shape[2:] != logits.shape[2:]:
            raise ValueError(f"{name} has shape {tuple(label.shape)}, the logits {tuple(logits.shape)}; cases and sizes must agree")
        label = label.to(logits.device)
        if not bool((label == label.round()).all()):
            raise ValueError(f"{name} holds values that are not whole numbers; give class indices or zeros and ones")
        if label.shape[1] == k:
            if float(label.min()) < 0 or float(label.max()) > 1:
                raise ValueError(
                    f"{name} has {k} channels and values in [{label.min():g}, {label.max():g}]; a mask per class holds 0 and 1"
                )
            return label.argmax(1, keepdim=True) if self.activation == "softmax" else label.float()
        if self.activation == "sigmoid" or label.shape[1] != 1:
            raise ValueError(f"{name} has {label.shape[1]} channels, the network {k}; give one mask per output channel")
        if float(label.min()) < 0 or float(label.max()) >= k:
            raise ValueError(
                f"{name} holds class {int(label.max() if label.max() >= k else label.min())}, the network knows 0..{k - 1}; "
                "map the labels, or check the network's number of output channels"
            )
        return label.long()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode and no weight gradients inside; every module's flag and every parameter's flag as before afterwards."""
        modules = [m for part in (self.network, self.defense) if isinstance(part, nn.Module) for m in part.modules()]
        training = [m.training for m in modules]
        parameters = [p for m in modules for p in m.parameters(recurse=False)]
        wanted = [p.requires_grad for p in parameters]
        try:
            for m in modules:
                m.training = False
            for p in parameters:
                p.requires_grad_(False)
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            for m, flag in zip(modules, training):
                m.training = flag
            for p, want in zip(parameters, wanted):
                p.requires_grad_(want)

    def _predict(self, network: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
        def predict(x: Tensor) -> Tensor:
            out = network(x if self.normalize is None else self.normalize(x))
            out = out[0] if isinstance(out, (tuple, list)) else out
            if not isinstance(out, Tensor) or out.ndim != x.ndim:
                raise ValueError(
                    f"{type(self.network).__name__} returned {type(out).__name__} of shape {tuple(getattr(out, 'shape', ()))} "
                    f"for images {tuple(x.shape)}; a victim must return logits (B, K, *S)"
                )
            if x.requires_grad and torch.is_grad_enabled() and not out.requires_grad:
                raise ValueError(
                    f"{type(self.network).__name__} returned logits without a gradient (a detach, argmax or no_grad inside it?); "
                    "the attack needs the logits"
                )
            return out.float()

        return predict

    def _all_heads(self, x: Images) -> list[Logits]:
        """Logits of every head, the deployed one first, each (B, K, \\*S) in float32."""
        forward = getattr(self.network, "forward_heads", None)
        if forward is None or not (self.inferer is None or type(self.inferer) is SimpleInferer):
            raise ValueError(
                f"heads is true, but {type(self.network).__name__} behind {type(self.inferer).__name__} gives one output; "
                "set heads to false, or give a network with forward_heads and no windows in between"
            )
        return [out.float() for out in forward(x if self.normalize is None else self.normalize(x))]

    def _infer(self, x: Images, network: Callable[..., Any]) -> Logits:
        predict = self._predict(network)
        return predict(x) if self.inferer is None else self.inferer(x, predict)

    def _autocast(self, image: Tensor) -> Any:
        return torch.autocast(image.device.type, torch.bfloat16) if self.step_precision == "bfloat16" else nullcontext()


def average(results: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The mean of tuples of tensors, entry by entry; a lone tuple as it is."""
    rest = iter(results)
    total, count = next(rest), 1
    for result in rest:
        total, count = tuple(a + b for a, b in zip(total, result)), count + 1
    return tuple(a / count for a in total) if count > 1 else total


def unwrap(network: Any) -> Any:
    """The network inside ``DataParallel`` or ``DistributedDataParallel``; anything else as it is."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return network.module if isinstance(network, wrappers) else network


def standardizer(mean: Any, std: Any) -> Callable[[Tensor], Tensor]:
    """``(x - mean) / std``, with one number or one per channel each."""

    def standardize(x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - torch.as_tensor(mean).to(x).reshape(shape)) / torch.as_tensor(std).to(x).reshape(shape)

    return standardize
