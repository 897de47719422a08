"""Checks that run with an evaluation: their file, the card, MLflow's tags and exit codes; and that nothing else changes."""

from __future__ import annotations

import json

import engines
import mlflow
import pytest
import torch
from broken import ScaledLogits
from phantom_bundle import PhantomBundle
from synthetic_records import write_study

from monai_advdef.__main__ import main
from monai_advdef.bundle import workflows
from monai_advdef.checks import ChecksHandler
from monai_advdef.handlers import AttackHandler, AttackNotApplied, EvaluationTracker, RecordHandler, Suspect, evaluate
from monai_advdef.records import RecordError, add_verdicts, read_records, read_verdicts
from monai_advdef.report import build, doubts
from monai_advdef.suite import digest_of

THREAT = {"norm": "linf", "eps": 8.0, "value_range": [0, 255], "unit": "grey level"}
LIGHT = ["Outputs", "Gradients", "Stored"]
VERDICT = {"name": "Gradients", "verdict": "ok", "evidence": "a finite gradient", "numbers": {}}


@pytest.fixture
def network(trained):
    return engines.network(trained)


def run(folder, network, *, checks=True, only=LIGHT, attack=None, more=(), tail=(), **options):
    """One evaluation of six cases in two batches; the handlers that count."""
    attack = attack or AttackHandler("PGD", THREAT, steps=2, objective="cross_entropy")
    records = RecordHandler(folder, ["lesion"], attack=attack, gallery=False)
    handler = ChecksHandler(attack=attack, records=records, only=only, **options) if checks else None
    handlers = [attack, records, *more, *([handler] if handler else []), *(make(records) for make in tail)]
    evaluate(engines.evaluator(network, handlers), attack, records)
    return handler, records


def test_verdicts_lie_beside_the_records_under_the_evaluations_name(tmp_path, network):
    handler, records = run(tmp_path, network, cases=4, declared=THREAT)
    entry = read_verdicts(tmp_path)[records.fingerprint]
    assert [v["name"] for v in entry["verdicts"]] == LIGHT and {v["verdict"] for v in entry["verdicts"]} == {"ok"}
    assert entry["cases"] == [f"case_{i}" for i in range(4)] and entry["eps"] == 8.0 and entry["attack"] == "PGD"
    assert [v.name for v in handler.verdicts] == LIGHT
    left = read_records(records.records)
    dice = left[(left["metric"] == "dice") & left["case"].isin(entry["cases"])]["value"].mean()
    stored = next(v for v in entry["verdicts"] if v["name"] == "Stored")
    assert stored["numbers"]["float32"] == pytest.approx(1 - dice, abs=1e-5), "the images that are checked are those that are scored"


def test_they_change_nothing_that_is_recorded(tmp_path, network):
    rows = []
    for name, checks in (("with", True), ("without", False)):
        _, records = run(tmp_path / name, network, checks=checks)
        rows.append(read_records(records.records).drop(columns="seconds"))
    assert rows[0].equals(rows[1]) and not (tmp_path / "without" / "checks.json").exists()
    assert "<h2>Checks</h2>" not in (tmp_path / "without" / "card.html").read_text()


def test_several_evaluations_accumulate_and_one_replaces_itself(tmp_path, network):
    _, first = run(tmp_path, network)
    _, second = run(tmp_path, network, attack=AttackHandler("FGSM", THREAT))
    assert set(read_verdicts(tmp_path)) == {first.fingerprint, second.fingerprint}
    _, again = run(tmp_path, network, only=["Outputs"])
    assert [v["name"] for v in read_verdicts(tmp_path)[again.fingerprint]["verdicts"]] == ["Outputs"]
    assert again.fingerprint == first.fingerprint and len(read_verdicts(tmp_path)) == 2


def test_a_doubt_ends_the_run_with_1_after_all_is_written_and_tracked(tmp_path, trained, store):
    hot = engines.network(torch.nn.Sequential(trained))
    hot.network = ScaledLogits(hot.network, 1e5)
    track = [lambda records: EvaluationTracker(records, experiment_name="doubted")]
    attack = AttackHandler("PGD", THREAT, steps=2, objective="dice")
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False)
    checks = ChecksHandler(attack=attack, records=records, only=LIGHT)
    with pytest.raises(Suspect) as stopped:
        evaluate(engines.evaluator(hot, [attack, records, *(make(records) for make in track), checks]), attack, records)
    assert stopped.value.code == 1 and "Gradients broken" in str(stopped.value)
    page = (tmp_path / "card.html").read_text()
    assert '<li class="v broken"><b>Gradients</b><i>broken</i>' in page and len(read_records(tmp_path / "records")) == 12
    client = mlflow.MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("doubted").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["checks"] == "broken" and found.data.tags["check Gradients"] == "broken"
    assert found.data.tags["check Outputs"] == "ok" and "checks.json" in [a.path for a in client.list_artifacts(found.info.run_id)]


