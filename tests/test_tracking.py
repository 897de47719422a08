"""MLflow: each evaluation is a finished run of its own with its numbers and artifacts, in a SQLite file or on a server."""

from __future__ import annotations

import os
import shutil
import signal
import time

import mlflow
import pytest
import torch
from engines import evaluator, items, loader, network
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.handlers import StatsHandler
from tracked import mlflow_server

from monai_advdef.handlers import AttackHandler, AttackNotApplied, EvaluationTracker, RecordHandler, TrainingTracker, evaluate
from monai_advdef.records import read_records

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def default_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def cell(trained, folder, attack=None, attached=True, then=None):
    records = RecordHandler(folder, ["lesion"], attack=attack, task="blobs", model="small")
    tracker = EvaluationTracker(records, experiment_name="blobs")
    handlers = [records, tracker, StatsHandler(iteration_log=False), *([attack] if attack and attached else [])]
    engine = evaluator(network(trained), handlers, data=items(3))
    if then is not None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), then)
    evaluate(engine, attack, records)
    return records


def runs(uri):
    """All runs of the experiment, oldest first."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("blobs")
    return client, sorted(client.search_runs([experiment.experiment_id]), key=lambda r: r.info.start_time)


def files(client, run):
    """Paths of all artifacts of a run."""
    tops = client.list_artifacts(run.info.run_id)
    return {f.path for top in tops for f in (client.list_artifacts(run.info.run_id, top.path) if top.is_dir else [top])}


def check_two_cells(client, found, clean, attacked):
    """Two finished runs with the parameters, the metrics of the records, and all artifacts."""
    assert [r.info.status for r in found] == ["FINISHED"] * 2
    threats = ({"attack": "none", "eps": "0.0"}, {"attack": "FGSM", "eps": "4.0", "unit": "grey level", "norm": "linf"})
    for run, records, threat in zip(found, (clean, attacked), threats):
        parameters = {"task": "blobs", "model": "small", "defense": "none", "seed": "0", **threat}
        parameters |= {"fingerprint": records.fingerprint, "weights": records.cell["weights"]}
        assert parameters.items() <= run.data.params.items()
        values = read_records(records.records / f"{records.fingerprint}.parquet").groupby("metric")["value"]
        for metric in ("dice", "iou"):
            of = values.get_group(metric)
            assert run.data.metrics[f"lesion_{metric}_mean"] == pytest.approx(of.mean())
            assert run.data.metrics[f"lesion_{metric}_std"] == pytest.approx(of.std(ddof=0))
            assert run.data.metrics[f"lesion_{metric}_p5"] == pytest.approx(of.quantile(0.05))
        name = records.fingerprint
        assert {"card.html", f"records/{name}.parquet", f"gallery/{name}-worst.npz", f"gallery/{name}-median.npz"} <= files(
            client, run
        )


def test_each_evaluation_is_a_finished_run_in_a_sqlite_store(trained, tmp_path):
    clean, attacked = cell(trained, tmp_path), cell(trained, tmp_path, AttackHandler("FGSM", eps=4.0))
    check_two_cells(*runs(f"sqlite:///{tmp_path / 'mlruns.db'}"), clean, attacked)
    assert list((tmp_path / "mlruns").rglob("card.html")), "artifacts lie beside the store"

    with pytest.raises(AttackNotApplied):
        cell(trained, tmp_path, AttackHandler("FGSM"), attached=False)
    with pytest.raises(ValueError, match="random start"):
        cell(trained, tmp_path, AttackHandler("PGD", norm="unbounded"))
    cell(trained, tmp_path)
    _, found = runs(f"sqlite:///{tmp_path / 'mlruns.db'}")
    assert [r.info.status for r in found] == ["FINISHED", "FINISHED", "FAILED", "FAILED", "FINISHED"]


def test_training_is_a_run_of_its_own_and_fails_when_it_fails(trained, tmp_path):
    told = {"experiment_name": "blobs", "experiment_param": {"rate": 1e-3}, "output_transform": lambda x: x[0]["loss"]}

    def train(loss):
        net = network(trained)
        return SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=2,
            train_data_loader=loader(items(2)),
            network=net,
            optimizer=torch.optim.SGD(net.parameters(), 1e-3),
            loss_function=loss,
            train_handlers=[TrainingTracker(tmp_path, **told)],
        ).run()

    train(lambda out, y: torch.nn.functional.cross_entropy(out, y[:, 0].long()))
    with pytest.raises(ZeroDivisionError):
        train(lambda out, y: 1 / 0)
    client, found = runs(f"sqlite:///{tmp_path / 'mlruns.db'}")
    assert [r.info.status for r in found] == ["FINISHED", "FAILED"]
    assert found[0].data.params["rate"] == "0.001" and len(client.get_metric_history(found[0].info.run_id, "Loss")) == 2


@pytest.fixture
def server(tmp_path):
    with mlflow_server(tmp_path) as found:
        yield found


@pytest.mark.slow
def test_the_same_on_a_server(trained, tmp_path, server, monkeypatch):
    uri, process = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    clean, attacked = cell(trained, tmp_path / "out"), cell(trained, tmp_path / "out", AttackHandler("FGSM", eps=4.0))
    check_two_cells(*runs(uri), clean, attacked)
    assert list((tmp_path / "artifacts").rglob("card.html")) and not (tmp_path / "out" / "mlruns").exists()
    with pytest.raises(ValueError, match="random start"):
        cell(trained, tmp_path / "out", AttackHandler("PGD", norm="unbounded"))
    assert [r.info.status for r in runs(uri)[1]] == ["FINISHED", "FINISHED", "FAILED"]

    shutil.rmtree(tmp_path / "out" / "records")
    die = lambda engine: (os.killpg(process.pid, signal.SIGKILL), process.wait())  # noqa: E731
    start = time.monotonic()
    with pytest.warns(UserWarning, match=rf"MLflow at {uri} did not take .*the same command again") as told:
        cell(trained, tmp_path / "out", then=die)
    assert sum("MLflow" in str(w.message) for w in told) == 1 and time.monotonic() - start < 60
    assert len(read_records(tmp_path / "out" / "records")) == 6
