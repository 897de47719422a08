"""PGD with ten steps: its cost in bare loops of ten forward passes and input gradients, beside other libraries."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.setting import CASES, EPS, SIDE, STEP, bare_loop, batch, threat, unet
from benchmarks.timing import child, compare, cpu_seconds, interleave, one_thread, rotate, show
from monai_advdef import Victim, run, tune_allocator
from monai_advdef.attacks import PGD

STEPS = 10
FLOOR, OURS = "bare loop", "PGD"


def main(*, quick: bool = False) -> None:
    side = SIDE // 2 if quick else SIDE
    title = f"PGD-{STEPS}, UNet, {CASES}x1x{side}x{side}"
    allocator(f"{title}, bookkeeping and final verdict included", side, rounds=3 if quick else 9)
    with one_thread():
        image, label = batch(side)
        floor = bare_loop(unet().requires_grad_(False), image, label, STEPS)
        basic = {FLOOR: floor, OURS: attack(Victim(unet()), image, label)}
        show(f"{title}, cheaper steps", interleave(basic | cheaper(image, label, floor), FLOOR, rounds=5, budget_s=120), FLOOR)
        others = peers.attacks(unet(), image, label, eps=EPS, step=STEP, steps=STEPS)
        if others:
            show(f"{title}, other libraries", interleave(basic | others, FLOOR, rounds=5, budget_s=120), FLOOR)


def allocator(title: str, side: int, rounds: int) -> None:
    """Default and raised allocator thresholds, each measurement in a process of its own."""
    kinds = {
        f"{FLOOR}, default allocator": ("floor", "default"),
        f"{OURS}, default allocator": ("ours", "default"),
        f"{OURS}, tune_allocator()": ("ours", "tuned"),
    }
    reference, ours, tuned = kinds
    found = rotate({name: partial(child, "benchmarks.pgd", *kind, side) for name, kind in kinds.items()}, rounds)
    seconds = {name: [result["seconds"] for result in results] for name, results in found.items()}
    show(title, compare(seconds, reference), reference, {ours: "<= 1.10", tuned: "<= 0.95"})


def cheaper(image: Tensor, label: Tensor, floor: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """The two optional ways to cheaper steps; the verdict is in float32 in both. What is far dearer here is said and left out."""
    found = {"PGD, bfloat16 steps": attack(Victim(unet(), step_precision="bfloat16"), image, label)}
    if shutil.which(os.environ.get("CXX", "g++")):
        found["PGD, compiled steps"] = attack(Victim(unet(), compiled=True), image, label)
    else:
        print("\nPGD, compiled steps: no C++ compiler found, not measured")
    for name, call in list(found.items()):
        first, loop = cpu_seconds(call), cpu_seconds(floor)
        print(
            f"\n{name}: the first attack costs {first / loop:.1f} bare loops (of this process; a C++ compiler comes on top)",
            flush=True,
        )
        if name.endswith("bfloat16 steps") and first > 3 * loop:
            print("  left out below: this processor does not compute in bfloat16")
            del found[name]
    return found


def attack(victim: Victim, image: Tensor, label: Tensor, steps: int = STEPS) -> Callable[[], Any]:
    return lambda: run(PGD(steps=steps, step_size=STEP, objective="cross_entropy"), victim, threat(), image, label)


def measure(kind: str, malloc: str, side: int) -> dict[str, float]:
    """CPU seconds of one bare loop (``kind="floor"``) or one attack (``"ours"``) after a warm-up."""
    torch.set_num_threads(1)
    if malloc == "tuned":
        tune_allocator()
    network = unet().requires_grad_(False)
    image, label = batch(side)
    if kind == "floor":
        warm, call = (bare_loop(network, image, label, steps) for steps in (2, STEPS))
    else:
        warm, call = (attack(Victim(network), image, label, steps) for steps in (2, STEPS))
    warm()
    return {"seconds": cpu_seconds(call)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
