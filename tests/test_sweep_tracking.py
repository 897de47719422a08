"""MLflow and sweeps: a parent run for the study, a child for each cell with digests and what the machine did, verdicts on models."""

from __future__ import annotations

import mlflow
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from swept import study_file
from tracked import mlflow_server

from monai_advdef.__main__ import main
from monai_advdef.records import read_records
from monai_advdef.sweep import Store
from monai_advdef.sweep.store import DONE, FAILED, State
from monai_advdef.sweep.tracking import VERDICT, StudyRun

pytestmark = pytest.mark.slow
WEAK = {"overlay": "attacks/pgd", "options": {"steps": 3, "logit_scale": 10000}, "checks": True}  # its gradients vanish


def runs(client, name="small"):
    """Parent and children, oldest first."""
    experiment = client.get_experiment_by_name(name)
    found = sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.start_time)
    return found[0], found[1:]


def check_study(client, output, store=None):
    parent, children = runs(client)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert parent.data.metrics == {"cells": 2, "cells done": 2, "cells failed": 0}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"study.csv", "card.html"}
    cells = {cell.id: cell for cell in Store(output).plan()[1]}
    for run in children:
        tags = run.data.tags
        assert tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id and run.info.run_name.startswith(cells[tags["cell"]].name)
        rows = read_records(output / "records" / f"{tags['digest configuration']}.parquet")
        assert set(rows["data"]) == {tags["digest data"]} and set(rows["weights"]) == {tags["digest weights"]}
        assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= run.data.metrics.keys()
        assert "records" in {file.path for file in client.list_artifacts(run.info.run_id)}
    return parent


def test_sqlite_and_a_registered_model(phantom_bundle, tmp_path, made_store, monkeypatch):
    """The store lies in the output folder; a version of a registered model gets the verdict of the checks when all is done."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    output = tmp_path / "out"
    output.mkdir()
    (output / "mlruns.db").write_bytes(made_store.read_bytes())
    client = mlflow.MlflowClient(f"sqlite:///{output / 'mlruns.db'}")
    client.create_registered_model("skin")
    client.create_model_version("skin", source=str(phantom_bundle.root / "models"))
    model = {"model": str(phantom_bundle.root), "settings": {"image_size": 64, "batch_size": 4}, "registered": "skin/1"}
    study = study_file(phantom_bundle, tmp_path, models={"unet": model}, attacks=["clean", WEAK])
    assert main(["sweep", str(study), "--output_dir", str(output)]) == 1
    parent = check_study(client, output)
    verdict = client.get_model_version("skin", "1").tags[VERDICT]
    assert verdict in ("suspect", "broken") and parent.data.tags["checks"] == verdict

    assert main(["sweep", str(study), "--output_dir", str(output)]) == 1
    assert len(runs(client)[1]) == 2 and runs(client)[0].info.run_id == parent.info.run_id


def test_a_server_that_stops_in_the_middle_costs_nothing_but_the_tracking(phantom_bundle, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    study = study_file(phantom_bundle, tmp_path)
    with mlflow_server(tmp_path) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert main(["sweep", str(study), "--output_dir", str(output)]) == 0
        check_study(mlflow.MlflowClient(uri), output)
        assert list((tmp_path / "artifacts").rglob("study.csv")) and not (output / "mlruns.db").exists()
    capsys.readouterr()
    study_file(phantom_bundle, tmp_path, attacks=["clean", "attacks/fgsm"], checks=False)
    with pytest.warns(UserWarning, match="the sweep goes on, and its records are written"):
        assert main(["sweep", str(study), "--output_dir", str(output)]) == 0
    told = capsys.readouterr().out
    assert "2 cells: 2 done" in told and "note: unet, test, fgsm: MLflow at http" in told


def test_a_study_with_failures_or_cells_left_is_closed_as_such(phantom_bundle, tmp_path, store):
    client = mlflow.MlflowClient(store)
    run = StudyRun(tmp_path, "closed")
    run.file.parent.mkdir()
    for states, status in (([State(FAILED), State(DONE)], "FAILED"), ([State(FAILED), State()], "KILLED")):
        run.begin()
        assert runs(client, "closed")[0].info.status == "RUNNING"
        run.end([], states)
        assert runs(client, "closed")[0].info.status == status
    client.delete_run(runs(client, "closed")[0].info.run_id)
    run.begin()
    assert [run.info.status for run in (runs(client, "closed")[0], *runs(client, "closed")[1])] == ["RUNNING"]
