"""The U-Net of valid convolutions that ASMA was published with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_advdef.switches import as_written


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.Conv2d(outputs, outputs, 3), nn.ReLU())


class ValidUNet(nn.Module):
    """Five levels of two valid 3x3 convolutions with ReLU, 2x2 max-pooling, 2x2 transposed convolutions of stride 2, skips cropped
    about their centre, a 1x1 head; no normalisation. Images ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    As in the code of Ozbulak et al. (MICCAI 2019, repository utkuozbulak/adaptive-segmentation-mask-attack): 3 x 572 x 572 to
    2 x 388 x 388 with 7,760,130 parameters. Of an image side n a valid network answers the middle n - 184. Ours first repeats the
    image's edge outwards (as the published loader does) by what is lost, so that it stands where any other network of the same size
    does; ``pad=False`` is the published network itself.

    Output pixel (i, j) answers image pixel (i, j), or (i + 92, j + 92) without padding. The published loader is 10 rows off: output
    row 0 is row 80 of its source, but its masks are cut from row 70. That shift is not reproduced here.

    Args:
        in_channels, out_channels: C and K.
        channels: the width of the five levels.
        pad: answer the whole image, of any size.

    Raises:
        ValueError: other than five levels; without padding, sides below 188 or not of the form 16 n + 12 (poolings would drop a row
            and turn the answer off centre).
    """

    __constants__ = ["LEVELS", "STEP", "MARGIN", "SMALLEST"]
    LEVELS = 5
    STEP = 16  # four poolings
    MARGIN = 92  # what the convolutions take off each side
    SMALLEST = 188  # leaves 4 pixels

    @as_written
    def __init__(
        self, *, in_channels: int = 3, out_channels: int = 2, channels: Sequence[int] = (32, 64, 128, 256, 512), pad: bool = True
    ) -> None:
        super().__init__()
        if len(channels) != self.LEVELS:
            raise ValueError(
                f"channels must be the widths of {self.LEVELS} levels, got {list(channels)}; use e.g. [32, 64, 128, 256, 512]"
            )
        self.pad = pad
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip([in_channels, *channels[:-1]], channels))
        wide_to_narrow = list(zip(channels[:0:-1], channels[-2::-1]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in wide_to_narrow)
        self.merge = nn.ModuleList(_convolutions(2 * b, b) for _, b in wide_to_narrow)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(channels[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W), 184 pixels less a side without ``pad``.

        Raises:
            ValueError: without ``pad``, a side below 188 or not of the form 16 n + 12.
        """
        h, w = x.shape[-2], x.shape[-1]
        if not self.pad:
            if min(h, w) < self.SMALLEST or h % self.STEP != 12 or w % self.STEP != 12:
                raise ValueError(
                    f"image sides must be at least 188 and of the form 16 n + 12 for valid convolutions, got {h}x{w}; "
                    "resize the image (572x572 is the published size), or set pad to true"
                )
            return self._valid(x)
        top, left = self._spare(h), self._spare(w)
        right = self._valid_side(w) - w - self.MARGIN - left
        bottom = self._valid_side(h) - h - self.MARGIN - top
        padded = nn.functional.pad(x, [self.MARGIN + left, right, self.MARGIN + top, bottom], mode="replicate")
        return self._valid(padded)[..., top : top + h, left : left + w]

    def _valid_side(self, side: int) -> int:
        """The smallest side of a valid input whose answer covers ``side`` pixels."""
        return max(self.SMALLEST, (side + 2 * self.MARGIN - 12 + self.STEP - 1) // self.STEP * self.STEP + 12)

    def _spare(self, side: int) -> int:
        """How many pixels the answer begins before the image does."""
        return (self._valid_side(side) - 2 * self.MARGIN - side) // 2

    def _valid(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        for level, (up, merge) in enumerate(zip(self.up, self.merge)):
            x = up(x)
            skip = skips[self.LEVELS - 2 - level]
            top, left = (skip.shape[-2] - x.shape[-2]) // 2, (skip.shape[-1] - x.shape[-1]) // 2
            x = merge(torch.cat([skip[..., top : top + x.shape[-2], left : left + x.shape[-1]], x], dim=1))
        return self.head(x)
