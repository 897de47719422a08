"""Channel counts that scale, and image sides a network can halve."""

from __future__ import annotations

from torch import Tensor

FEWEST = 4


def scaled(width: float, channels: int) -> int:
    """``width * channels``, rounded, at least 4; ``width`` 1 is the published size.

    Raises:
        ValueError: ``width`` is not positive.
    """
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}; 1.0 is the published size, 0.25 a quarter of its channels")
    return max(FEWEST, round(width * channels))


def require_multiples(x: Tensor, divisor: int) -> None:
    """ValueError unless both sides of ``x`` (B, C, H, W) are multiples of ``divisor``."""
    if x.shape[-2] % divisor != 0 or x.shape[-1] % divisor != 0:
        raise ValueError(f"image sides must be multiples of {divisor}, got {x.shape[-2]}x{x.shape[-1]}; resize or pad the image")
