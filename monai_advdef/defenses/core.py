"""What every image defence shares: units, MetaTensors, the surrogate gradient, and a place in front of any MONAI inferer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

from monai_advdef.defenses.surrogates import straight_through

SLACK = 0.02  # of the width of the range: what interpolation overshoots


class Defense(nn.Module):
    """An input transformation put in front of a network.

    The forward pass is exact whether gradients are recorded or not; the backward pass is what ``surrogate`` names, ``"identity"`` of
    any defence the identity over the whole of it. A subclass
    implements `refine` on grey levels 0..255; this class maps the ``value_range`` onto them and back, computes half-precision and
    integer images in float32, keeps the dtype, the shape and a MetaTensor's meta data, and never changes the caller's tensor.
    Constructor arguments are keyword-only plain JSON values kept under their own names, which is all `to_config` needs.

    A subclass with ``stochastic = True`` overrides `refine_drawn`: every case draws from a generator of its own.

    Args:
        value_range: ``(low, high)``, the image units that stand for grey levels 0 and 255.

    Raises:
        ValueError: ``value_range`` is no increasing pair.
    """

    surrogate: str | None = "straight_through"
    stochastic: bool = False
    ranged: bool = True  # whether the result depends on what ``value_range`` says
    checked: bool = True  # set to False while an attack steps through images that are known to lie in the range

    def __init__(self, *, value_range: Sequence[float] = (0, 255)) -> None:
        super().__init__()
        pair = value_range if isinstance(value_range, (tuple, list)) else ()
        if len(pair) != 2 or not all(isinstance(v, (int, float)) for v in pair) or not pair[0] < pair[1]:
            raise ValueError(
                f"value_range must be a pair (low, high) with low < high in image units, got {value_range!r}; use e.g. (0, 255)"
            )
        self.value_range = (pair[0], pair[1])

    @property
    def label(self) -> str:
        """Short human text for tables."""
        return type(self).__name__

    def refine(self, grey: Tensor) -> Tensor:
        """The defence itself: ``(B, C, *S)`` floating point grey levels 0..255 to a *new* tensor of the same kind."""
        raise TypeError(f"{type(self).__name__} defines no refine(grey); a defence must")

    def refine_drawn(self, grey: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        """`refine` with one draw per case, each from its own generator; a deterministic defence draws nothing."""
        return self.refine(grey)

    def forward(self, image: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Defend ``image``, ``(B, C, H, W)`` or ``(B, C, D, H, W)`` in image units.

        Args:
            image: the images.
            generators: one per case, where a stochastic defence draws from. Without them (deployment) it makes its own, so that a
                case's result depends on the case alone. A deterministic defence ignores them.

        Raises:
            ValueError: not four or five axes, or an empty one; another number of generators than of cases; images in [0, 1] for a
                ``value_range`` of grey levels.
        """
        if image.ndim not in (4, 5) or 0 in image.shape:
            raise ValueError(
                f"image must be (B, C, H, W) or (B, C, D, H, W) and not empty, got shape {tuple(image.shape)}; add the missing axes"
            )
        if generators is not None and len(generators) != len(image):
            raise ValueError(f"generators must be one per case, got {len(generators)} for {len(image)} cases; give each its own")
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        if self.ranged and self.checked:
            self._refuse_unit_range(plain.detach())
        out = self.from_grey(self._passed(self.to_grey(plain if self.surrogate else plain.detach()), generators))
        out = (out if image.dtype.is_floating_point else out.round()).to(image.dtype)
        return MetaTensor(out).copy_meta_from(image) if isinstance(image, MetaTensor) else out

    def _passed(self, grey: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
        if self.surrogate != "identity" or not grey.requires_grad:
            return self.refine_drawn(grey, generators)
        with torch.no_grad():
            refined = self.refine_drawn(grey, generators)
        return straight_through(grey, refined)

    def require_range(self, image: Tensor) -> None:
        """Nothing, where images as loaded, (B, C, \\*S), lie in ``value_range``, give or take what resizing rounds.

        Raises:
            ValueError: they do not; says what was seen.
        """
        if not self.ranged:
            return
        plain = image.detach()
        low, high = self.value_range
        least, most = float(plain.min()), float(plain.max())
        slack = SLACK * (high - low)
        if most > high + slack or least < low - min(slack, 5 * SLACK * max(most - low, 0)):  # of a z-score half lies below 0
            raise ValueError(
                f"{type(self).__name__} has value_range {self.value_range}, but the images span [{least:g}, {most:g}], which "
                "it would clip; give value_range the range of the images, or images in that range"
            )
        self._refuse_unit_range(plain)

    def _refuse_unit_range(self, image: Tensor) -> None:
        low, high = self.value_range
        if float(image[..., image.shape[-2] // 2, :].max()) > 1:  # one line settles it for nearly every image in grey levels
            return
        if high < 100 or low < 0 or not image.is_floating_point() or not 0 <= float(image.min()) <= float(image.max()) <= 1:
            return
        if bool((image != image.round()).any()):
            raise ValueError(
                f"{type(self).__name__} has value_range {self.value_range}, but is given images in [{float(image.min()):g}, "
                f"{float(image.max()):g}]; give value_range (0, 1), or images in grey levels"
            )

    def to_grey(self, x: Tensor) -> Tensor:
        """Image units to grey levels 0..255, at least float32; the tensor itself if it is in grey levels already."""
        x = x if x.dtype in (torch.float32, torch.float64) else x.float()
        low, high = self.value_range
        return x if (low, high) == (0, 255) else (x - low) * (255 / (high - low))

    def from_grey(self, y: Tensor) -> Tensor:
        """Grey levels 0..255 to image units."""
        low, high = self.value_range
        return y if (low, high) == (0, 255) else y / 255 * (high - low) + low

    def to_config(self) -> dict[str, Any]:
        """``{"_target_": ..., keyword arguments}`` of plain JSON values, from which MONAI's ConfigParser builds an equal object."""
        values = {name: plain(getattr(self, name)) for name in arguments(type(self))}
        return {"_target_": f"monai_advdef.defenses.{type(self).__name__}", **values}

    def extra_repr(self) -> str:
        """Label and range, for ``print``."""
        return f"{self.label}, value_range={self.value_range}"


def arguments(kind: type) -> list[str]:
    """Names of the keyword-only constructor arguments of a class, and of those that it passes on to its parents by ``**``."""
    names: list[str] = []
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base).parameters.values()
            names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] + names
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return names


def plain(value: Any) -> Any:
    """A constructor argument as JSON has it: tensors, arrays and tuples to nested lists, paths to strings."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, PathLike):
        return fspath(value)
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


class DefendedInferer(Inferer):
    """An inferer with a defence in front: ``inferer(defense(inputs), network, ...)``.

    Args:
        inferer: any MONAI inferer, e.g. ``SimpleInferer()`` or ``SlidingWindowInferer(...)``; the whole image is defended once.
        defense: a `Defense` (or any callable on the batch).

    Raises:
        ValueError: in use, images outside the ``value_range`` of the defence.
    """

    def __init__(self, inferer: Inferer, defense: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inferer = inferer
        self.defense = defense

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.defense, Defense):
            self.defense.require_range(inputs)
        return self.inferer(self.defense(inputs), network, *args, **kwargs)
