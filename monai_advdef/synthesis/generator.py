"""The generator: one encoder, a latent and a decoder for each of the two fields."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional

from monai_advdef.neighbours import whole
from monai_advdef.switches import as_written
from monai_advdef.synthesis.fields import Fields, fields_from, parts_of, standardize
from monai_advdef.synthesis.splines import Spacing, check_displacement, control_shape
from monai_advdef.types import Images, PerCase

Draws = Sequence[torch.Generator] | None  # one per case


class PerturbationGenerator(nn.Module):
    """Images (B, C, \\*S) in image units to a displacement and an intensity field: smooth, bounded and without folds.

    The decoders give the control points of cubic B-splines. The last layers are 0 at the start: the untrained generator leaves every
    image as it is. Group normalisation: no result depends on the rest of the batch, and training and evaluation are alike.

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        channels: of the encoder's levels, each of stride 2; multiples of 8.
        latent_channels: of each latent, a multiple of 8.
        spacing: of the control points, in voxels.
        max_displacement: bound of each component, in voxels; at most spacing / 2.05 in 2D and spacing / 2.48 in 3D.
        max_intensity: bound of the intensity field, in sigma of the image.
        parts: ``"both"``, ``"deformation"`` or ``"intensity"``.

    Raises:
        ValueError: unknown ``parts``; a displacement that may fold; ``max_intensity`` below 0.

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019. Widths,
    B-splines, bounds and the normalisation are ours; the paper normalises over the batch.
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        latent_channels: int = 64,
        spacing: Spacing = 8,
        max_displacement: float = 2.0,
        max_intensity: float = 1.0,
        parts: str = "both",
    ) -> None:
        super().__init__()
        spacing = spacing if isinstance(spacing, int) else list(spacing)
        check_displacement(max_displacement, spacing, spatial_dims)
        if not max_intensity >= 0:
            raise ValueError(f"max_intensity must be ≥ 0 sigma of the image, got {max_intensity}; 1 is usual")
        self.spacing, self.parts = spacing, parts_of(parts)
        self.config: dict[str, Any] = {"spatial_dims": spatial_dims, "in_channels": in_channels, "channels": list(channels)}
        self.config |= {"latent_channels": latent_channels, "spacing": spacing, "parts": parts}
        self.config |= {"max_displacement": float(max_displacement), "max_intensity": float(max_intensity)}
        self.bounds = {"displacement": float(max_displacement), "intensity": float(max_intensity)}
        widths = [in_channels, *channels]
        self.encoder = nn.Sequential(*(_block(spatial_dims, a, b, strides=2) for a, b in zip(widths, widths[1:])))
        self.latents = nn.ModuleDict(
            {p: Convolution(spatial_dims, widths[-1], 2 * latent_channels, kernel_size=1, conv_only=True) for p in self.parts}
        )
        outputs = {"displacement": spatial_dims, "intensity": 1}
        self.decoders = nn.ModuleDict({p: _Decoder(spatial_dims, latent_channels, outputs[p]) for p in self.parts})

    def forward(self, image: Images, draws: Draws = None) -> tuple[Fields, PerCase]:
        """The fields, and the divergence of the latents from N(0, 1), mean over their entries (B,).

        Args:
            draws: a generator per case that its latents are sampled with; ``None`` takes their means.
        """
        features = self.encoder(standardize(image, image))
        grid, points = control_shape(image.shape[2:], self.spacing), {}
        divergence = image.new_zeros(len(image))
        for part in self.parts:
            mean, log_variance = self.latents[part](features).chunk(2, 1)
            log_variance = log_variance.clamp(-10, 10)
            divergence = divergence + 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).flatten(1).mean(1)
            latent = mean if draws is None else mean + (0.5 * log_variance).exp() * _noise(mean, draws)
            points[part] = self.bounds[part] * self.decoders[part](latent, grid).tanh()
        return fields_from(points, image, self.spacing), divergence


class _Decoder(nn.Module):
    """Latent maps to a grid of control points, before the bound."""

    def __init__(self, dims: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _block(dims, channels, channels), _block(dims, channels, channels)
        self.last = Convolution(dims, channels, outputs, kernel_size=3, conv_only=True)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.mode = {2: "bilinear", 3: "trilinear"}[dims]

    def forward(self, latent: Tensor, grid: tuple[int, ...]) -> Tensor:
        wide = functional.interpolate(self.first(latent), size=grid, mode=self.mode, align_corners=True)
        return self.last(self.second(wide))


def save_generator(generator: PerturbationGenerator, path: str | os.PathLike[str]) -> None:
    """Write the generator with its configuration, all or nothing."""
    write({"config": generator.config, "generator": generator.state_dict()}, path)


@as_written
def load_generator(path: str | os.PathLike[str]) -> tuple[PerturbationGenerator, str]:
    """A trained generator in evaluation mode on the CPU, and the SHA-256 of its file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no generator.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"weights file {str(path)!r} does not exist; train it with workflows/training/synthesis")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    if "config" not in stored or "generator" not in stored:
        raise ValueError(f"weights {str(path)!r} hold no generator; give the generator.pt that workflows/training/synthesis wrote")
    generator = PerturbationGenerator(**stored["config"])
    generator.load_state_dict(stored["generator"])
    return generator.eval().requires_grad_(False), hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """``torch.save`` all or nothing: a process that is killed leaves the former file."""
    with whole(path) as temporary:
        torch.save(state, temporary)


def _block(dims: int, a: int, b: int, strides: int = 1) -> Convolution:
    act = ("leakyrelu", {"negative_slope": 0.2})
    return Convolution(dims, a, b, strides=strides, kernel_size=3, act=act, norm=("group", {"num_groups": 8}))


def _noise(like: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in draws]).to(like)
