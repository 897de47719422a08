"""Pictures of the worst and the median case: truth, prediction under attack, and the signed difference."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from markupsafe import Markup
from PIL import Image

from monai_advdef.report import words
from monai_advdef.report.figures import svg

TRUTH, PREDICTION = "#fff", "#19e3ff"
"""White and cyan stand out on skin, on the fundus and on grey images alike; a dark edge carries them over bright ground."""
WIDEST = 256
"""Pictures wider or higher than this many pixels are reduced: the noise of an attack does not compress."""
_BLUE, _ORANGE = np.array([11, 106, 168]), np.array([196, 80, 10])


def pictures(folder: Path, eps: float | None, *, most: int = 8, hidden: Collection[str] = ()) -> list[dict[str, Any]]:
    """Rows of the gallery out of the ``*.npz`` files of a folder: the headline's size first, then, per defence, the attacker who
    knows it and the strongest attack; those of ``hidden`` cells are left out. Raises ``ValueError`` naming a file that
    lacks a part."""
    entries = [_load(path) for path in sorted(folder.glob("*.npz"))]
    entries = [e for e in entries if e.get("fingerprint") not in hidden]
    entries = [e for e in entries if e["attack"] != "none" and not e["attack"].startswith("noise")]
    entries.sort(key=lambda e: (e["eps"] != eps, not e["adaptive"] and e["defense"] != "none", e["value"], e["case"]))
    chosen: dict[tuple, dict] = {}
    for entry in entries:
        chosen.setdefault((entry["defense"], entry["rank"]), entry)
    order = sorted(chosen.values(), key=lambda e: (e["defense"] != "none", e["defense"], e["rank"] != "worst"))
    return [_row(entry) for entry in order[:most]]


def _load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        entry = {name: file[name].item() if file[name].ndim == 0 else file[name] for name in file.files}
    needed = (
        "image",
        "adversarial",
        "difference",
        "label",
        "prediction",
        "case",
        "rank",
        "value",
        "eps",
        "unit",
        "attack",
        "defense",
        "adaptive",
    )
    if missing := [name for name in needed if name not in entry]:
        raise ValueError(f"{path} is not a picture of the gallery: it has no {missing}; remove that file")
    return entry


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    before = f"{words.fraction(entry['value_clean'], 2)} → " if "value_clean" in entry else ""
    attacker = "" if entry["defense"] == "none" else ", known to the attacker" if entry["adaptive"] else ", unknown to the attacker"
    label, limit = f"case {entry['case']}", _limit(entry)
    truth = outline(entry["label"], TRUTH)
    clean = outline(entry["prediction_clean"], PREDICTION, dashed=True) if "prediction_clean" in entry else ""
    said = "with the outlines of the truth and of the prediction" if clean else "with the outline of the truth"
    return {
        "case": entry["case"],
        "score": f"{entry['rank']} · {before}{words.fraction(entry['value'], 2)}",
        "how": f"{entry['attack']}, {words.size(entry['eps'], entry['unit'])}",
        "defence": words.defence(entry["defense"]) + attacker,
        "clean": _panel(entry["image"], truth + clean, f"{label}, clean image {said}"),
        "attacked": _panel(
            entry["adversarial"],
            truth + outline(entry["prediction"], PREDICTION, dashed=True),
            f"{label}, attacked image with the outlines of the truth and of the prediction",
        ),
        "difference": _panel(
            amplify(entry["difference"], limit), "", f"{label}, signed difference between the two images, magnified"
        ),
        "scale": _scale(entry, limit),
    }


def _limit(entry: dict[str, Any]) -> float:
    """The difference drawn in full colour: the bound, or without one the 99.5th percentile of the change to two digits."""
    if 0 < entry["eps"] < math.inf:
        return float(entry["eps"])
    return float(f"{max(np.percentile(np.abs(entry['difference']), 99.5), 1e-6):.2g}")


def _scale(entry: dict[str, Any], limit: float) -> str:
    times = f"×{127.5 / limit:.0f}, " if entry["unit"] == "grey level" and limit < 127.5 else ""
    return f"{times}−{limit:g} … +{words.size(limit, entry['unit'].partition(words.BY_CHANNEL)[0])}"


def amplify(difference: np.ndarray, limit: float) -> np.ndarray:
    """Signed difference as a picture, 8 bit RGB: colour channel by channel around mid-grey; grey from blue over white to orange."""
    share = np.clip(np.asarray(difference, dtype=float) / limit, -1, 1)
    if share.ndim == 3 and share.shape[2] == 3:
        return np.round(127.5 + 127.5 * share).astype(np.uint8)
    share = share.reshape(share.shape[:2])[..., None]
    return np.round(246 + np.abs(share) * (np.where(share < 0, _BLUE, _ORANGE) - 246)).astype(np.uint8)


def outline(classes: np.ndarray, colour: str, *, dashed: bool = False) -> str:
    """The borders of every class of a class map as SVG paths, in pixels."""
    paths = []
    for value in np.unique(classes[classes > 0]):
        mask = np.pad((classes == value).astype(float), 1)
        pieces = "".join(_path(np.asarray(points)) for points in contour_generator(z=mask).lines(0.5))
        common = f'd="{pieces}" fill="none" vector-effect="non-scaling-stroke"'
        kind = "dashed" if dashed else "solid"
        paths.append(f'<path {common} class="halo {kind}"/><path {common} stroke="{colour}" class="{kind}"/>')
    return "".join(paths)


def _path(points: np.ndarray) -> str:
    """An SVG path through the points of a contour on a padded grid; points on a straight run are left out."""
    step = np.diff(points, axis=0)
    turn = np.abs(np.cross(np.c_[step[:-1], np.zeros(len(step) - 1)], np.c_[step[1:], np.zeros(len(step) - 1)])[:, 2]) > 1e-9
    kept = points[np.r_[True, turn, True]] - 0.5
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in kept.round(1))


def _panel(pixels: np.ndarray, overlay: str, label: str) -> Markup:
    height, width = pixels.shape[:2]
    mode: Iterable[int] = pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else pixels[..., 0]
    picture = Image.fromarray(np.asarray(mode, dtype=np.uint8))
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return svg(width, height, label, [f'<image href="data:image/png;base64,{data}" width="{width}" height="{height}"/>', overlay])
