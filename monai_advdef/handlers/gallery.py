"""Pictures of the worst and the median case of an evaluation, for the card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_advdef.neighbours import whole

LIMIT = 256  # cases held in memory; the median is taken among them


class Gallery:
    """Collects display-sized pictures while an evaluation runs and writes two ``.npz`` files at its end.

    Args:
        folder: where they go, named ``<fingerprint>-worst.npz`` and ``<fingerprint>-median.npz``.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.about: dict[str, Any] = {}
        self._held: list[dict[str, Any]] = []

    def start(self, about: dict[str, Any]) -> None:
        """Forget what was held; ``about`` describes the evaluation and is written into every file."""
        self.about, self._held = about, []

    def offer(self, case: str, value: float, clean: Tensor, image: Tensor, label: Tensor, prediction: Tensor) -> None:
        """Hold one case: images (C, \\*S) in image units before and after the attack, class maps (\\*S), Dice after it."""
        worst = min((h["value"] for h in self._held), default=np.inf)
        if len(self._held) >= LIMIT and value >= worst:
            return
        clean, image = (x.detach().cpu().float() for x in (clean, image))
        at = _slice(label)
        before, after = _flat(clean, at), _flat(image, at)
        low, high = float(before.min()), float(before.max())
        low, high = (0.0, 255.0) if low >= 0 and 1 < high <= 255 else (low, high)
        entry = {
            "image": _display(before, low, high),
            "adversarial": _display(after, low, high),
            "difference": (after - before).numpy().astype(np.float32),
            "label": _flat(label[None], at).numpy().astype(np.uint8),
            "prediction": _flat(prediction[None], at).numpy().astype(np.uint8),
            "case": case,
            "value": value,
        }
        if len(self._held) >= LIMIT:
            self._held.remove(min(self._held, key=lambda h: h["value"]))
        self._held.append(entry)

    def finish(self) -> None:
        """Write the worst and the median case.

        Raises:
            OSError: a file cannot be written; names it and the remedy.
        """
        if not self._held:
            return
        ordered = sorted(self._held, key=lambda h: (h["value"], h["case"]))
        for rank, entry in (("worst", ordered[0]), ("median", ordered[len(ordered) // 2])):
            _save(self.folder / f"{self.about['fingerprint']}-{rank}.npz", {**entry, **self.about, "rank": rank})
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


def _slice(label: Tensor) -> int | None:
    """For a volume the index along the last axis with most foreground; ``None`` for a plane."""
    return int((label != 0).sum((0, 1)).argmax()) if label.ndim == 3 else None


def _flat(x: Tensor, at: int | None) -> Tensor:
    """(H, W) of one channel or (H, W, 3); MONAI keeps (x, y), pictures are (row, column)."""
    x = x if at is None else x[..., at]
    x = x[:3] if len(x) >= 3 else x[:1]
    return x.permute(2, 1, 0).squeeze(-1)


def _display(x: Tensor, low: float, high: float) -> np.ndarray:
    return ((x - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
