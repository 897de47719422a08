"""One picture of the gallery: pixels as a data URI, outlines over them."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from monai_advdef.report import words
from monai_advdef.report.figures import svg
from monai_advdef.report.gallery.outlines import PREDICTION, TRUTH, outline

_BLUE, _ORANGE = np.array([11, 106, 168]), np.array([196, 80, 10])


def amplify(difference: np.ndarray, limit: float) -> np.ndarray:
    """Signed difference as a picture, 8 bit RGB: colour channel by channel around mid-grey; grey from blue over white to orange."""
    share = np.clip(np.asarray(difference, dtype=float) / limit, -1, 1)
    if share.ndim == 3 and share.shape[2] == 3:
        return np.round(127.5 + 127.5 * share).astype(np.uint8)
    share = share.reshape(share.shape[:2])[..., None]
    return np.round(246 + np.abs(share) * (np.where(share < 0, _BLUE, _ORANGE) - 246)).astype(np.uint8)


def uri(pixels: np.ndarray, *, lossy: bool, widest: int | None = None) -> str:
    """A picture (H, W) or (H, W, 3) of 8 bits as a data URI; reduced where it is wider or higher than ``widest``."""
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    if widest is not None:
        picture.thumbnail((widest, widest))
    buffer = io.BytesIO()
    if lossy:
        picture.save(buffer, "WEBP", quality=88, method=2)
    else:
        picture.save(buffer, "PNG")
    kind = "webp" if lossy else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def panel(pixels: np.ndarray, overlay: str, label: str, *, widest: int, tall: float = 1.0, lossy: bool = True) -> Markup:
    """An SVG picture with outlines over it; a pixel is ``tall`` times as high as wide."""
    height, width = pixels.shape[:2]
    image = f'<image href="{uri(pixels, lossy=lossy, widest=widest)}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    body = [f'<g transform="scale(1 {tall:.4g})">', image, overlay, "</g>"] if abs(tall - 1) > 1e-3 else [image, overlay]
    return svg(width, height * tall, label, body)


def triple(entry: dict[str, Any], *, widest: int, truth: str, tall: float = 1.0) -> dict[str, Markup]:
    """The clean image, the attacked one and the difference of an entry whose arrays are planes."""
    label, limit = f"case {entry['case']}", limit_of(entry)
    true = outline(entry["label"], TRUTH)
    before = outline(entry["prediction_clean"], PREDICTION, dashed=True) if "prediction_clean" in entry else ""
    said = f"with the outlines of the {truth} and of the prediction" if before else f"with the outline of the {truth}"
    after = true + outline(entry["prediction"], PREDICTION, dashed=True)
    size: dict[str, Any] = {"widest": widest, "tall": tall}
    return {
        "clean": panel(flat(entry["image"]), true + before, f"{label}, clean image {said}", **size),
        "attacked": panel(
            flat(entry["adversarial"]),
            after,
            f"{label}, attacked image with the outlines of the {truth} and of the prediction",
            **size,
        ),
        "difference": panel(
            amplify(entry["difference"], limit),
            "",
            f"{label}, signed difference between the two images, magnified",
            lossy=False,
            **size,
        ),
    }


def flat(pixels: np.ndarray) -> np.ndarray:
    """A picture of one channel or of three colours."""
    return pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else pixels[..., 0]


def limit_of(entry: dict[str, Any]) -> float:
    """The difference of an entry that is drawn in full colour, see :func:`full_colour`."""
    return float(entry["limit"]) if "limit" in entry else full_colour(float(entry["eps"]), entry["unit"], entry["difference"])


def full_colour(eps: float, unit: str, difference: np.ndarray) -> float:
    """The difference, in image units, that is drawn in full colour: ``eps``, where it bounds the change of a pixel in image units,
    else the 99.5th percentile of the change to two digits."""
    if 0 < eps < math.inf and "%" not in unit and words.IN_L2 not in unit:
        return eps
    return float(f"{max(np.percentile(np.abs(difference), 99.5), 1e-6):.2g}")


def scale_of(entry: dict[str, Any]) -> str:
    """What the colours of a difference stand for: ``×16, −8 … +8 grey levels``."""
    limit = limit_of(entry)
    unit = entry["unit"].partition(words.BY_CHANNEL)[0].removesuffix(words.IN_L2)
    times = f"×{127.5 / limit:.0f}, " if unit == "grey level" and limit < 127.5 else ""
    return f"{times}−{limit:g} … +{f'{limit:g} in units of the image' if '%' in unit else words.size(limit, unit)}"
