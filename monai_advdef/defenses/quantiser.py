"""Defences that round, and the attacker's choice of what stands in for the gradient of their rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.defenses.core import Defense
from monai_advdef.defenses.surrogates import SMOOTHNESS, SURROGATES, check_surrogate, straight_through
from monai_advdef.switches import as_written

STARTS = ("own", "oblivious")
"""Where an attack behind a defence begins: where it says itself, or at its images on the network without the defence."""


class Quantiser(Defense):
    """A defence whose forward pass rounds; the surrogate never changes it, only the gradient.

    Args:
        surrogate: ``"smooth"``: every quantity that is rounded passes the gradient of ``x - (a / 2 pi) sin(2 pi x)``, that is
            ``1 - a cos(2 pi x)`` with ``x`` in units of its step; ``"straight_through"``: 1 in its place; ``"identity"``: the
            gradient passes the whole defence as if it were not there (BPDA, Athalye et al. 2018, arXiv 1802.00420).
        smoothness: ``a`` in [0, 1]; which is best changes with the defence and the size of the attack, so try several.
        value_range: image units of grey levels 0 and 255.

    Raises:
        ValueError: an unknown surrogate, or a smoothness outside [0, 1].
    """

    surrogates: tuple[str | None, ...] = SURROGATES

    @as_written
    def __init__(
        self, *, surrogate: str | None = "smooth", smoothness: float = SMOOTHNESS, value_range: Sequence[float] | str = (0, 255)
    ) -> None:
        super().__init__(value_range=value_range)  # type: ignore[arg-type]
        check_surrogate(surrogate, smoothness, self.surrogates)
        self.surrogate, self.smoothness = surrogate, smoothness

    @property
    def amplitude(self) -> float:
        """The smoothness that acts: 0 where the surrogate is another one."""
        return float(self.smoothness) if self.surrogate == "smooth" else 0.0


def quantisers(defense: Any) -> list[Quantiser]:
    """The defences that round in a defence, itself included."""
    return [m for m in defense.modules() if isinstance(m, Quantiser)] if isinstance(defense, nn.Module) else []


def check_seen_through(defense: Any, surrogate: str | None, smoothness: float | None) -> None:
    """Nothing, where an attacker may look through ``defense`` by this surrogate and smoothness (``None``: the defence's own).

    Anything can be looked through by ``"identity"``; what has an exact gradient rounds nothing, and so is the same by any.

    Raises:
        ValueError: an unknown surrogate; a smoothness outside [0, 1], or of a surrogate that has none; a defence that does not know
            the surrogate, by its name.
    """
    stated = SMOOTHNESS if smoothness is None else smoothness
    check_surrogate("smooth" if surrogate is None else surrogate, stated, (*SURROGATES, "band"))
    if smoothness is not None and surrogate not in (None, "smooth"):
        raise ValueError(f"smoothness {smoothness!r} is of surrogate 'smooth', got {surrogate!r}; leave one of the two out")
    if defense is None or surrogate in (None, "identity") and smoothness is None or getattr(defense, "surrogate", "") == "exact":
        return
    told, name = quantisers(defense), type(defense).__name__
    if not told:
        raise ValueError(
            f"{name} offers no surrogate to choose from, got {surrogate or 'smooth'!r}; leave surrogate and smoothness out, or take "
            "surrogate 'identity'"
        )
    for one in told:
        found = one.surrogate if surrogate is None else surrogate
        if found not in one.surrogates:
            known = ", ".join(str(name) for name in one.surrogates if name)
            raise ValueError(f"{type(one).__name__} has no surrogate {surrogate!r}; choose one of {known}")
        if smoothness is not None and found != "smooth":
            raise ValueError(f"smoothness {smoothness!r} is of surrogate 'smooth', and that of {name} is {found!r}; name both")


def look_through(
    defense: Any, image: Tensor, defend: Callable[[], Tensor], surrogate: str | None = None, smoothness: float | None = None
) -> Tensor:
    """What ``defend`` gives of ``image``, with the gradient of this surrogate and smoothness (``None``: the defence's own).

    Raises:
        ValueError: surrogate ``"identity"`` of a defence that changes the shape of the image.
    """
    if defense is None or surrogate != "identity":
        with _told(defense, surrogate, smoothness):
            return defend()
    with torch.no_grad():
        exact = defend()
    if exact.shape != image.shape:
        raise ValueError(
            f"surrogate 'identity' needs a defence that keeps the shape of the image, {tuple(image.shape)}, got "
            f"{tuple(exact.shape)} of {type(defense).__name__}; give the defence a surrogate of its own"
        )
    return straight_through(image, exact)


@contextmanager
def _told(defense: Any, surrogate: str | None, smoothness: float | None) -> Iterator[None]:
    """Inside, the defences that round have this surrogate and smoothness (``None``: their own); afterwards, always, as before."""
    told = [] if surrogate is None and smoothness is None else quantisers(defense)
    before = [(one.surrogate, one.smoothness) for one in told]
    try:
        for one in told:
            one.surrogate = one.surrogate if surrogate is None else surrogate
            one.smoothness = one.smoothness if smoothness is None else smoothness
        yield
    finally:
        for one, (own, smooth) in zip(told, before):
            one.surrogate, one.smoothness = own, smooth


def in_words(surrogate: str | None, smoothness: float | None) -> str:
    """``"smooth 0.7"``, ``"identity"``: what an attacker says of how it looks through a defence; nothing for the defence's own."""
    kind = surrogate or ("smooth" if smoothness is not None else "")
    return f"{kind.replace('_', ' ')} {smoothness:g}" if smoothness is not None else kind.replace("_", " ")


def way_of(surrogate: str | None, smoothness: float | None, begin: str = "own") -> str:
    """``"through smooth 0.7 from the oblivious images"``: the way of an attack through a defence; nothing for the usual one."""
    through = in_words(surrogate, smoothness)
    told = [f"through {through}" if through else "", "from the oblivious images" if begin == "oblivious" else ""]
    return " ".join(filter(None, told))
