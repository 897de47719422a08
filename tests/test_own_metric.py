"""A model's own key metric, as MONAI counts it in an evaluation of its own, and what is said where it differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.metrics import Average
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, MeanIoUHandler, from_engine
from monai.inferers import SimpleInferer
from monai.metrics import DiceMetric
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, Orientationd, Spacingd
from test_file_grid import BOTH, loading, write
from test_stability import Threshold

from monai_advdef.audit.dataset import AsDeployed, AuditDataset
from monai_advdef.audit.scoring import GridHandler, LabelFiles, OnFileGrid, OwnMetric, OwnScore, explain
from monai_advdef.audit.scoring.own_metric import _dice, ways_of_counting


def bundle(folder: Path, inverted: bool) -> tuple[dict[str, Any], Compose, Compose]:
    entry = write(folder)
    before = Compose([*loading(), Orientationd(BOTH, "RAS", labels=None), Spacingd(BOTH, (2, 2, 3), mode=("bilinear", "nearest"))])
    back = [Invertd(["pred", "label"], before, "image", nearest_interp=[False, True])] if inverted else []
    hard = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)
    return entry, before, Compose([Activationsd("pred", softmax=True), *back, hard])


def metrics(background: bool = False) -> dict[str, Any]:
    return {"val_mean_dice": MeanDice(include_background=background, output_transform=from_engine(["pred", "label"]))}


@pytest.mark.parametrize("inverted", [False, True])
def test_it_is_the_number_of_the_models_own_evaluation(tmp_path, inverted):
    entry, before, after = bundle(tmp_path, inverted)
    network = Threshold((70.0, 165.0))
    common: dict[str, Any] = {"device": torch.device("cpu"), "network": network, "inferer": SimpleInferer()}
    stock = SupervisedEvaluator(
        val_data_loader=DataLoader(Dataset([entry], before), batch_size=1), postprocessing=after, key_val_metric=metrics(), **common
    )
    stock.run()
    names = ["one", "two"]
    own, grid = OwnMetric(metrics(), names, inverted=inverted), GridHandler(names)
    labels = LabelFiles([entry], before, after, classes=names)
    audited = SupervisedEvaluator(
        val_data_loader=DataLoader(AuditDataset([entry], before, before), batch_size=1),
        postprocessing=OnFileGrid(AsDeployed(after), before, labels, classes=names),
        val_handlers=[own, grid],
        **common,
    )
    for _ in range(2):  # a second evaluation begins anew
        audited.run()
        (score,) = own.scores
        assert (score.name, score.kind) == ("val_mean_dice", "MeanDice")
        assert score.value == pytest.approx(stock.state.metrics["val_mean_dice"], abs=1e-6)
    network_dice, file_dice = np.mean(grid.pairs, axis=0)
    assert score.value == pytest.approx(network_dice, abs=1e-6) and abs(score.value - file_dice) > 0.005
    told = explain(score, network_dice, file_dice)
    assert len(told) == 2 and told[0].startswith(
        f"the model's own key metric val_mean_dice is {score.value:.4f}, mean Dice on the grid"
    )
    assert told[1].startswith(
        "its postprocessing takes the label to the network's grid and back" if inverted else "it scores on another"
    )


def table(seed: int = 0) -> tuple[list[Any], torch.Tensor, torch.Tensor]:
    """Class maps of four cases of which two lack a class, what is counted of them, and both one-hot."""
    g = torch.Generator().manual_seed(seed)
    found, true = (torch.randint(0, 4, (4, 1, 9, 9), generator=g) for _ in range(2))
    true[1][true[1] == 2] = 0
    true[2][true[2] == 3] = 0
    found[2][found[2] == 3] = 1  # both empty
    rows = [_dice(f, t, 4) for f, t in zip(found, true)]
    hot = [torch.nn.functional.one_hot(x[:, 0], 4).movedim(-1, 1).float() for x in (found, true)]
    return rows, hot[0], hot[1]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"include_background": False, "ignore_empty": False}, ""),
        ({"include_background": True, "ignore_empty": False}, "it counts the background as a class"),
        ({"include_background": False}, "it leaves out classes that the label of a case does not hold"),
        (
            {"include_background": True},
            "it counts the background as a class, and it leaves out classes that the label of a case does not hold",
        ),
    ],
)
def test_every_way_of_counting_is_monais(how, words):
    rows, found, true = table()
    metric = DiceMetric(reduction="mean", **how)
    metric(found, true)
    expected = float(metric.aggregate())
    assert ways_of_counting(rows, background=True)[words] == pytest.approx(expected, abs=1e-6)
    score = OwnScore("val_mean_dice", expected, "MeanDice", ways_of_counting(rows, background=True))
    house = ways_of_counting(rows, background=True)[""]
    told = explain(score, house, house)
    assert told[1:] == ([] if not words else [f"{words}: so counted, the same predictions and labels come to {expected:.4f}"])


def test_the_mean_of_each_class_first_and_masks():
    rows, found, true = table(1)
    metric = DiceMetric(include_background=False, reduction="mean_batch")
    metric(found, true)
    ways = ways_of_counting(rows, background=True)
    by_class = "it leaves out classes that the label of a case does not hold, and averages the cases of each class first"
    assert ways[by_class] == pytest.approx(float(metric.aggregate().mean()), abs=1e-6)
    without = DiceMetric(include_background=False, reduction="mean", ignore_empty=False)
    without(found, true)
    masks = ways_of_counting([(d, t) for d, t in rows], background=False)
    assert masks["it leaves out the first of the classes"] == pytest.approx(float(without.aggregate()), abs=1e-6)


def test_what_is_not_explained_is_said():
    rows, _, _ = table()
    counted = ways_of_counting(rows, background=True)
    told = explain(OwnScore("val_mean_dice", 0.9, "MeanDice", counted), 0.5, 0.5)
    assert told[1] == "the rest, +0.4000 against 0.5000 on the same predictions, is not explained"
    assert explain(OwnScore("val_iou", 0.9, "MeanIoUHandler", counted), 0.5, 0.5)[1] == (
        "MeanIoUHandler is no Dice, and its number says something else"
    )
    assert explain(OwnScore("val_mean_dice", 0.504, "MeanDice", counted), 0.5, 0.5) == []


def test_class_numbers_in_one_channel_are_scored_by_class_1_alone():
    g = torch.Generator().manual_seed(2)
    found, true = (torch.randint(0, 4, (3, 1, 9, 9), generator=g) for _ in range(2))
    true[2][true[2] == 1] = 0
    words = "it scores class 1 alone, as MONAI does of class numbers in one channel"
    for cases in (slice(None), slice(2, 3)):
        metric = DiceMetric(include_background=False)
        metric(found[cases], true[cases])
        counted = ways_of_counting([_dice(f, t, 4) for f, t in zip(found[cases], true[cases])], background=True)
        assert counted[words] == pytest.approx(float(metric.aggregate()), abs=1e-6)


def test_a_metric_that_fails_ends_neither_the_others_nor_the_audit(tmp_path):
    entry, before, _ = bundle(tmp_path, False)
    after = Compose([Invertd("pred", before, "image", nearest_interp=True), AsDiscreted("pred", argmax=True)])  # not of the label
    dice = MeanDice(include_background=False, num_classes=3, output_transform=from_engine(["pred", "label"]))
    share = Average(output_transform=lambda out: float((out[0]["pred"] > 0).float().mean()))
    own = OwnMetric({"val_mean_dice": dice, "share": share}, ["one", "two"])
    labels = LabelFiles([entry], before, after, classes=["one", "two"])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        network=Threshold((70.0, 165.0)),
        val_data_loader=DataLoader(AuditDataset([entry], before, before), batch_size=1),
        postprocessing=OnFileGrid(AsDeployed(after), before, labels, classes=["one", "two"]),
        val_handlers=[own],
    ).run()
    assert [s.name for s in own.scores] == ["share"]
    assert own.failed.keys() == {"val_mean_dice"} and "size" in own.failed["val_mean_dice"]


def test_several_metrics_and_none(tmp_path):
    entry, before, after = bundle(tmp_path, False)
    iou = MeanIoUHandler(include_background=False, output_transform=from_engine(["pred", "label"]))
    both = {**metrics(True), "iou": iou, "share": Average(output_transform=lambda out: float(out[0]["pred"][1].mean()))}
    own = [OwnMetric(m, ["one", "two"]) for m in (both, None)]
    SupervisedEvaluator(
        device=torch.device("cpu"),
        network=Threshold((70.0, 165.0)),
        val_data_loader=DataLoader(AuditDataset([entry], before, before), batch_size=1),
        postprocessing=OnFileGrid(
            AsDeployed(after), before, LabelFiles([entry], before, after, classes=["one", "two"]), classes=["one", "two"]
        ),
        val_handlers=own,
    ).run()
    assert [s.name for s in own[0].scores] == ["val_mean_dice", "iou", "share"] and own[1].scores == []
    assert all(0 < s.value < 1 for s in own[0].scores)


@pytest.mark.filterwarnings("error")
def test_of_a_lone_mask_nothing_can_be_left_out():
    found = ways_of_counting([(np.array([0.5]), np.array([True])), (np.array([np.nan]), np.array([False]))], background=False)
    assert found[""] == 0.75 and all(np.isfinite(list(found.values())))
    assert not any("first of the classes" in words for words in found)
