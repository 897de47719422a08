"""The gradient of a whole volume through a sliding window: memory and time beside plain inference and the plain graph.

Every measurement is one call in a process of its own, whose peak resident memory the system counts (imports included).
"""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import Ratio, child, compare, cpu_seconds, peak_memory, rotate, show

SIZE, ROI, OVERLAP = 128, 64, 0.25
VARIANTS = ("inference", "gradient", "kept", "graph")  # kept: the gradient with the graphs of all windows kept between its passes


def main(*, quick: bool = False) -> None:
    error = child("benchmarks.volume", "check", 96 if quick else SIZE, 1)["error"]
    print(f"\nwhole-volume gradient against the plain one: largest difference / largest gradient {error:.1e}   target <= 1e-6")
    for at_once in (2, 1):
        found = rotate({v: partial(child, "benchmarks.volume", v, SIZE, at_once) for v in VARIANTS}, 3 if quick else 5)
        peaks = {v: [r["peak"] for r in results] for v, results in found.items()}
        seconds = {v: [r["seconds"] for r in results] for v, results in found.items()}
        title = f"3-D UNet, {SIZE}^3 volume, {ROI}^3 windows, overlap {OVERLAP}, sw_batch_size {at_once}"
        show(f"{title}, peak process memory", compare(peaks, "inference"), "inference", {"gradient": "<= 1.35"})
        show(f"{title}, CPU time", compare(seconds, "graph"), "graph", {"gradient": "<= 1.30"})
    growth({v: statistics.median(values) for v, values in peaks.items()}, other_sizes=(96,) if quick else (96, 160))


def growth(peak: dict[str, float], other_sizes: tuple[int, ...]) -> None:
    """How the peak, known at ``SIZE``, grows with the volume, in bytes for every further voxel."""
    rates = {}
    for variant, known in peak.items():
        slopes = [(child("benchmarks.volume", variant, n, 1)["peak"] - known) / (n**3 - SIZE**3) for n in other_sizes]
        rates[variant] = Ratio(statistics.median(slopes), min(slopes), max(slopes))
    show(f"growth of the peak, {SIZE}^3 against {', '.join(f'{n}^3' for n in other_sizes)}", rates, "further voxel, in bytes")
    print("  (image, label, logits, their gradient, weights and the input gradient take 36 bytes a voxel)")


def measure(variant: str, size: int, at_once: int) -> dict[str, float]:
    """One call of ``variant`` on a volume of ``size``^3 voxels: CPU seconds and peak resident bytes of this process."""
    torch.set_num_threads(1)
    network, inferer, image, label = setting(size, at_once)
    window = image[..., :ROI, :ROI, :ROI]
    if variant == "inference":
        with torch.no_grad():
            network(window)
    else:
        network(window.clone().requires_grad_()).sum().backward()
    call = {"inference": inference, "gradient": gradient, "kept": partial(gradient, kept=1000), "graph": graph}[variant]
    return {"seconds": cpu_seconds(lambda: call(network, inferer, image, label)), "peak": peak_memory()}


def setting(size: int, at_once: int):  # type: ignore[no-untyped-def]
    """A frozen 3-D UNet of two classes, a sliding window, a volume (1, 1, size, size, size) and its label."""
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 1, 2, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2).eval().requires_grad_(False)
    inferer = SlidingWindowInferer(roi_size=(ROI,) * 3, sw_batch_size=at_once, overlap=OVERLAP, mode="gaussian")
    image = torch.rand(1, 1, size, size, size)
    return network, inferer, image, (image > 0.5).long()


def inference(network, inferer, image: Tensor, label: Tensor) -> None:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        inferer(image, network)


def gradient(network, inferer, image: Tensor, label: Tensor, kept: int = 0) -> Tensor:  # type: ignore[no-untyped-def]
    from monai_advdef import Victim
    from monai_advdef.objectives import cross_entropy

    return Victim(network, inferer=inferer, kept_windows=kept).gradient(image, lambda logits: cross_entropy(logits, label))[2]


def graph(network, inferer, image: Tensor, label: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    leaf = image.clone().requires_grad_()
    loss = functional.cross_entropy(inferer(leaf, network), label[:, 0])
    return torch.autograd.grad(loss, leaf)[0]


def check(size: int, at_once: int) -> dict[str, float]:
    """Largest difference between the two gradients, relative to the largest gradient."""
    torch.set_num_threads(1)
    given = setting(size, at_once)
    ours, plain = gradient(*given), graph(*given)
    return {"error": float((ours - plain).abs().max() / plain.abs().max())}


if __name__ == "__main__":
    variant, size, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(check(size, at_once) if variant == "check" else measure(variant, size, at_once)))
