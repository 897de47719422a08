"""SuiteHandler on MONAI engines: records of every member, the cache, a killed run, defences, and the card made of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_unet
from engines import evaluator, items, network
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Activationsd, AsDiscreted, Compose
from suites import MEMBERS, mapping
from test_suite import Sealed

from monai_advdef import ThreatModel, Victim, stats
from monai_advdef.__main__ import main
from monai_advdef.defenses import DefendedInferer, FrequencyRefinement
from monai_advdef.handlers import AttackHandler, EvaluationTracker, RecordHandler, SuiteHandler, evaluate
from monai_advdef.handlers.cell import case_seeds
from monai_advdef.records import read_records
from monai_advdef.report import build, markdown_table
from monai_advdef.suite import attack_with, load_suite

SHORT = MEMBERS[:2]


def recorded(trained, folder: Path, *, suite=None, defense=None, batch_size=3, cases=4, keep=None, **options) -> pd.DataFrame:
    """One evaluation under a suite; its records."""
    attack = SuiteHandler(suite or mapping(SHORT), eps=4.0, **options)
    records = RecordHandler(folder, ["lesion"], attack=attack, **{"card": False, "gallery": False, **(keep or {})})
    inferer = None if defense is None else DefendedInferer(evaluator(network(trained), []).inferer, defense)
    engine = evaluator(network(trained), [records, attack], data=items(cases), batch_size=batch_size, inferer=inferer)
    evaluate(engine, attack, records)
    return read_records(folder / "records")


def dice(table: pd.DataFrame, attack: str, adaptive: bool = False) -> list[float]:
    rows = table[(table["metric"] == "dice") & (table["attack"] == attack) & (table["adaptive"] == adaptive)]
    return rows.sort_values("case")["value"].tolist()


def test_every_member_has_rows_and_the_worst_comes_from_the_deployed_pipeline(trained, tmp_path):
    table = recorded(trained, tmp_path)
    assert set(zip(table["attack"], table["steps"], table["suite"])) == {
        ("worst", 10, "mine"),
        ("PGD dice", 6, "mine"),
        ("PGD", 4, "mine"),
    }
    assert set(table["metric"]) == {"dice", "iou"} and table["fingerprint"].nunique() == 1 and not table["adaptive"].any()
    data = items(4)
    image, label = (torch.stack([torch.as_tensor(d[k]) for d in data]) for k in ("image", "label"))
    seeds = case_seeds(0, [d["case"] for d in data])
    expected = attack_with(load_suite(mapping(SHORT)), Victim(network(trained)), ThreatModel(eps=4.0), image, label, seed=seeds)
    np.testing.assert_allclose(dice(table, "worst"), 1 - expected.score.numpy(), atol=1e-5)
    for ran in expected.members:
        np.testing.assert_allclose(dice(table, ran.label), 1 - ran.outcome.score.numpy(), atol=1e-5)
    worst, members = table[table["attack"] == "worst"], table[table["attack"] != "worst"]
    assert worst["forwards"].unique().tolist() == [expected.forwards] and bool((table["linf"] <= 4.0).all())
    one = members[members["metric"] == "dice"].groupby("case")["backwards"].sum().unique().tolist()
    assert one == worst["backwards"].unique().tolist() == [10]


def test_one_member_alone_is_that_attack(trained, tmp_path):
    """Images and scores of a suite of one are those of the attack by an AttackHandler."""
    suite = recorded(trained, tmp_path / "suite", suite=mapping(MEMBERS[:1]))
    attack = AttackHandler(**MEMBERS[0], eps=4.0)
    records = RecordHandler(tmp_path / "attack", ["lesion"], attack=attack, card=False, gallery=False)
    evaluate(evaluator(network(trained), [records, attack], data=items(4)), attack, records)
    alone = read_records(tmp_path / "attack" / "records")
    np.testing.assert_allclose(dice(suite, "worst"), dice(alone, "PGD dice"), atol=1e-6)
    np.testing.assert_allclose(dice(suite, "PGD dice"), dice(alone, "PGD dice"), atol=1e-6)


def test_the_batch_size_changes_nothing(trained, tmp_path):
    tables = [recorded(trained, tmp_path / str(b), batch_size=b).drop(columns="seconds") for b in (3, 1)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-4)


def test_behind_a_defence(trained, tmp_path):
    table = recorded(trained, tmp_path, defense=FrequencyRefinement(), cases=3)
    told = set(zip(table["attack"], table["adaptive"]))
    ways = {(f"{name}{way}", True) for name in ("PGD dice", "PGD") for way in ("", " from the oblivious images")}
    assert told == {("worst", True), ("worst", False), ("PGD dice", False), ("PGD", False), *ways}
    oblivious = np.minimum(dice(table, "PGD dice"), dice(table, "PGD"))
    np.testing.assert_allclose(dice(table, "worst"), oblivious, atol=1e-6)
    lowest = np.min([oblivious, *(dice(table, name, True) for name, _ in ways)], axis=0)
    np.testing.assert_allclose(dice(table, "worst", True), lowest, atol=1e-6)
    found = stats.headline(table[table["metric"] == "dice"]).iloc[0]
    assert found["headline"] == pytest.approx(lowest.mean()) and found["source"] == "adaptive"
    assert found["oblivious"] == pytest.approx(oblivious.mean())


def test_unaware_of_the_defence_or_where_it_passes_no_gradient(trained, tmp_path, caplog):
    table = recorded(trained, tmp_path / "a", defense=FrequencyRefinement(), cases=2, adaptive=False)
    assert not table["adaptive"].any() and set(table["attack"]) == {"worst", "PGD dice", "PGD"}
    with caplog.at_level("WARNING"):
        table = recorded(trained, tmp_path / "b", defense=Sealed(), cases=2, keep={"card": True})
    assert "Sealed passes no gradient" in caplog.text
    assert not table["adaptive"].any() and set(table["attack"]) == {"worst", "PGD dice", "PGD"}


def test_not_assessed_stands_on_the_card_in_place_of_a_number(trained, tmp_path):
    recorded(trained, tmp_path, cases=2)
    recorded(trained, tmp_path, defense=Sealed(), cases=2)
    engine = evaluator(network(trained), [], data=items(2))
    for defense in (None, Sealed()):
        records = RecordHandler(tmp_path, ["lesion"], card=False, gallery=False)
        inferer = None if defense is None else DefendedInferer(engine.inferer, defense)
        evaluate(evaluator(network(trained), [records], data=items(2), inferer=inferer), None, records)
    page = build(tmp_path).read_text()
    assert "not assessed" in page and "nobody who knows it has attacked Sealed" in page


# ------------------------------------------------------------------ heads and dimensions


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_volumes_of_several_classes_one_of_which_nobody_has(head, tmp_path):
    """Three foreground channels of a sigmoid head, two of a softmax head; the second case is without foreground."""
    net = small_unet(dims=3, channels=1, classes=3)
    g = torch.Generator().manual_seed(4)
    data = []
    for i in range(2):
        image = torch.rand(1, 16, 16, 16, generator=g)
        found = net(image[None]).argmax(1) if head == "softmax" else (net(image[None]) > 0)[0].float()
        data.append({"image": image, "label": found.detach().float() * (i == 0), "case": f"c{i}"})
    classes = ["a", "b"] if head == "softmax" else ["a", "b", "c"]
    after = (
        [AsDiscreted("pred", argmax=True)]
        if head == "softmax"
        else [Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]
    )
    attack = SuiteHandler(mapping(SHORT), eps=0.05, value_range=(0, 1), activation=head)
    records = RecordHandler(tmp_path, classes, attack=attack, card=True, gallery=False, activation=head)
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=net,
        postprocessing=Compose(after),
        val_handlers=[records, attack],
    )
    evaluate(engine, attack, records)
    table = read_records(tmp_path / "records")
    rows = table[table["metric"] == "dice"].pivot(index=["case", "class"], columns="attack", values="value")
    assert set(rows.reset_index()["class"]) == set(classes) and len(rows) == 2 * len(classes)
    per_case = rows.groupby("case").mean()
    np.testing.assert_allclose(per_case["worst"]["c0"], per_case[["PGD dice", "PGD"]].loc["c0"].min(), atol=1e-6)
    assert per_case["worst"]["c1"] == 0 and per_case[["PGD dice", "PGD"]].loc["c1"].isna().all(), "lost from the beginning"
    assert (tmp_path / "card.html").exists()


# ------------------------------------------------------------------ the cache, and a run that is killed


def test_a_second_run_takes_images_and_members_from_the_cache(trained, tmp_path, monkeypatch):
    cache = tmp_path / "adversarial"
    first = recorded(trained, tmp_path / "a", cache_dir=cache).drop(columns="seconds")
    assert len(list(cache.glob("*.npz"))) == 4
    monkeypatch.setattr("monai_advdef.handlers.suite.attack_with", lambda *a, **k: pytest.fail("a case was attacked again"))
    again = recorded(trained, tmp_path / "b", cache_dir=cache).drop(columns="seconds")
    assert first.equals(again)
    monkeypatch.undo()
    for changed in ({"suite": mapping(MEMBERS[:1])}, {"seed": 1}, {"defense": FrequencyRefinement()}):
        before = len(list(cache.glob("*.npz")))
        recorded(trained, tmp_path / str(before), cache_dir=cache, **changed)
        assert len(list(cache.glob("*.npz"))) == before + 4, changed


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from conftest import small_unet
from test_suite_handler import SLOW, recorded
net = small_unet()
net.load_state_dict(torch.load({weights!r}, weights_only=True))
recorded(net.eval(), Path({folder!r}), suite=SLOW, batch_size=1, cache_dir={cache!r})
"""
SLOW = mapping([{**MEMBERS[0], "steps": 60}, {**MEMBERS[1], "steps": 40}])


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(trained, tmp_path):
    """Killed amid its cases, and run again: the table of an undisturbed run, and no case was attacked twice."""
    weights, cut = tmp_path / "model.pt", tmp_path / "cut"
    torch.save(trained.state_dict(), weights)
    told = {"tests": str(Path(__file__).parent), "weights": str(weights), "folder": str(cut), "cache": str(cut / "adversarial")}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(**told)], stdout=log, stderr=log)
        while process.poll() is None and len(list((cut / "adversarial").glob("*.npz"))) < 2:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    done = {p: p.stat().st_mtime_ns for p in (cut / "adversarial").glob("*.npz")}
    assert 2 <= len(done) < 4 and not list((cut / "records").glob("*.parquet"))
    resumed = recorded(trained, cut, suite=SLOW, batch_size=1, cache_dir=cut / "adversarial").drop(columns="seconds")
    whole = recorded(trained, tmp_path / "whole", suite=SLOW, batch_size=1).drop(columns="seconds")
    pd.testing.assert_frame_equal(resumed, whole, rtol=1e-5, atol=1e-5)
    assert {p: p.stat().st_mtime_ns for p in done} == done


