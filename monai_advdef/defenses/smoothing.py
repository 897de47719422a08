"""Controls: what an elaborate defence must beat."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from monai_advdef.defenses.core import Defense
from monai_advdef.defenses.quantiser import Quantiser
from monai_advdef.defenses.surrogates import clamp_ste, round_smooth


class Blur(Defense):
    """3x3 box mean of every channel over the last two axes, edges repeated. Nothing is rounded and the gradient is exact."""

    surrogate = "exact"
    ranged = False

    @property
    def label(self) -> str:
        """``3x3 blur``."""
        return "3x3 blur"

    def refine(self, grey: Tensor) -> Tensor:
        """The mean of the 3x3 neighbourhood, borders repeated."""
        planes = grey.reshape(-1, 1, *grey.shape[-2:])
        return functional.avg_pool2d(functional.pad(planes, (1, 1, 1, 1), mode="replicate"), 3, stride=1).reshape(grey.shape)


class EightBit(Quantiser):
    """Rounding to the 256 grey levels of ``value_range``, as any 8-bit file does; see `Quantiser` for the arguments.

    Every slope of a smooth rounding is positive here (0 at a level for smoothness 1), so that it changes no sign of the gradient and
    no plain attack under an L-infinity bound; under an L2 bound it does.
    """

    @property
    def label(self) -> str:
        """``8-bit``."""
        return "8-bit"

    def refine(self, grey: Tensor) -> Tensor:
        """Whole grey levels 0 to 255."""
        return round_smooth(clamp_ste(grey, 0, 255), self.amplitude)
