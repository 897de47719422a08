"""What is slow, locked or gone at MLflow's end never costs an evaluation, and is told once with its remedy."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import mlflow
import pytest
import torch
from engines import evaluator, items, network
from ignite.engine import Events
from monai.handlers import StatsHandler
from tracked import cell, complete, found

from monai_advdef.handlers import AttackHandler, EvaluationTracker, RecordHandler, TrainingTracker, evaluate, mlflow_store, tracking
from monai_advdef.handlers.mlflow_store import TrackingStore, database_uri
from monai_advdef.neighbours import Process, Stopped, me
from monai_advdef.records import unfinished

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def default_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


# -- servers


class Answer(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = b'{"error_code": "INTERNAL_ERROR", "message": "sorry"}'
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def log_message(self, *_):
        pass


@contextmanager
def server(status):
    """Answers everything with one status."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as serving:
        serving.status = status
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


@contextmanager
def deaf():
    """Takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def nobody(scheme="http"):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield f"{scheme}://user:secret@127.0.0.1:{port}"


@contextmanager
def no_tls():
    with server(200) as uri:
        yield uri.replace("http:", "https:")


SERVERS = {
    "nobody": nobody,
    "deaf": deaf,
    "500": lambda: server(500),
    "403": lambda: server(403),
    "401": lambda: server(401),
    "no TLS": no_tls,
}
SERVERS["no driver or database"] = lambda: nobody("postgresql")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_that_does_not_answer_is_told_within_seconds_and_costs_nothing(trained, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(mlflow_store, "FOUND_WITHIN", 4.0)
    before = dict(os.environ)
    with SERVERS[kind]() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        start = time.monotonic()
        with pytest.warns(UserWarning) as told:
            cell(trained, tmp_path, card=kind == "nobody")
        took = time.monotonic() - start
    words = [str(w.message) for w in told if "MLflow" in str(w.message)]
    assert len(words) == 1 and complete(tmp_path) and took < 30 and (tmp_path / "card.html").exists() == (kind == "nobody")
    assert words[0].startswith("MLflow at ") and "this run" in words[0] and "records and card are written" in words[0]
    assert "MLFLOW_TRACKING_URI" in words[0] and "the same command again" in words[0] and "secret" not in words[0]
    assert not (tmp_path / "mlruns.db").exists() and {**os.environ, "MLFLOW_TRACKING_URI": ""} == {
        **before,
        "MLFLOW_TRACKING_URI": "",
    }


def test_training_goes_on_without_its_server(tmp_path, monkeypatch):
    with nobody() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = TrainingTracker(tmp_path)
        engine = evaluator(torch.nn.Conv2d(3, 2, 1), [tracker], data=items(2))
        with pytest.warns(UserWarning, match="did not take this run .*the training goes on, its losses are in its log"):
            engine.run()
    assert engine.state.epoch == 1


def test_a_store_that_is_lost_in_the_middle_is_told_once_and_the_run_closed_if_it_is_back(
    trained, tmp_path, monkeypatch, made_store
):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    taken = []

    def lose(self, *_, **__):
        taken.append(1)
        raise mlflow.exceptions.MlflowException("connection lost")

    def away(engine):
        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", lose)

    with pytest.warns(UserWarning) as told:
        cell(trained, tmp_path, then=away)
    words = [str(w.message) for w in told if "MLflow" in str(w.message)]
    assert len(words) == 1 == len(taken) and "(connection lost)" in words[0] and complete(tmp_path)
    assert found(tmp_path)[0] == ["FINISHED"]


def test_what_a_server_refuses_leaves_the_rest(trained, tmp_path, monkeypatch, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())

    def refuse(self, *_, **__):
        raise ImportError("no module named 'boto3'")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifact", refuse)
    with pytest.warns(UserWarning, match=r"did not take its artifacts \(no module named 'boto3'\)"):
        cell(trained, tmp_path)
    statuses, metrics = found(tmp_path)
    assert statuses == ["FINISHED"] and "lesion_dice_mean" in metrics


# -- local stores


def damaged(file):
    file.write_bytes(b"no database" * 100)


def in_the_way(file):
    file.unlink()
    file.mkdir()


def older(file):
    with closing(sqlite3.connect(file)) as store:
        store.execute("update alembic_version set version_num = '451aebb31d03'")
        store.commit()


@pytest.mark.parametrize(
    ("harm", "told"), [(damaged, "not a database"), (in_the_way, "unable to open|Is a directory"), (older, "db upgrade")]
)
def test_a_local_store_that_cannot_be_used_costs_nothing(trained, tmp_path, made_store, harm, told):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    harm(tmp_path / "mlruns.db")
    start = time.monotonic()
    with pytest.warns(UserWarning, match=rf"MLflow's store .*mlruns.db did not take this run \(.*({told}).*move it away"):
        cell(trained, tmp_path)
    assert complete(tmp_path) and time.monotonic() - start < 30


def test_a_store_that_somebody_keeps_locked_costs_nothing(trained, tmp_path, monkeypatch, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    with closing(sqlite3.connect(tmp_path / "mlruns.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(UserWarning, match=r"did not take this run \(database is locked\)"):
            cell(trained, tmp_path)
    assert complete(tmp_path)


def test_a_store_that_was_half_made_is_made_anew(tmp_path):
    (tmp_path / "mlruns.db").touch()
    mlflow_store._prepare(tmp_path / "mlruns.db")
    store = TrackingStore(database_uri(tmp_path / "mlruns.db"), "")
    assert store.connect().search_experiments() and [p.name for p in tmp_path.iterdir()] == ["mlruns.db"]


# -- ends


def test_runs_that_the_dead_left_open_are_closed_and_nobody_elses(trained, tmp_path, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    client = mlflow.MlflowClient(tracking.store(tmp_path))
    experiment = client.create_experiment("blobs")
    own = me()
    for process in (Process(own.host, own.pid, "0.0.0"), own, Process("elsewhere", 5, "0.0.0"), None):
        tags = {} if process is None else {f"monai_advdef.{k}": str(v) for k, v in vars(process).items()}
        client.create_run(experiment, tags=tags)
    cell(trained, tmp_path)
    assert sorted(found(tmp_path)[0]) == ["FINISHED", "KILLED", "RUNNING", "RUNNING", "RUNNING"]


def test_all_trackers_of_an_evaluation_that_fails_are_closed(trained, tmp_path, made_store):
    """Whatever stands before them ends the chain of handlers: another tracker, MONAI's StatsHandler."""
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    records = RecordHandler(tmp_path, ["lesion"], gallery=False, card=False)
    several = [EvaluationTracker(records, experiment_name=name) for name in ("one", "two")]
    engine = evaluator(network(trained), [records, StatsHandler(iteration_log=False), *several], data=items(2))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(engine, None, records)
    assert found(tmp_path)[0] == ["FAILED"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_run_and_keeps_the_rows(trained, tmp_path, made_store, number, capfd):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(Stopped) as stop:
            cell(trained, tmp_path, then=lambda engine: os.kill(os.getpid(), number))
        assert stop.value.code == 128 + number and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert found(tmp_path)[0] == ["FAILED"] and len(unfinished(tmp_path / "records")) == 1
    assert "goes on from here" in capfd.readouterr().err
    assert [p.suffix for p in (tmp_path / "records" / "_unfinished").iterdir()] == [".jsonl"]
    cell(trained, tmp_path)
    assert found(tmp_path)[0] == ["FAILED", "FINISHED"] and complete(tmp_path)


def test_a_signal_ends_a_training_likewise(tmp_path, made_store):
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    engine = evaluator(torch.nn.Conv2d(3, 2, 1), [TrainingTracker(tmp_path, experiment_name="t")], data=items(2))
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Stopped):
            engine.run()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found(tmp_path)[0] == ["FAILED"]


