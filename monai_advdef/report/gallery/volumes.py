"""A volume of the gallery: what the slice viewer draws its three planes from, and the one slice that is shown without it."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from monai_advdef.report.gallery.panels import limit_of, uri

LEVELS = 127
"""Steps to each side in which the gallery keeps the change of a volume."""
SHOWN_LEVELS = 7
"""Steps to each side in which it is shown: more cost bytes and cannot be told apart."""
ARRAYS = ("image", "difference", "label", "prediction")


def is_volume(entry: dict[str, Any]) -> bool:
    """Whether the arrays of an entry are volumes, along the patient's left, back and head."""
    return "spacing" in entry


def smaller(entry: dict[str, Any], share: float) -> dict[str, Any]:
    """The same volume with so large a share of the voxels along each axis; every voxel shown is one of the volume's own."""
    if share >= 1:
        return entry
    shape = entry["image"].shape
    counts = [max(1, math.ceil(n * share)) for n in shape]
    at = np.ix_(*[((np.arange(c) + 0.5) * n / c).astype(int) for c, n in zip(counts, shape)])
    spacing = [float(s) * n / c for s, n, c in zip(entry["spacing"], shape, counts)]
    return {**entry, **{name: entry[name][at] for name in ARRAYS}, "spacing": np.array(spacing)}


def start(entry: dict[str, Any]) -> list[int]:
    """The slices that are shown first, along x, y and z: those with most of the label, or of the prediction, else the middle."""
    for name in ("label", "prediction"):
        filled = entry[name] > 0
        if filled.any():
            return [int(filled.sum(tuple(k for k in range(3) if k != axis)).argmax()) for axis in range(3)]
    return [n // 2 for n in entry["image"].shape]


def plane(entry: dict[str, Any]) -> dict[str, Any]:
    """The axial slice that is shown first, as an entry of planes: (row, column) arrays, the difference in image units."""
    at = start(entry)[2]
    flat = {name: entry[name][:, :, at].T for name in ARRAYS}
    change = flat["difference"].astype(float) * limit_of(entry) / LEVELS
    attacked = np.clip(np.rint(flat["image"] + change * _grey(entry)), 0, 255).astype(np.uint8)
    return {**entry, **flat, "difference": change, "adversarial": attacked}


def tall(entry: dict[str, Any]) -> float:
    """How many times as high as wide a pixel of an axial slice is."""
    return float(entry["spacing"][1] / entry["spacing"][0])


def viewer(entry: dict[str, Any], number: int) -> Markup:
    """The data of a volume for the script of the card, as an element that shows nothing by itself.

    Arrays run through x first, then y, then z. The image is a mosaic of axial slices, the others are compressed by deflate; of the
    difference the attacked image is made by adding ``gain`` times its steps.
    """
    nx, ny, nz = entry["image"].shape
    levels = np.rint(entry["difference"].astype(float) / LEVELS * SHOWN_LEVELS).astype(np.int8)
    columns = math.ceil(math.sqrt(nz))
    told = {
        "shape": [nx, ny, nz],
        "spacing": [round(float(s), 4) for s in entry["spacing"]],
        "start": start(entry),
        "levels": SHOWN_LEVELS,
        "gain": round(limit_of(entry) / SHOWN_LEVELS * _grey(entry), 5),
        "columns": columns,
        "image": uri(_mosaic(entry["image"], columns), lossy=True),
        "difference": _packed(levels),
        "label": _packed(entry["label"]),
        "prediction": _packed(entry["prediction"]),
        "name": f"case {entry['case']}",
    }
    text = json.dumps(told).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return Markup(f'<script type="application/json" class="volume" data-row="{escape(str(number))}">{text}</script>')


def _grey(entry: dict[str, Any]) -> float:
    """Display levels per image unit."""
    return 255 / max(float(entry["high"]) - float(entry["low"]), 1e-12)


def _mosaic(volume: np.ndarray, columns: int) -> np.ndarray:
    nx, ny, nz = volume.shape
    rows = math.ceil(nz / columns)
    tiles = np.zeros((rows * columns, ny, nx), np.uint8)
    tiles[:nz] = volume.transpose(2, 1, 0)
    return tiles.reshape(rows, columns, ny, nx).transpose(0, 2, 1, 3).reshape(rows * ny, columns * nx)


def _packed(volume: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(volume.transpose(2, 1, 0).tobytes(), 6)).decode()
