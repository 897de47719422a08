"""The threshold of a reading, chosen on cases that are not evaluated, and kept beside the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.utils import convert_to_tensor

from monai_advdef.diagnosis.locate import DiscCropper, find_disc
from monai_advdef.diagnosis.readers import Reader
from monai_advdef.diagnosis.transforms import POSITIVE
from monai_advdef.diagnostic_stats import auc, youden_threshold
from monai_advdef.switches import as_written


@as_written
def fit_threshold(
    reader: Reader,
    cases: Iterable[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    side: int = 96,
    disc_diameters: float | None = None,
    vertical_axis: int = 1,
    device: str | torch.device = "cpu",
) -> float:
    """Youden's threshold of ``reader`` over cases, written to ``path`` with the reading's AUC on them and their number.

    Args:
        reader: with a trained network.
        cases: with ``image (3, W, H)`` in grey levels, the disc mask ``label (1, W, H)`` and the word ``diagnosis``. The discs are
            those of the masks, so that the threshold depends on no segmentation network.
        path: a JSON file, made with its folder.
        side, disc_diameters: see :class:`DiscCropper`.
        vertical_axis: see :class:`CupDiscRatio`.
        device: where the network is.

    Raises:
        ValueError: one diagnosis only, or a reading that is the same for all.
    """
    cropper = DiscCropper(side=side, disc_diameters=disc_diameters)
    readings, truth = [], []
    for case in cases:
        disc = find_disc(convert_to_tensor(case["label"], track_meta=False)[0])
        crop = cropper(convert_to_tensor(case["image"], track_meta=False), disc)
        extent = disc.extent[vertical_axis] * side / cropper.cut(disc)
        readings.append(float(reader(crop[None].to(device), [extent])[0]))
        truth.append(int(case["diagnosis"] == POSITIVE))
    threshold, area = youden_threshold(readings, truth), auc(readings, truth)
    content = {
        "reading": reader.name,
        "threshold": threshold,
        "rule": "Youden, on training and validation cases",
        "auc_on_these_cases": area.value,
        "cases": len(truth),
        POSITIVE: sum(truth),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return threshold
