"""Values of an image as the greys or colours of a picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from monai_advdef.handlers.display.grid import Places, View


def voxels(x: Tensor, place: View, at: Places | None, *, colour: bool) -> np.ndarray:
    """The voxels of an image (C, \\*S) that are shown, of the first channel or, last, of three colours; where there is none, 0."""
    values = torch.as_tensor(x).detach()
    values = (values.as_tensor() if hasattr(values, "as_tensor") else values)[: 3 if colour and len(x) == 3 else 1]
    if at is None:
        taken = place.of_label(values).cpu().float().numpy()
    else:
        taken = np.stack([np.where(at.inside, channel[at.indices], 0) for channel in values.cpu().float().numpy()])
    return np.moveaxis(taken, 0, -1) if len(taken) > 1 else taken[0]


def window(values: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """What is shown as black and as white: 0 and 255 of grey levels; of other units the middle of what is labelled, four quartile
    ranges to each side, as far as the image has such values (all but half a per cent at either end)."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255:
        return 0.0, 255.0
    least, most = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    labelled = values[classes > 0]
    if labelled.size:
        first, middle, third = (float(v) for v in np.percentile(labelled, [25, 50, 75]))
        reach = max(4 * (third - first), 0.15 * (most - least))
        least, most = max(least, middle - reach), min(most, middle + reach)
    return (least, most) if most > least else (low, max(high, low + 1e-6))


def display(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as 8 bits, black at ``low`` and white at ``high``."""
    return np.clip(np.rint((x - low) / max(high - low, 1e-12) * 255), 0, 255).astype(np.uint8)
