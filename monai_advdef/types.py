"""Shape aliases shared by the whole house. ``b`` cases, ``c`` image channels, ``k`` classes, ``*s`` two or three spatial axes.

Logits have axes ``*t``: those of the image, unless a deployed preprocessing in front of the network resamples or crops.

``Given`` is what a caller hands over: a tensor, checked in words at the door. The other
aliases are jaxtyping annotations where jaxtyping is installed (it is a development dependency and the tests execute them);
elsewhere they are plain ``torch.Tensor``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    Images = Tensor
    Logits = Tensor
    PerCase = Tensor
    Given = Any
else:
    Given = Any
    try:
        from jaxtyping import Float

        Images = Float[Tensor, "b c *s"]
        Logits = Float[Tensor, "b k *t"]
        PerCase = Float[Tensor, "b"]
    except ImportError:
        Images = Logits = PerCase = Tensor
