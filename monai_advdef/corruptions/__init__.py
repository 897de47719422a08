"""What scanners, patients and cameras do to images, as MONAI transforms of stated severity in physical units."""

from __future__ import annotations

from monai_advdef.corruptions.core import Corruption, of
from monai_advdef.corruptions.ct import (
    Breathing,
    CalibrationShift,
    CTSliceThickness,
    Dose,
    Kernel,
    MetalStreaks,
)
from monai_advdef.corruptions.dictionary import KINDS, TWINS, Corruptiond, named_corruption
from monai_advdef.corruptions.mri import (
    BiasField,
    Ghosting,
    GibbsRinging,
    MisregisteredSeries,
    MissingSeries,
    RicianNoise,
    RigidMotion,
    SliceThickness,
    Spikes,
)
from monai_advdef.corruptions.photo import (
    ColourCast,
    Defocus,
    Exposure,
    Hairs,
    JPEGArtefacts,
    LowResolution,
    OtherCamera,
    Ruler,
    Vignette,
)
from monai_advdef.corruptions.scales import SEVERITIES, UNITS, Parameter, Scale
from monai_advdef.corruptions.xray import Collimation, GridLines, Scatter, XRayExposure, XRayRotation

globals().update(TWINS)  # RigidMotiond, RigidMotionD, RigidMotionDict, ...

__all__ = [
    "KINDS",
    "SEVERITIES",
    "UNITS",
    "BiasField",
    "Breathing",
    "CTSliceThickness",
    "CalibrationShift",
    "Collimation",
    "ColourCast",
    "Corruption",
    "Corruptiond",
    "Defocus",
    "Dose",
    "Exposure",
    "Ghosting",
    "GibbsRinging",
    "GridLines",
    "Hairs",
    "JPEGArtefacts",
    "Kernel",
    "LowResolution",
    "MetalStreaks",
    "MisregisteredSeries",
    "MissingSeries",
    "OtherCamera",
    "Parameter",
    "RicianNoise",
    "RigidMotion",
    "Ruler",
    "Scale",
    "Scatter",
    "SliceThickness",
    "Spikes",
    "Vignette",
    "XRayExposure",
    "XRayRotation",
    "named_corruption",
    "of",
]
__all__ += list(TWINS)
