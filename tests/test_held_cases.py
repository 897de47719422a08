"""Cases in memory up to a limit: what is drawn of them does not depend on it, and an evaluation holds none."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from engines import evaluator, items, network
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, RandShiftIntensityd, ToTensord
from monai.utils import set_determinism

from monai_advdef.data import HeldCases
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.handlers import evaluate as run_evaluation
from monai_advdef.study import workflow

CASES = [{"image": np.full((1, 100), k, dtype=np.float32), "case": str(k)} for k in range(6)]
BYTES = 400
GB = 1e9


def counted(read: list[float]) -> Compose:
    """Counts what is read, then draws at random."""

    def note(x: torch.Tensor) -> torch.Tensor:
        read.append(float(x.max()))
        return x

    return Compose([ToTensord("image"), Lambdad("image", note), RandShiftIntensityd("image", offsets=50, prob=1.0)])


@pytest.mark.parametrize(("room", "held"), [(0, 0), (BYTES - 1, 0), (BYTES, 1), (3.5 * BYTES, 3), (100 * BYTES, 6), (math.inf, 6)])
def test_as_many_cases_are_held_as_fit(room, held):
    read: list[float] = []
    dataset = HeldCases(CASES, counted(read), cache_gb=room / GB)
    assert dataset.cache_num == held
    read.clear()
    for _ in range(2):
        assert [item["case"] for item in dataset] == list("012345")
    assert sorted(read) == sorted([float(k) for k in range(held, 6)] * 2)


def test_what_is_drawn_of_a_case_does_not_depend_on_what_is_held():
    drawn = []
    for room in (0.0, 3 * BYTES / GB, 1.0):
        set_determinism(seed=3)
        dataset = HeldCases(CASES, counted([]).set_random_state(seed=3), cache_gb=room)
        drawn.append(torch.stack([item["image"] for _ in range(2) for item in dataset]))
        set_determinism(seed=None)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert float(drawn[0].std()) > 0


@pytest.mark.parametrize("given", [-1, math.nan, True, None, "many", [4]])
def test_no_number_of_gigabytes_is_refused_in_words(given):
    with pytest.raises(ValueError, match="cache_gb must be a"):
        HeldCases(CASES, None, cache_gb=given)


def test_a_number_may_be_written_as_text():
    assert HeldCases(CASES, None, cache_gb="1e-6").cache_num == 2


def test_a_bundle_trains_from_memory_and_evaluates_without(phantom_bundle, tmp_path):
    configs = phantom_bundle.root / "configs"
    files = {"train": [configs / "train.yaml"], "evaluate": [configs / "train.yaml", configs / "evaluate.yaml"]}
    held = {}
    for name, given in files.items():
        parser = workflow(phantom_bundle.root, given, phantom_bundle.settings(tmp_path)).parser
        dataset = parser.get_parsed_content("train::dataset" if name == "train" else "validate::dataset")
        held[name] = (dataset.cache_num, len(dataset))
    assert held["train"][0] == held["train"][1] > 0
    assert held["evaluate"][0] == 0 < held["evaluate"][1]


def test_an_evaluation_holds_no_more_cases_than_a_few_however_many_there_are(trained, tmp_path):
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = {}
    for count in (6, 24):
        numbers: list[int] = []

        def noted(x: torch.Tensor, numbers: list[int] = numbers) -> torch.Tensor:
            made = x.clone()
            alive.add(made)
            numbers.append(len(alive))
            return made

        dataset = HeldCases(items(count), Compose([Lambdad("image", noted)]))
        attack = AttackHandler("FGSM", eps=4.0, cache_dir=tmp_path / str(count) / "adversarial")
        records = RecordHandler(tmp_path / str(count), ["lesion"], attack=attack, card=False)
        engine = evaluator(network(trained), [records, attack], data=[])
        engine.data_loader = DataLoader(dataset, batch_size=2)
        engine.state.dataloader, engine.state.epoch_length = engine.data_loader, len(engine.data_loader)
        run_evaluation(engine, attack, records, keep=None)
        most[count] = max(numbers)
        assert not (tmp_path / str(count) / "adversarial").exists()
    assert most[24] == most[6] < 6, most
