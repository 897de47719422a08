"""A sweep, end to end: the same records by hand, here and by workers, also where some are killed; what fails is told."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from swept import QUICK, require_equal, start, study_file, tables

from monai_advdef.__main__ import main
from monai_advdef.records import read_records
from monai_advdef.sweep import Store
from monai_advdef.sweep.run import Runner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(phantom_bundle, tmp_path_factory, store):
    """Four cells, run here."""
    folder = tmp_path_factory.mktemp("swept")
    jpeg = {"name": "jpeg50", "overlay": "defenses/jpeg", "options": {"quality": 50}}
    study = study_file(phantom_bundle, folder, defenses=["none", jpeg])
    code = main(["sweep", str(study), "--output_dir", str(folder / "out")])
    return study, folder / "out", code


def test_records_are_those_of_evaluations_by_hand(swept, phantom_bundle, tmp_path):
    _, output, code = swept
    assert code == 0
    told = {"record_def::model": "unet", "record__card": False}
    phantom_bundle.evaluate(tmp_path, **told)
    phantom_bundle.evaluate(tmp_path, "defenses/jpeg", defense__quality=50, **told)
    phantom_bundle.evaluate(tmp_path, "attacks/pgd", attack__steps=3, **told)
    phantom_bundle.evaluate(tmp_path, "defenses/jpeg", "attacks/pgd", attack__steps=3, defense__quality=50, **told)
    require_equal(output, tmp_path)


def test_table_and_card(swept):
    _, output, _ = swept
    rows = list(csv.DictReader(open(output / "study.csv", encoding="utf-8")))
    assert [(row["attack"], row["defense"], row["status"]) for row in rows] == [
        (attack, defense, "done") for attack in ("clean", "pgd") for defense in ("none", "jpeg50")
    ]
    for row in rows:
        of = read_records(output / "records" / f"{row['fingerprints']}.parquet")
        assert float(row["dice"]) == pytest.approx(of[of["metric"] == "dice"]["value"].mean())
    assert (output / "card.html").stat().st_size > 10_000


def test_run_again_it_does_nothing_and_says_so(swept, capsys):
    study, output, _ = swept
    before = {path: path.stat().st_mtime_ns for path in (output / "records").glob("*.parquet")}
    assert main(["sweep", str(study), "--output_dir", str(output)]) == 0
    told = capsys.readouterr().out
    assert "4 cells, 4 done before" in told and "begun" not in told
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_status_and_report(swept, capsys):
    study, output, _ = swept
    assert main(["sweep", str(study), "--output_dir", str(output), "--status"]) == 0
    told = capsys.readouterr().out
    assert "unet, test, pgd, jpeg50  done" in told and "4 cells: 4 done" in told
    (output / "card.html").unlink()
    assert main(["report", str(output)]) == 0 and (output / "card.html").is_file()
    assert str(output / "study.csv") in capsys.readouterr().out


def test_status_where_nothing_was_started(swept, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(swept[0]), "--status"]) == 2
    assert f"{tmp_path / 'sweep' / 'small'} holds no sweep" in capsys.readouterr().err


def test_dry_run_tells_passes_and_costs_and_records_nothing(swept, phantom_bundle, tmp_path, capsys):
    study, _, _ = swept
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out"), "--dry_run", "--workers", "2"]) == 0
    told = capsys.readouterr().out
    assert "unet, test, pgd, jpeg50: 3 cases, at most 3 passes a case" in told and "passes: at most 18" in told
    assert re.search(r"time: about .* by 2 workers.*\ndisk: .* of adversarial images\nmemory: [\d.]+ [MG]B for each worker", told)
    assert not (tmp_path / "out" / "records").exists() and not (tmp_path / "out" / "sweep").exists()


def test_a_cell_that_fails_is_told_with_its_log_and_tried_again_when_started_again(phantom_bundle, tmp_path, capsys, store):
    wrong = {**QUICK, "name": "wrong", "options": {"steps": 3, "stepsize": 1}}
    study = study_file(phantom_bundle, tmp_path, attacks=[wrong, QUICK])
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().out
    log = re.search(r"failed: unet, test, wrong: .*no option 'stepsize'.*\(log: (.*)\)", told)
    assert (
        log
        and "Traceback" in Path(log[1]).read_text()
        and "2 cells: 1 done, 1 failed" in told
        and len(tables(tmp_path / "out")) == 1
    )
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out"), "--status"]) == 3
    assert "unet, test, wrong  failed" in capsys.readouterr().out
    study_file(phantom_bundle, tmp_path, attacks=["clean", QUICK])
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "2 cells, 1 done before" in told and "1 cells of an earlier form of the study" in told


def test_a_worker_killed_at_work_and_then_the_whole_sweep_leave_the_same_records(swept, tmp_path, store, capsys):
    study, expected, _ = swept
    out = tmp_path / "out"
    process = start(study, out, "--workers", "2", log=tmp_path / "log", MLFLOW_TRACKING_URI=store)
    kill_worker_at_work(process, out)
    end = time.monotonic() + 120
    while not list((out / "records").glob("*.parquet")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    told = (tmp_path / "log").read_text()
    assert "tried again: unet, test, " in told and "ended by SIGKILL" in told
    assert main(["sweep", str(study), "--output_dir", str(out)]) == 0
    require_equal(out, expected)


def kill_worker_at_work(process, output):
    """SIGKILL to the first worker that works on a cell."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        for file in (output / "sweep").glob("*.json"):
            told = json.loads(file.read_text())
            if told.get("status") == "running":
                os.kill(told["process"]["pid"], signal.SIGKILL)
                return
        time.sleep(0.02)
    raise AssertionError("no worker began")


