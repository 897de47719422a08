"""MLflow: every evaluation is its own run, finished when it ends, with the numbers, the records and the card."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.handlers import MLFlowHandler

from monai_advdef.handlers.cell import Engine
from monai_advdef.handlers.record import RecordHandler
from monai_advdef.records import read_records
from monai_advdef.switches import as_written

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def store(output_dir: str | os.PathLike[str]) -> str:
    """Tracking URI of the SQLite store in ``output_dir`` (made when needed)."""
    folder = Path(output_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlruns.db'}"


class TrainingTracker(MLFlowHandler):
    """MONAI's handler with a run of its own per call, closed as ``FINISHED`` or ``FAILED``.

    MONAI's handler takes up the last run that was not finished, so that several evaluations land in one; this one never does.
    List it before MONAI's ``StatsHandler``, which ends the chain of handlers when a run fails.

    Args:
        output_dir: where the SQLite store goes unless ``tracking_uri`` is given; ``MLFLOW_TRACKING_URI`` in the environment wins
            over both.
        run_name: what the run is called, with the time behind it.
        kwargs: for MONAI's ``MLFlowHandler``.
    """

    @as_written
    def __init__(
        self, output_dir: str | os.PathLike[str], *, tracking_uri: str | None = None, run_name: str = "train", **kwargs: Any
    ) -> None:
        super().__init__(tracking_uri=tracking_uri or store(output_dir), run_name=run_name, close_on_complete=True, **kwargs)

    def attach(self, engine: Engine) -> None:
        super().attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.failed)

    def start(self, engine: Engine) -> None:
        self._set_experiment()
        assert self.experiment is not None
        name = f"{self.run_name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        self.cur_run = self.client.create_run(self.experiment.experiment_id, run_name=name)
        super().start(engine)

    def failed(self, engine: Engine, error: Exception) -> None:
        """Close the run as ``FAILED`` and let the error go on."""
        if self.cur_run:
            self.client.set_terminated(self.cur_run.info.run_id, "FAILED")
            self.cur_run = None
        raise error


class EvaluationTracker(TrainingTracker):
    """One finished run per evaluation: parameters, metrics per class, the records, the gallery and the card.

    Args:
        records: the evaluation's ``RecordHandler``, which must stand before this handler.
        kwargs: for :class:`TrainingTracker`.
    """

    def __init__(self, records: RecordHandler, **kwargs: Any) -> None:
        super().__init__(records.folder, **{"run_name": "evaluate", "iteration_log": False, "experiment_name": "evaluate", **kwargs})
        self.of = records

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log_records)
        super().attach(engine)

    def log_records(self, engine: Engine) -> None:
        """Parameters, metrics and artifacts of the evaluation that has just been recorded."""
        assert self.cur_run is not None
        of, run = self.of, self.cur_run.info.run_id
        self._log_params({**of.columns, "weights": of.cell["weights"]})
        table = of.records / f"{of.fingerprint}.parquet"
        grouped = read_records(table).groupby(["class", "metric"])["value"]
        names = {"mean": grouped.mean(), "std": grouped.std(ddof=0), "p5": grouped.quantile(0.05)}
        self._log_metrics({f"{c}_{m}_{n}": float(v) for n, series in names.items() for (c, m), v in series.items()})
        self.client.log_artifact(run, str(table), "records")
        for picture in sorted((of.folder / "gallery").glob(f"{of.fingerprint}-*.npz")):
            self.client.log_artifact(run, str(picture), "gallery")
        if of.card and (of.folder / "card.html").exists():
            self.client.log_artifact(run, str(of.folder / "card.html"))
