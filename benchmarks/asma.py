"""ASMA: cost of one iteration on one image, in forward passes with an input gradient."""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial

import torch

from benchmarks.setting import CASES, SIDE, bare_loop, batch, threat, unet
from benchmarks.timing import child, compare, cpu_seconds, rotate, show
from monai_advdef import Victim, run, tune_allocator
from monai_advdef.attacks import ASMA

STEPS = 10


def main(*, quick: bool = False) -> None:
    side = SIDE // 2 if quick else SIDE
    found = rotate({malloc: partial(child, "benchmarks.asma", malloc, side) for malloc in ("default", "tuned")}, 3 if quick else 5)
    costs = {f"{what}, {malloc} allocator": [r[what] for r in found[malloc]] for malloc in found for what in found[malloc][0]}
    reference = next(iter(costs))
    title = f"ASMA, UNet, 1x{side}x{side}, per iteration and image"
    one, many = (f"{what}, default allocator" for what in ("1 image", f"batch of {CASES}"))
    show(title, compare(costs, reference), reference, {one: "<= 1.20", many: "<= 1.20"})
    for malloc in found:
        one, many = (f"{what}, {malloc} allocator" for what in ("1 image", f"batch of {CASES}"))
        show(f"the same, {malloc} allocator", compare({one: costs[one], many: costs[many]}, one), one, {many: "<= 1.00"})


def measure(malloc: str, side: int) -> dict[str, float]:
    """Median CPU seconds per iteration and image: bare loop, one image, a batch."""
    torch.set_num_threads(1)
    if malloc == "tuned":
        tune_allocator()
    network = unet().requires_grad_(False)
    victim, attack = Victim(network), ASMA(steps=STEPS, target="inverted")
    image, label = batch(side)

    def seconds(cases: int) -> float:
        return cpu_seconds(lambda: run(attack, victim, threat(), image[:cases], label[:cases], target=1 - label[:cases])) / cases

    floor = bare_loop(network, image[:1], label[:1], STEPS)
    floor()
    found = rotate(
        {"bare loop": lambda: cpu_seconds(floor), "1 image": lambda: seconds(1), f"batch of {CASES}": lambda: seconds(CASES)},
        rounds=3,
    )
    return {name: statistics.median(values) for name, values in found.items()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
