"""What the attacker may do: the norm, its budget, the range of valid intensities, and where the image may be touched."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from monai_advdef.errors import nearest
from monai_advdef.switches import AsWritten
from monai_advdef.types import Images, PerCase

NORMS = ("linf", "l2", "unbounded")


@dataclass(frozen=True, kw_only=True)
class ThreatModel(metaclass=AsWritten):
    """The attacker's rights, in the units of the image.

    Args:
        norm: ``"linf"`` (every voxel by at most eps), ``"l2"`` (the whole image by at most eps), or ``"unbounded"``
            (only the value range binds; eps is ignored and reported as infinity).
        eps: the budget in image units; for ``"linf"`` also one number per channel (0 leaves a channel alone).
        relative: eps is in percent of the width of the value range (of each image and channel with ``value_range="image"``); for
            ``"linf"`` only.
        value_range: valid intensities: ``(lo, hi)``, one such pair per channel, or ``"image"`` for the minimum and maximum of each
            image and channel.
        unit: name of the image unit, printed wherever eps is (``"grey level"``, ``"HU"``, ``"sigma"``).
        region: ``None`` (everywhere), ``"nonzero"`` (voxels where any channel is not 0), or a mask (B|1, 1|C, \\*S).

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    norm: str = "linf"
    eps: float | Sequence[float] | Any = 8.0
    value_range: Any = (0.0, 255.0)
    unit: str = "grey level"
    region: Any | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        for name in ("eps", "value_range"):  # of numpy or torch: as plain numbers
            given = getattr(self, name)
            object.__setattr__(self, name, given.tolist() if hasattr(given, "tolist") else given)
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        if self.norm == "unbounded":
            object.__setattr__(self, "eps", math.inf)
        budgets: list[Any] = list(self.eps) if isinstance(self.eps, (list, tuple)) else [self.eps]
        if not budgets or any(isinstance(e, bool) or not isinstance(e, (int, float)) or not e >= 0 for e in budgets):
            raise ValueError(f"eps must be ≥ 0 in {self.unit}s, got {self.eps}; give a number, or one number per channel")
        if len(budgets) > 1 and self.norm != "linf":
            raise ValueError(f"eps per channel is defined for norm 'linf' only, got {self.eps} with {self.norm!r}; give one number")
        if self.relative and (self.norm != "linf" or max(budgets) > 100):
            raise ValueError(
                f"a relative eps is defined for norm 'linf' and up to 100 (per cent of the range), got {self.eps} with {self.norm!r}"
            )
        if isinstance(self.region, str) and self.region != "nonzero":
            raise ValueError(f"region must be None, 'nonzero' or a mask, got {self.region!r}")
        if isinstance(self.value_range, str):
            if self.value_range != "image":
                raise ValueError(f"value_range must be (lo, hi), one pair per channel or 'image', got {self.value_range!r}")
        else:
            try:
                pairs = torch.as_tensor(self.value_range, dtype=torch.float64).reshape(-1, 2)
            except (RuntimeError, ValueError, TypeError):
                raise ValueError(
                    f"value_range must be (lo, hi), one pair per channel or 'image', got {self.value_range!r}; give two numbers"
                ) from None
            if not bool((pairs[:, 0] < pairs[:, 1]).all()):
                raise ValueError(f"value_range must have lo < hi, got {self.value_range}")
            if self.norm == "linf" and not self.relative and max(budgets) > float((pairs[:, 1] - pairs[:, 0]).max()):
                raise ValueError(
                    f"eps {self.eps} is wider than value_range {self.value_range}; eps and value_range must both be in "
                    f"image units ({self.unit}): on a [0, 1] image 8 grey levels are eps = 8/255"
                )

    def bounds(self, image: Images) -> tuple[Tensor, Tensor]:
        """Lowest and highest valid intensity, broadcastable against ``image`` (B, C, \\*S)."""
        shape = (1, -1) + (1,) * (image.ndim - 2)
        if isinstance(self.value_range, str):
            dims = tuple(range(2, image.ndim))
            return image.amin(dims, keepdim=True), image.amax(dims, keepdim=True)
        pairs = torch.as_tensor(self.value_range, dtype=image.dtype, device=image.device).reshape(-1, 2)
        if len(pairs) not in (1, image.shape[1]):
            raise ValueError(f"value_range has {len(pairs)} pairs for {image.shape[1]} channels; give one pair, or one per channel")
        return pairs[:, 0].reshape(shape), pairs[:, 1].reshape(shape)

    def around(self, image: Images) -> Ball:
        """The set of images allowed around ``image`` (B, C, \\*S).

        Raises:
            ValueError: NaN or infinite pixels, pixels outside ``value_range``, an image that seems to be in another unit, or a
                number of budgets or pairs that does not match the channels.
        """
        return Ball(self, image)

    def grey_levels(self) -> float:
        """eps as a number of the 255 steps of the value range (papers quote it so); needs a single eps, and a numeric range or a
        relative eps."""
        if self.relative and isinstance(self.eps, (int, float)):
            return float(self.eps) * 2.55
        if isinstance(self.value_range, str) or not isinstance(self.eps, (int, float)):
            raise ValueError(f"grey levels need one numeric value_range and eps, got {self.value_range} and {self.eps}")
        lo, hi = torch.as_tensor(self.value_range, dtype=torch.float64).reshape(-1, 2)[0].tolist()
        return float(self.eps) * 255.0 / (hi - lo)