# ------------------------------------------------------------------ the card, the table, MLflow


def test_card_and_table_of_a_suite(trained, tmp_path, capsys):
    """The headline is the worst case; the members stand below, the lowest first."""
    targeted = mapping([*SHORT, {"attack": "TargetedIterativeFGSM", "target": "background", "steps": 2}])
    table = recorded(trained, tmp_path, suite=targeted, keep={"card": True, "gallery": True})
    page = (tmp_path / "card.html").read_text()
    mean = f"{np.mean(dice(table, 'worst')):.3f}".removeprefix("0")
    assert f"<b>{mean}</b>" in page and f"suite mine 1 ({targeted['digest']})" in page
    assert "Suite mine, attack by attack" in page and "mine (worst case)" in page and "IoU with<br>its target" in page
    names = ("PGD-6 dice", "PGD-4", "ti-FGSM-2 to background")
    means = {n: np.mean(dice(table, a)) for n, a in zip(names, ("PGD dice", "PGD", "ti-FGSM to background"))}
    at = [page.index(f'<th scope="row">{name}</th>') for name in sorted(means, key=means.get)]
    assert at == sorted(at)
    assert main(["report", str(tmp_path), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (worst,) = [line for line in lines if "(worst case)" in line]
    assert worst.startswith("| mine (worst case) | 4 grey levels | no defence | – | 4 |")
    members = [line for line in lines if line.startswith("| network, mine |")]
    assert len(members) == 3 and sum(int(line.split("|")[-2].strip(" %")) for line in members) in (99, 100, 101)
    assert markdown_table(table).count("worst case") == 1


def test_a_suite_beside_a_single_attack_of_the_same_name(trained, tmp_path):
    """The member and the attack by itself are two things; the lowest of worst case and attack is the headline."""
    recorded(trained, tmp_path)
    attack = AttackHandler(**{**MEMBERS[0], "steps": 12}, eps=4.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False)
    clean = RecordHandler(tmp_path, ["lesion"], gallery=False)
    evaluate(evaluator(network(trained), [clean], data=items(4)), None, clean)
    evaluate(evaluator(network(trained), [records, attack], data=items(4)), attack, records)
    page = (tmp_path / "card.html").read_text()
    assert "mine (worst case)" in page and "PGD-12 dice" in page


def test_mlflow_is_told_the_worst_case(trained, tmp_path, store):
    attack = SuiteHandler(mapping(SHORT), eps=4.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False, gallery=False)
    tracker = EvaluationTracker(records)
    evaluate(evaluator(network(trained), [records, attack, tracker], data=items(3)), attack, records)
    assert tracker._summary()["lesion_dice_mean"] == pytest.approx(np.mean(dice(read_records(tmp_path / "records"), "worst")))


def test_images_on_eight_bits_and_what_the_handler_says_of_itself(trained, tmp_path):
    table = recorded(trained, tmp_path, stored="uint8", cases=2)
    assert "worst (8-bit)" in set(table["attack"])
    other = small_unet().eval()
    with_source = SuiteHandler(mapping(SHORT), eps=4.0, source=other, source_name="another")
    assert with_source.label == "worst" and with_source.identity() != SuiteHandler(mapping(SHORT), eps=4.0).identity()
    assert with_source.to_config()["source"] and with_source.suite == "mine"


def test_a_source_lets_members_transfer(trained, tmp_path):
    suite = mapping([MEMBERS[0], {**MEMBERS[0], "transfer": True}])
    table = recorded(trained, tmp_path, suite=suite, cases=2, source=network(small_unet().eval()))
    assert set(table["attack"]) == {"worst", "PGD dice", "PGD dice transferred"}
