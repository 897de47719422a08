"""Paper 002, synthesis of adversarial deformations and intensities: table 1, ablation, figures, augmentation."""

from __future__ import annotations
