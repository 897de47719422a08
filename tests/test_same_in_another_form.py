"""The same evaluation in another form keeps its name; what looks the same and computes something else gets one of its own."""

from __future__ import annotations

import copy
import types

import numpy as np
import pytest
import torch
from engines import items, network
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, RandFlipd
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler, SubsetRandomSampler

from monai_advdef import ThreatModel
from monai_advdef.errors import nearest
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.handlers.cases import Cases, loaded
from monai_advdef.handlers.cell import network_identity
from monai_advdef.handlers.identity import identity, weights_hash
from monai_advdef.records import read_records
from monai_advdef.report import markdown_table


def recorded(folder, net, *, data=None, attack=None, batch_size=3, loading=None, **settings):
    """The fingerprint of one evaluation."""
    records = RecordHandler(folder, ["lesion"], attack=attack, card=False, gallery=False)
    loader = DataLoader(Dataset(items() if data is None else data), batch_size=batch_size, **(loading or {}))
    handlers = [records] if attack is None else [attack, records]
    after = AsDiscreted("pred", argmax=True)
    engine = SupervisedEvaluator("cpu", loader, network=net, val_handlers=handlers, postprocessing=after, **settings)
    evaluate(engine, attack, records)
    return records.fingerprint


# -- order and batches


def test_order_shuffling_and_batches_decide_nothing(trained, tmp_path):
    net = network(trained)
    names = [recorded(tmp_path, net), recorded(tmp_path, net, data=items()[::-1]), recorded(tmp_path, net, batch_size=1)]
    names += [recorded(tmp_path, net, loading={"shuffle": True}), recorded(tmp_path, net, loading={"drop_last": True})]
    assert len(set(names)) == 1


def test_a_part_of_the_cases_is_another_evaluation_by_whatever_it_is_chosen(trained, tmp_path):
    net, data = network(trained), items()
    names = [recorded(tmp_path, net)]
    names += [recorded(tmp_path, net, batch_size=size, epoch_length=1) for size in (1, 2)]
    names += [recorded(tmp_path, net, batch_size=4, loading={"drop_last": True}, data=d) for d in (data, data[::-1])]
    names += [recorded(tmp_path, net, loading={"sampler": SubsetRandomSampler([0, 1])})]
    for last in (2, 4):
        batches = [b for b in BatchSampler(SequentialSampler(range(last)), 2, False)]
        names.append(recorded(tmp_path, net, batch_size=1, loading={"batch_sampler": _Listed(batches)}))
    assert len(set(names)) == len(names)
    counted = read_records(tmp_path / "records").groupby("fingerprint")["case"].nunique()
    assert [counted[name] for name in names] == [6, 1, 2, 4, 4, 2, 2, 4]


