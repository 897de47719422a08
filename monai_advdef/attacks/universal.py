"""One perturbation for every image: fitted on the cases of a set, kept in a file, added to any other image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.attacks.core import Attack
from monai_advdef.neighbours import whole
from monai_advdef.objectives import objective as objective_of
from monai_advdef.switches import as_written
from monai_advdef.threat import Ball, ThreatModel, as_threat
from monai_advdef.types import Images
from monai_advdef.victim import Victim

BOUND = ("norm", "eps", "unit")  # of the threat, what a perturbation is fitted for


@dataclass(frozen=True, kw_only=True)
class UniversalPerturbation(Attack):
    """Add the perturbation of a file to every image; no label is seen and no gradient taken.

    Args:
        weights: a file that :func:`fit_universal` wrote.
        sha256: of the file, filled in when left out; given, any other file is refused.

    Raises:
        FileNotFoundError: no such ``weights``.
        ValueError: the file holds no perturbation, or is not the one of ``sha256``; when run, images of other channels or of a size
            that it was not fitted for, or a threat with another norm, eps or unit.

    Source: Moosavi-Dezfooli et al., "Universal Adversarial Perturbations", CVPR 2017.
    """

    weights: str
    sha256: str | None = None
    keep: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        stored, digest = load_universal(self.weights)
        if self.sha256 not in (None, digest):
            raise ValueError(f"weights {self.weights!r} have SHA-256 {digest}, not {self.sha256}; give the file that was meant")
        object.__setattr__(self, "sha256", digest)
        object.__setattr__(self, "_stored", stored)

    @property
    def label(self) -> str:
        """``universal``."""
        return "universal"

    def count(self, threat: ThreatModel) -> int:
        """None: it is added once."""
        return 0

    def init(self, ball: Ball, generators: Sequence[torch.Generator]) -> Images:
        """The image and the perturbation, the loop takes care of range and region."""
        stored: dict[str, Any] = self._stored  # type: ignore[attr-defined]
        asked = _bound(ball.threat)
        if other := [name for name in BOUND if asked[name] != stored["threat"][name]]:
            told = ", ".join(f"{name} {stored['threat'][name]} (here {asked[name]})" for name in other)
            raise ValueError(f"weights {self.weights!r} were fitted for {told}; evaluate under that threat, or fit one for this")
        return ball.image + tiled(stored["perturbation"].to(ball.image), ball.image, periodic=stored["periodic"])


@as_written
def fit_universal(
    victim: Victim,
    batches: Iterable[Mapping[str, Any]],
    threat: ThreatModel | Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    epochs: int = 10,
    objective: str = "dice",
    tile: Sequence[int] | None = None,
    image_key: str = "image",
    label_key: str = "label",
    seed: int = 0,
) -> list[float]:
    """Fit one perturbation to the cases of ``batches`` and write it to ``path``.

    Sign steps (l2: normalised ones) along the gradient of the loss summed over the cases of a batch, 2 eps long at first and falling
    linearly to nothing, each followed by the projection onto the threat's ball.

    Args:
        victim: whom it is to fool.
        batches: mappings with images (B, C, \\*S) and labels, gone through ``epochs`` times: a loader, or a list.
        threat: a bounded one, or a mapping of its fields.
        path: the file; a folder that is missing is made.
        objective: of :mod:`monai_advdef.objectives`.
        tile: size of a perturbation that is repeated over the image, for images of different sizes; ``None``: as large as they are.
        seed: of the random start.

    Returns:
        the mean loss of each epoch.

    Raises:
        ValueError: no batches, images of different sizes without a ``tile``, a tile of other axes, an unbounded threat.

    Source: Metzen et al., "Universal Adversarial Perturbations Against Semantic Image Segmentation", ICCV 2017 (periodic tiles).
    """
    threat, data = as_threat(threat), batches if isinstance(batches, Sequence) or hasattr(batches, "__len__") else list(batches)
    total = len(data) * epochs  # type: ignore[arg-type]
    if total < 1:
        raise ValueError(f"a universal perturbation needs batches and epochs ≥ 1, got {len(data)} and {epochs}")  # type: ignore[arg-type]
    _bound(threat)
    loss, generator = objective_of(objective, victim.activation), torch.Generator().manual_seed(seed)
    perturbation, history, number = None, [], 0  # type: Tensor | None, list[float], int
    with victim.frozen():
        for _ in range(epochs):
            values: list[float] = []
            for batch in data:
                image, label = (_plain(batch[key], victim) for key in (image_key, label_key))
                ball = threat.around(image)
                if perturbation is None:
                    perturbation = _start(image, tile, generator)
                length = 2 * (1 - (number + 0.5) / total)
                perturbation, raised = _better(victim, ball, label, perturbation, length, loss, generator, tile is not None)
                values, number = [*values, *raised], number + 1
            history.append(sum(values) / len(values))
    assert perturbation is not None
    save_universal(path, perturbation, threat, periodic=tile is not None)
    return history


def _start(image: Images, tile: Sequence[int] | None, generator: torch.Generator) -> Tensor:
    size = list(image.shape[2:]) if tile is None else [int(n) for n in tile]
    if len(size) != image.ndim - 2 or min(size) < 1:
        raise ValueError(f"tile must give a size ≥ 1 for each of {image.ndim - 2} axes, got {size}")
    return torch.rand(image.shape[1], *size, generator=generator).mul_(2).sub_(1).to(image) * 1e-3


def _better(
    victim: Victim,
    ball: Ball,
    label: Tensor,
    perturbation: Tensor,
    length: float,
    loss: Any,
    generator: torch.Generator,
    periodic: bool,
) -> tuple[Tensor, list[float]]:
    """The perturbation after one step, (C, \\*tile), and the losses of the batch before it."""
    leaf = perturbation.clone().requires_grad_()
    with torch.enable_grad():
        laid = tiled(leaf, ball.image, periodic=periodic)
        x = ball.project((ball.image + laid.detach()).clone())
        draws = [torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator))) for _ in x]
        _, values, slope = victim.gradient(x, partial(_against, victim, label, loss), draws)
        (gradient,) = torch.autograd.grad(laid, leaf, slope.sum(0))
    gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
    eps = ball.exact.to(gradient).reshape(-1, *[1] * (gradient.ndim - 1))
    if ball.threat.norm == "linf":
        return (perturbation + length * eps * gradient.sign()).clamp(-eps, eps), values.tolist()
    moved = perturbation + length * eps * gradient / gradient.norm().clamp_min(1e-30)
    norm = tiled(moved, ball.image, periodic=periodic).norm().clamp_min(1e-30)
    return moved * (eps / norm).clamp_max(1.0), values.tolist()


def _against(victim: Victim, label: Tensor, loss: Any, logits: Tensor) -> Tensor:
    return loss(logits, victim.encode(label, logits), False)


def tiled(perturbation: Tensor, image: Images, *, periodic: bool) -> Tensor:
    """(C, \\*tile) over the size of ``image`` (B, C, \\*S), repeated and cut off where ``periodic``.

    Raises:
        ValueError: images of other channels or axes, or of another size where it is not periodic.
    """
    shape = image.shape[1:]
    if perturbation.ndim != len(shape) or len(perturbation) != shape[0] or (not periodic and perturbation.shape != shape):
        raise ValueError(
            f"the universal perturbation is made for images {tuple(perturbation.shape)} (channels first), these are {tuple(shape)}; "
            "bring them to one size, or fit one with a tile, which is repeated over images of any size"
        )
    repeats = [-(-n // m) for n, m in zip(shape, perturbation.shape)]
    return perturbation.repeat(repeats)[tuple(slice(n) for n in shape)]


def save_universal(path: str | os.PathLike[str], perturbation: Tensor, threat: ThreatModel, *, periodic: bool) -> None:
    """Write a perturbation (C, \\*S) with the threat that it was fitted for, all or nothing."""
    with whole(path) as temporary:
        torch.save({"perturbation": perturbation.cpu(), "periodic": periodic, "threat": _bound(threat)}, temporary)


def load_universal(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """What :func:`save_universal` wrote, and the SHA-256 of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no perturbation.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"weights file {str(path)!r} does not exist; fit one with workflows/training/universal")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        words = f"weights {str(path)!r} cannot be read ({type(error).__name__})"
        raise ValueError(f"{words}; fit one with workflows/training/universal") from error
    if not isinstance(stored, dict) or set(stored) != {"perturbation", "periodic", "threat"}:
        raise ValueError(f"weights {str(path)!r} hold no universal perturbation; fit one with workflows/training/universal")
    return stored, hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _bound(threat: ThreatModel) -> dict[str, Any]:
    if threat.norm == "unbounded" or threat.relative:
        raise ValueError(
            "a universal perturbation has one size, in image units, for all images; set norm to 'linf' or 'l2' and relative to false"
        )
    eps: list[Any] = list(threat.eps) if isinstance(threat.eps, (list, tuple)) else [threat.eps]
    return {**{name: getattr(threat, name) for name in BOUND}, "eps": [float(e) for e in eps]}


def _plain(x: Tensor, victim: Victim) -> Tensor:
    x = x.as_tensor() if hasattr(x, "as_tensor") else x
    weight = next(victim.network.parameters(), None) if isinstance(victim.network, nn.Module) else None
    return x.detach().float() if weight is None else x.detach().float().to(weight.device)
