"""Whom the attack is aimed at: the whole deployed map from an image in image units to logits, as one differentiable function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from monai_advdef.defenses import DefendedInferer, Defense
from monai_advdef.defenses.quantiser import check_seen_through, look_through
from monai_advdef.logits import check_finite, logits_of, no_gradient, standardizer, unwrap
from monai_advdef.metrics import class_map, encode_label
from monai_advdef.networks.prepared import PreparedInferer
from monai_advdef.switches import as_written
from monai_advdef.types import Given, Images, Logits
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
            ``DefendedInferer`` is taken apart into its inferer and its defence, a ``PreparedInferer`` into its inferer and what
            prepares the whole image for it.
        activation: ``"softmax"`` (one class per voxel) or ``"sigmoid"`` (each channel on its own).
        step_precision: ``"bfloat16"`` computes gradients under autocast (scores are then judged again in float32).
        compiled: compute gradients through ``torch.compile`` (pays after some hundred steps).
        heads: take gradients of the mean loss over all outputs of a network with several (deep supervision, its ``forward_heads``);
            logits and scores remain those of the deployed one.
        draws: over how many draws of a stochastic defence an attack takes its expectation (Athalye et al., "Synthesizing Robust
            Adversarial Examples", 2018); not used otherwise.
        surrogate, smoothness: what stands in for the gradient of the defence's rounding, instead of what the defence says itself
            (see `monai_advdef.defenses.Quantiser`); ``"identity"`` suits any defence. What is deployed stays the same.
        kept_windows: of how many batches of sliding windows the gradient holds the graphs in memory and so saves their second
            forward pass; 0 keeps the memory of one.

    Raises:
        ValueError: unknown activation or precision; two defences; ``draws`` below 1, ``kept_windows`` below 0; a surrogate or a
            smoothness that the defence does not know.
    """

    @as_written
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
        surrogate: str | None = None,
        smoothness: float | None = None,
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
        self.prepare: Callable[[Tensor], Tensor] | None = None
        if isinstance(inferer, PreparedInferer):
            self.prepare, inferer = inferer.prepare, inferer.inferer
        check_seen_through(defense, surrogate, smoothness)
        self.surrogate, self.smoothness = surrogate, smoothness
        self.network = unwrap(network)
        self.normalize = standardizer(*normalize) if isinstance(normalize, (tuple, list)) else normalize
        self.defense, self.inferer, self.activation = defense, inferer, activation
        self.step_precision, self.heads, self.draws, self.kept_windows = step_precision, heads, draws, kept_windows
        self.random: bool | None = None  # whether the network itself draws; None until it has been looked at twice
        self._stepper = torch.compile(self.network) if compiled else self.network

    def without_defense(self) -> Victim:
        """The same victim as an attacker sees it who does not know of the defence."""
        settings: dict[str, Any] = {"step_precision": self.step_precision, "heads": self.heads, "draws": self.draws}
        settings["kept_windows"] = self.kept_windows
        twin = Victim(self.network, self.normalize, None, self.inferer, self.activation, **settings)
        twin._stepper, twin.random, twin.prepare = self._stepper, self.random, self.prepare
        return twin

    @property
    def stochastic(self) -> bool:
        """Whether the defence, or the network itself, draws at random."""
        return self.drawing_defense or bool(self.random)

    @property
    def drawing_defense(self) -> bool:
        """Whether the defence says that it draws at random."""
        return bool(getattr(self.defense, "stochastic", False))

    def knowing(self, other: Victim | None) -> Victim:
        """This victim, with what two looks at the same network have told ``other``."""
        if other is not None and other.network is self.network:
            self.random = other.random
        return self

    @property
    def passes(self) -> int:
        """Passes through the network that one look at an image takes: ``draws`` behind a stochastic defence, else 1."""
        return self.draws if self.stochastic else 1

    def __call__(self, image: Given, generators: Generators = None) -> Logits:
        """Logits (B, K, \\*S), in float32; gradients as the caller set them.

        Behind a stochastic defence those of one draw: of the deployed one, or of a fresh one where ``generators``, one per case, are
        given.
        """
        image = image if image.is_floating_point() else image.float()
        return self.infer(self.defended(image, generators), generators)

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

    def defended(self, image: Images, generators: Generators = None) -> Images:
        """What the network is given of an image: the image behind the defence."""
        if self.defense is None:
            return image
        return self.defense(image, generators) if self.drawing_defense else self.defense(image)

    def require_range(self, image: Images) -> None:
        """Raises ``ValueError`` where images lie outside the range that the defence is made for."""
        if isinstance(self.defense, Defense):
            self.defense.require_range(image)

    def infer(self, x: Images, generators: Generators = None) -> Logits:
        """The logits of images that have passed the defence, as :meth:`__call__` gives them.

        Raises:
            ValueError: what the network says of such images in :func:`monai_advdef.logits.logits_of`; logits that are not finite.
        """
        return self._outputs(self.fed(x), self.network, generators)[0]

    def fed(self, x: Images) -> Tensor:
        """What the inferer is given of images that have passed the defence."""
        return x if self.prepare is None else self.prepare(x)

    def _gradient(self, image: Images, loss: Callable[[Logits], Tensor], generators: Generators) -> tuple[Tensor, Tensor, Tensor]:
        x = image.detach().requires_grad_()
        defended = look_through(self.defense, x, lambda: self.defended(x, generators), self.surrogate, self.smoothness)
        if not defended.requires_grad:
            raise ValueError(
                f"{type(self.defense).__name__} passes no gradient, so an adaptive attack cannot see through it; "
                "give it a surrogate, or attack obliviously and say so; surrogate 'identity' suits any defence"
            )
        fed = self.fed(defended)
        if is_plain_sliding_window(self.inferer) and not self.heads and not self.random:
            leaf = fed.detach()
            with self._autocast(image):
                logits, values, gradient = windowed_gradient(
                    self.inferer,  # type: ignore[arg-type]
                    self._predict(self._stepper),
                    leaf,
                    loss,
                    self.kept_windows,
                )
            check_finite(logits, self.network)
            if fed is not x:
                (gradient,) = torch.autograd.grad(fed, x, gradient)
            return logits, values, gradient
        with self._autocast(image):
            outputs = self._outputs(fed, self._stepper, generators, heads=self.heads)
        (values,) = average((loss(logits),) for logits in outputs)
        if not values.requires_grad:
            raise ValueError(f"{type(self.inferer).__name__} passed no gradient on; give the victim an inferer that does")
        (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        if gradient is None:
            raise ValueError(no_gradient(self.network))
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
        return encode_label(label, logits, softmax=self.activation == "softmax", name=name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode and no weight gradients inside; every module's flag and every parameter's flag as before afterwards."""
        modules = [m for part in (self.network, self.defense) if isinstance(part, nn.Module) for m in part.modules()]
        ranged = self.defense if isinstance(self.defense, Defense) else None
        modules = [m for m in modules if hasattr(m, "training")]  # a frozen TorchScript module has no mode
        training = [m.training for m in modules]
        parameters = [p for m in modules for p in m.parameters(recurse=False)]
        wanted = [p.requires_grad for p in parameters]
        try:
            for m in modules:
                m.training = False
            for p in parameters:
                p.requires_grad_(False)
            if ranged is not None:
                ranged.checked = False
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            for m, flag in zip(modules, training):
                m.training = flag
            for p, want in zip(parameters, wanted):
                p.requires_grad_(want)
            if ranged is not None:
                ranged.checked = True

    def _predict(self, network: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
        return lambda x: logits_of(network, x, self.normalize, self.network)

    def _outputs(self, x: Tensor, network: Callable[..., Any], generators: Generators, *, heads: bool = False) -> list[Logits]:
        """Logits of the deployed head, or of all; a network that draws sees one case at a time, each from its own generator."""
        if generators is None or not self.random:
            return self._heads(x, network, heads)
        parts = []
        for case, generator in zip(x.split(1), generators):
            with _drawing_from(generator, x.device):
                parts.append(self._heads(case, network, heads))
        return [torch.cat(part) for part in zip(*parts)]

    def _heads(self, x: Tensor, network: Callable[..., Any], heads: bool) -> list[Logits]:
        predict = self._predict(network)
        outputs = self._all_heads(x) if heads else [predict(x) if self.inferer is None else self.inferer(x, predict)]
        for logits in outputs:
            check_finite(logits, self.network)
        return outputs

    def _all_heads(self, x: Tensor) -> list[Logits]:
        """Logits of every head, the deployed one first, each (B, K, \\*S) in float32."""
        forward = getattr(self.network, "forward_heads", None)
        if forward is None or not (self.inferer is None or type(self.inferer) is SimpleInferer):
            raise ValueError(
                f"heads is true, but {type(self.network).__name__} behind {type(self.inferer).__name__} gives one output; "
                "set heads to false, or give a network with forward_heads and no windows in between"
            )
        return [out.float() for out in forward(x.clone() if self.normalize is None else self.normalize(x.clone()))]

    def _autocast(self, image: Tensor) -> Any:
        return torch.autocast(image.device.type, torch.bfloat16) if self.step_precision == "bfloat16" else nullcontext()


@contextmanager
def _drawing_from(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """What is drawn inside from torch's own generators comes from ``generator``; they go on afterwards as before."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def average(results: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The mean of tuples of tensors, entry by entry; a lone tuple as it is."""
    rest = iter(results)
    total, count = next(rest), 1
    for result in rest:
        total, count = tuple(a + b for a, b in zip(total, result)), count + 1
    return tuple(a / count for a in total) if count > 1 else total
