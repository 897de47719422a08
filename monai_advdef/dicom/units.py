"""The length units that headers of volumes may state, in millimetres, and whether voxels of a size can be those of a patient."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_advdef.errors import DataError

NIFTI_UNITS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # xyzt_units: none told (taken as mm), metre, mm, micron
SPATIAL = 7  # the bits of xyzt_units that are about space
MM = 2
PLAUSIBLE = (0.02, 50.0)  # mm a voxel: clinical CT and MRI lie between 0.1 and 20
WORDS: Mapping[float, tuple[str, ...]] = {
    1.0: ("", "?", "mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    10.0: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1e3: ("m", "meter", "meters", "metre", "metres"),
    1e-3: ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    1e-6: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
}


def nifti_unit(code: int, name: str | os.PathLike[str]) -> float:
    """How many mm one unit of a NIfTI header is, by its ``xyzt_units``.

    Raises:
        DataError: a code that stands for no unit of length, naming the file.
    """
    if code & SPATIAL not in NIFTI_UNITS:
        raise DataError(f"{name}: xyzt_units is {code}, which is no unit that NIfTI knows; write 2 (mm) if its lengths are in mm")
    return NIFTI_UNITS[code & SPATIAL]


def unit_named(word: str, name: str | os.PathLike[str]) -> float:
    """How many mm the unit called ``word`` is; empty and ``"?"`` are taken as mm.

    Raises:
        DataError: a word that is no unit of length, naming the file.
    """
    for size, words in WORDS.items():
        if word.strip().casefold() in words:
            return size
    raise DataError(f"{name} states its lengths in {word!r}, which is no unit known here (mm, cm, m, um, nm); write them in mm")


def unit_of_meta(meta: Mapping[str, Any], name: str = "image") -> float:
    """How many mm one unit of a MONAI image's affine is: what stock readers of NIfTI keep in ``xyzt_units``, else 1."""
    code = meta.get("xyzt_units")
    return 1.0 if code is None else nifti_unit(int(np.asarray(code).reshape(-1)[0]), meta.get("filename_or_obj", name))


def check_voxel_size(affine: np.ndarray, name: str | os.PathLike[str]) -> None:
    """Make sure that an affine in mm has an inverse, and voxels of 0.02 to 50 mm.

    Raises:
        DataError: naming ``name``, what its header says, and the remedy.
    """
    axes = np.asarray(affine, float)[:3, :3]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(axes) < 3:
        raise DataError(
            f"{name} has an affine that cannot be inverted ({axes.tolist()}); write the sform and qform again from the original"
        )
    size = np.linalg.norm(axes, axis=0)
    if size.min() < PLAUSIBLE[0] or size.max() > PLAUSIBLE[1]:
        raise DataError(
            f"{name} has voxels of {' x '.join(f'{s:.4g}' for s in size)} mm by its header, where {PLAUSIBLE[0]:g} to "
            f"{PLAUSIBLE[1]:g} mm are plausible; correct the unit (xyzt_units of NIfTI: 1 metre, 2 mm, 3 micron) or the voxel size"
        )
