"""Shape aliases shared by the whole house. ``b`` cases, ``c`` image channels, ``k`` classes, ``*s`` two or three spatial axes.

The aliases are jaxtyping annotations where jaxtyping is installed (it is a development dependency and the tests execute them);
elsewhere they are plain ``torch.Tensor``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    Images = Tensor
    Logits = Tensor
    PerCase = Tensor
else:
    try:
        from jaxtyping import Float

        Images = Float[Tensor, "b c *s"]
        Logits = Float[Tensor, "b k *s"]
        PerCase = Float[Tensor, "b"]
    except ImportError:
        Images = Logits = PerCase = Tensor
