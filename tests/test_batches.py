"""What people's batches and outputs hold or lack: the right scores, or words that name key and remedy; and no score of NaN."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import blobs
from engines import evaluator, items, network
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import EnsembleEvaluator, SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose, MeanEnsembled
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.handlers import AttackHandler, FiniteCheck, RecordHandler, evaluate
from monai_advdef.handlers.batches import put_image
from monai_advdef.handlers.cell import case_seeds, label_map
from monai_advdef.logits import NonFinite
from monai_advdef.networks import Ensemble
from monai_advdef.records import read_records

ARGMAX = AsDiscreted("pred", argmax=True)


def evaluation(net, data, folder, *, attacked=True, collate=None, batch_size=3, **settings):
    """Records of an evaluation, attacked or clean."""
    attack = AttackHandler("PGD", steps=2, **settings.pop("attack", {})) if attacked else None
    records = RecordHandler(folder, ["lesion"], attack=attack, gallery=False, card=False, **settings.pop("records", {}))
    loader = DataLoader(Dataset(data), batch_size=batch_size, **({"collate_fn": collate} if collate else {}))
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=net,
        val_handlers=[*([attack] if attack else []), records],
        **{"postprocessing": ARGMAX, **settings},
    )
    evaluate(engine, attack, records)
    return read_records(folder / "records").query("metric == 'dice'").set_index("case")["value"]


def without(*keys):
    return [{k: v for k, v in item.items() if k not in keys} for item in items(3, meta=False)]


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (without("label"), "(has no 'label' .*label_key|'label' of the output is empty)"),
        (without("case"), "a case has no 'case' and its 'image' no file name; add 'case' to the data list"),
        ([(d["image"], d["label"]) for d in items(3, meta=False)], "not (a dictionary|as dictionaries); let the data set give"),
    ],
    ids=["no label", "no names", "tuples"],
)
def test_what_is_missing_is_named(trained, tmp_path, attacked, data, words):
    with pytest.raises(ValueError, match=words):
        evaluation(network(trained), data, tmp_path, attacked=attacked)


@pytest.mark.parametrize(
    ("collate", "words"),
    [
        (lambda batch: batch, "the batch is a list of dict, not a dictionary; .*'case', and the DataLoader collate them"),
        (
            lambda batch: {"image": [d["image"] for d in batch], "label": batch[0]["label"]},
            "'image' of the batch is a list of tensors",
        ),
        (lambda batch: {"image": np.stack([d["image"] for d in batch])}, "'image' of the batch is a ndarray.*EnsureTyped"),
    ],
)
def test_batches_of_another_make_are_refused_with_the_remedy(trained, tmp_path, collate, words):
    with pytest.raises(ValueError, match=words):
        evaluation(network(trained), items(3, meta=False), tmp_path, collate=collate)


def test_keys_of_another_name_are_followed_and_a_wrong_one_is_named(trained, tmp_path):
    data = [{"image": d["image"], "mask": d["label"], "case": d["case"]} for d in items(3)]
    with pytest.raises(ValueError, match=r"has no 'seg' \(it has image, mask, case\).*label_key"):
        evaluation(network(trained), data, tmp_path, attack={"label_key": "seg"})
    with pytest.raises(ValueError, match=r"the output has no 'foo' .*pred_key"):
        evaluation(network(trained), items(3), tmp_path, attacked=False, records={"pred_key": "foo"})


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d,
        lambda d: {**d, "label": torch.cat([1 - d["label"], d["label"]])},
        lambda d: {**d, "label": torch.cat([0 * d["label"], d["label"]]).bool()},
        lambda d: {**d, "label": d["label"].to(torch.uint8)},
        lambda d: {**d, "image": d["image"].double()},
    ],
    ids=["as it is", "one-hot", "no background", "uint8", "float64"],
)
@pytest.mark.parametrize(
    "settings", [{}, {"decollate": False, "postprocessing": None}, {"mode": "train"}], ids=["", "whole batches", "train mode"]
)
def test_batches_that_differ_in_form_alone_score_the_same(trained, tmp_path, change, settings):
    net = Caster(network(trained))
    expected = evaluation(net, items(3, meta=False), tmp_path / "a")
    made = evaluation(net, [change(d) for d in items(3, meta=False)], tmp_path / "b", **settings)
    assert made.to_dict() == pytest.approx(expected.to_dict())


class Caster(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_precision_runs_in_the_engine_of_its_images(trained, tmp_path, dtype):
    data = [{**d, "image": d["image"].to(dtype)} for d in items(3, meta=False)]
    expected = evaluation(network(trained), items(3, meta=False), tmp_path / "a")
    made = evaluation(copy.deepcopy(network(trained)).to(dtype), data, tmp_path / "b")
    assert made.to_dict() == pytest.approx(expected.to_dict(), abs=0.1)
    if dtype is torch.bfloat16:
        with pytest.raises(ValueError, match="weights in bfloat16 cannot compute on cpu"):
            evaluation(copy.deepcopy(network(trained)).to(dtype), items(3, meta=False), tmp_path / "c", attacked=False)


def test_rounding_to_the_type_of_the_batch_never_widens_the_change():
    clean = torch.rand(2, 3, 8, 8).mul(255).bfloat16()
    adversarial = (clean.float() + 8 * torch.rand(2, 3, 8, 8).sub(0.5)).clamp(0, 255)
    batch = {"image": clean}
    put_image(batch, "image", adversarial)
    change = (batch["image"].float() - clean.float()).abs()
    assert batch["image"].dtype == torch.bfloat16
    assert bool((change <= (adversarial - clean.float()).abs()).all()) and float(change.max()) > 2


def test_sizes_that_the_network_cannot_take_are_named_in_a_clean_evaluation(trained, tmp_path):
    data = [{"image": x, "label": y, "case": f"c{i}"} for i, (x, y) in enumerate(zip(*blobs(2, size=30)))]
    for attacked in (True, False):
        with pytest.raises(ValueError, match=r"cannot take images of size 30 x 30 .*DivisiblePadd"):
            evaluation(network(trained), data, tmp_path, attacked=attacked)
    scores = evaluation(network(trained), data, tmp_path, inferer=SlidingWindowInferer((48, 48)))
    assert len(scores) == 2


# ------------------------------------------------------------------ ensembles


def ensemble(networks, handlers):
    names = [f"pred_{i}" for i in range(len(networks))]
    return EnsembleEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items(3)), batch_size=3),
        networks=networks,
        pred_keys=names,
        postprocessing=Compose([MeanEnsembled(names, output_key="pred"), ARGMAX]),
        val_handlers=handlers,
    )


def test_an_ensemble_is_attacked_on_the_mean_of_its_logits(trained):
    networks = [network(trained), network(trained)]
    with torch.no_grad():
        for p in networks[1].parameters():
            p.add_(0.02 * torch.randn_like(p))
    handler, seen = AttackHandler("PGD", steps=2), []
    engine = ensemble(networks, [handler])
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.extend(d["image"].as_tensor() for d in e.state.batch))
    evaluate(engine, handler)
    image, label = (torch.stack([d[k].as_tensor() for d in items(3)]) for k in ("image", "label"))
    victim = Victim(Ensemble(networks))
    made = run(PGD(steps=2), victim, ThreatModel(), image, label, seed=case_seeds(0, [f"case_{i}" for i in range(3)]))
    assert torch.equal(torch.stack(seen), made.adversarial)
    with torch.no_grad():
        assert torch.allclose(victim(image), (networks[0](image) + networks[1](image)) / 2, atol=1e-5)


def test_networks_of_different_tasks_are_no_ensemble(trained):
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])
    with pytest.raises(ValueError, match="logits of different shapes"):
        Ensemble([trained, nn.Conv2d(3, 3, 1)])(torch.zeros(1, 3, 48, 48))


# ------------------------------------------------------------------ weights and predictions that are no numbers


class Overflowing(nn.Module):
    """NaN for dark images."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.where(x.mean((1, 2, 3), keepdim=True) < 60, torch.nan, 1.0) * self.net(x)


