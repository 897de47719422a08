"""The non-local context encoder: memory of the fused attention beside the plain one, and what the blocks cost NLCEN.

Every memory figure is one call in a process of its own: the peak of its resident memory less what was resident before the call.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import child, compare, interleave, one_thread, rotate, show
from benchmarks.volume import peak_memory
from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.nlcen import NLCEN

CHANNELS, CASES, SIDE = 64, 8, 64


def main(*, quick: bool = False) -> None:
    cases = 2 if quick else CASES
    error = child("benchmarks.nlce", "check", cases)["error"]
    print(f"\nfused against plain attention: largest difference / largest input gradient {error:.1e}   target <= 1e-4")
    found = rotate({kind: partial(child, "benchmarks.nlce", kind, cases) for kind in ("plain", "fused")}, 3)
    peaks = {kind: [r["bytes"] for r in results] for kind, results in found.items()}
    title = f"NLCE forward and input gradient, {cases}x{CHANNELS}x{SIDE}x{SIDE}, memory added"
    show(title, compare(peaks, "plain"), "plain", {"fused": "<= 0.20"})
    overhead(128 if quick else 256)


def overhead(side: int) -> None:
    """CPU time of NLCEN, its ablations and its twin, forward and input gradient of two images."""
    image = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    parts = {
        "without NLCE": {"nlce": False},
        "without the non-local part": {"non_local": False},
        "without the encoder": {"encoder": False},
        "NLCEN": {},
        "NLCEN, plain attention": {"fused": False},
    }
    networks = {name: NLCEN(**options).eval().requires_grad_(False) for name, options in parts.items()}  # type: ignore[arg-type]
    with one_thread():
        ratios = interleave({n: partial(input_gradient, network, image) for n, network in networks.items()}, "without NLCE", 3)
    show(f"NLCEN, ResNet-18, 2x1x{side}x{side}, forward and input gradient, CPU time", ratios, "without NLCE")


def block(fused: bool) -> NLCE:
    """An NLCE whose non-local part has left the identity."""
    torch.manual_seed(0)
    nlce = NLCE(CHANNELS, fused=fused).eval().requires_grad_(False)
    torch.nn.init.normal_(nlce.get_submodule("non_local.project").weight, std=0.1)  # type: ignore[arg-type]
    return nlce


def input_gradient(network: torch.nn.Module, image: Tensor) -> Tensor:
    leaf = image.detach().requires_grad_()
    return torch.autograd.grad(network(leaf).square().mean(), leaf)[0]


def features(cases: int, side: int = SIDE) -> Tensor:
    return torch.randn(cases, CHANNELS, side, side, generator=torch.Generator().manual_seed(0))


def measure(kind: str, cases: int) -> dict[str, float]:
    """Bytes by which one forward pass with input gradient raises the peak of this process, small ones having been run before."""
    torch.set_num_threads(1)
    nlce, x = block(kind == "fused"), features(cases)
    input_gradient(nlce, features(cases, 8))
    before = peak_memory()
    input_gradient(nlce, x)
    return {"bytes": peak_memory() - before}


def check(cases: int) -> dict[str, float]:
    """Largest difference between the two input gradients, relative to the largest gradient."""
    torch.set_num_threads(1)
    fused, plain = (input_gradient(block(f), features(cases)) for f in (True, False))
    return {"error": float((fused - plain).abs().max() / plain.abs().max())}


if __name__ == "__main__":
    kind, cases = sys.argv[1], int(sys.argv[2])
    print(json.dumps(check(cases) if kind == "check" else measure(kind, cases)))
