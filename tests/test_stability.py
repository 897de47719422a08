"""Without labels: the model's own clean prediction as reference, in an evaluator, kept and taken up again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LabelFilterd,
    LoadImaged,
    Orientationd,
    Spacingd,
)
from test_file_grid import OBLIQUE, write

from monai_advdef.audit.dataset import AsDeployed, AuditDataset
from monai_advdef.audit.scoring import GridHandler, OnFileGrid, References, WithReference
from monai_advdef.handlers import RecordHandler
from monai_advdef.records import read_records

KEYS = ["image"]


class Threshold(torch.nn.Module):
    """Logits that rise with the grey level."""

    def __init__(self, levels: tuple[float, ...], softmax: bool = True) -> None:
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor(levels))
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        over = [(x - level) / 10 for level in self.levels]
        return torch.cat([torch.zeros_like(x), *over], 1) if self.softmax else torch.cat(over, 1)


def chain() -> Compose:
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            Orientationd(KEYS, axcodes="RAS", labels=None),
            Spacingd(KEYS, (1.1, 1.2, 1.9)),
        ]
    )


def made(folder: Path, network: torch.nn.Module, own: Any, *, classes: Any, activation: str = "softmax") -> tuple[Any, OnFileGrid]:
    entry = write(folder)
    before = chain()
    step = OnFileGrid(AsDeployed(own(before)), before, References(), classes=classes, activation=activation)
    dataset = AuditDataset([{"case": "a", "image": entry["image"]}], before, before, labelled=False)
    inferer = SlidingWindowInferer((16, 16, 16), 2, 0.25)
    return WithReference(dataset, network, inferer, step, folder=folder / "out" / "reference"), step


def softmax_own(before: Compose) -> Compose:
    return Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", before, "image", nearest_interp=False),
            AsDiscreted("pred", argmax=True),
            LabelFilterd("pred", applied_labels=[1]),
        ]
    )


def masks_own(before: Compose) -> Compose:
    return Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])


OWNS = [
    (softmax_own, ("organ",), "softmax", (70.0,)),
    (lambda before: None, ("organ",), "softmax", (70.0,)),
    (lambda before: None, ("low", "high"), "sigmoid", (70.0, 160.0)),
    (masks_own, ("low", "high"), "sigmoid", (70.0, 160.0)),
]


@pytest.mark.parametrize(("own", "classes", "activation", "levels"), OWNS, ids=["softmax", "bare", "sigmoid", "masks"])
def test_the_clean_prediction_is_perfectly_stable(tmp_path, own, classes, activation, levels):
    network = Threshold(tuple(map(float, levels)), activation == "softmax")
    data, step = made(tmp_path, network, own, classes=classes, activation=activation)
    item = data[0]
    logits = network(item["image"].as_tensor()[None])[0]
    expected = logits.argmax(0, keepdim=True) if activation == "softmax" else logits >= 0
    assert torch.equal(item["label"].as_tensor(), expected.to(torch.uint8)) and item["label"].any()  # what is attacked
    records = RecordHandler(tmp_path / "out", classes, activation=activation, card=False)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=1),
        network=network,
        inferer=data.inferer,
        postprocessing=step,
        val_handlers=[GridHandler(classes, activation=activation), records],
    )
    evaluator.run()
    table = read_records(tmp_path / "out" / "records")
    clean = {m: v for m, v in table.groupby("metric")["value"].mean().items()}
    assert all(clean[m] == 1 for m in ("dice", "iou", "nsd", "network_dice", "component_recall", "component_precision"))
    assert clean["hd95_mm"] == clean["volume_change_ml"] == 0 and clean["structure_ml"] > 0
    scored = evaluator.state.output[0]
    file = nib.load(tmp_path / "scan.nii.gz")
    assert scored["label"].shape[1:] == file.shape and np.allclose(scored["label"].affine, file.affine)
    grey = np.asarray(file.dataobj)[None]
    near = np.concatenate([grey > level for level in levels])
    assert (scored["label"].numpy().astype(bool) == near).mean() > 0.9  # where the network cannot but cut, on the file itself


def test_what_was_predicted_is_taken_up_again_and_of_the_same_only(tmp_path):
    with patch.object(WithReference, "_predicted", autospec=True, side_effect=WithReference._predicted) as predicted:

        def label(level: float = 70.0) -> torch.Tensor:
            return made(tmp_path, Threshold((level,)), softmax_own, classes=["organ"])[0][0]["label"]

        first = label()
        (kept,) = (tmp_path / "out" / "reference").glob("*.npz")
        assert torch.equal(label(), first) and predicted.call_count == 1
        assert not torch.equal(label(90.0), first) and predicted.call_count == 2  # other weights
        label()
        kept.write_bytes(kept.read_bytes()[:100])  # broken off while it was written
        assert torch.equal(label(), first) and predicted.call_count == 4


def test_a_clean_prediction_without_foreground_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        data, _ = made(tmp_path, Threshold((900.0,)), softmax_own, classes=["organ"])
        assert not data[0]["label"].any() and not data[0]["label"].any()
    assert data.empty == ["a"] and caplog.text.count("case a: the clean prediction is empty, so there is nothing to lose") == 1
    again, _ = made(tmp_path, Threshold((900.0,)), softmax_own, classes=["organ"])
    assert not again[0]["label"].any() and again.empty == ["a"]  # also of what was kept


def test_the_affine_is_that_of_the_file(tmp_path):
    data, step = made(tmp_path, Threshold((70.0,)), softmax_own, classes=["organ"])
    assert np.allclose(References()(data[0]).affine, OBLIQUE, atol=1e-5) and len(data) == 1
