"""What an audit will do and cost, before it does it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_advdef.checks import Outputs, cost
from monai_advdef.errors import DataError
from monai_advdef.progress import Steps
from monai_advdef.suite import Suite
from monai_advdef.threat import ThreatModel
from monai_advdef.victim import Victim


@dataclass(frozen=True)
class Plan:
    """What will be done and at what price.

    Args:
        cases: how many are audited.
        passes: forward and backward passes of the suite on one case, at most, for all budgets; a pass takes all its windows.
        seconds: of one pass of the first case, forward and back.
        look_seconds: of one forward pass.
        looks: forward passes on one case beside the suite, for all budgets.
        checked: on how many cases the checks run.
        check_passes, check_looks: what they take of each: passes, and forward passes beside them, for all budgets, at most.
        image_bytes: of one adversarial image, kept for resuming, for all budgets.
        stitched_bytes: of the stitched logits and the image that a pass holds beside one batch of windows.
        peak_bytes: the most memory that one pass of the first case took: of the GPU, else of the whole process until then; 0 where
            that is not told.
        doubt: what speaks against the outputs being logits; empty: nothing.
    """

    cases: int
    passes: int
    seconds: float
    look_seconds: float
    looks: int
    checked: int
    check_passes: int
    check_looks: int
    image_bytes: int
    stitched_bytes: int
    peak_bytes: int = 0
    doubt: str = ""

    @property
    def total_seconds(self) -> float:
        """Of all passes; reading, scoring and writing come on top."""
        passes = self.cases * self.passes + self.checked * self.check_passes
        looks = self.cases * self.looks + self.checked * self.check_looks
        return passes * self.seconds + looks * self.look_seconds

    @property
    def _peak(self) -> str:
        return f"; {told_bytes(self.peak_bytes)} at most until after one pass of the first case" if self.peak_bytes else ""

    def lines(self) -> list[tuple[str, str]]:
        """Field and value, in words."""
        checks = "none"
        if self.checked:
            of = "the first case" if self.checked == 1 else f"each of the first {self.checked} cases"
            checks = f"at most {self.check_passes} passes and {self.check_looks} forward passes of {of}"
        each = f"{self.seconds:.2g} s a pass and {self.look_seconds:.2g} s a forward pass"
        return [
            ("cases", str(self.cases)),
            ("passes", f"at most {self.passes} a case, {self.cases * self.passes} in all"),
            ("clean images, noise, scores", f"some {self.looks} forward passes a case, {self.cases * self.looks} in all"),
            ("checks", checks),
            ("time", f"about {told_seconds(self.total_seconds)} at {each}; one case may differ much from the first"),
            ("disk", f"{told_bytes(self.cases * self.image_bytes)} of adversarial images, kept so that a stopped audit resumes"),
            ("memory", f"{told_bytes(self.stitched_bytes)} of stitched arrays beside one batch of windows{self._peak}"),
        ]


def planned(victim: Victim, image: Tensor, suite: Suite, threat: ThreatModel, *, cases: int, budgets: int, checked: int) -> Plan:
    """The plan, from one look at one case.

    Args:
        victim, suite, threat: who does what to whom.
        image: (1, C, ...) in image units.
        cases: how many will be audited.
        budgets: how many sizes of the attack.
        checked: on how many cases the checks will run; 0: there are none.

    Raises:
        ValueError: the network's outputs are no logits; see :class:`monai_advdef.checks.Outputs`.
    """
    seconds, look_seconds, logits = _looked(victim, image)
    found = Outputs().of(logits, victim)
    if found.verdict == "broken":
        raise DataError(found.evidence)
    attacks = [member.attack for member in suite.attacks if not member.transfer]
    forwards, backwards = cost(attacks, threat) if checked else (0, 0)
    return Plan(
        cases=cases,
        passes=suite.count(threat) * budgets,
        seconds=seconds,
        look_seconds=look_seconds,
        looks=1 + budgets * (4 + 2 * len(attacks)),  # clean; noise and what the suite leaves, twice each; judges of each member
        checked=checked,
        check_passes=backwards * budgets,
        check_looks=(forwards - backwards) * budgets,
        image_bytes=4 * image.numel() // len(image) * budgets,
        stitched_bytes=_stitched(image, logits),
        peak_bytes=peak_bytes(image.device),
        doubt="" if found.verdict == "ok" else found.evidence,
    )


def timed(victim: Victim, image: Tensor, passes: int, cases: int) -> Plan:
    """The plan of an evaluation that takes ``passes`` of every case beside the clean look, from one look at one case."""
    seconds, look_seconds, logits = _looked(victim, image)
    return Plan(
        cases=cases,
        passes=passes,
        seconds=seconds,
        look_seconds=look_seconds,
        looks=1,
        checked=0,
        check_passes=0,
        check_looks=0,
        image_bytes=4 * image.numel() // len(image),
        stitched_bytes=_stitched(image, logits),
        peak_bytes=peak_bytes(image.device),
    )


def _looked(victim: Victim, image: Tensor) -> tuple[float, float, Tensor]:
    """Seconds of a pass and of a forward pass, and the logits in float32."""
    seconds = look_seconds = math.inf
    with victim.frozen():
        for _ in range(2):  # the first look warms up, and an nnU-Net is proved equal to its predictor on it
            begun = time.perf_counter()
            logits, _, _ = victim.gradient(image, lambda logits: logits.float().flatten(1).mean(1))
            seconds = min(seconds, time.perf_counter() - begun)
            begun = time.perf_counter()
            with torch.no_grad():
                victim(image)
            look_seconds = min(look_seconds, time.perf_counter() - begun)
    return seconds, look_seconds, logits.detach().float()


def _stitched(image: Tensor, logits: Tensor) -> int:
    return 4 * (image.numel() * 3 + logits.numel() * 3)


def peak_bytes(device: torch.device) -> int:
    """The most memory that has been taken on a GPU, or of the computer by this process; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # the ru_maxrss of getrusage would count the parent's, too
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0


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


def device_of(given: str = "") -> str:
    """The device that is asked for; else ``"cuda"`` where there is one.

    Raises:
        DataError: torch knows no such device, or sees none here.
    """
    if not given:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=given)
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise DataError(f"device {given!r} cannot be used here ({why}); leave it away to take a GPU where there is one") from error
    return given
