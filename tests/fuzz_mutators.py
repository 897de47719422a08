"""What happens to files on their way: seeded mutators, each from the content of a file and a generator to its new content."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pydicom

Mutator = Callable[[bytes, np.random.Generator], bytes]


def flip_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), int(rng.integers(1, 20))):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def flip_early_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """As :func:`flip_bytes`, in the first 600 bytes, where headers are."""
    return flip_bytes(content[:600], rng) + content[600:]


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def insert_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(content)))
    return content[:place] + rng.bytes(int(rng.integers(1, 64))) + content[place:]


def drop_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(0, len(content)))
    return content[:place] + content[place + int(rng.integers(1, 64)) :]


def zero_stretch(content: bytes, rng: np.random.Generator) -> bytes:
    place, length = int(rng.integers(0, len(content))), int(rng.integers(1, 512))
    return content[:place] + bytes(len(content[place : place + length])) + content[place + length :]


def big_numbers(content: bytes, rng: np.random.Generator) -> bytes:
    """A short, int or float in the header becomes an extreme."""
    extreme = [b"\xff\x7f", b"\xff\xff", b"\0\0", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xbf"]
    chosen, place = extreme[int(rng.integers(len(extreme)))], 2 * int(rng.integers(0, max(1, min(len(content), 600) // 2)))
    return content[:place] + chosen + content[place + len(chosen) :]


def of_content(mutator: Mutator) -> Mutator:
    """The mutator applied to what a gzip stream holds, which is compressed again."""

    def within(content: bytes, rng: np.random.Generator) -> bytes:
        return gzip.compress(mutator(gzip.decompress(content), rng)) if content[:2] == b"\x1f\x8b" else mutator(content, rng)

    within.__name__ = f"{mutator.__name__} within"
    return within


def break_stream(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage behind the head of a gzip stream, and two streams in one file."""
    if rng.random() < 0.3:
        return content + content[: int(rng.integers(1, len(content)))]
    return content[:10] + flip_bytes(content[10:] or b"\0", rng)


def nifti_fields(content: bytes, rng: np.random.Generator) -> bytes:
    """One field of a NIfTI header becomes a value that programs, units and damage leave there."""
    values = {
        "xyzt_units": [0, 1, 2, 3, 7, 255],
        "pixdim": [0, -1, np.nan, np.inf, 1e-3, 1e3, 1e30],
        "dim": [0, -1, 1, 7, 30000, 32767],
        "datatype": [1, 2, 4, 16, 32, 64, 128, 1536, 9999],
        "bitpix": [0, 1, 64, 999],
        "scl_slope": [0, np.nan, np.inf, 1e30, -1],
        "scl_inter": [np.nan, np.inf, 1e30],
        "vox_offset": [0, 1, 353, 1e9, -5],
        "sform_code": [0, 1, 99],
        "qform_code": [0, 1, 99],
        "srow_x": [0, np.nan, 1e9],
        "quatern_b": [np.nan, 5],
        "sizeof_hdr": [0, 540, 1543569408],
        "magic": [b"ni1", b"n+2", b""],
    }
    packed = content[:2] == b"\x1f\x8b"
    plain = gzip.decompress(content) if packed else content
    header = np.frombuffer(plain[:348], nib.Nifti1Header.template_dtype).copy()
    name = list(values)[int(rng.integers(len(values)))]
    value = values[name][int(rng.integers(len(values[name])))]
    with np.errstate(all="ignore"):
        if header[name].ndim > 1:
            header[name][0, int(rng.integers(header[name].shape[1]))] = value
        else:
            header[name] = np.asarray(value).astype(header[name].dtype) if name != "magic" else value
    plain = header.tobytes() + plain[348:]
    return gzip.compress(plain) if packed else plain


def dicom_fields(content: bytes, rng: np.random.Generator) -> bytes:
    """One tag of a DICOM file is taken out or becomes a value that exports and damage leave there."""
    values: dict[str, list[object]] = {
        "Rows": [0, 1, 65535],
        "Columns": [0, 65535],
        "NumberOfFrames": [0, 7, 2147483647],
        "BitsAllocated": [1, 8, 32, 999],
        "BitsStored": [1, 17],
        "SamplesPerPixel": [0, 3],
        "PixelRepresentation": [0, 7],
        "PhotometricInterpretation": ["RGB", "PALETTE COLOR", ""],
        "PixelSpacing": [[0, 0], [1e-4, 1e-4], [1e3, 1e3], [-1, 1]],
        "ImagePositionPatient": [[0, 0, 0], [1e9, 0, 0]],
        "ImageOrientationPatient": [[0] * 6, [1, 0, 0, 1, 0, 0]],
        "RescaleSlope": [0, 1e9],
        "RescaleIntercept": [-1e9],
        "SliceThickness": [0, -1],
        "Modality": ["MR", "SR", ""],
        "SeriesInstanceUID": ["1.2.3", ""],
        "SOPClassUID": ["1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11", "1.2"],
        "FrameOfReferenceUID": ["1.2.3"],
        "SegmentSequence": [[]],
        "PerFrameFunctionalGroupsSequence": [[]],
        "PixelData": [b"", b"\0\0"],
    }
    dataset = pydicom.dcmread(io.BytesIO(content))
    names = [name for name in values if name in dataset] or ["Rows"]
    name = names[int(rng.integers(len(names)))]
    if rng.random() < 0.3 and name in dataset:
        del dataset[name]
    else:
        setattr(dataset, name, values[name][int(rng.integers(len(values[name])))])
    made = io.BytesIO()
    dataset.save_as(made)
    return made.getvalue()


PLAIN: list[Mutator] = [flip_bytes, flip_early_bytes, truncate, insert_bytes, drop_bytes, zero_stretch, big_numbers]
MUTATORS: dict[str, list[Mutator]] = {
    "nifti": [*PLAIN, *map(of_content, PLAIN), break_stream, nifti_fields, nifti_fields, nifti_fields],
    "dicom": [*PLAIN, dicom_fields, dicom_fields, dicom_fields],
}
