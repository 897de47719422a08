"""The loss each network is trained with, as its paper states it. All take logits (B, K, *S) and a class map (B, 1, *S)."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_advdef.networks.factory import require_network

PLAIN = ("dice_ce", "cross_entropy")
NLCEN_HEADS = 5
NWCN_STAGES = 2


class ClassMapCrossEntropy(_Loss):
    """Mean over pixels of −log softmax(logits)[label]: logits ``(B, K, *S)``, class map ``(B, 1, *S)`` of any number type."""

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """The mean over the pixels of logits (B, K, \\*S) against a class map (B, 1, \\*S)."""
        return F.cross_entropy(prediction, label[:, 0].long())


class EndPointError(nn.Module):
    """Mean over pixels of the distance between the Sobel gradients of prediction and mask, √((∂xu − ∂xv)² + (∂yu − ∂yv)² + 1e-8),
    where u is the foreground's probability (one minus the softmax of class 0) and v is 1 where the label is not 0: logits
    ``(B, K, H, W)``, class map ``(B, 1, H, W)``.

    Sarker et al., "SLSDeep" (MICCAI 2018). The published code takes the edges of the argmax, so that no gradient flows, and its norm
    runs along one image axis; here probabilities and the norm of each pixel's gradient are used. Edges are repeated outwards, so
    that the border of the image is none.
    """

    STABILIZER = 1e-8

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        self.sobel = nn.Buffer(torch.stack([across, across.T])[:, None], persistent=False)

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """The mean length of the Sobel gradient of the difference of foreground probability and mask."""
        difference = 1 - prediction.softmax(dim=1)[:, :1] - (label > 0).to(prediction.dtype)
        gradient = F.conv2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), self.sobel.to(prediction))
        return (gradient.square().sum(dim=1) + self.STABILIZER).sqrt().mean()


class SLSDeepLoss(nn.Module):
    """Negative log-likelihood plus ``weight`` times :class:`EndPointError`."""

    def __init__(self, *, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = weight
        self.likelihood, self.end_point_error = ClassMapCrossEntropy(), EndPointError()

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy plus ``weight`` times the end point error."""
        return self.likelihood(prediction, label) + self.weight * self.end_point_error(prediction, label)


def training_loss(network: str, *, plain: str = "dice_ce") -> nn.Module:
    """The loss that ``network`` (a name of :func:`segmentation_network`) is trained with: a module of (prediction, label), where the
    prediction is what the network gives in training mode, a list of logits where it has several heads (one alone counts whole).

    - ``nlcen`` and its ablations: a quarter of the cross-entropy of each of the five heads (¼ Σ L_g + 0.25 L_r);
    - ``nwcn``: the sum of the cross-entropies of its two stages;
    - ``slsdeep``: :class:`SLSDeepLoss`;
    - ``cdnn``: Jaccard distance with squares, 1 − Σty / (Σt² + Σy² − Σty), per case and foreground class, then the mean (Yuan 2017);
    - ``invertednet``: Dice loss of the foreground classes (Novikov 2018);
    - ``unet``, ``unet2d``, ``unet3d``, ``resnet50fcn``, ``valid_unet``: ``plain``.

    Args:
        plain: ``"dice_ce"`` (cross-entropy plus the foreground's Dice loss) or ``"cross_entropy"``.

    Raises:
        ValueError: unknown ``network`` or ``plain``; the message gives the known ones.
    """
    require_network(network)
    if plain not in PLAIN:
        raise ValueError(f"plain must be one of {', '.join(PLAIN)}, got {plain!r}")
    if network.startswith("nlcen"):
        return DeepSupervisionLoss(ClassMapCrossEntropy(), weights=[0.25] * NLCEN_HEADS)
    if network == "nwcn":
        return DeepSupervisionLoss(ClassMapCrossEntropy(), weights=[1.0] * NWCN_STAGES)
    if network == "slsdeep":
        return SLSDeepLoss()
    if network == "cdnn":
        return DiceLoss(to_onehot_y=True, softmax=True, include_background=False, jaccard=True, squared_pred=True)
    if network == "invertednet":
        return DiceLoss(to_onehot_y=True, softmax=True, include_background=False)
    if plain == "cross_entropy":
        return ClassMapCrossEntropy()
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