def test_a_suite_is_checked_by_its_first_member(tmp_path, network):
    from monai_advdef.handlers.suite import SuiteHandler

    members = [{"attack": "PGD", "objective": "dice", "steps": 3}, {"attack": "PGD", "objective": "cross_entropy", "steps": 2}]
    frozen = {"name": "mine", "version": 1, "members": members, "behind": [], "digest": digest_of(members, [], 1, "mine")}
    handler, records = run(tmp_path, network, attack=SuiteHandler(frozen, THREAT))
    assert [v.name for v in handler.verdicts] == LIGHT and records.fingerprint in read_verdicts(tmp_path)


def test_what_is_misplaced_is_told(tmp_path, network):
    attack = AttackHandler("PGD", THREAT, steps=1)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False)
    with pytest.raises(ValueError, match="attack_def is not configured.*after evaluate.yaml"):
        ChecksHandler(attack=None, records=records)
    with pytest.raises(ValueError, match="cases must be a whole number ≥ 1, got 0"):
        ChecksHandler(attack=attack, records=records, cases=0)
    early = ChecksHandler(attack=attack, records=records)
    with pytest.raises(AttackNotApplied, match="list the checks after the attack"):
        evaluate(engines.evaluator(network, [early, attack, records]), attack, records)


# -- the file, the card and the command line


def test_a_damaged_file_is_named_with_a_remedy(tmp_path):
    for text in ("{", "[]", '{"abc": {"verdicts": [{"verdict": "fine"}]}}'):
        (tmp_path / "checks.json").write_text(text)
        with pytest.raises(RecordError, match=r"checks\.json cannot be read.*remove it"):
            read_verdicts(tmp_path)
    with pytest.raises(RecordError):
        add_verdicts(tmp_path, "abc", {"verdicts": []})


def entry(*verdicts, **about):
    base = {"attack": "PGD", "defense": "none", "adaptive": False, "eps": 8.0, "unit": "grey level", "cases": ["a"]}
    return {**base, **about, "verdicts": [{**VERDICT, **v} for v in verdicts]}


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


@pytest.fixture
def checked(study_folder):
    yield study_folder
    (study_folder / "checks.json").unlink(missing_ok=True)


def test_the_card_shows_the_worst_of_each_check_and_report_ends_with_1(checked, capsys):
    table = read_records(checked / "records")
    pgd, fgsm = (table[table["attack"] == name]["fingerprint"].iloc[0] for name in ("PGD", "FGSM"))
    before = build(checked).read_text()
    assert main(["report", str(checked)]) == 0 and "<h2>Checks</h2>" not in before
    add_verdicts(checked, pgd, entry({}, {"name": "Converged", "verdict": "suspect", "evidence": "not converged: <.5>"}))
    add_verdicts(checked, fgsm, entry({}, {"name": "Converged"}, attack="FGSM", defense="JPEG"))
    capsys.readouterr()
    assert main(["report", str(checked)]) == 1
    assert "Converged: suspect, PGD: not converged: <.5> (1 of 2 evaluations)" in capsys.readouterr().err
    page = (checked / "card.html").read_text()
    assert '<li class="v suspect"><b>Converged</b><i>suspect</i> <span>PGD: not converged: &lt;.5&gt; (1 of 2' in page
    assert '<li class="v ok"><b>Gradients</b>' in page
    assert main(["report", str(checked), "--markdown"]) == 1


def test_doubts_of_evaluations_that_are_not_shown_count_for_nothing(checked):
    add_verdicts(checked, "0123abcd", entry({"verdict": "broken"}))
    assert doubts(checked) == [] and main(["report", str(checked)]) == 0
    assert "<h2>Checks</h2>" not in build(checked).read_text()


def test_a_damaged_file_stops_the_report(checked, capsys):
    (checked / "checks.json").write_text("{")
    assert main(["report", str(checked)]) == 3 and "checks.json" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bundles_run_ends_with_1_where_its_attack_was_stopped_too_early(phantom_bundle: PhantomBundle, tmp_path):
    overlays = [workflows()[name] for name in ("attacks/pgd", "checks/checks")]
    options = {"attack_def::steps": 1, "checks_def::only": "['Gradients','White box','Threat']"}
    fine = phantom_bundle.command(*phantom_bundle.words(tmp_path, *overlays, **options))
    assert fine.returncode == 0, fine.stderr
    found = json.loads((tmp_path / "checks.json").read_text())
    assert {v["name"] for e in found.values() for v in e["verdicts"]} == {"Gradients", "White box", "Threat"}
    options |= {"attack_def::steps": 2, "checks_def::only": "['Converged']"}
    doubted = phantom_bundle.command(*phantom_bundle.words(tmp_path, *overlays, **options))
    assert doubted.returncode == 1, doubted.stderr
    assert "not converged" in doubted.stderr + doubted.stdout and len(json.loads((tmp_path / "checks.json").read_text())) == 2
