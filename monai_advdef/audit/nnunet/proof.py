"""Proof that the logits which are attacked and scored are those of nnU-Net's own predictor."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from monai_advdef.audit.nnunet.library import own, quiet
from monai_advdef.audit.nnunet.network import Folds
from monai_advdef.audit.nnunet.plan import Plan
from monai_advdef.errors import DataError

logger = logging.getLogger(__name__)
TOLERANCE = 1e-4


class Proof:
    """Compares the first logits with those of ``nnUNetPredictor.predict_logits_from_preprocessed_data``; then it is silent.

    Args:
        plan: of the folder.
        network: with the weights of all folds.
        mirror_axes: along which nnU-Net mirrors.
    """

    fleeting = ("difference",)

    def __init__(self, plan: Plan, network: Folds, mirror_axes: tuple[int, ...] = ()) -> None:
        self.plan, self.network, self.mirror_axes = plan, network, tuple(mirror_axes)
        self.difference: float | None = None

    def __call__(self, fed: Tensor, logits: Tensor) -> None:
        """Nothing, where they are equal.

        Args:
            fed: what the network was fed (C, \\*N).
            logits: what was made of it (K, \\*N).

        Raises:
            DataError: they differ by more than 1e-4.
        """
        if self.difference is not None:
            return
        off = float((logits.detach().cpu().float() - self.theirs(fed)).abs().max())
        if not off <= TOLERANCE:
            raise DataError(
                f"{self.plan.folder}: our logits of the first case differ from nnUNetPredictor's by {off:.2g}, more than "
                f"{TOLERANCE:g}, so what would be attacked is not what is deployed; report it with the version of nnunetv2"
            )
        self.difference = off
        logger.info(f"logits of the first case equal nnUNetPredictor's (largest difference {off:.1g})")

    def theirs(self, fed: Tensor) -> Tensor:
        """The predictor's own logits (K, \\*N), in float32."""
        benchmark = torch.backends.cudnn.benchmark
        module = own("nnunetv2.inference.predict_from_raw_data")
        spare = next(iter(self.network.folds))
        weights = [{k: v.detach().clone() for k, v in fold.state_dict().items()} for fold in self.network.folds]
        training = self.network.training
        try:
            with quiet():
                predictor = module.nnUNetPredictor(
                    perform_everything_on_device=fed.is_cuda,
                    device=fed.device,
                    use_mirroring=bool(self.mirror_axes),
                    allow_tqdm=False,
                )
                torch.backends.cudnn.benchmark = benchmark
                told = (weights, self.plan.dataset, "", self.mirror_axes or None)
                predictor.manual_initialization(spare, self.plan.manager, self.plan.settings, *told)
                return predictor.predict_logits_from_preprocessed_data(fed.detach()).float().cpu()
        finally:
            torch.backends.cudnn.benchmark = benchmark
            spare.load_state_dict(weights[0])
            self.network.train(training)
