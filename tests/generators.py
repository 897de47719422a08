"""Small generators of deformations and intensity changes that were never trained, for tests that only need one to act."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from monai_advdef import ThreatModel
from monai_advdef.attacks.universal import save_universal
from monai_advdef.synthesis import PerturbationGenerator, save_generator

SMALL = {"channels": [8, 16, 16], "latent_channels": 8}


def random_generator(*, scale: float = 1.0, **options) -> PerturbationGenerator:
    """A small generator whose last layers are not 0."""
    torch.manual_seed(0)
    generator = PerturbationGenerator(**{"in_channels": 3, **SMALL, **options})
    for decoder in generator.decoders.values():
        for parameter in decoder.last.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    return generator.eval()


def generator_file() -> str:
    """Weights of :func:`random_generator` in a folder of their own."""
    path = Path(tempfile.mkdtemp(prefix="generator-")) / "generator.pt"
    save_generator(random_generator(scale=0.1), path)
    return str(path)


def universal_file(channels: int = 3) -> str:
    """A perturbation that nobody fitted, of 8 grey levels, in a folder of its own."""
    path = Path(tempfile.mkdtemp(prefix="universal-")) / "universal.pt"
    signs = torch.randn(channels, 16, 16, generator=torch.Generator().manual_seed(0)).sign()
    save_universal(path, 8 * signs, ThreatModel(eps=8.0), periodic=True)
    return str(path)
