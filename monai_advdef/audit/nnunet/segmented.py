"""From logits to what nnU-Net would write: the label map, and of overlapping regions a mask each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from torch import Tensor

from monai_advdef.audit.nnunet.plan import Plan
from monai_advdef.audit.nnunet.preprocessing import in_channels


class Segmented(Transform):
    """Logits (K, \\*S) under ``pred_key`` become the label map (1, \\*S), or a mask per region (K, \\*S).

    Regions go through the label map, as in nnU-Net: each is drawn over those before it, in ``regions_class_order``, and a voxel of a
    region's labels is one of the region.

    Args:
        plan: of the folder.
        pred_key: of a case.
    """

    def __init__(self, plan: Plan, *, pred_key: str = "pred") -> None:
        self.plan, self.pred_key = plan, pred_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The case with its decided prediction; metadata stay."""
        logits = data[self.pred_key]
        plain = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        made = in_channels(self.label_map(plain), self.plan)
        return {**data, self.pred_key: MetaTensor(made).copy_meta_from(logits) if isinstance(logits, MetaTensor) else made}

    def label_map(self, logits: Tensor) -> Tensor:
        """(K, \\*S) -> (1, \\*S), the values of the label files."""
        if not self.plan.regions:
            return logits.argmax(0, keepdim=True).float()
        labels = torch.zeros_like(logits[:1])
        for mask, value in zip(torch.sigmoid(logits.float()) > 0.5, self.plan.labels.regions_class_order):
            labels[0, mask] = float(value)
        return labels