def as_threat(given: ThreatModel | Mapping[str, Any], **changes: Any) -> ThreatModel:
    """The threat model of a bundle's ``threat_def``, ready-made or a plain mapping of its fields, with ``changes`` of single fields.

    Raises:
        ValueError: an unknown field, with the nearest known one; a mapping that does not say what the images are.
    """
    if isinstance(given, ThreatModel):
        return replace(given, **changes)
    stated = {**given, **changes}
    known = [field.name for field in fields(ThreatModel)]
    for name in stated:
        if name not in known:
            raise ValueError(f"threat_def has no field {name!r}; {nearest(str(name), known)}")
    needed = ("value_range", "unit") if stated.get("norm") == "unbounded" else ("eps", "value_range", "unit")
    if missing := [name for name in needed if name not in stated]:
        raise ValueError(
            f"threat_def does not state {', '.join(missing)}, so what an attacker of these images may do is not known; give the "
            "bundle's train.yaml a threat_def, or list a file of workflows/threats (grey_level, scaled, mri, ct) after it"
        )
    return ThreatModel(**stated)


class Ball:
    """Projection, random start, steepest direction and measured size around one batch of clean images."""

    def __init__(self, threat: ThreatModel, image: Images) -> None:
        self.threat, self.image = threat, image
        lo, hi = self.lowest, self.highest = threat.bounds(image)
        _check_pixels(threat, image, lo, hi)
        self.region = self._region()
        self._range = hi.double() - lo.double()
        self.width = self._range.to(image).clamp_min(torch.finfo(image.dtype).tiny)  # of the value range, broadcastable
        exact = self.exact = self._eps()
        self.eps = exact.to(image.dtype)  # broadcastable against the image
        if threat.norm == "linf":
            self.lower = torch.maximum(_shift(image, exact, -1), lo.to(image))
            self.upper = torch.minimum(_shift(image, exact, +1), hi.to(image))
        else:
            self.lower, self.upper = lo.expand_as(image), hi.expand_as(image)
        if self.region is not None:
            self.lower = torch.where(self.region, self.lower, image)
            self.upper = torch.where(self.region, self.upper, image)

    def _eps(self) -> Tensor:
        """The budget, broadcastable against the image; float64 so that the box is not rounded outwards."""
        eps = torch.as_tensor(self.threat.eps, dtype=torch.float64, device=self.image.device).reshape(-1)
        if len(eps) not in (1, self.image.shape[1]):
            raise ValueError(f"eps has {len(eps)} numbers for {self.image.shape[1]} channels; give one number, or one per channel")
        eps = eps.reshape((1, -1) + (1,) * (self.image.ndim - 2))
        return eps * self._range / 100 if self.threat.relative else eps

    def _region(self) -> Tensor | None:
        region = self.threat.region
        if region is None:
            return None
        if isinstance(region, str):
            return (self.image != 0).any(dim=1, keepdim=True)
        mask = torch.as_tensor(region, device=self.image.device).bool()
        try:
            return mask.broadcast_to(self.image.shape[:1] + mask.shape[1:2] + self.image.shape[2:])
        except RuntimeError:
            raise ValueError(f"region has shape {tuple(mask.shape)}, the image {tuple(self.image.shape)}; give (B, 1, *S)") from None

    def project(self, x: Images) -> Images:
        """The nearest allowed image; writes into ``x`` and returns it."""
        if self.threat.norm == "l2":
            return self._project_l2(x)
        return torch.clamp(x, self.lower, self.upper, out=x)

    def _project_l2(self, x: Images) -> Images:
        """Scale the change down to eps. Adding it back to the image rounds, so cases that end above eps are scaled a little more."""
        delta = x - self.image
        if self.region is not None:
            delta.mul_(self.region)
        eps = float(self.threat.eps)  # type: ignore[arg-type]
        factor = (eps / torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-30)).clamp_max(1.0)
        for less in (1.0, 1 - 1e-6, 1 - 1e-3, 0.9, 0.0):
            torch.add(self.image, delta * _per_case(factor, delta), out=x)
            torch.clamp(x, self.lower, self.upper, out=x)
            over = measure(x, self.image)["l2"] > eps
            if not bool(over.any()):
                break
            factor = torch.where(over, factor * less, factor)
        return x

    def only(self, cases: Tensor) -> Ball:
        """The ball around some of the cases (a mask (B,) or indices)."""
        part, every = copy.copy(self), len(self.image)
        for name, kept in vars(self).items():
            if isinstance(kept, Tensor) and len(kept) == every:
                setattr(part, name, kept[cases])
        return part

    def admit(self, x: Images, name: str) -> Images:
        """``x`` (B, C, \\*S), where its values are finite and within the value range; it need not lie in the ball.

        Raises:
            ValueError: they are not; ``name`` is what ``x`` is called.
        """
        _check_extent(self.threat, x, self.lowest, self.highest, f"the {name}")
        return x

    def direction(self, gradient: Images) -> Images:
        """The unit-length step (in the threat's norm) that raises a linear function most; for ``unbounded`` the gradient itself."""
        if self.threat.norm == "linf":
            return gradient.sign()
        if self.region is not None:
            gradient = gradient * self.region
        if self.threat.norm == "unbounded":
            return gradient
        return gradient / _per_case(torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp_min(1e-30), gradient)

    def start(self, generators: Sequence[torch.Generator]) -> Images:
        """A random allowed image, one generator per case: uniform in the box (linf) or in the ball (l2).

        Raises:
            ValueError: the threat is unbounded, so "random inside it" has no meaning.
        """
        if self.threat.norm == "unbounded":
            raise ValueError("a random start needs a bounded threat; set random_start to false, or norm to 'linf' or 'l2'")
        if self.threat.norm == "linf":
            noise = torch.stack([torch.rand(self.image.shape[1:], generator=g) for g in generators]).mul_(2).sub_(1)
            return self.project(noise.to(self.image).mul_(self.eps).add_(self.image))
        noise = torch.stack([torch.randn(self.image.shape[1:], generator=g) for g in generators]).to(self.image)
        radius = torch.stack([torch.rand((), generator=g) for g in generators]).pow(1 / noise[0].numel()).to(self.image)
        step = self.direction(noise).mul_(_per_case(radius * float(self.threat.eps), noise))  # type: ignore[arg-type]
        return self.project(step.add_(self.image))

    def size(self, x: Images) -> PerCase:
        """Measured size of ``x - image`` per case, in float64: the threat's norm (l2 for ``unbounded``), in the unit of its eps."""
        if self.threat.relative:
            share = (x.double() - self.image.double()).abs() / self._range.clamp_min(torch.finfo(torch.float64).tiny)
            return 100 * share.flatten(1).amax(1)
        return measure(x, self.image)["linf" if self.threat.norm == "linf" else "l2"]


