"""An nnU-Net v2 results folder as it is deployed: windows, mirroring, folds and half-precision sums, with a gradient."""

from __future__ import annotations

from monai_advdef.audit.nnunet.inferer import NnUNetInferer
from monai_advdef.audit.nnunet.network import Folds
from monai_advdef.audit.nnunet.plan import Plan
from monai_advdef.audit.nnunet.preprocessing import Preprocessing
from monai_advdef.audit.nnunet.proof import Proof
from monai_advdef.audit.nnunet.read import read_nnunet, trained
from monai_advdef.audit.nnunet.segmented import Segmented

__all__ = ["Folds", "NnUNetInferer", "Plan", "Preprocessing", "Proof", "Segmented", "read_nnunet", "trained"]
