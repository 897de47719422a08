"""From a disc mask to a diagnosis: find the disc, crop the image around it, read the crop (Agrawal et al., arXiv 1809.05216)."""

from __future__ import annotations

from monai_advdef.diagnosis.channels import CropChannels, clahe
from monai_advdef.diagnosis.classifier import CropClassifier, Ensemble
from monai_advdef.diagnosis.handler import DiagnosisHandler
from monai_advdef.diagnosis.locate import Disc, DiscCropper, find_disc, square_crop
from monai_advdef.diagnosis.readers import CupDiscRatio, GlaucomaProbability, Reader
from monai_advdef.diagnosis.threshold import fit_threshold
from monai_advdef.diagnosis.transforms import CropAtDiscd, DiagnosisToLabeld, DiscAndCupd, cases_of

__all__ = [
    "CropAtDiscd",
    "CropChannels",
    "CropClassifier",
    "CupDiscRatio",
    "DiagnosisHandler",
    "DiagnosisToLabeld",
    "Disc",
    "DiscAndCupd",
    "DiscCropper",
    "Ensemble",
    "GlaucomaProbability",
    "Reader",
    "cases_of",
    "clahe",
    "find_disc",
    "fit_threshold",
    "square_crop",
]
