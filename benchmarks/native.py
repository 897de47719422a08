"""One i-FGSM step on four MRI series of native size, 240 x 240 x 155 voxels at 1 mm, with the glioma bundle's network and inferer.

The reference is what the step cannot do without: over the same windows two forward passes (one for the logits of the whole volume,
one again window by window) and one backward pass. Every measurement is one call in a process of its own.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import child, compare, cpu_seconds, peak_memory, rotate, show

SHAPE = (240, 240, 155)
QUICK = (120, 120, 78)
ROI = 64
GIB = 2**30


def main(*, quick: bool = False) -> None:
    shape = QUICK if quick else SHAPE
    found = rotate({v: partial(child, "benchmarks.native", v, *shape, 0.25) for v in ("bare", "step")}, 3)
    title = f"3-D UNet, 4 series of {'x'.join(map(str, shape))} voxels, {ROI}^3 windows"
    ratios = compare({v: [result["seconds"] for result in results] for v, results in found.items()}, "bare")
    show(f"{title}, overlap 0.25, CPU time", ratios, "bare", {"step": "<= 1.5"})
    for result in (max(found["step"], key=lambda r: r["peak"]), child("benchmarks.native", "step", *shape, 0.5)):
        print(f"  peak memory of the process with {result['windows']:.0f} windows: {result['peak'] / GIB:.2f} GiB   target < 6")


def measure(variant: str, shape: tuple[int, ...], overlap: float) -> dict[str, float]:
    """CPU seconds, peak resident bytes and number of windows of one step, or of the bare passes that it cannot do without."""
    from monai.inferers import SlidingWindowInferer

    from monai_advdef.networks import segmentation_network

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = segmentation_network("unet3d", in_channels=4, out_channels=4, mean=0, std=1).eval().requires_grad_(False)
    inferer = SlidingWindowInferer(roi_size=(ROI,) * 3, sw_batch_size=1, overlap=overlap, mode="gaussian")
    image = torch.randn(1, 4, *shape).clamp_(-5, 5)
    label = (image[:, :1] > 1.5).long()
    network(image[..., :ROI, :ROI, :ROI].clone().requires_grad_()).sum().backward()
    calls: list[int] = []
    network.register_forward_hook(lambda *_: calls.append(1))
    call = {"bare": bare, "step": step}[variant]
    seconds = cpu_seconds(lambda: call(network, inferer, image, label))
    return {"seconds": seconds, "peak": peak_memory(), "windows": len(calls) / 2}  # each is forwarded twice


def bare(network, inferer, image: Tensor, label: Tensor) -> None:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        inferer(image, network)

    def both(window: Tensor) -> Tensor:
        leaf = window.detach().requires_grad_()
        with torch.enable_grad():
            logits = network(leaf)
            torch.autograd.grad(logits, leaf, torch.ones_like(logits))
        return logits.detach()

    with torch.no_grad():
        inferer(image, both)


def step(network, inferer, image: Tensor, label: Tensor) -> None:  # type: ignore[no-untyped-def]
    from monai_advdef import ThreatModel, Victim
    from monai_advdef.objectives import cross_entropy

    ball = ThreatModel(eps=0.1, value_range="image", unit="σ", region="nonzero").around(image)
    gradient = Victim(network, inferer=inferer).gradient(image, lambda logits: cross_entropy(logits, label))[2]
    ball.project(image + 0.01 * gradient.sign())


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], tuple(map(int, sys.argv[2:5])), float(sys.argv[5]))))