def test_shards_give_the_same_and_the_last_gathers(swept, tmp_path, capsys, store):
    study, expected, _ = swept
    out = str(tmp_path / "out")
    assert main(["sweep", str(study), "--output_dir", out, "--shard", "2/2"]) == 0
    assert "of all shards: 4 cells: 2 done, 2 open" in capsys.readouterr().out and not (tmp_path / "out" / "study.csv").exists()
    with patch.dict(os.environ, SLURM_ARRAY_TASK_ID="0", SLURM_ARRAY_TASK_MIN="0", SLURM_ARRAY_TASK_COUNT="2"):
        assert main(["sweep", str(study), "--output_dir", out]) == 0
    assert "shard 1 of 2 (from SLURM_ARRAY_TASK_ID)" in capsys.readouterr().out and (tmp_path / "out" / "study.csv").exists()
    require_equal(tmp_path / "out", expected)


def test_shards_of_other_versions_are_refused(swept, tmp_path, capsys):
    study, output, _ = swept
    plan = output / "sweep" / "plan.json"
    before = plan.read_text()
    told = json.loads(before)
    try:
        plan.write_text(json.dumps({**told, "versions": {**told["versions"], "torch": "1.0"}}))
        assert main(["sweep", str(study), "--output_dir", str(output), "--shard", "1/2"]) == 2
        assert "made with other versions (torch 1.0, here " in capsys.readouterr().err
    finally:
        plan.write_text(before)


def test_a_cell_that_another_process_works_on_is_left_to_it(swept):
    study, output, _ = swept
    cell = Store(output).plan()[1][0]
    with Store(output).claimed(cell, wait=0), pytest.raises(TimeoutError, match="another process"):
        Runner(output)(cell)


def test_checks_that_doubt_a_cell_end_with_1(phantom_bundle, tmp_path, store, capsys):
    weak = {"overlay": "attacks/pgd", "options": {"steps": 3, "logit_scale": 10000}, "checks": True}  # no gradient is left
    study = study_file(phantom_bundle, tmp_path, attacks=[weak])
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().out
    assert re.search("1/1 done, (suspect|broken): unet, test, pgd", told) and "note: unet, test, pgd: check " in told


def test_a_folder_that_cannot_be_written_is_told_before_any_work(phantom_bundle, tmp_path, capsys):
    study = study_file(phantom_bundle, tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["sweep", str(study), "--output_dir", str(tmp_path / "file")]) == 2
    assert "cannot write into output_dir" in capsys.readouterr().err


def test_a_disk_that_is_full_ends_the_sweep_with_words_and_keeps_what_is_done(swept, phantom_bundle, tmp_path, capsys, monkeypatch):
    study, output, _ = swept
    out = tmp_path / "out"
    shutil.copytree(output, out, ignore=shutil.ignore_patterns("mlruns*"))
    cells = Store(out).plan()[1]
    (out / "sweep" / f"{cells[-1].id}.json").unlink()

    @contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        yield

    monkeypatch.setattr("monai_advdef.sweep.store.whole", full)
    monkeypatch.setattr(Store, "start", lambda *_: 0)
    assert main(["sweep", str(study), "--output_dir", str(out)]) == 3
    assert (
        "cannot write what became of unet, test, pgd, jpeg50 (No space left on device); free some space" in capsys.readouterr().err
    )
    monkeypatch.undo()
    assert [Store(out).state(cell).status for cell in cells] == ["done"] * 3 + ["open"]
