"""Does anything warn? Signals of a case that may tell of an attack or a failure: disagreement behind a defence, and confidence."""

from __future__ import annotations

from monai_advdef.detection.confidences import ConfidenceHandler, calibration_error, confidence
from monai_advdef.detection.disagreements import DisagreementHandler, agreement, disagreement
from monai_advdef.detection.evasion import EvadingPGD, EvasionHandler, WatchedVictim
from monai_advdef.detection.handler import SignalHandler

__all__ = [
    "ConfidenceHandler",
    "DisagreementHandler",
    "EvadingPGD",
    "EvasionHandler",
    "SignalHandler",
    "WatchedVictim",
    "agreement",
    "calibration_error",
    "confidence",
    "disagreement",
]
