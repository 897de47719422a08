"""What a classifier sees of a crop: its grey levels, contrast-limited versions of them, and where each pixel lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor, nn

from monai_advdef.switches import as_written

LEVELS = 256


def clahe(grey: np.ndarray, *, clip_limit: float, tiles: int) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994; limit and tiles as in OpenCV).

    Each of ``tiles`` x ``tiles`` parts has its own histogram, cut at ``clip_limit`` times its mean height, the excess spread evenly
    over all levels; a pixel takes the bilinear mean of the curves of the four parts around it.

    Args:
        grey: ``(H, W)`` of uint8.

    Returns:
        ``(H, W)`` of uint8.

    Raises:
        ValueError: more tiles than pixels along a side, or a ``clip_limit`` that is not positive.
    """
    height, width = grey.shape
    if not 1 <= tiles <= min(height, width) or clip_limit <= 0:
        raise ValueError(
            f"tiles must lie in 1..{min(height, width)} and clip_limit above 0, got {tiles} and {clip_limit}; use 8 and 2"
        )
    th, tw = -(-height // tiles), -(-width // tiles)
    padded = np.pad(grey, ((0, th * tiles - height), (0, tw * tiles - width)), mode="symmetric")
    parts = padded.reshape(tiles, th, tiles, tw).swapaxes(1, 2).reshape(tiles * tiles, th * tw)
    counts = np.stack([np.bincount(part, minlength=LEVELS) for part in parts]).astype(float)
    limit = max(1.0, clip_limit * th * tw / LEVELS)
    excess = np.clip(counts - limit, 0, None).sum(1, keepdims=True)
    curves = (np.minimum(counts, limit) + excess / LEVELS).cumsum(1) * ((LEVELS - 1) / (th * tw))
    curves = curves.reshape(tiles, tiles, LEVELS)
    (top, bottom, down), (left, right, along) = _neighbours(height, th, tiles), _neighbours(width, tw, tiles)
    down = down[:, None]
    upper = curves[top[:, None], left, grey] * (1 - along) + curves[top[:, None], right, grey] * along
    lower = curves[bottom[:, None], left, grey] * (1 - along) + curves[bottom[:, None], right, grey] * along
    return np.clip(np.rint(upper * (1 - down) + lower * down), 0, LEVELS - 1).astype(np.uint8)


def _neighbours(length: int, tile: int, tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of an axis the tiles whose centres are before and after it, and how far it is on the way between."""
    place = (np.arange(length) + 0.5) / tile - 0.5
    before = np.floor(place).astype(int)
    return before.clip(0, tiles - 1), (before + 1).clip(0, tiles - 1), place - before


class CropChannels(nn.Module):
    """Crops ``(B, 3, S, S)`` in grey levels 0..255 to network channels ``(B, channels, S, S)``.

    First the colours, scaled to -1..1; then those of each CLAHE version of the lightness (L of CIE Lab, by Pillow's littleCMS at
    8 bits); then two position maps, x and y in [0, 1). As Agrawal et al. (arXiv 1809.05216), who used six versions. CLAHE passes no
    gradient.

    Args:
        clahe: ``[clip_limit, tiles]`` of each version; none by default.
        position_channels: append the position maps.
    """

    @as_written
    def __init__(self, *, clahe: Sequence[Sequence[float]] = (), position_channels: bool = True) -> None:
        super().__init__()
        self.clahe = [(float(limit), int(tiles)) for limit, tiles in clahe]
        self.position_channels = position_channels
        self.channels = 3 * (1 + len(self.clahe)) + 2 * position_channels
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        self._to_lab = ImageCms.buildTransform(rgb, lab, "RGB", "LAB")
        self._to_rgb = ImageCms.buildTransform(lab, rgb, "LAB", "RGB")

    def forward(self, crop: Tensor) -> Tensor:
        """Crops (B, 3, S, S) in grey levels to the crop and its CLAHE versions, both scaled to -1..1, and the positions."""
        stack = [crop]
        if self.clahe:
            stack.append(torch.stack([self._versions(one) for one in crop]).to(crop))
        scaled = torch.cat(stack, 1) / 127.5 - 1
        if not self.position_channels:
            return scaled
        maps = torch.meshgrid(*(torch.arange(n, device=crop.device) / n for n in crop.shape[2:]), indexing="ij")
        return torch.cat([scaled, torch.stack(maps).to(scaled).expand(len(crop), -1, -1, -1)], 1)

    def _versions(self, crop: Tensor) -> Tensor:
        """The CLAHE versions of one crop ``(3, S, S)``, stacked: ``(3 n, S, S)`` in grey levels."""
        pixels = crop.detach().cpu().round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        lightness, a, b = ImageCms.applyTransform(Image.fromarray(pixels), self._to_lab).split()  # type: ignore[union-attr]
        versions = []
        for limit, tiles in self.clahe:
            equalised = Image.fromarray(clahe(np.asarray(lightness), clip_limit=limit, tiles=tiles))
            colour = ImageCms.applyTransform(Image.merge("LAB", (equalised, a, b)), self._to_rgb)
            versions.append(torch.from_numpy(np.array(colour)).permute(2, 0, 1))
        return torch.cat(versions)
