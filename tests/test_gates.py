"""Gates read from records: the number a card has, its interval, and every reason for which a gate is missed."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.stats
from audit_records import scores, write_audit
from synthetic_records import row

from monai_advdef import stats
from monai_advdef.gates import evaluate_gates, parse_gates
from monai_advdef.gates.evaluate import interval_of, statistic
from monai_advdef.records import RecordWriter, fingerprint, read_records


def results(folder, *texts, labels=True, **options):
    return evaluate_gates(parse_gates(texts, labels=labels), folder, **options)


def one(folder, text, **options):
    return results(folder, text, **options)[0]


@pytest.fixture(scope="module")
def dice():
    return scores(0.9, 0.6, cases=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, dice):
    hd95 = {"clean": np.full((10, 2), 2.0), "worst": np.arange(20.0).reshape(10, 2)}
    volume = {"clean": np.zeros((10, 2)), "worst": np.where(np.arange(20) % 2, 4.0, -6.0).reshape(10, 2)}
    return write_audit(tmp_path_factory.mktemp("audit"), dice, per_patient=2, more={"hd95_mm": hd95, "volume_error_ml": volume})


def test_the_number_of_every_kind_of_gate(folder, dice):
    """By hand, from the values that were written: mean over classes in a case, then over cases."""
    worst, clean = dice["worst"].mean(1), dice["clean"].mean(1)
    expected = {
        "dice@5HU >= .01": worst.mean(),
        "dice[spleen]@5HU >= .01": dice["worst"][:, 1].mean(),
        "p10(dice)@5 >= .01": np.quantile(worst, 0.1),
        "median(dice)@5 >= .01": np.median(worst),
        "min(dice[liver])@5/standard >= .01": dice["worst"][:, 0].min(),
        "dice@clean >= .01": clean.mean(),
        "drop@5 <= .99": (clean - worst).mean(),
        "max(drop)@5 <= .99": (clean - worst).max(),
        "dice@5/PGD >= .01": (dice["worst"] + 0.1).mean(),
        "dice@5/segpgd-20 >= .01": worst.mean(),
        "hd95_mm@5 <= 99": np.arange(20.0).mean(),
        "p90(hd95_mm)@5 <= 99": np.quantile(np.arange(20.0).reshape(10, 2).mean(1), 0.9),
        "volume_error_ml@5 <= 99": 5.0,
        "max(volume_error_ml[liver])@5 <= 99": 6.0,
    }
    for found, (text, value) in zip(results(folder, *expected), expected.items()):
        assert found.passed and found.value == pytest.approx(value), (text, found)
        assert (found.n, found.patients) == (10, 5) and found.kind == "gate"


def test_it_is_the_number_of_the_card(folder, dice):
    table = read_records(folder / "records")
    rows = table[(table["metric"] == "dice") & (table["attack"] != "none")]
    assert one(folder, "dice@5 >= .1").value == pytest.approx(float(stats.headline(rows)["headline"].iloc[0]))


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("dice@5 >= .6", True),
        ("dice@5 >= .61", False),
        ("hd95_mm@5 <= 9.5", True),
        ("hd95_mm@5 < 9.5", False),
        ("drop@5 <= .3", True),
    ],
)
def test_bounds_are_kept_or_not(folder, text, passed):
    """The mean distance is 9.5, the drop .3 up to rounding, the mean Dice a little above .6."""
    found = one(folder, text)
    assert found.passed is passed and (passed or "and not " in found.reason)


def test_the_interval_is_that_of_patients(folder, dice):
    worst, patients = dice["worst"].mean(1), np.repeat(np.arange(5), 2)
    assert one(folder, "dice@5 >= .1").interval == pytest.approx(stats.bootstrap_interval(worst, patients))
    assert "reaches past the bound" in one(folder, "dice@5 >= .6").reason
    assert one(folder, "min(dice)@5 >= .1").interval is None


def test_interval_of_a_percentile_agrees_with_scipy_where_every_case_is_a_patient():
    values = np.random.default_rng(3).beta(5, 2, 80)
    quantile = lambda x, axis: np.quantile(x, 0.25, axis=axis)  # noqa: E731
    theirs = scipy.stats.bootstrap((values,), quantile, n_resamples=5000, method="percentile", rng=4).confidence_interval
    found = interval_of("p25", values, np.arange(80).astype(str), resamples=5000)
    np.testing.assert_allclose(found, theirs, atol=0.01)
    assert statistic("p25", values) == pytest.approx(np.quantile(values, 0.25))
    assert interval_of("mean", values, np.zeros(80)) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dice@3HU >= .1", "nothing was attacked with 3HU; recorded: 5 HU"),
        ("dice@5 grey levels >= .1", "nothing was attacked with 5 grey level; recorded: 5 HU"),
        ("nsd@5HU >= .1", "nsd was not measured; recorded: dice, hd95_mm, volume_error_ml"),
        ("dice[kidney]@5HU >= .1", "there is no class 'kidney'; recorded: liver, spleen"),
        ("dice@5HU/full >= .1", "no suite or attack is called 'full'; recorded: PGD-10, SegPGD-20, standard \\(worst case\\)"),
    ],
)
def test_a_number_that_is_not_there_fails_with_what_is(folder, text, told):
    found = one(folder, text)
    assert not found.passed and found.value is None and found.n == 0
    assert re.search(told, found.reason), found.reason


def test_without_labels_the_gate_is_stability(tmp_path, dice):
    write_audit(tmp_path, {"clean": np.ones((10, 2)), "worst": dice["worst"]}, reference="own prediction")
    found = one(tmp_path, "stability@5HU >= .5", labels=False)
    assert found.value == pytest.approx(dice["worst"].mean()) and "against the model's own clean prediction" in found.reason
    found = one(tmp_path, "dice@5HU >= .5")
    assert not found.passed and "no labels" in found.reason and "use stability" in found.reason


def test_stability_of_records_with_labels_is_refused(folder):
    found = one(folder, "stability@5HU >= .5", labels=False)
    assert not found.passed and "use dice" in found.reason


@pytest.mark.parametrize("verdict", ["suspect", "broken"])
def test_a_number_that_a_check_doubts_fails(tmp_path, dice, verdict):
    doubt = {"name": "gradients", "verdict": verdict, "evidence": "half of them are zero", "numbers": {}}
    write_audit(tmp_path, dice, checks=[{"name": "bounds", "verdict": "ok", "evidence": "kept"}, doubt])
    attacked, clean = results(tmp_path, "dice@5 >= .1", "dice@clean >= .1")
    assert not attacked.passed and attacked.value is not None
    assert f"check gradients: {verdict}, half of them are zero" in attacked.reason
    assert clean.passed


def test_a_number_that_the_records_doubt_fails(tmp_path, dice):
    """The score rises with the size of the attack: the attack is not to be trusted."""
    write_audit(tmp_path, dice, eps=2.0)
    write_audit(tmp_path, {"worst": dice["worst"] + 0.1}, eps=5.0)
    found = one(tmp_path, "dice@5HU >= .1")
    assert not found.passed and "Curve: no defence: the score rises from ε = 2 to 5" in found.reason
    assert one(tmp_path, "dice@clean >= .1").passed


def test_an_evaluation_on_fewer_images_fails(tmp_path, dice):
    write_audit(tmp_path, {"clean": dice["clean"]})
    write_audit(tmp_path, {"worst": dice["worst"][:4]})
    found = results(tmp_path, "dice@clean >= .1", "dice@5 >= .1")
    assert not any(f.passed for f in found) and "lack some of the images" in found[0].reason


def test_unfinished_runs_are_doubted(tmp_path, dice):
    write_audit(tmp_path, dice)
    writer = RecordWriter(tmp_path / "records", "abc123", {})
    writer.add([row()])
    writer.release()
    found = one(tmp_path, "dice@5 >= .1")
    assert not found.passed and "not finished" in found.reason


def test_a_value_lost_under_attack_fails_and_one_that_never_was_is_told(tmp_path):
    """HD95 that is not defined any more, because nothing is found, must not leave the others to flatter."""
    count = 6
    hd95 = {"clean": np.full((count, 2), 2.0), "worst": np.full((count, 2), 3.0)}
    never, lost = ({k: v.copy() for k, v in hd95.items()} for _ in range(2))
    never["clean"][0, 1] = never["worst"][0, 1] = never["clean"][1] = never["worst"][1] = np.nan
    lost["worst"][2, 0] = np.nan
    write_audit(tmp_path / "never", scores(0.9, 0.6, cases=count), more={"hd95_mm": never})
    write_audit(tmp_path / "lost", scores(0.9, 0.6, cases=count), more={"hd95_mm": lost})
    found = one(tmp_path / "never", "hd95_mm@5 <= 3.5")
    assert found.passed and found.value == 3.0 and found.n == 5 and "2 images without a value left out" in found.reason
    found = one(tmp_path / "lost", "hd95_mm@5 <= 3.5")
    assert not found.passed and "not defined under the attack in 1 image (first c002, liver)" in found.reason


def test_a_member_that_did_not_meet_every_image_fails(tmp_path, dice):
    """An image at Dice 0 is not attacked by later members: their means are over the others."""
    write_audit(tmp_path, {"clean": dice["clean"]})
    about = row(
        task="abdomen", model="network A", attack="worst", suite="standard", eps=5.0, unit="HU", norm="linf", fingerprint="abc1"
    )
    with RecordWriter(tmp_path / "records", "abc1", {"weights": "w1", "data": "data1"}) as writer:
        for i in range(10):
            own = {**about, "case": f"c{i:03d}", "patient": f"p{i:03d}", "class": "liver", "value": 0.0}
            writer.add([own, {**own, "attack": "PGD", "steps": 10, "value": float("nan") if i == 3 else 0.2}])
    assert "was not run on 1 image" in one(tmp_path, "dice[liver]@5/PGD >= .1").reason
    assert one(tmp_path, "dice[liver]@5 >= .1").value == 0.0


def defended(folder, dice, sides):
    """Cells behind a defence: ``sides`` maps adaptive to a change of the Dice."""
    write_audit(folder, {"clean": dice["clean"]}, defense="JPEG(85)")
    for adaptive, change in sides.items():
        write_audit(folder, {"worst": dice["worst"] + change}, defense="JPEG(85)", adaptive=adaptive)
    return folder


def test_behind_a_defence_the_lower_attacker_counts(tmp_path, dice):
    both = defended(tmp_path / "both", dice, {True: -0.2, False: 0.1})
    assert one(both, "dice@5 >= .1").value == pytest.approx(dice["worst"].mean() - 0.2)
    naive = defended(tmp_path / "naive", dice, {False: 0.1})
    found = one(naive, "dice@5 >= .1")
    assert not found.passed and "nobody who knows the defence JPEG(85) has attacked it" in found.reason


def test_several_deployments_must_be_told_apart(tmp_path, dice):
    defended(tmp_path, dice, {True: -0.2})
    write_audit(tmp_path, dice)
    assert "several deployments (JPEG(85), no defence)" in one(tmp_path, "dice@5 >= .1").reason
    assert one(tmp_path, "dice@5 >= .1", defense="none").value == pytest.approx(dice["worst"].mean())
    assert one(tmp_path, "dice@5 >= .1", defense="JPEG(85)").value == pytest.approx(dice["worst"].mean() - 0.2)
    assert "there is no defence 'x'" in one(tmp_path, "dice@5 >= .1", defense="x").reason


def test_one_size_in_two_units_must_be_named(tmp_path, dice):
    write_audit(tmp_path, dice)
    write_audit(tmp_path, {"worst": dice["worst"] - 0.3}, unit="sigma")
    assert "5 HU and 5 σ" in one(tmp_path, "dice@5 >= .1").reason
    assert one(tmp_path, "dice@5 sigma >= .1").value == pytest.approx(dice["worst"].mean() - 0.3)


def test_noise_is_no_attack(tmp_path, dice):
    write_audit(tmp_path, {"clean": dice["clean"]})
    config = row(task="abdomen", model="network A", attack="noise-uniform", eps=5.0, unit="HU", norm="linf", linf=5.0)
    name = fingerprint({"noise": 1})
    with RecordWriter(tmp_path / "records", name, {"weights": "w1", "data": "data1"}) as writer:
        cells = [(i, c, k) for i in range(10) for k, c in enumerate(("liver", "spleen"))]
        own = [(f"c{i:03d}", f"p{i:03d}", c, float(dice["clean"][i, k])) for i, c, k in cells]
        keys = ("case", "patient", "class", "value")
        writer.add([{**config, **dict(zip(keys, values)), "fingerprint": name} for values in own])
    assert "only random noise" in one(tmp_path, "dice@5 >= .1").reason
    assert one(tmp_path, "dice@5/noise-uniform >= .1").value == pytest.approx(dice["clean"].mean())


def test_several_models_need_a_choice(tmp_path, dice):
    write_audit(tmp_path, dice)
    write_audit(tmp_path, {k: v - 0.1 for k, v in dice.items()}, model="network B", weights="w2")
    assert "one task and one model" in one(tmp_path, "dice@5 >= .1").reason
    assert one(tmp_path, "dice@5 >= .1", model="network B").value == pytest.approx(dice["worst"].mean() - 0.1)


def test_results_are_plain_json(folder):

    found = [r.plain() for r in results(folder, "dice@5 >= .1", "dice@3 >= .1", "min(dice)@5 >= .1")]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [r["passed"] for r in found] == [True, False, True] and found[1]["value"] is None
    assert evaluate_gates([], folder) == []


def test_a_budget_in_per_cent_is_not_compared_with_a_change_in_image_units(tmp_path, dice):
    """2 % of each image's range may well be 40 HU; the records cannot say that this is too much."""
    write_audit(tmp_path, {"clean": dice["clean"]})
    about = row(task="abdomen", model="network A", attack="PGD", eps=2.0, unit="% of the range", norm="linf", linf=40.0, steps=10)
    about |= {"budget": "2 %", "fingerprint": "abc2", "weights": "w1", "data": "data1"}
    with RecordWriter(tmp_path / "records", "abc2", {}) as writer:
        cells = [(i, c, k) for i in range(10) for k, c in enumerate(("liver", "spleen"))]
        own = [(f"c{i:03d}", f"p{i:03d}", c, float(dice["worst"][i, k])) for i, c, k in cells]
        writer.add([{**about, **dict(zip(("case", "patient", "class", "value"), values))} for values in own])
    found = one(tmp_path, "dice@2% >= .5")
    assert found.passed, found.reason
