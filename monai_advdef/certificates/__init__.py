"""Certificates: what no attack within a stated L2 radius can change, by randomised smoothing (Fischer et al., ICML 2021)."""

from __future__ import annotations

from monai_advdef.certificates.certification import Certificate, certified_dice, certify, draws_needed, p_values
from monai_advdef.certificates.handler import CertificateHandler
from monai_advdef.certificates.votes import Smoothing, Votes, draw_votes, smoothed

__all__ = [
    "Certificate",
    "CertificateHandler",
    "Smoothing",
    "Votes",
    "certified_dice",
    "certify",
    "draw_votes",
    "draws_needed",
    "p_values",
    "smoothed",
]
