"""Networks that put out several maps by name: one of them is the segmentation that is audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.bundles.folder import Bundle
from monai_advdef.audit.scoring.forms import is_background
from monai_advdef.audit.weights import loaded_network
from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written

SURE = 20.0  # logit of what lies outside the network's view
NESTED = re.compile(r"nested_key\s*=\s*['\"](\w+)['\"]")


@dataclass(frozen=True)
class Head:
    """One map of several: its name, the names of its channels, and where they were read."""

    key: str
    channels: list[str]
    source: str

    @property
    def activation(self) -> str:
        """Classes of which each voxel has one, where the first is the background."""
        return "softmax" if len(self.channels) > 1 and is_background(self.channels[0]) else "sigmoid"


def head_of(bundle: Bundle, config: Config, evaluator: str) -> Head | None:
    """The map that is audited, where the metadata names several: that of the key metric, else the first segmentation.

    Raises:
        DataError: several, and none is called a segmentation, or its channels are not named.
    """
    told = bundle.metadata.get("network_data_format")
    outputs = told.get("outputs") if isinstance(told, dict) else None
    if not isinstance(outputs, dict) or "pred" in outputs or len(outputs) < 2:
        return None
    source = "network_data_format in configs/metadata.json"
    metric = NESTED.search(str(config.get(config.follow(f"{evaluator}{SEP}key_val_metric"))))
    segmentations = [name for name, about in outputs.items() if isinstance(about, dict) and about.get("format") == "segmentation"]
    key = metric[1] if metric else segmentations[0] if segmentations else ""
    if key not in outputs:
        there = ", ".join(outputs)
        raise DataError(
            f"{source}: the network puts out {there}, and which is the segmentation is not told; {nearest(key, outputs)}"
        )
    named = outputs[key].get("channel_def")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{source}: the channels of {key} have no names; add channel_def")
    return Head(key, [str(v) for v in named.values()], source)


class OneHead(nn.Module):
    """A network that gives one map of those that another one puts out by name.

    Args:
        network: gives a dictionary of maps (B, K, \\*S).
        key: which of them.
        activation: ``"softmax"``: channel 0 is the background; or ``"sigmoid"``.
        whole: bring a map that is smaller than the image (of a network without padding) to its size; what lies around it counts as
            background.
        checkpoint: of the other network, see :func:`~monai_advdef.audit.loaded_network`.
    """

    @as_written
    def __init__(
        self,
        network: nn.Module,
        key: str,
        *,
        activation: str = "softmax",
        whole: bool = False,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.key, self.activation, self.whole = loaded_network(network, checkpoint), key, activation, whole

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, K, \\*S) of the map.

        Raises:
            DataError: the network puts out no map of this name.
        """
        maps = self.network(x)
        if not isinstance(maps, dict) or self.key not in maps:
            there = ", ".join(map(str, maps)) if isinstance(maps, dict) else type(maps).__name__
            raise DataError(f"the network puts out {there}, and no {self.key!r}; correct network_data_format in metadata.json")
        logits = torch.as_tensor(maps[self.key])
        return self._around(logits, tuple(x.shape[2:])) if self.whole else logits

    def _around(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        missing = [n - m for n, m in zip(size, logits.shape[2:])]
        pads = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
        first, rest = (SURE, 0.0) if self.activation == "softmax" else (-SURE, -SURE)
        parts = [nn.functional.pad(logits[:, i : i + 1], pads, value=rest if i else first) for i in range(logits.shape[1])]
        return torch.cat(parts, 1)
