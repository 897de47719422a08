"""The non-local context encoder network: a ResNet with NLCE at each stage, a top-down path, coarse and refined predictions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.sizes import require_multiples
from monai_advdef.networks.trunk import ResNetTrunk
from monai_advdef.switches import as_written

TOPDOWN = ("cpn", "literal", "fpn")
REFINE_HEADS = ("direct", "cpn")


class NLCEN(nn.Module):
    """Non-local context encoder network of He et al. (AAAI 2019): images ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    A ResNet trunk; E_i = NLCE of the features of stage i (the next stage of the trunk takes them as they were); a top-down path
    from P_5 to P_2; a 3x3 convolution from each P_i to coarse logits; P_2 to P_5 through 0 to 3 bottlenecks, brought to the size of
    P_2 and joined, and a 3x3 convolution to the refined logits; all logits bilinearly to the size of the image. What the paper
    leaves open is taken from the cascaded pyramid network (CPN, Chen et al., CVPR 2018), whose design it shares.

    In eval mode the output is the refined logits. In training mode it is the list of :meth:`forward_heads`, for MONAI's
    ``DeepSupervisionLoss(CrossEntropyLoss(), weights=[0.25] * 5)`` and one-hot targets: the paper's loss, 1/4 sum_i L_i + 0.25
    L_refined (equations 4 and 5, as a mean over the pixels), in which all five predictions weigh the same.

    The twin ``nlce=False`` has the same other modules under the same names, and from the same seed the same weights in them: its
    state dict loads into the full network with ``strict=False`` (only names under ``nlce.`` are missing), as the paper's ablation
    needs.

    Args:
        in_channels, out_channels: C and K (the paper: 2 classes).
        trunk: ``"resnet18"`` (the paper, radiographs), ``"resnet34"`` or ``"resnet50"`` (the paper, skin).
        topdown: ``"cpn"``: P_i = ReLU(BN(conv1x1 E_i)) + BN(conv1x1(up P_{i+1})), ``width`` channels. ``"literal"``, the paper's
            formula: P_i = E_i + up(conv1x1 P_{i+1}), P_5 = conv1x1 E_5, as many channels as E_i. ``"fpn"`` (Lin et al., CVPR
            2017): P_i = conv1x1 E_i + up P_{i+1}, ``width`` channels.
        nlce: False for the network without the blocks.
        width: channels of the lateral connections and bottlenecks.
        refine_head: ``"direct"`` as the paper says, or ``"cpn"``, with one bottleneck before the last convolution.
        weights: local file for the trunk, see :class:`ResNetTrunk`.
        block: ``non_local``, ``encoder``, ``codewords``, ``subsample`` and ``fused`` of each :class:`NLCE`.

    Raises:
        FileNotFoundError: no such ``weights`` file.
        ValueError: unknown ``trunk``, ``topdown`` or ``refine_head``; ``weights`` of another network; an image side that is no
            multiple of 32.
    """

    BLOCK = ("non_local", "encoder", "codewords", "subsample", "fused")

    @as_written
    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        trunk: str = "resnet18",
        topdown: str = "cpn",
        nlce: bool = True,
        width: int = 256,
        refine_head: str = "direct",
        weights: str | None = None,
        **block: Any,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(block) - set(self.BLOCK)):
            raise TypeError(f"NLCEN takes no {', '.join(unknown)}; of its blocks it takes {', '.join(self.BLOCK)}")
        if topdown not in TOPDOWN:
            raise ValueError(f"no topdown {topdown!r}; known: {', '.join(TOPDOWN)}")
        if refine_head not in REFINE_HEADS:
            raise ValueError(f"no refine_head {refine_head!r}; known: {', '.join(REFINE_HEADS)}")
        self.trunk = ResNetTrunk(name=trunk, in_channels=in_channels, weights=weights)
        stages = self.trunk.widths
        self.lateral, self.path = _topdown_layers(topdown, stages, width)
        pyramid = stages if topdown == "literal" else (width,) * 4
        self.coarse = nn.ModuleList(nn.Conv2d(c, out_channels, 3, padding=1) for c in pyramid)
        self.refine = nn.ModuleList(
            nn.Sequential(*(Bottleneck(c if k == 0 else width, width) for k in range(level))) for level, c in enumerate(pyramid)
        )
        joined = pyramid[0] + 3 * width
        head = nn.Conv2d(joined if refine_head == "direct" else width, out_channels, 3, padding=1)
        self.head = head if refine_head == "direct" else nn.Sequential(Bottleneck(joined, width), head)
        parts = {part: nlce and block.get(part, True) for part in ("non_local", "encoder")}
        self.nlce = nn.ModuleList(NLCE(c, **{**block, **parts}) for c in stages)

    def forward(self, x: Tensor):  # a scripted network must have one return type: it answers the refined logits in either mode
        """Images (B, C, H, W) to the refined logits (B, K, H, W), in training mode to the list of :meth:`forward_heads`."""
        if not torch.jit.is_scripting():
            if self.training:
                return self.forward_heads(x)
        return self._refined(self._pyramid(x), x)

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """The logits ``[refined, coarse_2, coarse_3, coarse_4, coarse_5]``, each ``(B, K, H, W)``, in either mode."""
        pyramid = self._pyramid(x)
        heads = [self._refined(pyramid, x)]
        for level, head in enumerate(self.coarse):
            heads.append(_resize(head(pyramid[level]), x))
        return heads

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """P_2 to P_5."""
        require_multiples(x, 32)
        stages = self.trunk(x)
        laterals: list[Tensor] = []
        for level, (lateral, nlce) in enumerate(zip(self.lateral, self.nlce)):
            laterals.append(lateral(nlce(stages[level])))
        e2, e3, e4, p5 = laterals
        p4 = e4 + self.path[2](_resize(p5, e4))
        p3 = e3 + self.path[1](_resize(p4, e3))
        return [e2 + self.path[0](_resize(p3, e2)), p3, p4, p5]

    def _refined(self, pyramid: list[Tensor], x: Tensor) -> Tensor:
        levels: list[Tensor] = []
        for level, refine in enumerate(self.refine):
            levels.append(_resize(refine(pyramid[level]), pyramid[0]))
        return _resize(self.head(torch.cat(levels, dim=1)), x)


class Bottleneck(nn.Module):
    """CPN's bottleneck: 1x1, 3x3, 1x1 convolutions of ``width`` / 2, / 2 and ``width`` channels beside a 1x1 shortcut."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        squeeze = (*_conv_norm(in_channels, half), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(*squeeze, *_conv_norm(half, half, 3), nn.ReLU(inplace=True), *_conv_norm(half, width))
        self.shortcut = nn.Sequential(*_conv_norm(in_channels, width))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, K, H, W)."""
        return (self.residual(x) + self.shortcut(x)).relu()


def _conv_norm(in_channels: int, out_channels: int, size: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False), nn.BatchNorm2d(out_channels)


def _topdown_layers(topdown: str, stages: tuple[int, ...], width: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """What E_2 to E_5 pass through, and what the upsampled P_3 to P_5 pass through (upsampling first or last gives the same)."""
    if topdown == "literal":
        last = nn.Conv2d(stages[-1], stages[-1], 1)
        path = nn.ModuleList(nn.Conv2d(above, c, 1) for c, above in zip(stages, stages[1:]))
        return nn.ModuleList([*(nn.Identity() for _ in stages[1:]), last]), path
    if topdown == "fpn":
        return nn.ModuleList(nn.Conv2d(c, width, 1) for c in stages), nn.ModuleList(nn.Identity() for _ in stages[1:])
    lateral = nn.ModuleList(nn.Sequential(*_conv_norm(c, width), nn.ReLU(inplace=True)) for c in stages)
    return lateral, nn.ModuleList(nn.Sequential(*_conv_norm(width, width)) for _ in stages[1:])


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
