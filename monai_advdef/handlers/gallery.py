"""Pictures of the worst and the median case of an evaluation, for the card."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from monai_advdef.handlers.cell import label_map
from monai_advdef.handlers.display.grid import Grid, GridsDiffer, View, lying, places, view
from monai_advdef.handlers.display.tones import display, voxels, window
from monai_advdef.neighbours import whole
from monai_advdef.report.gallery.panels import full_colour

LIMIT, MEMORY = 256, 256 * 2**20
"""Cases and bytes held in memory at most; the median is taken among them."""
LEVELS = 127
"""Steps in which the change of a volume is kept, to each side."""


class Gallery:
    """Collects display-sized pictures while an evaluation runs and writes two ``.npz`` files at its end.

    A plane is kept as it is: ``image``, ``adversarial`` (H, W) or (H, W, 3) of 8 bits, ``difference`` in image units, ``label`` and
    ``prediction`` as class maps (H, W). A volume is cut down to about a million voxels that lie on the grid of the label, along the
    patient's left, back and head: ``image`` of 8 bits, which stand for ``low``..``high`` in image units; ``difference`` in
    127ths of ``limit``; ``label``, ``prediction``; ``spacing`` in mm. Where the image lies on another grid than the label, it is
    shown at the label's places; where nothing tells how the two lie, ``left_out`` says so in place of all of these.

    Args:
        folder: where they go, named ``<fingerprint>-worst.npz`` and ``<fingerprint>-median.npz``; of a single case only the first.
        masks: predictions and labels are a mask per class, which may overlap, in place of a class map or one-hot.
    """

    def __init__(self, folder: str | os.PathLike[str], *, masks: bool = False) -> None:
        self.folder, self.masks = Path(folder), masks
        self.about: dict[str, Any] = {}
        self._held: list[dict[str, Any]] = []

    def start(self, about: dict[str, Any]) -> None:
        """Forget what was held; ``about`` describes the evaluation (``eps`` among others) and is written into every file."""
        self.about, self._held = about, []

    def offer(self, case: str, value: float, clean: Tensor, image: Tensor, label: Tensor, prediction: Tensor) -> None:
        """Hold one case: images (C, \\*S) in image units before and after the attack, what was found and what is true (K, \\*S) on
        one grid, which need not be that of the images; Dice after the attack."""
        full = len(self._held) >= LIMIT or sum(_size(h) for h in self._held) >= MEMORY
        if math.isnan(value) or (full and value >= min(h["value"] for h in self._held)):
            return
        grid = lying(label, prediction, image)
        try:
            shown = self._picture(clean, image, label, prediction, grid)
        except GridsDiffer as error:
            shown = {"left_out": str(error)}
        if full:
            self._held.remove(min(self._held, key=lambda h: h["value"]))
        self._held.append({**shown, "case": case, "value": value})

    def _picture(self, clean: Tensor, image: Tensor, label: Tensor, prediction: Tensor, grid: Grid) -> dict[str, Any]:
        volume = len(grid.shape) == 3
        place = view(grid)
        at = places(place, grid, Grid.of(image))
        before, after = (voxels(x, place, at, colour=not volume) for x in (clean, image))
        true, found = (self._classes(place.of_label(mask)) for mask in (label, prediction))
        inside = np.ones(true.shape, dtype=bool) if at is None else at.inside
        low, high = window(before[inside], true[inside])
        pixels = display(before, low, high)
        pixels[~inside] = 0
        told = {"image": pixels, "label": true, "prediction": found, "channels": int(image.shape[0])}
        if volume:
            return told | self._change(after - before, place) | {"low": low, "high": high}
        upright = {name: np.swapaxes(value, 0, 1) for name, value in told.items() if isinstance(value, np.ndarray)}
        change = np.swapaxes(after - before, 0, 1).astype(np.float32)
        return {**told, **upright, "adversarial": np.swapaxes(display(after, low, high), 0, 1), "difference": change}

    def _change(self, difference: np.ndarray, place: View) -> dict[str, Any]:
        limit = full_colour(float(self.about.get("eps", math.inf)), str(self.about.get("unit", "")), difference)
        levels = np.rint(np.clip(difference / limit, -1, 1) * LEVELS).astype(np.int8)
        return {"difference": levels, "limit": limit, "spacing": np.array(place.spacing)}

    def _classes(self, mask: Tensor) -> np.ndarray:
        """A class map (\\*S) of 8 bits; of masks that may overlap each combination is a class, so that every border is one."""
        if not self.masks:
            classes = label_map(mask).numpy()
            return np.where(classes > 0, 1 + (classes - 1) % 255, 0).astype(np.uint8)
        flat = mask.detach().cpu().bool().flatten(1).numpy()
        packed, codes = np.unique(np.packbits(flat, axis=0), axis=1, return_inverse=True)
        filled = packed.any(0)
        numbers = np.where(filled, 1 + (np.cumsum(filled) - 1) % 255, 0).astype(np.uint8)
        return numbers[codes.reshape(-1)].reshape(mask.shape[1:])

    def finish(self) -> None:
        """Write the worst and the median case, or the only one.

        Raises:
            OSError: a file cannot be written; names it and the remedy.
        """
        if not self._held:
            return
        ordered = sorted(self._held, key=lambda h: (h["value"], h["case"]))
        chosen = {"worst": ordered[0], "median": ordered[len(ordered) // 2]} if len(ordered) > 1 else {"only": ordered[0]}
        for rank, entry in chosen.items():
            name = "worst" if rank == "only" else rank
            _save(self.folder / f"{self.about['fingerprint']}-{name}.npz", {**entry, **self.about, "rank": rank})
        if "only" in chosen:
            (self.folder / f"{self.about['fingerprint']}-median.npz").unlink(missing_ok=True)
        self._held = []


def _save(path: Path, entry: dict[str, Any]) -> None:
    try:
        with whole(path) as new, open(new, "wb") as file:
            np.savez_compressed(file, **entry)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write a picture for the card ({error.strerror}); free space and run the same command again",
            str(path),
        ) from error


def _size(entry: dict[str, Any]) -> int:
    return sum(value.nbytes for value in entry.values() if isinstance(value, np.ndarray))
