"""MLflow: every evaluation is its own run, finished when it ends, with the numbers, the records and the card."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from ignite.engine import Events
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from monai.handlers import MLFlowHandler

from monai_advdef.handlers.cell import Engine
from monai_advdef.handlers.mlflow_names import batches, experiment_name, numbers, texts, valid_names
from monai_advdef.handlers.mlflow_store import TrackingStore, database_uri, dispose, no_uri
from monai_advdef.handlers.record import RecordHandler
from monai_advdef.neighbours import Process, me, stoppable
from monai_advdef.records import read_records
from monai_advdef.records.verdicts import FILE, worst
from monai_advdef.switches import as_written

logger = logging.getLogger(__name__)
OWNER = "monai_advdef."  # begins the tags that name the process of a run


@dataclass(frozen=True)
class Parent:
    """A run of MLflow whose children the runs are that begin while it is set as :data:`PARENT`.

    Args:
        run: its id.
        experiment: name of its experiment, in which its children are, too.
        name: what its children are called.
        tags: of its children.
        children: ids of those that have begun.
    """

    run: str
    experiment: str
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)


PARENT: ContextVar[Parent | None] = ContextVar("parent", default=None)


def store(output_dir: str | os.PathLike[str]) -> str:
    """Tracking URI of the SQLite store in ``output_dir``."""
    return database_uri(Path(output_dir).resolve() / "mlruns.db")


def trackers(engine: Engine) -> list[TrainingTracker]:
    """The trackers that are attached to an engine."""
    return getattr(engine, "trackers", [])


def close_failed(engine: Engine) -> None:
    """Close what the trackers of an engine have left open, as ``FAILED``."""
    for tracker in trackers(engine):
        tracker._end("FAILED")


class TrainingTracker(MLFlowHandler):
    """MONAI's handler with a run of its own per call, closed as ``FINISHED`` or ``FAILED``.

    MONAI's handler takes up the last run that was not finished, so that several evaluations land in one; this one never does. Nor
    does it ever end the work that it tracks: a store or server that does not answer is told in a warning, and what goes on goes on
    untracked. A run that a killed process of this machine left open is closed as ``KILLED`` when the next one starts. SIGTERM ends
    the work as Ctrl-C does. In a training list it before MONAI's ``StatsHandler``, which ends the chain of handlers.

    Args:
        output_dir: where the SQLite store goes unless ``tracking_uri`` is given; ``MLFLOW_TRACKING_URI`` in the environment wins
            over both.
        run_name: what the run is called, with the time behind it.
        kwargs: for MONAI's ``MLFlowHandler``; ``artifact_location`` is where the files of a new experiment go (default: ``mlruns``
            beside an SQLite store, and for a server where it puts them).

    Raises:
        ValueError: a tracking URI that is a folder, or of a scheme that MLflow does not know.
    """

    cur_run: Any  # MLflow's run, or None
    kept = "the training goes on, its losses are in its log"

    @as_written
    def __init__(
        self, output_dir: str | os.PathLike[str], *, tracking_uri: str | None = None, run_name: str = "train", **kwargs: Any
    ) -> None:
        told = os.environ.get("MLFLOW_TRACKING_URI", "").strip(" \t\r\n'\"")  # a list of variables for a container keeps quotes
        self.store = TrackingStore(told or tracking_uri or store(output_dir), self.kept)
        self.artifacts_in = kwargs.pop("artifact_location", None) or self.store.artifacts  # MONAI 1.6.0 knows no such argument
        settings = {**kwargs, "run_name": run_name, "close_on_complete": True}
        with no_uri():  # MONAI makes a client at once; ours is made when the run starts, and replaces it
            super().__init__(tracking_uri="http://localhost", **settings)
        self.experiment_name = experiment_name(self.experiment_name)
        self._until_end = ExitStack()

    def attach(self, engine: Engine) -> None:
        """As MONAI's handler, and close the run as failed where the engine fails."""
        super().attach(engine)
        engine.trackers = [*trackers(engine), self]  # type: ignore[attr-defined]
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.failed)

    def start(self, engine: Engine) -> None:
        """Begin a run of its own, named after the time."""
        self._until_end.enter_context(stoppable("what was written so far stays"))
        self.cur_run = self.experiment = None
        client = self.store.connect()
        if client is None:
            return
        self.client = client
        self.cur_run = self.store.attempt("this run", self._new_run)
        if self.cur_run is None:
            self.store.lost = True
            return
        self.store.attempt("its parameters", lambda: super(TrainingTracker, self).start(engine))

    def _new_run(self) -> Any:
        parent = PARENT.get()
        if parent is not None:
            self.experiment_name = parent.experiment
        self._set_experiment()
        assert self.experiment is not None
        self._close_left_open(self.experiment.experiment_id)
        name = f"{self.run_name if parent is None else parent.name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        tags = {OWNER + key: str(value) for key, value in vars(me()).items()}
        if parent is None:
            return self.client.create_run(self.experiment.experiment_id, run_name=name, tags=tags)
        tags |= {MLFLOW_PARENT_RUN_ID: parent.run, **parent.tags}
        made = self.client.create_run(self.experiment.experiment_id, run_name=name, tags=tags)
        parent.children.append(made.info.run_id)
        return made

    def _set_experiment(self) -> None:
        """Find or make the experiment; one that was deleted is restored, for MLflow gives its name to no other."""
        found = self.client.get_experiment_by_name(self.experiment_name)
        if found is not None and found.lifecycle_stage == mlflow.entities.LifecycleStage.DELETED:
            logger.warning("MLflow's experiment %r was deleted and is restored for this run", found.name)
            self.client.restore_experiment(found.experiment_id)
        if found is None:
            try:
                self.client.create_experiment(self.experiment_name, artifact_location=self.artifacts_in)
            except mlflow.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # of another process, in this very moment
                    raise
        super()._set_experiment()

    def _close_left_open(self, experiment: str) -> None:
        """Close the runs whose process, one of this machine, has ended without doing so."""
        for run in self.client.search_runs([experiment], "attributes.status = 'RUNNING'"):
            host, pid, started = (run.data.tags.get(OWNER + key, "") for key in ("host", "pid", "started"))
            if pid.isdigit() and Process(host, int(pid), started).alive() is False:
                self.client.set_terminated(run.info.run_id, "KILLED")
                logger.info("closed MLflow's run %r, which process %s on %s left open", run.info.run_name, pid, host)

    def iteration_completed(self, engine: Engine) -> None:
        """Log the loss of the iteration."""
        self._log("the course of this run", lambda: super(TrainingTracker, self).iteration_completed(engine))

    def epoch_completed(self, engine: Engine) -> None:
        """Log what the epoch came to."""
        self._log("the course of this run", lambda: super(TrainingTracker, self).epoch_completed(engine))

    def complete(self) -> None:
        """Log the artifacts."""
        self._log("its artifacts", super().complete)

    def close(self) -> None:
        """Finish the run and release the store."""
        self._end("FINISHED")

    def failed(self, engine: Engine, error: BaseException) -> None:
        """Close the run as ``FAILED``, and those of the engine's other trackers, whose turn never comes; and let the error go on."""
        close_failed(engine)
        raise error

    def _end(self, status: str) -> None:
        self._until_end.close()
        run, self.cur_run = self.cur_run, None
        if run is not None:
            self.store.last(lambda: self.client.set_terminated(run.info.run_id, status))
            with suppress(Exception):  # a store that was lost
                dispose(self.client)

    def _log(self, what: str, act: Any) -> None:
        if self.cur_run is not None:
            self.store.attempt(what, act)

    def _log_params(self, params: dict[str, Any]) -> None:
        for batch in batches(texts(params), 20):
            entries = [mlflow.entities.Param(name, value) for name, value in batch.items()]
            self.client.log_batch(self.cur_run.info.run_id, params=entries)

    def _log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        now = int(time.time() * 1000)
        for batch in batches(numbers(metrics), 500):
            entries = [mlflow.entities.Metric(name, value, now, step or 0) for name, value in batch.items()]
            self.client.log_batch(self.cur_run.info.run_id, metrics=entries)


