"""What a deployed preprocessing in front of a network adds to an input gradient, for every kind of scaling."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import interleave, one_thread, show

BARE = "network alone"


def main(*, quick: bool = False) -> None:
    with one_thread():
        for title, network, inferer, image in settings(quick):
            label = (image > 0).long()
            candidates = {BARE: partial(gradient, network, inferer, None, image / 1000, label)}
            candidates |= {
                name: partial(gradient, network, inferer, tail(chain, image), image, label) for name, chain in chains().items()
            }
            found = interleave(candidates, BARE, rounds=5 if quick else 15, budget_s=60 if quick else 240)
            show(f"input gradient, {title}", found, BARE, {name: "<= 1.05" for name in chains()})


def settings(quick: bool) -> list[tuple[str, Any, Any, Tensor]]:
    """A title, a frozen UNet, its inferer and an image in HU, in 3-D and in 2-D."""
    from monai.inferers import SimpleInferer, SlidingWindowInferer
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    widths: dict[str, Any] = {"channels": (16, 32, 64, 128), "strides": (2, 2, 2), "num_res_units": 2}
    volume, plane = (UNet(d, 1, 2, **widths).eval().requires_grad_(False) for d in (3, 2))
    n = 64 if quick else 96
    return [
        (f"3-D UNet, a volume of {n}^3", volume, SimpleInferer(), drawn(1, 1, n, n, n)),
        (f"3-D UNet, windows of 64^3 over {n + 32}^3", volume, SlidingWindowInferer((64,) * 3, 1), drawn(1, 1, *(n + 32,) * 3)),
        ("2-D UNet, 8 images of 256^2", plane, SimpleInferer(), drawn(8, 1, 256, 256)),
        ("2-D UNet, 1 image of 256^2", plane, SimpleInferer(), drawn(1, 1, 256, 256)),
    ]


def drawn(*size: int) -> Tensor:
    """Smooth HU with air around."""
    x = torch.nn.functional.interpolate(torch.randn(*size[:2], *(6,) * (len(size) - 2)), size[2:]) * 300
    return torch.where(x < -200, torch.tensor(-1000.0), x + torch.randn(size) * 20).round()


def chains() -> dict[str, list[Any]]:
    """The ends of preprocessings as published bundles have them."""
    from monai.transforms import (
        ClipIntensityPercentiles,
        CropForeground,
        NormalizeIntensity,
        ScaleIntensity,
        ScaleIntensityRange,
        ScaleIntensityRangePercentiles,
        SpatialPad,
    )

    window = ScaleIntensityRange(-57, 164, 0, 1, clip=True)
    return {
        "window": [window],
        "z-score of nonzero": [NormalizeIntensity(nonzero=True, channel_wise=True)],
        "z-score, minimum and maximum": [NormalizeIntensity(nonzero=True), ScaleIntensity(-1, 1)],
        "percentiles": [ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True)],
        "clipped at percentiles, z-score": [ClipIntensityPercentiles(0.5, 99.5), NormalizeIntensity()],
        "window, crop to foreground, pad": [window, CropForeground(), SpatialPad(64)],
    }


def tail(chain: list[Any], image: Tensor) -> Any:
    """A tail that knows the grid of the image."""
    from monai_advdef.audit import Tail

    made = Tail(chain)
    made.hold(image[:1])
    return made


def gradient(network: Any, inferer: Any, prepare: Any, image: Tensor, label: Tensor) -> Tensor:
    """The input gradient as an attack takes it."""
    from monai_advdef import PreparedInferer, Victim
    from monai_advdef.objectives import cross_entropy

    victim = Victim(network, inferer=inferer if prepare is None else PreparedInferer(inferer, prepare))
    return victim.gradient(image, lambda logits: cross_entropy(logits, label[(..., *map(slice, logits.shape[2:]))]))[2]
