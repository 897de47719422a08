"""What an image's numbers are, as far as someone wrote it down: HU, grey levels, standard deviations, a share of the range."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.transforms import ScaleIntensityRange

from monai_advdef.audit.tail.kinds import Kind, kind_of, name_of, plain

HU, GREY, SIGMA, PERCENT, SHARE = "HU", "grey level", "σ", "% of range", "of the range"
BUDGETS = {  # of every voxel; those of this software's own bundles
    HU: 8.0,
    GREY: 8.0,  # of 255
    SIGMA: 0.1,
    PERCENT: 1.0,  # 0.1 σ of brain voxels is 1.0 % of the range of a series, 0.5 to 1.6 % (56 series of BraTS)
    SHARE: 8 / 255,
}
RANGES = {HU: (-1024.0, 3071.0), GREY: (0.0, 255.0), SHARE: (0.0, 1.0)}
SPELT = {
    "hu": HU,
    "hounsfield": HU,
    "grey": GREY,
    "gray": GREY,
    "gray level": GREY,
    "grey levels": GREY,
    "sigma": SIGMA,
    "std": SIGMA,
}
SPELT |= {name.lower(): name for name in BUDGETS} | {"%": PERCENT, "percent": PERCENT}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".webp")
WORDS = {  # in the order in which they are looked for
    SIGMA: r"\bmri?\b|magnetic|\bt1|\bt2|flair|\badc\b|\bdwi\b",
    GREY: r"\brgb\b|gr[ae]y|endoscop|microscop|patholog|radiograph|x-?ray|\bcxr\b|dermo|fundus|photo|\boct\b|\bus\b|ultrasound",
    HU: r"hounsfield|\bhu\b|\b(cb|hr|ld)?cta?\b|comput.* tomograph",
}
MODALITY = ("0008|0060", "00080060", "Modality", "modality")


@dataclass(frozen=True)
class Stated:
    """The unit of images, and where that was read."""

    unit: str
    source: str


def spelt(unit: str) -> str:
    """A unit as it is written here; any other as it is."""
    return SPELT.get(unit.strip().lower(), unit.strip())


def of_metadata(metadata: Mapping[str, Any] | None, source: str = "metadata.json") -> Stated | None:
    """Of a bundle's ``metadata.json``: the modality of its image before the format, which is copied more carelessly."""
    inputs = ((metadata or {}).get("network_data_format") or {}).get("inputs") or {}
    image = inputs.get("image") or next((v for v in inputs.values() if isinstance(v, Mapping)), {})
    for name in ("modality", "format", "type"):
        if found := of_words(str(image.get(name) or "")):
            return Stated(found, f"{name} {image[name]!r} of the network's input in {source}")
    return None


def of_dataset(dataset: Mapping[str, Any] | None, source: str = "dataset.json") -> Stated | None:
    """Of a ``dataset.json`` as the Medical Segmentation Decathlon and nnU-Net write it."""
    for name in ("modality", "channel_names"):
        values = (dataset or {}).get(name) or {}
        every = [str(v) for v in (values.values() if isinstance(values, Mapping) else [values])]
        units = {of_words(v) for v in every}
        if units - {""}:  # PET beside CT: no number is right for both
            return Stated(units.pop() if len(units) == 1 else PERCENT, f"{name} {', '.join(every)} in {source}")
    return None


def of_words(text: str) -> str:
    """The unit that words such as ``"MR"``, ``"hounsfield"`` or ``"RGB"`` stand for, or nothing."""
    return next((unit for unit, words in WORDS.items() if re.search(words, text.lower())), "")


def of_files(item: Mapping[str, Any]) -> Stated | None:
    """Of the files of a case: the modality in a DICOM header, or the kind of a picture."""
    meta = getattr(item["image"], "meta", {}) or {}
    for name in MODALITY:
        value = meta.get(name)
        value = (value.get("Value") or [""])[0] if isinstance(value, Mapping) else value
        found = {"CT": HU, "MR": SIGMA}.get(str(value).strip().upper())
        if found:
            return Stated(found, f"modality {value} of the files")
    given = (item.get("files") or {}).values()
    files = [f for some in given for f in (some if isinstance(some, (list, tuple)) else [some]) if isinstance(f, (str, Path))]
    suffix = Path(str(files[0])).suffix.lower() if files else ""
    return Stated(GREY, f"files are pictures ({suffix})") if suffix in PICTURES else None


def of_chain(transforms: Sequence[Any]) -> Stated | None:
    """Of the first window that a chain maps: one about 0 is of HU, one of 0 to 255 of grey levels."""
    t = window(transforms)
    if t is None:
        return None
    low, high = sorted((float(t.a_min), float(t.a_max)))
    source = f"window {low:g}…{high:g} of {name_of(plain(t))} in the preprocessing"
    if low < 0 < high and high - low >= 50:
        return Stated(HU, source)
    return Stated(GREY, source) if (low, high) == (0, 255) else None


def window(transforms: Sequence[Any]) -> Any:
    """The ``ScaleIntensityRange`` that a chain begins with, if it does."""
    scaling = [plain(t) for t in transforms if kind_of(t) not in (Kind.IDLE, Kind.TYPES, Kind.SHAPES, Kind.CROPS)]
    return scaling[0] if scaling and type(scaling[0]) is ScaleIntensityRange else None
