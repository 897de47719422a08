"""Where nobody drew labels: the model's own clean prediction is the reference, and what is measured is stability, not accuracy."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.utils.data import Dataset

from monai_advdef.audit.scoring.grid import OnFileGrid
from monai_advdef.handlers.cell import inferer_identity, network_identity
from monai_advdef.handlers.identity import Unidentified, digest, identity
from monai_advdef.neighbours import check_writable, whole
from monai_advdef.switches import as_written, folder

logger = logging.getLogger(__name__)
REFERENCE = "reference"


class References:
    """The clean predictions that :class:`WithReference` keeps, as labels of :class:`~monai_advdef.audit.scoring.grid.OnFileGrid`."""

    def __call__(self, data: Mapping[str, Any]) -> MetaTensor:
        """The deployed clean prediction on the file's grid, class map (1, \\*S) or masks (K, \\*S)."""
        held = _held(data)
        return MetaTensor(torch.from_numpy(held["scored"]), affine=torch.from_numpy(held["affine"]))

    def own(self, data: Mapping[str, Any], left: Mapping[str, Any]) -> Tensor:
        """What the model's own postprocessing left of the clean prediction."""
        return torch.from_numpy(_held(data)["own"])


def _held(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    with np.load(data["files"][REFERENCE]) as found:
        return dict(found)


class WithReference(Dataset):
    """Cases without labels, each with the model's own clean prediction as its label.

    What is attacked is ``label`` on the network's grid: the highest class of the clean logits (softmax), or those above 0 (sigmoid);
    what is scored against is the deployed clean prediction on the file's grid, which ``files`` of a case names. It is computed when
    a case is first asked for, and kept: a run that was broken off takes up what the same model made of the same image.

    Args:
        dataset: items with ``image``, ``fed``, ``case`` and ``files``; see :class:`~monai_advdef.audit.dataset.AuditDataset`.
        network: as it is deployed, with its weights.
        inferer: image (1, C, \\*S) in image units and network -> logits (1, K, \\*S).
        step: the postprocessing, with :class:`References` as its labels.
        folder: where the predictions are kept.
        device: where to compute.

    Raises:
        ValueError: no folder. When a case is read, what ``step`` raises.
        OSError: a file that cannot be written.
    """

    @as_written
    def __init__(
        self,
        dataset: Any,
        network: nn.Module,
        inferer: Callable[..., Any],
        step: OnFileGrid,
        *,
        folder: str | os.PathLike[str],
        device: str = "cpu",
    ) -> None:
        self.dataset, self.network, self.inferer, self.step = dataset, network, inferer, step
        self.folder, self.device = Path(_folder(folder)), device
        self.empty: list[str] = []
        self._of: str | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = dict(self.dataset[index])
        path = self._kept(item)
        with np.load(path) as held:
            label = MetaTensor(torch.from_numpy(held["network"])).copy_meta_from(item["fed"])
        return {**item, "label": label, "files": {**item.get("files", {}), REFERENCE: str(path)}}

    def _kept(self, item: Mapping[str, Any]) -> Path:
        """The file of a case's clean prediction, made where it is not there or of something else."""
        name = str(item["case"])
        path, key = self.folder / f"{digest(name)}.npz", self._key(item)
        found = _foreground(path, key)
        if found is None:
            made = self._predicted(item)
            check_writable(reference=self.folder)
            with whole(path) as new, open(new, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, key=np.array(key), **made)
            found = bool(made["scored"].any())
        if not found and name not in self.empty:
            self.empty.append(name)
            logger.warning(
                "case %s: the clean prediction is empty, so there is nothing to lose, and its stability only says whether an attack "
                "makes the model find something",
                name,
            )
        return path

    def _key(self, item: Mapping[str, Any]) -> str:
        try:
            if self._of is None:
                self._of = digest(network_identity(self.network), inferer_identity(self.inferer), identity(self.step))
            return digest(self._of, identity(_plain(item["image"]), _plain(item["fed"]), _geometry(item["fed"])))
        except Unidentified:  # nothing that was kept can be known to be of the same model
            return ""

    def _predicted(self, item: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The clean prediction of a case on the network's grid, as the own postprocessing leaves it, and on the file's grid."""
        hold = getattr(getattr(self.inferer, "prepare", None), "hold", None)
        if hold is not None:  # a tail that moves voxels must know their grid
            hold(*(item[key][None].to(self.device) for key in ("image", "fed")))
        with eval_mode(self.network), torch.no_grad():
            logits = self.inferer(_plain(item["image"])[None].to(self.device), self.network)
        logits = _plain(logits)[0].cpu()
        found = self.step.predicted({**item, "pred": logits})
        made = {"network": self.step.of_logits(logits), "own": found.own, "scored": _plain(found.pred)}
        return {**{name: x.numpy() for name, x in made.items()}, "affine": np.asarray(found.pred.affine.cpu())}


def _folder(given: Any) -> str:
    return folder("folder", given)


def _plain(x: Any) -> Tensor:
    return torch.as_tensor(x).as_subclass(Tensor).detach()


def _geometry(fed: Any) -> Any:
    return fed.affine.double().round(decimals=6) + 0.0 if isinstance(fed, MetaTensor) else None


def _foreground(path: Path, key: str) -> bool | None:
    """Whether what is kept holds any foreground; ``None`` where it is not there, broken, or of something else."""
    try:
        with np.load(path) as held:
            return bool(held["scored"].any()) if key and str(held["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
