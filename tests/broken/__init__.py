"""Defences that look robust and must fall: each says how a careless evaluator attacks it, and what of ours breaks it."""

from __future__ import annotations

from broken.defenses import Posterised, PseudoNoise, SquareRootOfNothing, Thermometer
from broken.networks import Detached, ScaledLogits
from broken.zoo import ZOO, Specimen

__all__ = ["ZOO", "Detached", "Posterised", "PseudoNoise", "ScaledLogits", "Specimen", "SquareRootOfNothing", "Thermometer"]
