"""Attacked volumes as files: on the grid, in the unit and of the type of those that were read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from torch import Tensor

from monai_advdef.data import LoadSeriesd
from monai_advdef.dicom.nifti import read_nifti_header
from monai_advdef.handlers.attack import Attacked, AttackNotApplied
from monai_advdef.handlers.cases import bare_name
from monai_advdef.handlers.cell import Engine, items_of
from monai_advdef.neighbours import cannot_write, check_writable
from monai_advdef.switches import as_written

NIFTI = (".nii.gz", ".nii")
CHANGE = "change"


class AttackedVolumeSaver:
    """Write every attacked volume as NIfTI: the volume as it was read, plus what the attack changed.

    The change goes back through the preprocessing (crop, orientation; resampling only approximately) and into the unit of the file
    (by the ``unit_size`` that :class:`~monai_advdef.data.NormalizeSeriesd` and :class:`~monai_advdef.data.StandardizeSubjectd`
    leave in the metadata), so voxels that no attack touched stay as they were. Where the preprocessing clips (a HU window, 5 sigma),
    a change of a voxel beyond the limit is clipped away again when the file is read. Files are
    ``output_dir/<case>/<name of the file or folder read>_attacked.nii.gz``, one per series, with the header of a NIfTI source.

    Args:
        output_dir: made when needed.
        preprocessing: of the evaluation, invertible as MONAI's ``Invertd`` asks.
        dtype: ``None`` keeps the type and scaling of a NIfTI source, so integers are rounded (other sources: float32); or a name
            such as ``"float32"``.
        image_key: of the batch and of the entries of the data set, which also need ``case``.

    Raises:
        AttackNotApplied: a batch that no attack has touched.
        OSError: in use, a file that cannot be written; names it and the remedy.
        ValueError: in use, a data set without a list of cases, or two of one name; an image without metadata; series of one case
            that share a file name.
    """

    @as_written
    def __init__(
        self, output_dir: str | os.PathLike[str], preprocessing: Compose, *, dtype: str | None = None, image_key: str = "image"
    ) -> None:
        self.folder, self.dtype, self.image_key = Path(output_dir), None if dtype is None else np.dtype(dtype), image_key
        self.invert = Invertd(CHANGE, transform=preprocessing, orig_keys=image_key, nearest_interp=False)
        self.load = LoadSeriesd(image_key, ensure_channel_first=True)
        self.entries: dict[str, Mapping[str, Any]] = {}

    def attach(self, engine: Engine) -> None:
        """Write the volumes of every batch after it."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def started(self, engine: Engine) -> None:
        """Look up the files of every case.

        Raises:
            ValueError: entries of the data set without a ``case`` of their own.
        """
        check_writable(output_dir=self.folder)
        data = getattr(engine.state.dataloader.dataset, "data", None) or []
        self.entries = {str(entry["case"]): entry for entry in data if isinstance(entry, Mapping) and "case" in entry}
        if not data or len(self.entries) < len(data):
            raise ValueError(
                f"{len(data)} entries of the data set name {len(self.entries)} cases; attacked volumes are filed by 'case': give "
                "every entry its own"
            )

    def __call__(self, engine: Engine) -> None:
        attacked: Attacked | None = getattr(engine.state, "attack", None)
        if attacked is None or attacked.iteration != engine.state.iteration:
            raise AttackNotApplied(f"no attack touched batch {engine.state.iteration}; list an attack before its volumes are saved")
        for item, clean in zip(items_of(engine.state.batch), attacked.clean):
            self.save(str(item["case"]), item, clean)

    def save(self, case: str, item: Mapping[str, Any], clean: Tensor) -> list[Path]:
        """Write one case, attacked image (C, \\*S) in ``item`` and the image before; the files written."""
        image = item[self.image_key]
        if not isinstance(image, MetaTensor):
            raise ValueError(
                f"{self.image_key!r} of case {case} carries no metadata to go back to its file; load it with LoadSeriesd"
            )
        change = (image.as_tensor() - clean.to(image.device)).cpu()
        inverted = self.invert({CHANGE: MetaTensor(change), self.image_key: image})[CHANGE].as_tensor()
        source = self.entries[case][self.image_key]
        stored = self.load({self.image_key: source})[self.image_key]
        size = torch.as_tensor(image.meta.get("unit_size", 1.0)).float().cpu().reshape(-1, *[1] * (change.ndim - 1))
        order = [int(n) for n in item.get("series_order", range(len(stored)))]
        stored[order] += inverted * size
        return self._write(self.folder / case, source, stored)

    def _write(self, folder: Path, source: str | Sequence[str], stored: MetaTensor) -> list[Path]:
        check_writable(output_dir=folder)
        voxels, affine = stored.numpy(), np.asarray(stored.affine)
        if isinstance(source, (str, os.PathLike)):
            volumes = {str(source): np.moveaxis(voxels, 0, -1) if len(voxels) > 1 else voxels[0]}
        else:
            volumes = dict(zip(map(str, source), voxels))
        paths = [folder / f"{_stem(name)}_attacked.nii.gz" for name in volumes]
        if len(set(paths)) < len(paths):
            raise ValueError(f"series of case {folder.name} share a file name ({', '.join(volumes)}); give each its own")
        for path, (name, volume) in zip(paths, volumes.items()):
            made = self._image(name, volume, affine)
            try:
                nib.save(made, path)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise cannot_write(path, error, "an attacked volume") from error
        return paths

    def _image(self, source: str, volume: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
        if not source.lower().endswith(NIFTI):
            made = nib.Nifti1Image(volume.astype(self.dtype or np.float32), affine)
            made.header.set_xyzt_units("mm")
            return made
        read = read_nifti_header(Path(source))
        assert read.kind is not None and read.nifti is not None
        header, dtype = read.nifti.copy(), self.dtype or read.nifti.get_data_dtype()
        if np.issubdtype(dtype, np.integer):
            slope, inter = header.get_slope_inter()
            slope, inter = 1.0 if slope is None else slope, inter or 0.0
            limits = np.iinfo(dtype)
            raw = np.rint((volume.astype(np.float64) - inter) / slope).clip(limits.min, limits.max)
        else:
            slope, inter, raw = 1.0, 0.0, volume
        header.set_data_dtype(dtype)
        made = read.kind(raw.astype(dtype), None, header)
        made.header.set_slope_inter(slope, inter)
        return made


def _stem(source: str) -> str:
    """Name of a file without what tells its format, or of a folder."""
    return bare_name(source)
