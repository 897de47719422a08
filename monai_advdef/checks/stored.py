"""Does the attack survive being written to a file?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject

LOSS = 0.02  # of mean success
DEEP = 4095  # steps of the value range: 12 bits, as scanners store


class Stored(Check):
    """Adversarial images rounded to the integers that a file holds, written to one and read back: PNG for pictures of 256 levels,
    NIfTI of int16 for volumes and everything else. Both scores stand side by side.

    The step is one level of 256 for pictures, one unit for a range of whole units (HU), else 1/4095 of the value range.
    """

    name = "Stored"
    passes = "2 forward"
    each = (2, 0)
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict:
        """``suspect`` where more than 0.02 of mean success is lost on the way."""
        kind, step = form(subject)
        read = round_trip(subject.attacked, subject.ball.threat.bounds(subject.image)[0], step, kind)
        kept = float(subject.judge(read).mean())
        moved = float((read - subject.attacked).abs().max())
        told = (
            f"mean success {subject.success:.3f} in float32 and {kept:.3f} read back from {kind}, "
            f"where no value has moved by more than {moved:.3g} {subject.threat.unit}"
        )
        numbers = {"float32": subject.success, "file": kept, "moved": moved}
        if kept < subject.success - LOSS:
            return self.suspect(f"{told}: the attack lives on changes that no file keeps; craft it with stored 'uint8'", **numbers)
        return self.ok(told, **numbers)


def form(subject: Subject) -> tuple[str, Tensor]:
    """``"PNG"`` or ``"NIfTI"``, and the size of one stored integer in image units, broadcastable against the image."""
    width, flat = subject.ball.width, subject.image.ndim == 4
    levels = flat and bool(((width == 255) | (width == 1)).all())
    if levels and subject.image.shape[1] in (1, 3, 4):
        return "PNG", width / 255
    whole = bool((width >= 256).all()) and not isinstance(subject.threat.value_range, str)
    return "NIfTI", torch.ones_like(width) if whole else width / DEEP


def round_trip(x: Tensor, low: Tensor, step: Tensor, kind: str) -> Tensor:
    """Images (B, C, \\*S) rounded to ``low`` plus whole steps, written as files of this kind and read back."""
    whole = ((x - low) / step).round().cpu().numpy()
    read = np.empty_like(whole)
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(whole):
            if kind == "PNG":
                read[i] = _png(case, Path(folder) / f"{i}.png")
            else:
                for k, channel in enumerate(case):
                    read[i, k] = _nifti(channel, Path(folder) / f"{i}-{k}.nii")
    return low + torch.as_tensor(read).to(x) * step


def _png(case: np.ndarray, path: Path) -> np.ndarray:
    pixels = case.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(path)
    read = np.asarray(Image.open(path))
    return read[None] if read.ndim == 2 else np.moveaxis(read, -1, 0)


def _nifti(channel: np.ndarray, path: Path) -> np.ndarray:
    nib.save(nib.Nifti1Image(channel.clip(-32768, 32767).astype(np.int16), np.eye(4)), path)
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
