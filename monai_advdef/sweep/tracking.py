"""MLflow: a run for the study, the runs of its cells as its children, what the machine did meanwhile, and the verdict on a model."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from monai_advdef.handlers.mlflow_names import batches, experiment_name
from monai_advdef.handlers.mlflow_store import TrackingStore, dispose
from monai_advdef.handlers.tracking import PARENT, Parent, store
from monai_advdef.neighbours import alone, whole
from monai_advdef.records.verdicts import worst
from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.store import DONE, FAILED, State, Store

FILE = "mlflow.json"
URI = "MLFLOW_TRACKING_URI"
PATIENCE = 120.0  # seconds that another process may hold the file; making an SQLite store takes some
EVERY, SHARE = 10.0, 0.01  # seconds from one look at the machine to the next, or this share of what the cell has taken
VERDICT = "robustness verdict"


class StudyRun:
    """The parent run of a study, one for all processes and starts in its folder.

    Args:
        folder: the output folder.
        name: of the study.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        kept = "the sweep goes on, and its records are written; started again it tracks what is left"
        self.tracking = TrackingStore(os.environ.get(URI, "").strip(" \t\r\n'\"") or store(folder), kept)
        self.file = Store(folder).files / FILE

    def begin(self) -> None:
        """Make the run, or take up that of an earlier start or another shard; a store that does not answer is told, no more."""
        client = self.tracking.connect()
        if client is not None:
            self.tracking.attempt("the run of the study", lambda: self._begin(client))
            dispose_of(client)

    def _begin(self, client: mlflow.MlflowClient) -> None:
        with alone(f"{self.file}.lock", timeout=PATIENCE):
            known = _read(self.file)
            if known.get("uri") == self.tracking.uri:
                with suppress(MlflowException):  # somebody deleted that run: another is made
                    client.update_run(known["run"], status="RUNNING")
                    return
            experiment = experiment_name(self.name)
            found = client.get_experiment_by_name(experiment)
            number = client.create_experiment(experiment, self.tracking.artifacts) if found is None else found.experiment_id
            made = client.create_run(number, run_name=f"{self.name} {time.strftime('%Y-%m-%d %H:%M:%S')}")
            with whole(self.file) as new:
                told = {"uri": self.tracking.uri, "run": made.info.run_id, "experiment": experiment}
                new.write_text(json.dumps(told), encoding="utf-8")

    def end(self, cells: Sequence[SweepCell], states: Sequence[State], files: Sequence[Path] = ()) -> None:
        """Log what came of the cells, files and verdicts, and close the run: finished, failed or, where cells are left, killed."""
        client, known = self.tracking.connect(), _read(self.file)
        if client is None or known.get("uri") != self.tracking.uri:
            return
        run = known["run"]
        left = any(not state.ended for state in states)
        status = "KILLED" if left else "FAILED" if any(state.status == FAILED for state in states) else "FINISHED"
        attempt = self.tracking.attempt
        attempt("what came of the study", lambda: self._log(client, run, states))
        for file in files:
            attempt(f"{file.name} of the study", lambda file=file: client.log_artifact(run, str(file)))  # type: ignore[misc]
        for version, verdict in verdicts_of(cells, states).items():
            attempt(f"the verdict on {version}", lambda v=version, w=verdict: tag_version(client, v, w))  # type: ignore[misc]
        self.tracking.last(lambda: client.set_terminated(run, status))
        dispose_of(client)

    def _log(self, client: mlflow.MlflowClient, run: str, states: Sequence[State]) -> None:
        now = int(time.time() * 1000)
        counts = {"cells": len(states), "cells done": sum(s.status == DONE for s in states)}
        counts |= {"cells failed": sum(s.status == FAILED for s in states)}
        client.log_batch(run, metrics=[Metric(name, float(count), now, 0) for name, count in counts.items()])
        if checked := [{"verdict": state.verdict} for state in states if state.verdict]:
            client.set_tag(run, "checks", worst(checked))


def verdicts_of(cells: Sequence[SweepCell], states: Sequence[State]) -> dict[str, str]:
    """The worst verdict of the checks of each registered model (``"name/version"``) all of whose cells are done."""
    found: dict[str, str] = {}
    for version in dict.fromkeys(cell.registered for cell in cells if cell.registered):
        mine = [state for cell, state in zip(cells, states) if cell.registered == version]
        checked = [{"verdict": state.verdict} for state in mine if state.verdict]
        if checked and all(state.status == DONE for state in mine):
            found[version] = worst(checked)
    return found


def tag_version(client: mlflow.MlflowClient, version: str, verdict: str) -> None:
    """Give a version of a registered model the verdict as a tag."""
    name, _, number = version.rpartition("/")
    client.set_model_version_tag(name, number, VERDICT, verdict)


@contextmanager
def tracked(folder: Path, cell: SweepCell) -> Iterator[None]:
    """Within the block runs of MLflow are children of the study's, in its store; behind it they have what the machine did."""
    known = _read(Store(folder).files / FILE)
    if not known:
        yield
        return
    parent = Parent(known["run"], known["experiment"], cell.name, {"cell": cell.id})
    token, before = PARENT.set(parent), os.environ.get(URI)
    os.environ[URI] = known["uri"]
    watch = _Watch()
    try:
        yield
    finally:
        PARENT.reset(token)
        os.environ.pop(URI) if before is None else os.environ.update({URI: before})
        _log_machine(known["uri"], parent, watch.end())


class _Watch:
    """Looks at the machine now and then, in a thread of its own."""

    def __init__(self) -> None:
        self.monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_gpu()]
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.over, self.begun = threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self._watch, daemon=True, name="system metrics")
        self.thread.start()

    def end(self) -> list[tuple[int, dict[str, float]]]:
        """Time in ms and what was seen, of every look; the last is now."""
        self.over.set()
        self.thread.join()
        self._look()
        return self.seen

    def _watch(self) -> None:
        while not self.over.wait(max(EVERY, SHARE * (time.monotonic() - self.begun))):
            self._look()

    def _look(self) -> None:
        told: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            told |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self.seen.append((int(time.time() * 1000), told))


def _gpu() -> list[Any]:
    """MLflow's monitor of GPUs, where there are any and what it needs is installed."""
    try:
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        return [GPUMonitor()]
    except Exception:  # no GPU, no driver, no nvidia-ml-py: each raises its own
        return []


def _log_machine(uri: str, parent: Parent, seen: Sequence[tuple[int, dict[str, float]]]) -> None:
    """Log what was seen of the machine to the runs of a cell, under MLflow's own names."""
    if not parent.children:  # the store was lost, and told
        return
    tracking = TrackingStore(uri, "the evaluation is recorded, and only what the machine did meanwhile is not")
    client = tracking.connect()
    if client is None:
        return
    looks = [(step, at, name, value) for step, (at, told) in enumerate(seen) for name, value in told.items()]
    points = {f"{name} {step}": Metric(f"system/{name}", value, at, step) for step, at, name, value in looks}
    for run in parent.children:
        for batch in batches(points, 500):
            tracking.attempt("what the machine did", lambda run=run, b=batch: client.log_batch(run, metrics=list(b.values())))  # type: ignore[misc]
    dispose_of(client)


def dispose_of(client: mlflow.MlflowClient) -> None:
    """Close the connections of a client of a database; a server's has none."""
    if hasattr(client._tracking_client.store, "engine"):
        dispose(client)


def _read(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # nothing is tracked, or the file was cut short
        return {}