def measure(x: Images, image: Images) -> dict[str, Tensor]:
    """``linf`` and ``l2`` size of ``x - image`` per case, computed in float64."""
    delta = (x.double() - image.double()).flatten(1)
    return {"linf": delta.abs().amax(1), "l2": torch.linalg.vector_norm(delta, dim=1)}


def _per_case(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def _shift(image: Images, eps: Tensor, sign: int) -> Images:
    """``image + sign * eps`` rounded towards the image, so that the float32 result is never further away than eps."""
    exact = image.double() + sign * eps
    rounded = exact.to(image.dtype)
    outside = (rounded.double() - exact) * sign > 0
    return torch.where(outside, torch.nextafter(rounded, image), rounded)


def _check_extent(threat: ThreatModel, image: Images, lo: Tensor, hi: Tensor, name: str = "the image") -> None:
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"{name} holds NaN or infinite pixels; clean it before attacking (MONAI's SignalFillEmpty, for example)")
    if bool((image < lo).any()) or bool((image > hi).any()):
        raise ValueError(
            f"{name} spans [{float(image.min()):g}, {float(image.max()):g}], outside value_range {threat.value_range} "
            f"({threat.unit}); give the range the image is really stored in"
        )


def _check_pixels(threat: ThreatModel, image: Images, lo: Tensor, hi: Tensor) -> None:
    _check_extent(threat, image, lo, hi)
    if isinstance(threat.value_range, str):
        widest = float((hi - lo).max())
        if threat.norm == "linf" and not threat.relative and float(torch.as_tensor(threat.eps).max()) > widest:
            raise ValueError(
                f"eps {threat.eps} is wider than the image itself ({widest:g}); eps must be in image units ({threat.unit})"
            )
        return
    top = torch.as_tensor(threat.value_range, dtype=torch.float64).max()
    looks_unit = (image.flatten(1).amax(1) <= 1) & (image != image.round()).flatten(1).any(1)
    if float(top) >= 100 and bool(looks_unit.any()) and float(image.min()) >= 0:
        raise ValueError(
            f"an image lies inside [0, 1] while value_range is {threat.value_range}: eps {threat.eps} would then be in the wrong "
            "unit; give the image in image units, or value_range (0, 1) with eps divided by 255"
        )
