"""Promise 3: attacking the raw image with eps is attacking the scaled image with the scaled eps."""

from __future__ import annotations

import copy

import pytest
import torch

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import ASMA, FGSM, PGD, AutoPGD, CosPGD, Noise, SegPGD


@pytest.mark.parametrize("scale", [1 / 256, 4.0])
@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (Noise(), "linf"),
        (FGSM(), "linf"),
        (PGD(steps=5), "linf"),
        (PGD(steps=5), "l2"),
        (AutoPGD(steps=8), "linf"),
        (AutoPGD(steps=8), "l2"),
        (SegPGD(steps=4), "linf"),
        (CosPGD(steps=4), "l2"),
        (ASMA(steps=20, tau=1e-4), "unbounded"),
    ],
    ids=lambda v: getattr(v, "label", v),
)
def test_scaled_alike(trained, cases, attack, norm, scale):
    """Scales are powers of two and the range's width too, so that float arithmetic is exact in both units."""
    image, label = cases
    network = copy.deepcopy(trained)
    target = label.roll(1, 0) if norm == "unbounded" else None
    raw = run(
        attack,
        Victim(network, normalize=(128.0, 128.0)),
        ThreatModel(norm=norm, eps=8, value_range=(0, 256)),
        image,
        label,
        target=target,
    )
    scaled = run(
        attack,
        Victim(network, normalize=(128 * scale, 128 * scale)),
        ThreatModel(norm=norm, eps=8 * scale, value_range=(0, 256 * scale), unit="scaled"),
        image * scale,
        label,
        target=target,
    )
    torch.testing.assert_close(scaled.adversarial / scale, raw.adversarial, rtol=0, atol=1e-3)
    torch.testing.assert_close(scaled.score, raw.score)