@pytest.mark.parametrize("attacked", [True, False], ids=["attacked", "clean"])
def test_no_score_of_a_network_whose_weights_are_no_numbers(trained, tmp_path, attacked):
    for value in (float("nan"), -float("inf")):
        net = network(trained)
        next(net.network.parameters()).data.view(-1)[0] = value
        with pytest.raises(NonFinite, match=r"Standardized holds NaN or infinity in its weight 'network\..*load another checkpoint"):
            evaluation(net, items(3), tmp_path, attacked=attacked)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("postprocessing", [ARGMAX, None], ids=["argmax", "logits"])
def test_the_case_that_overflows_is_named_in_a_clean_evaluation(trained, tmp_path, postprocessing):
    data = items(6)
    data[4]["image"] = data[4]["image"] * 0.2
    with pytest.raises(NonFinite, match="Overflowing gives NaN or infinite logits for case 'case_4'"):
        evaluation(Overflowing(network(trained)), data, tmp_path, attacked=False, postprocessing=postprocessing)
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_check_stands_by_itself_and_sees_every_network(trained):
    good, bad = network(trained), network(trained)
    ensemble([good, good], [FiniteCheck()]).run()
    bad.mean[0] = torch.nan
    with pytest.raises(NonFinite, match="'mean'"):
        ensemble([good, bad], [FiniteCheck()]).run()
    dark = items(1)
    dark[0]["image"] = dark[0]["image"] * 0.2
    with pytest.raises(NonFinite, match="for case 'case_0'"):
        evaluator(Overflowing(good), [FiniteCheck()], data=dark).run()


