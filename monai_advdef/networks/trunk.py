"""ResNet feature trunks with torchvision's layer names, and torchvision's weights from a local file."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from monai_advdef.switches import as_written


class Recipe(NamedTuple):
    """What tells one ResNet from another: the kind of block, how many a stage and their channels."""

    block: str
    layers: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    published: str  # torchvision's file of ImageNet weights


TRUNKS = {
    "resnet18": Recipe("basic", (2, 2, 2, 2), (64, 128, 256, 512), "resnet18-f37072fd.pth"),
    "resnet34": Recipe("basic", (3, 4, 6, 3), (64, 128, 256, 512), "resnet34-b627a593.pth"),
    "resnet50": Recipe("bottleneck", (3, 4, 6, 3), (256, 512, 1024, 2048), "resnet50-0676ba61.pth"),
}


class ResNetTrunk(nn.Module):
    """The four stages of a ResNet (He et al., CVPR 2016): ``(B, C, H, W)`` to a list of features at 1/4, 1/8, 1/16 and 1/32 of the
    image, with ``widths`` 64, 128, 256, 512 (ResNet-18, -34) or 256, 512, 1024, 2048 channels (ResNet-50).

    Args:
        name: ``"resnet18"``, ``"resnet34"`` or ``"resnet50"``.
        in_channels: C.
        weights: path of a file with torchvision's state dict of that network; its classifier is left out. For grey images (C = 1)
            the first convolution's weights are summed over the file's colours, which equals repeating the image in every colour.
            Random (Kaiming) where not given; nothing is ever downloaded.

    Raises:
        FileNotFoundError: no such ``weights`` file, such as a word or an address.
        ValueError: unknown ``name``; ``weights`` of another network.
    """

    def __init__(self, *, name: str = "resnet18", in_channels: int = 3, weights: str | None = None) -> None:
        super().__init__()
        resnet = monai_resnet(name, in_channels=in_channels)
        if weights is not None:
            load_weights(resnet, weights, name=name, sum_colours=in_channels == 1)
        self.widths = TRUNKS[name].widths
        self.conv1, self.bn1, self.act, self.maxpool = resnet.conv1, resnet.bn1, resnet.act, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) to the features of the four stages, at 1/4, 1/8, 1/16 and 1/32 of the size."""
        quarter = self.layer1(self.maxpool(self.act(self.bn1(self.conv1(x)))))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return [quarter, eighth, sixteenth, self.layer4(sixteenth)]


def monai_resnet(name: str, *, in_channels: int) -> ResNet:
    """MONAI's 2D ResNet without its classifier, laid out as torchvision's: 7x7 stem of stride 2, no bias before a norm.

    Raises:
        ValueError: unknown ``name``.
    """
    if name not in TRUNKS:
        raise ValueError(f"no trunk {name!r}; known: {', '.join(TRUNKS)}")
    recipe = TRUNKS[name]
    return ResNet(
        recipe.block,
        list(recipe.layers),
        [64, 128, 256, 512],
        spatial_dims=2,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    )


@as_written
def load_weights(trunk: nn.Module, path: str, *, name: str, sum_colours: bool = False) -> None:
    """Load torchvision's state dict from the local file ``path`` into ``trunk``; what the file lacks or adds is an error, its
    classifier ``fc`` apart. With ``sum_colours`` the first convolution's weights are summed over the file's colours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds another network.
    """
    title = name.replace("resnet", "ResNet-")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"weights file {path!r} does not exist; give a local file with torchvision's {title} state dict, such as "
            f"{TRUNKS[name].published}: nothing is downloaded"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)
    stored = {key: tensor for key, tensor in stored.items() if not key.startswith("fc.")}
    if sum_colours and "conv1.weight" in stored:
        stored["conv1.weight"] = stored["conv1.weight"].sum(1, keepdim=True)
    own = trunk.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    wrong = sorted((own.keys() ^ stored.keys()) - counters)
    wrong += [key for key in own.keys() & stored.keys() if own[key].shape != stored[key].shape]
    if wrong:
        raise ValueError(f"weights file {path!r} is no {title} for this network: {len(wrong)} tensors differ, first {wrong[0]!r}")
    trunk.load_state_dict(stored, strict=False)
