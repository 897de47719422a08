"""NRRD and MetaImage files, read by ITK, which knows neither their units nor, before it makes room, whether the file is whole."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from monai.data import ITKReader
from monai.data.utils import to_affine_nd
from monai.utils import MetaKeys

from monai_advdef.dicom.units import unit_named
from monai_advdef.errors import DataError, reading

HEADER = 1 << 20  # bytes, the most that is searched for the end of a header
BITS = {  # a voxel, by the first word that fits its type
    "double": 64,
    "longlong": 64,
    "int64": 64,
    "float": 32,
    "int32": 32,
    "long": 32,
    "short": 16,
    "int16": 16,
    "int8": 8,
    "char": 8,
    "int": 32,
}
RATIO = {"raw": 1, "gzip": 1032, "gz": 1032, "bzip2": 1 << 17, "bz2": 1 << 17}  # bytes that one byte of the file may stand for
TIMES = ("s", "sec", "ms", "second", "seconds")


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (X, Y, Z, further axes as MONAI's ITKReader has them), and the affine (4, 4) from voxel to RAS in mm.

    ``space units`` or ``units`` of NRRD and ``DistanceUnits`` of MetaImage are applied.

    Raises:
        DataError: an unreadable file, more voxels than it can hold, or units that are none of length or differ between axes.
    """
    with reading(path, "could not be read by ITKReader", "fetch or convert the file again"):
        fields = _fields(path)
        _check_size(path, fields)
        reader = ITKReader()
        array, meta = reader.get_data(reader.read(str(path)))
        affine = to_affine_nd(3, np.array(meta[MetaKeys.AFFINE], float))
        affine[:3] *= _unit(path, fields)
    return array, affine


def _fields(path: Path) -> dict[str, str]:
    """The fields of the text that begins the file, names in small letters without blanks."""
    with path.open("rb") as file:
        content = file.read(HEADER)
    nrrd = content.startswith(b"NRRD")
    end = re.search(rb"\r?\n\r?\n" if nrrd else rb"(?i)ElementDataFile\s*=[^\n]*", content)
    text = content[: end.end() if end else len(content)].decode("latin-1")
    found = re.findall(r"(?m)^([A-Za-z ]+?)\s*(?::=?|=)\s*(.*?)\s*$", text)
    return {re.sub(r"\s", "", name).casefold(): value for name, value in found}


def _check_size(path: Path, fields: dict[str, str]) -> None:
    sizes = [int(n) for n in re.findall(r"\d+", fields.get("sizes") or fields.get("dimsize") or "")]
    kind = re.sub(r"[\s_]|met", "", (fields.get("type") or fields.get("elementtype") or "").lower())
    bits = next((bits for word, bits in BITS.items() if word in kind), 8)
    packed = "gzip" if fields.get("compresseddata", "").lower() == "true" else "raw"
    ratio = RATIO.get(fields.get("encoding", packed).lower(), 1)
    apart = fields.get("datafile") or fields.get("elementdatafile") or "LOCAL"
    data = path if apart.upper() == "LOCAL" else path.parent / apart
    if not sizes or not data.is_file():
        return
    needed, size = math.prod(sizes) * bits // 8, data.stat().st_size
    if needed > size * ratio:
        raise DataError(
            f"{path} is cut short or corrupt (by its header it holds {' x '.join(map(str, sizes))} voxels of {bits} bits, "
            f"{needed} bytes, more than the {size} bytes of {data.name} can); fetch it again"
        )


def _unit(path: Path, fields: dict[str, str]) -> float:
    """How many mm one unit of the header is."""
    told = fields.get("spaceunits") or fields.get("units") or ""
    words = [word for word in re.findall(r'"([^"]*)"', told) if word.strip().lower() not in TIMES]
    found = {unit_named(word, path) for word in words if word.strip()} or {unit_named(fields.get("distanceunits", ""), path)}
    if len(found) > 1:
        raise DataError(f"{path} states lengths in several units ({told}); write all in mm")
    return found.pop()
