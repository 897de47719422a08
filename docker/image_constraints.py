"""Print pip constraints for an image: torch and what belongs to it as in the base image, the rest as in a constraints file.

Usage: ``python3 image_constraints.py constraints.txt``. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

KEPT = ("torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "numpy")


def constraints(installed: Mapping[str, str], file: str) -> list[str]:
    """One ``name==version`` per line.

    Args:
        installed: version of every package of the base image by normalised name.
        file: text of the constraints file; its lines on packages that are kept are left out.

    Raises:
        SystemExit: the base image has no torch.
    """
    if "torch" not in installed:
        raise SystemExit(
            "BASE_IMAGE has no torch, and none is installed here; build with --build-arg BASE_IMAGE=<an image with torch>"
        )
    kept = {name: installed[name] for name in KEPT if name in installed}
    lines = [line.strip() for line in file.splitlines()]
    ours = [line for line in lines if line and not line.startswith("#") and normalised(line.split("==")[0]) not in kept]
    return [f"{name}=={version}" for name, version in kept.items()] + ours


def normalised(name: str) -> str:
    """The name of a distribution in the form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    found = {normalised(d.metadata["Name"]): d.version for d in distributions()}
    print("\n".join(constraints(found, Path(sys.argv[1]).read_text(encoding="utf-8"))))
