"""Networks that are attacked and defended here."""

from __future__ import annotations

from monai_advdef.networks.factory import available_networks, segmentation_network
from monai_advdef.networks.resnet_fcn import ResNet50FCN
from monai_advdef.networks.standardized import Standardized
from monai_advdef.networks.valid_unet import ValidUNet

__all__ = ["ResNet50FCN", "Standardized", "ValidUNet", "available_networks", "segmentation_network"]
