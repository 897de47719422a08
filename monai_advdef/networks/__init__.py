"""Networks that are attacked and defended here."""

from __future__ import annotations

from monai_advdef.networks.cdnn import CDNN
from monai_advdef.networks.ensemble import Ensemble
from monai_advdef.networks.factory import available_networks, segmentation_network
from monai_advdef.networks.inverted_net import InvertedNet
from monai_advdef.networks.losses import training_loss
from monai_advdef.networks.nlce import NLCE
from monai_advdef.networks.nlcen import NLCEN
from monai_advdef.networks.nwcn import NWCN
from monai_advdef.networks.resnet_fcn import ResNet50FCN
from monai_advdef.networks.scaled import ScaledLogits
from monai_advdef.networks.slsdeep import SLSDeep
from monai_advdef.networks.standardized import Standardized
from monai_advdef.networks.unet import ContextUNet
from monai_advdef.networks.valid_unet import ValidUNet
from monai_advdef.networks.weights import inherit, trained

__all__ = [
    "CDNN",
    "NLCE",
    "NLCEN",
    "NWCN",
    "ContextUNet",
    "Ensemble",
    "InvertedNet",
    "ResNet50FCN",
    "SLSDeep",
    "ScaledLogits",
    "Standardized",
    "ValidUNet",
    "available_networks",
    "inherit",
    "segmentation_network",
    "trained",
    "training_loss",
]
