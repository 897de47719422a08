"""One small tracked evaluation and what MLflow's SQLite store says of it: what the tests of the tracking share."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from engines import evaluator, items, network
from ignite.engine import Events
from monai.handlers import StatsHandler

from monai_advdef.handlers import EvaluationTracker, RecordHandler, evaluate
from monai_advdef.records import read_records, unfinished


def cell(trained, folder, *, classes=("lesion",), then=None, card=False, **told):
    """One evaluation of three cases, tracked; ``then`` is called when the first batch is done."""
    records = RecordHandler(folder, list(classes), task="blobs", model="small", gallery=False, card=card)
    tracker = EvaluationTracker(records, **{"experiment_name": "blobs", **told})
    engine = evaluator(network(trained), [records, tracker, StatsHandler(iteration_log=False)], data=items(3), batch_size=2)
    if then is not None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), then)
    evaluate(engine, None, records)
    return records


def found(folder):
    with closing(sqlite3.connect(Path(folder) / "mlruns.db")) as store:
        runs = store.execute("select status, run_uuid from runs order by start_time").fetchall()
        return [status for status, _ in runs], dict(store.execute("select key, value from latest_metrics").fetchall())


def complete(folder):
    """The records are there whatever became of the tracking."""
    return len(read_records(folder / "records")) == 6 and not unfinished(folder / "records")


@contextmanager
def mlflow_server(folder):
    """A real server on a free port, its URI and process; stopped at the end with all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = f"mlflow server --host 127.0.0.1 --port {port} --workers 1 --serve-artifacts"
    words += f" --backend-store-uri sqlite:///{folder}/server.db --artifacts-destination {folder}/artifacts"
    uri = f"http://127.0.0.1:{port}"
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words.split()], stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
        try:
            for _ in range(600):
                assert process.poll() is None, (folder / "server.log").read_text()
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.1)
            yield uri, process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
