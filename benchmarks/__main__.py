"""Every speed and memory target of the project, as ratios within one run: ``python -m benchmarks [--only NAME] [--quick]``.

``python -m benchmarks --device cuda`` measures throughput and memory on a GPU, ``python -m benchmarks.strength`` what attacks leave.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import warnings

PARTS = {
    "pgd": "PGD / a bare loop of as many forward passes and input gradients; the final verdict and all bookkeeping included",
    "asma": "ASMA / one forward pass and input gradient on one image, per iteration and image",
    "compression": "Frequency Refinement / a tensor copy and the published per-block loop; JPEG / the codec called bare",
    "volume": "whole-volume gradient / plain sliding-window inference (memory) and / the plain graph's gradient (time)",
    "native": "one i-FGSM step on a native MRI volume / two forwards and one backward over its windows (time); peak memory",
    "tail": "an input gradient through a deployed preprocessing / of the network alone (time)",
    "sweep": "what a sweep adds to a cell, and a cell whose images are cached, in CPU seconds",
    "memory": "peak memory of an evaluation over few and over many cases",
    "records": "card and Markdown table of 800,000 rows: time and peak memory",
    "setup": "what an evaluation cell costs before its first batch",
    "nlce": "NLCE by fused attention / by plain attention (memory); NLCEN / NLCEN without NLCE (time)",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="run this part alone")
    parser.add_argument(
        "--quick", action="store_true", help="smaller images and fewer rounds; the targets are meant for the full sizes"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: throughput and memory on a GPU (8 minutes)")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.device == "cuda":
        importlib.import_module("benchmarks.gpu").main(quick=options.quick)
        return
    print("Ratios of CPU time on one thread, every candidate once per round in rotating order: median [min..max] over the rounds.")
    for name in [options.only] if options.only else PARTS:
        print(f"\n== {name}: {PARTS[name]}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main(quick=options.quick)


if __name__ == "__main__":
    main()
