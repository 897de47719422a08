"""NIfTI files: headers and voxels found intact, and their place in the patient in mm, whatever unit the header has."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling, array_from_file

from monai_advdef.dicom.units import check_voxel_size, nifti_unit
from monai_advdef.errors import DataError, reading

ENDINGS = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
DEFLATE_LIMIT = 1032  # no byte of a deflate stream stands for more
KINDS: tuple[type[nib.Nifti1Image], ...] = (nib.Nifti1Image, nib.Nifti2Image)
WHAT = "cannot be read as a NIfTI file"
SIZE_TOLERANCE = 0.01  # between the voxel sizes that one header states twice
FAR = 1.0  # mm between the places that qform and sform give a corner


class Header(NamedTuple):
    """A volume before its voxels are read: ``shape``, ``affine`` (4, 4) from voxel to RAS in mm, and ``notes`` on what is odd.

    ``kind`` and ``nifti`` are nibabel's class and header of a NIfTI file, None for others.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    kind: type[nib.Nifti1Image] | None = None
    nifti: nib.Nifti1Header | None = None


def read_nifti_header(path: Path) -> Header:
    """The header of a NIfTI file, compressed or not whatever its name says; no voxel is read.

    The sform is taken where it is set, else the qform, else the voxel sizes alone. Units (``xyzt_units``) are applied; where none
    is told, lengths are mm.

    Raises:
        DataError: not NIfTI, voxels that are no real numbers, more of them than the file can hold, no affine that can be inverted,
            voxel sizes that contradict each other or are implausible, naming file, value and remedy.
    """
    if not path.exists():
        raise DataError(f"{path} {'is a link to a file that is not there' if path.is_symlink() else 'does not exist'}; fetch it")
    with reading(path, WHAT):
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path} is empty (0 bytes); fetch it again")
        with _stream(path) as stream:
            start = stream.read(max(kind.header_class.template_dtype.itemsize for kind in KINDS))
        kind = next((kind for kind in KINDS if kind.header_class.may_contain_header(start)), None)
        if kind is None:
            raise DataError(f"{path} {WHAT} (it has no NIfTI header); fetch it again, or convert it to NIfTI")
        length = kind.header_class.template_dtype.itemsize
        if len(start) < length:
            raise DataError(f"{path} is cut short or corrupt (within its header); fetch it again")
        header = kind.header_class(start[:length], check=False)
        shape = _shape(path, header, size)
        affine, notes = _place(path, header, shape)
    return Header(shape, affine, notes, kind, header)


def read_nifti(path: Path) -> tuple[np.ndarray, Header]:
    """The voxels as stored (scaled where the header scales), after the whole content was found intact, and the header.

    Raises:
        DataError: what :func:`read_nifti_header` refuses, a file that ends early, or a gzip stream or check sum that is broken.
    """
    header = read_nifti_header(path)
    nifti = header.nifti
    assert nifti is not None
    with reading(path, "is cut short or corrupt"), _stream(path) as stream:
        voxels = array_from_file(header.shape, nifti.get_data_dtype(), stream, nifti.get_data_offset(), mmap=False)
        while stream.read(1 << 20):
            pass  # up to the check sum
        return apply_read_scaling(voxels, *nifti.get_slope_inter()), header


@contextmanager
def _stream(path: Path) -> Iterator[BufferedIOBase]:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        else:
            yield file


def _shape(path: Path, header: nib.Nifti1Header, size: int) -> tuple[int, ...]:
    """The shape of the volume, once it is plain that a file of ``size`` bytes can hold it; last axes of one volume are left off."""
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    if not shape or min(shape) < 1:
        raise DataError(f"{path} has the shape {shape} by its header (dim); fetch it again")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if dtype.kind not in "iuf":
        raise DataError(f"{path} has voxels of type {dtype}, no real numbers; save it as int16 or float32")
    with path.open("rb") as file:
        most = size * (DEFLATE_LIMIT if file.read(2) == GZIP else 1)
    needed = header.get_data_offset() + math.prod(shape) * dtype.itemsize
    if needed > most:
        raise DataError(
            f"{path} is cut short or corrupt (by its header it holds {' x '.join(map(str, shape))} voxels of {dtype}, "
            f"{needed} bytes, more than its {size} bytes can); fetch it again"
        )
    return shape


def _place(path: Path, header: nib.Nifti1Header, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    unit = nifti_unit(int(header["xyzt_units"]), path)
    sizes = np.abs(header["pixdim"][1 : 1 + min(3, len(shape))].astype(float))
    sform, qform = (int(header[f"{form}_code"]) > 0 for form in ("sform", "qform"))
    told = bool(np.isfinite(sizes).all() and (sizes > 0).all())
    if not sform and not (told and (header["pixdim"][1:4] >= 0).all()):
        raise DataError(
            f"{path}: pixdim is {header['pixdim'][1:4].tolist()} and no sform is set, so its voxels have no size; "
            "write the voxel size in mm, or the sform, from the original"
        )
    affine = np.array(header.get_best_affine(), float)
    notes = [] if sform or qform else [f"{path} has neither sform nor qform: its orientation is a guess (x to the left)"]
    own = np.linalg.norm(affine[:3, : len(sizes)], axis=0)
    if sform and told and own.all() and not np.allclose(own, sizes, rtol=SIZE_TOLERANCE):
        raise DataError(
            f"{path}: the sform makes voxels {' x '.join(f'{s:.4g}' for s in own)}, pixdim {' x '.join(f'{s:.4g}' for s in sizes)}; "
            "write both again from the original (fslcpgeom, or set_sform and set_qform of nibabel)"
        )
    if sform and qform:
        apart = unit * _apart(affine, header, shape)
        if apart > FAR:
            notes.append(f"{path}: qform and sform place its corners up to {apart:.0f} mm apart; the sform is taken")
    affine[:3] *= unit
    check_voxel_size(affine, path)
    return affine, tuple(notes)


def _apart(affine: np.ndarray, header: nib.Nifti1Header, shape: tuple[int, ...]) -> float:
    """The largest distance between corners placed by the sform and by the qform, in units of the header; 0 where that is broken."""
    try:
        other = header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return 0.0
    corners = np.array(np.meshgrid(*([0, n - 1] for n in (*shape, 1, 1)[:3]), [1])).reshape(4, -1)
    distance = np.linalg.norm(((other - affine) @ corners)[:3], axis=0).max()
    return float(distance) if np.isfinite(distance) else 0.0
