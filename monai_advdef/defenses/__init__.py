"""Image defences: modules to put in front of a network, each with the gradient an attacker who knows it would use."""

from __future__ import annotations

from monai_advdef.defenses.bands import fit_band_statistics, frequency_table, save_band_statistics, zone_table
from monai_advdef.defenses.core import DefendedInferer, Defense
from monai_advdef.defenses.frequency import FrequencyRefinement
from monai_advdef.defenses.jpeg import JPEG
from monai_advdef.defenses.jpeg_model import quality_tables
from monai_advdef.defenses.quantiser import Quantiser
from monai_advdef.defenses.randomized import RandomizedFrequencyRefinement
from monai_advdef.defenses.smoothing import Blur, EightBit
from monai_advdef.defenses.surrogates import clamp_ste, round_smooth, round_ste, straight_through

__all__ = [
    "Blur",
    "DefendedInferer",
    "Defense",
    "EightBit",
    "FrequencyRefinement",
    "JPEG",
    "Quantiser",
    "RandomizedFrequencyRefinement",
    "clamp_ste",
    "fit_band_statistics",
    "frequency_table",
    "quality_tables",
    "round_smooth",
    "round_ste",
    "save_band_statistics",
    "straight_through",
    "zone_table",
]