STARTED_TOGETHER = """
import sys
from monai_advdef.handlers.mlflow_store import TrackingStore
from monai_advdef.handlers.tracking import store
client = TrackingStore(store(sys.argv[1]), "").connect()
sys.exit(0 if client is not None and client.search_experiments() else 1)
"""


@pytest.mark.slow
def test_the_store_is_made_once_when_several_start_together(tmp_path):
    jobs = [
        subprocess.Popen([sys.executable, "-c", STARTED_TOGETHER, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [job.communicate()[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 3, told
    assert [p.name for p in tmp_path.iterdir()] == ["mlruns.db"] and sum(
        "initial MLflow database tables" in text for text in told
    ) == 1


def test_an_attack_is_tracked_with_what_it_is(trained, tmp_path, made_store):
    """The tracker of an attacked cell still has the parameters of the attack."""
    (tmp_path / "mlruns.db").write_bytes(made_store.read_bytes())
    attack = AttackHandler("FGSM", eps=4.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, task="blobs", gallery=False, card=False)
    engine = evaluator(network(trained), [records, attack, EvaluationTracker(records)], data=items(2))
    evaluate(engine, attack, records)
    with closing(sqlite3.connect(tmp_path / "mlruns.db")) as store:
        assert {"attack": "FGSM", "eps": "4.0"}.items() <= dict(store.execute("select key, value from params").fetchall()).items()
