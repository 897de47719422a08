"""What the house costs on a GPU: throughput as a share of a bare loop's, and the whole-volume gradient's time and memory.

Run by ``python -m benchmarks --device cuda``; at most eight minutes, and what no time is left for is named.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SwinUNETR, UNet
from torch import Tensor, nn
from torch.nn import functional

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD

LIMIT_S, ROUNDS, STEPS = 450.0, 3, 10
MODES = ("fp32", "bf16", "compiled")  # compiling takes longest, and comes last


def main(quick: bool = False) -> None:
    """Print the table, or that there is no GPU."""
    if not torch.cuda.is_available():
        print("no GPU is here: nothing was measured")
        return
    end = time.monotonic() + LIMIT_S
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {STEPS} steps, median of {ROUNDS} interleaved rounds\n")
    print("| gradient of a whole volume, windows of half its side | s | peak memory, GiB |\n|---|---:|---:|")
    for name, found in whole_volume(96 if quick else 192, end):
        print(f"| {name} | {found} |", flush=True)
    print("\n| network | images | mode | bare loop, images/s | PGD, images/s | share |\n|---|---|---|---:|---:|---:|")
    for mode in MODES:
        for name, make, shape in _networks(quick):
            if time.monotonic() > end:
                print(f"| {name} | {_size(shape)} | {mode} | left out: no time | | |")
                continue
            bare, ours = throughputs(make, shape, mode)
            print(f"| {name} | {_size(shape)} | {mode} | {bare:.2f} | {ours:.2f} | {ours / bare:.3f} |", flush=True)


def _networks(quick: bool) -> list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]]:
    side = 64 if quick else 128
    wide = {"channels": (32, 64, 128, 256), "strides": (2, 2, 2), "num_res_units": 2}
    return [
        ("UNet 2D", lambda: UNet(2, 3, 2, **wide), (16, 3, 2 * side, 2 * side)),  # type: ignore[arg-type]
        ("UNet 3D", lambda: UNet(3, 4, 4, **wide), (1, 4, side, side, side)),  # type: ignore[arg-type]
        ("SwinUNETR", lambda: SwinUNETR(in_channels=4, out_channels=4, feature_size=24), (1, 4, side, side, side)),
    ]


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def throughputs(make: Callable[[], nn.Module], shape: tuple[int, ...], mode: str, device: str = "cuda") -> tuple[float, float]:
    """Images and steps per second of a bare loop, and of PGD with its last judgement, on the same network and images."""
    torch.manual_seed(0)
    network = make().to(device).eval()
    image = torch.rand(shape, device=device) * 255
    label = (image.mean(1, keepdim=True) > 127).long()
    stepper = torch.compile(network) if mode == "compiled" else network
    precision = torch.autocast(device, torch.bfloat16) if mode == "bf16" else nullcontext()

    def bare() -> None:
        for _ in range(STEPS):
            leaf = image.detach().requires_grad_()
            with precision:
                logits = stepper(leaf)
            torch.autograd.grad(functional.cross_entropy(logits.float(), label[:, 0]), leaf)

    settings: dict[str, Any] = {"step_precision": "bfloat16"} if mode == "bf16" else {"compiled": mode == "compiled"}
    victim = Victim(network, **settings)
    threat, attack = ThreatModel(eps=8.0), PGD(steps=STEPS, objective="cross_entropy")
    network.requires_grad_(False)
    calls = {"bare": bare, "ours": lambda: run(attack, victim, threat, image, label)}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for name in list(calls) * (ROUNDS + 1):
        seconds[name].append(_seconds(calls[name])[0])
    rates = [STEPS * len(image) / statistics.median(seconds[name][1:]) for name in ("bare", "ours")]
    return rates[0], rates[1]


def _seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds and GiB at the peak of one call."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")


def whole_volume(side: int, end: float, device: str = "cuda") -> list[tuple[str, str]]:
    """Time and peak memory of inference, of our gradient and of the plain graph's, on one volume."""
    torch.manual_seed(0)
    network = UNet(3, 4, 4, channels=(32, 64, 128, 256), strides=(2, 2, 2), num_res_units=2).to(device).eval().requires_grad_(False)
    image = torch.rand(1, 4, side, side, side, device=device) * 255
    label = (image.mean(1) > 127).long()
    inferer = SlidingWindowInferer((side // 2,) * 3, sw_batch_size=2, overlap=0.25)

    def loss(logits: Tensor) -> Tensor:
        return functional.cross_entropy(logits, label, reduction="none").flatten(1).mean(1)

    def plain() -> None:
        leaf = image.clone().requires_grad_()
        torch.autograd.grad(loss(inferer(leaf, network)).sum(), leaf)

    def inference() -> None:
        with torch.no_grad():
            inferer(image, network)

    victims = {f"ours, kept_windows {n}": Victim(network, inferer=inferer, kept_windows=n) for n in (0, 1000)}
    calls: dict[str, Callable[[], Any]] = {"inference alone": inference, "the plain graph": plain}
    calls |= {name: lambda v=v: v.gradient(image, loss) for name, v in victims.items()}  # type: ignore[misc]
    found = []
    for name, call in calls.items():
        if time.monotonic() > end:
            found.append((name, "left out: no time |"))
            continue
        try:
            call()
            measured = [_seconds(call) for _ in range(3)]
        except torch.OutOfMemoryError:
            found.append((name, "does not fit |"))
            continue
        found.append((name, f"{statistics.median(s for s, _ in measured):.3f} | {max(m for _, m in measured):.2f}"))
    return found
