"""Synthesised deformations and intensity changes: fields, the generator that makes them, and its training (Chen et al. 2019)."""

from __future__ import annotations

from monai_advdef.synthesis.checkpoint import SynthesisCheckpoint, kept_generators, trained_epochs
from monai_advdef.synthesis.critic import Critic
from monai_advdef.synthesis.fields import Fields, fields_from, jacobian_determinant, moments, parts_of, standardize, warp
from monai_advdef.synthesis.generator import PerturbationGenerator, load_generator, save_generator
from monai_advdef.synthesis.losses import FieldPenalty, gradient_penalty, hinge, organ_cross_entropy
from monai_advdef.synthesis.measures import field_readings, perceptibility, ssim, warped_label
from monai_advdef.synthesis.objective import SynthesisObjective
from monai_advdef.synthesis.splines import check_displacement, control_shape, spline_field
from monai_advdef.synthesis.store import FieldStore
from monai_advdef.synthesis.trainer import SynthesisTrainer

__all__ = [
    "Critic",
    "FieldPenalty",
    "FieldStore",
    "Fields",
    "PerturbationGenerator",
    "SynthesisCheckpoint",
    "SynthesisObjective",
    "SynthesisTrainer",
    "check_displacement",
    "control_shape",
    "field_readings",
    "fields_from",
    "gradient_penalty",
    "hinge",
    "jacobian_determinant",
    "kept_generators",
    "load_generator",
    "moments",
    "organ_cross_entropy",
    "parts_of",
    "perceptibility",
    "save_generator",
    "spline_field",
    "ssim",
    "standardize",
    "trained_epochs",
    "warp",
    "warped_label",
]
