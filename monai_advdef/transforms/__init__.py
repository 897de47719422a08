"""MONAI transforms: the image defences as array and dictionary twins."""

from __future__ import annotations

from monai_advdef.transforms.array import DCTFrequencyRefinement, JPEGCompression
from monai_advdef.transforms.dictionary import (
    DCTFrequencyRefinementD,
    DCTFrequencyRefinementd,
    DCTFrequencyRefinementDict,
    JPEGCompressionD,
    JPEGCompressiond,
    JPEGCompressionDict,
)

__all__ = [
    "DCTFrequencyRefinement",
    "DCTFrequencyRefinementD",
    "DCTFrequencyRefinementDict",
    "DCTFrequencyRefinementd",
    "JPEGCompression",
    "JPEGCompressionD",
    "JPEGCompressionDict",
    "JPEGCompressiond",
]