# ------------------------------------------------------------------ masks as they are scored


def scored(folder, prediction, label, classes=("a", "b"), **settings):
    return RecordHandler(folder, list(classes), **settings)._values(prediction, label)


def masks(*areas, size=4):
    made = torch.zeros(len(areas), size, size)
    for channel, rows in enumerate(areas):
        made[channel, rows] = 1
    return made


ONE_HOT = masks([0], [1], [2, 3])


@pytest.mark.parametrize("prediction", [ONE_HOT, 3 * ONE_HOT - 1.5, ONE_HOT.argmax(0, keepdim=True), ONE_HOT.bool()])
@pytest.mark.parametrize(
    "label", [ONE_HOT, ONE_HOT.argmax(0, keepdim=True).float(), masks([], [1], [2, 3]), ONE_HOT.to(torch.int16)]
)
def test_equal_masks_in_any_form_agree(tmp_path, prediction, label):
    assert set(scored(tmp_path, prediction, label).values()) == {1.0}


@pytest.mark.parametrize(
    ("prediction", "label", "words"),
    [
        (ONE_HOT, masks([0, 1], [1], [2, 3]), "the label has masks that overlap: the classes 0, 1 share 4 voxels"),
        (masks([0], [1, 2], [2, 3]), ONE_HOT, "the prediction has masks that overlap: the classes 1, 2 share 4 voxels"),
        (ONE_HOT, 0.6 * ONE_HOT, "the label holds values that are not whole numbers"),
        (ONE_HOT, 2 * ONE_HOT, "the label has 3 channels that hold other values than 0 and 1"),
        (ONE_HOT, ONE_HOT[1:], "the label has 2 channels for 3 classes, background included"),
        (masks([0], [1], [2], [3]), ONE_HOT, "the prediction has 4 channels for 3 classes"),
        (ONE_HOT, 255 * masks([1]), r"the label holds class 255, known are 0\.\.2; map its values"),
        (-masks([1]), ONE_HOT, "the prediction holds class -1"),
        (0.3 * masks([1]), ONE_HOT, "the prediction holds values that are not whole numbers"),
    ],
)
def test_masks_that_would_be_scored_wrong_are_refused(tmp_path, prediction, label, words):
    with pytest.raises(ValueError, match=words):
        scored(tmp_path, prediction, label)


def test_probabilities_are_no_masks(tmp_path):
    with pytest.raises(ValueError, match="the prediction holds other values than 0 and 1; .*threshold"):
        scored(tmp_path, 0.2 * masks([0], [1]), masks([0], [1]), activation="sigmoid")
    assert set(scored(tmp_path, masks([0, 1], [1]), masks([0, 1], [1]), activation="sigmoid").values()) == {1.0}


def test_a_class_map_is_read_as_before():
    assert torch.equal(label_map(ONE_HOT), ONE_HOT.argmax(0)) and label_map(masks([1])).dtype == torch.int64