class _Listed(torch.utils.data.Sampler):
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def test_in_training_mode_the_batches_decide(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    names = [recorded(tmp_path, copy.deepcopy(net), batch_size=size, mode=mode) for mode in ("eval", "train") for size in (2, 3)]
    assert names[0] == names[1] and len(set(names)) == 3


def test_an_aim_taken_from_the_next_case_depends_on_the_order(trained, tmp_path):
    net, attack = network(trained), AttackHandler("ASMA", steps=2)
    ways = ({}, {"batch_size": 1}, {"data": items()[::-1]})
    names = [recorded(tmp_path, net, attack=attack, **way) for way in ways]
    assert names[0] == names[1] != names[2]
    with pytest.raises(ValueError, match="'other_case' needs the cases in the order of the data set; set the DataLoader's shuffle"):
        recorded(tmp_path, net, attack=attack, loading={"shuffle": True})


def test_cases_that_are_drawn_anew_are_told_and_never_taken_for_each_other(trained, tmp_path, caplog):
    class Noisy(Dataset):
        def __getitem__(self, index):
            item = dict(self.data[index])
            return {**item, "image": item["image"] + torch.rand(()) * 1e-3}

    net, names = network(trained), []
    drawn = [RandFlipd("image", prob=0.5).set_random_state(seed) for seed in (0, 0)]
    for made in (Noisy(items()), *(Dataset(items(), transform=Compose(step)) for step in drawn)):
        records = RecordHandler(tmp_path, "lesion", card=False, gallery=False)
        after = AsDiscreted("pred", argmax=True)
        engine = SupervisedEvaluator(
            "cpu", DataLoader(made, batch_size=3), network=net, val_handlers=[records], postprocessing=after
        )
        evaluate(engine, None, records)
        names.append(records.fingerprint)
    assert len(set(names)) == 3 and caplog.text.count("a case loaded twice differs: its transforms draw at random") == 3
    flipped = Dataset(items(), transform=Compose(RandFlipd("image", prob=1.0)))
    assert _loaded(flipped) == _loaded(flipped)


def _loaded(dataset):
    return loaded(DataLoader(dataset), Cases(dataset, "image"))


# -- the threat model


@pytest.mark.parametrize(
    "given",
    [
        {"eps": "8"},
        {"eps": [8, 8.0, 8]},
        {"eps": "[8, 8, 8]"},
        {"eps": np.float32(8)},
        {"eps": torch.full((3,), 8.0)},
        {"value_range": "[0, 255]"},
        {"value_range": [[0, 255]] * 3},
        {"value_range": np.array([0.0, 255.0]), "region": "null", "relative": "False"},
    ],
    ids=str,
)
def test_a_threat_model_reads_what_people_write(given):
    assert AttackHandler("PGD", **{"eps": 8.0, **given}).identity() == AttackHandler("PGD", eps=8.0).identity()
    stated = {"eps": 8, "value_range": (0, 255), "unit": "grey level"}
    assert AttackHandler("PGD", {**stated, **given}).identity() == AttackHandler("PGD", stated).identity()


@pytest.mark.parametrize("given", [255, (0, 1, 2), ("low", "high"), None, (255, 0), "0, 255"], ids=str)
def test_a_range_that_is_none_is_refused_in_words(given):
    with pytest.raises(ValueError, match="value_range must"):
        ThreatModel(value_range=given)


def test_one_budget_is_a_sweep_and_a_text_is_none(tmp_path):
    attack = AttackHandler("PGD", cache_dir=tmp_path, sweep=4)
    assert [threat.eps for threat in attack.threats] == [8.0, 4.0]
    with pytest.raises(ValueError, match="sweep must be a"):
        AttackHandler("PGD", cache_dir=tmp_path, sweep="2,4")


@pytest.mark.parametrize(("word", "meant"), [("pgd", "PGD"), ("epsilon", "eps"), ("valuerange", "value_range")])
def test_a_wrong_word_is_told_the_nearest_that_it_begins_like(word, meant):
    assert f"did you mean {meant!r}?" in nearest(word, ["ASMA", "FGSM", "PGD", "eps", "region", "value_range"])


@pytest.mark.parametrize("eps", ["8/255", True, "eight", [8, "8"], None, [], -1, float("nan")], ids=str)
def test_no_budget_is_made_of_anything_else(eps):
    with pytest.raises(ValueError, match="eps must be"):
        ThreatModel(eps=eps)


def test_a_length_and_a_budget_of_every_pixel_are_two_rows(trained, tmp_path):
    for norm in ("linf", "l2"):
        recorded(tmp_path, network(trained), attack=AttackHandler("FGSM", eps=8.0, norm=norm))
    lines = markdown_table(read_records(tmp_path / "records")).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["8 grey levels", "8 grey levels in L2"]


# -- networks


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.factor, self.inner = factor, nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return self.inner(x * self.factor)


class TimesTensor(Times):
    def __init__(self, factor):
        super().__init__(torch.tensor(factor))


def _traced(factor):
    return torch.jit.trace(TimesTensor(factor), torch.zeros(1, 3, 8, 8))


def _frozen(factor):
    return torch.jit.freeze(torch.jit.script(Times(factor).eval()))


@pytest.mark.parametrize("make", [lambda f: torch.jit.script(Times(f)), _traced, _frozen], ids=["scripted", "traced", "frozen"])
def test_what_a_scripted_network_holds_beside_its_weights_counts(make):
    one, again, other = make(1.0), make(1.0), make(2.0)
    assert network_identity(one) == network_identity(again) != network_identity(other)
    assert weights_hash(one) != weights_hash(other), "constants of a frozen network are its weights"
    assert identity(one) == identity(again) != identity(other), "as a normaliser"


def test_the_mode_of_a_scripted_network_decides_nothing():
    one = torch.jit.script(Times(1.0)).train()
    assert network_identity(one) == network_identity(torch.jit.script(Times(1.0)).eval()) and one.training


def test_a_compiled_network_is_the_network():
    plain = Times(1.0)
    compiled = torch.compile(nn.DataParallel(Times(1.0)), backend="eager")
    assert network_identity(plain) == network_identity(compiled) and weights_hash(plain) == weights_hash(compiled)


def test_a_quantised_network_is_evaluated_clean_and_says_that_it_has_no_gradient(tmp_path):
    torch.manual_seed(0)
    layers = (nn.Flatten(2), nn.Linear(32 * 32, 32 * 32), nn.Unflatten(2, (32, 32)), nn.Conv2d(3, 2, 1))
    quantised = [torch.ao.quantization.quantize_dynamic(nn.Sequential(*layers), {nn.Linear}) for _ in range(2)]
    data = items(2, meta=False)
    for item in data:
        item["image"], item["label"] = item["image"][:, :32, :32], item["label"][:, :32, :32]
    assert recorded(tmp_path, quantised[0], data=data) == recorded(tmp_path, quantised[1], data=data)
    with pytest.raises(ValueError, match="without a gradient .*quantised"):
        recorded(tmp_path, quantised[0], data=data, attack=AttackHandler("FGSM"))


def test_what_is_set_in_a_module_counts_beside_its_file(monkeypatch):
    settings = types.ModuleType("settings_of_somebody")
    monkeypatch.setitem(globals(), "settings_of_somebody", settings)
    names = []
    for settings.MEAN in (1.0, 2.0, 1.0):
        names.append(identity(lambda x: x - settings_of_somebody.MEAN))  # noqa: F821
    assert names[0] == names[2] != names[1]
