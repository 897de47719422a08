"""What an audit will do and cost, before it does it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_advdef.progress import Steps
from monai_advdef.victim import Victim


@dataclass(frozen=True)
class Plan:
    """What will be done and at what price.

    Args:
        cases: how many are audited.
        passes: forward and backward passes of the suite on one case, at most; a pass takes all windows of the image.
        seconds: of one pass of the first case, forward and back.
        image_bytes: of one adversarial image, kept for resuming.
        stitched_bytes: of the stitched logits and the image that a pass holds beside one batch of windows.
    """

    cases: int
    passes: int
    seconds: float
    image_bytes: int
    stitched_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """Field and value, in words."""
        total = self.cases * self.passes * self.seconds
        return [
            ("cases", str(self.cases)),
            ("passes", f"at most {self.passes} a case, {self.cases * self.passes} in all"),
            ("time", f"about {told_seconds(total)} at {self.seconds:.2g} s a pass; one case may differ much from the first"),
            ("disk", f"{told_bytes(self.cases * self.image_bytes)} of adversarial images, kept so that a stopped audit resumes"),
            ("memory", f"{told_bytes(self.stitched_bytes)} of stitched arrays beside one batch of windows"),
        ]


def timed(victim: Victim, image: Tensor, passes: int, cases: int) -> Plan:
    """The plan, from one look at one case."""
    with victim.frozen():
        seconds = math.inf
        for _ in range(2):  # the first look warms up, and an nnU-Net is proved equal to its predictor on it
            begun = time.perf_counter()
            logits, _, _ = victim.gradient(image, lambda logits: logits.float().flatten(1).mean(1))
            seconds = min(seconds, time.perf_counter() - begun)
    held = 4 * (image.numel() * 3 + logits.numel() * 3)
    return Plan(cases, passes, seconds, 4 * image.numel() // len(image), held)


class TimeLeft:
    """An ignite handler that counts cases and says how long the rest will take."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.begun = steps, time.perf_counter()

    def __call__(self, engine: Any) -> None:
        done, total = self.steps.count + 1, self.steps.total
        seconds = (time.perf_counter() - self.begun) / done * (total - done)
        self.steps.done(f"about {told_seconds(seconds)} left" if done < total else "done")


def told_seconds(seconds: float) -> str:
    """``90`` -> ``"1.5 minutes"``."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"


def told_bytes(size: float) -> str:
    """``2500000`` -> ``"2.5 MB"``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def default_device() -> str:
    """``"cuda"`` where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