class EvaluationTracker(TrainingTracker):
    """One finished run per evaluation: parameters, metrics per class, the records, the gallery and the card.

    Names of classes are made such as MLflow takes them.

    Args:
        records: the evaluation's ``RecordHandler``, which must stand before this handler.
        kwargs: for :class:`TrainingTracker`.
    """

    kept = "the evaluation goes on, and records and card are written; the same command again tracks it, with the images it has made"

    def __init__(self, records: RecordHandler, **kwargs: Any) -> None:
        super().__init__(records.folder, **{"run_name": "evaluate", "iteration_log": False, "experiment_name": "evaluate", **kwargs})
        self.of = records

    def attach(self, engine: Engine) -> None:
        """Log records, gallery and card when the evaluation ends."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log_records)
        super().attach(engine)

    def log_records(self, engine: Engine) -> None:
        """Parameters, metrics and artifacts of the evaluation that has just been recorded."""
        self._log("its parameters", lambda: self._log_params({**self.of.columns, "weights": self.of.cell["weights"]}))
        self._log("its metrics", lambda: self._log_metrics(self._summary()))
        self._log("its digests", self._tag_digests)
        verdicts = getattr(engine.state, "verdicts", None)
        if verdicts:
            self._log("its verdicts", lambda: self._tag(verdicts))
        self._log("its artifacts", self._log_files)

    def _tag_digests(self) -> None:
        """What was evaluated, to be searched for: digests of data, weights and the whole configuration."""
        told = {"data": self.of.columns["data"], "weights": self.of.cell["weights"], "configuration": self.of.fingerprint}
        tags = [mlflow.entities.RunTag(f"digest {name}", value) for name, value in told.items()]
        self.client.log_batch(self.cur_run.info.run_id, tags=tags)

    def _tag(self, verdicts: list[dict[str, Any]]) -> None:
        """The verdict of every check, and as ``checks`` the worst of them."""
        told = {"checks": worst(verdicts), **{f"check {v['name']}": v["verdict"] for v in verdicts}}
        tags = [mlflow.entities.RunTag(name, value) for name, value in told.items()]
        self.client.log_batch(self.cur_run.info.run_id, tags=tags)
        self.client.log_artifact(self.cur_run.info.run_id, str(self.of.folder / FILE))

    @property
    def _table(self) -> Path:
        return self.of.records / f"{self.of.fingerprint}.parquet"

    def _summary(self) -> dict[str, float]:
        table = read_records(self._table)
        table = table[table["attack"] == self.of.columns["attack"]]  # of a suite its worst case
        grouped = table[table["adaptive"] == table["adaptive"].max()].groupby(["class", "metric"])["value"]
        names = {"mean": grouped.mean(), "std": grouped.std(ddof=0), "p5": grouped.quantile(0.05)}
        called = valid_names(names["mean"].index.get_level_values("class"))
        rows = [(c, m, n, v) for n, series in names.items() for c, m, v in series.reset_index().itertuples(index=False)]
        return {f"{called[c]}_{m}_{n}": float(v) for c, m, n, v in rows}

    def _log_files(self) -> None:
        of, run = self.of, self.cur_run.info.run_id
        self.client.log_artifact(run, str(self._table), "records")
        for picture in sorted((of.folder / "gallery").glob(f"{of.fingerprint}-*.npz")):
            self.client.log_artifact(run, str(picture), "gallery")
        if of.card and (of.folder / "card.html").exists():
            self.client.log_artifact(run, str(of.folder / "card.html"))
