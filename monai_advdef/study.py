"""A study: a bundle is trained once and evaluated in many cells, all in one process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from monai_advdef.bundle import workflows
from monai_advdef.errors import nearest
from monai_advdef.handlers.guard import Suspect
from monai_advdef.records import read_records

CACHE_GB = 4.0
"""Memory for the cases of a study, in gigabytes: every cell reads them."""


@dataclass(frozen=True)
class Cell:
    """One evaluation: overlays by name (``"attacks/pgd"``; ``"configs/diagnosis"`` is a file of the bundle itself) or by the path of
    a file of one's own, and overrides by configuration path (``{"attack_def::eps": 4}``)."""

    overlays: tuple[str, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{k.split('::')[-1]} {v}" for k, v in self.overrides.items())
        return " + ".join(o.split("/")[-1] for o in self.overlays) + (f" ({told})" if told else "") or "clean"


def workflow(bundle: Path, files: Iterable[Path], overrides: dict[str, Any], kind: str = "train") -> ConfigWorkflow:
    """A bundle's workflow with overlays and overrides, initialized and ready to run in this process."""
    made = ConfigWorkflow(
        config_file=[str(f) for f in files],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(bundle),
        **overrides,
    )
    made.initialize()
    return made


def train(bundle: Path, overrides: dict[str, Any], tell: Callable[[int, int], None]) -> None:
    """Train a bundle; ``tell(epoch, epochs)`` is called after each epoch."""
    made = workflow(bundle, [bundle / "configs" / "train.yaml"], overrides)
    trainer = made.trainer
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: tell(engine.state.epoch, engine.state.max_epochs))
    made.run()
    made.finalize()


def evaluate(bundle: Path, cell: Cell, overrides: dict[str, Any]) -> dict[str, float]:
    """Evaluate one cell and return the evaluator's metrics; the records land under ``output_dir``.

    Raises:
        ValueError: unknown overlay.
    """
    made = _evaluated(bundle, cell, overrides)
    metrics = dict(made.evaluator.state.metrics)
    made.finalize()
    return metrics


def recorded(bundle: Path, cell: Cell, overrides: dict[str, Any]) -> pd.DataFrame:
    """Evaluate one cell as :func:`evaluate` does and return its rows of the records; adversarial images are kept for other cells."""
    made = _evaluated(bundle, cell, {"keep": "adversarial", **overrides})
    handler = made.parser.get_parsed_content("record_def")
    made.finalize()
    return read_records(handler.records / f"{handler.fingerprint}.parquet")


def carry_out(bundle: Path, overlays: Iterable[str], overrides: dict[str, Any]) -> None:
    """Run the bundle's training configuration with overlays, such as ``"training/band_statistics"`` or ``"configs/train_cup"``.

    Raises:
        ValueError: unknown overlay.
    """
    made = workflow(bundle, [bundle / "configs" / "train.yaml", *_files(bundle, overlays)], overrides)
    made.run()
    made.finalize()


def prepared(bundle: Path, cell: Cell, overrides: dict[str, Any]) -> ConfigWorkflow:
    """The workflow of one evaluation, before it runs.

    Raises:
        ValueError: unknown overlay.
    """
    return workflow(bundle, _evaluation(bundle) + _files(bundle, cell.overlays), {**overrides, **cell.overrides})


def _evaluated(bundle: Path, cell: Cell, overrides: dict[str, Any]) -> ConfigWorkflow:
    made = prepared(bundle, cell, overrides)
    with suppress(Suspect):  # told in its log, its checks.json and on its card; the other cells go on
        made.run()
    return made


def _files(bundle: Path, overlays: Iterable[str]) -> list[Path]:
    known = workflows() | {f"configs/{p.stem}": p for p in (bundle / "configs").glob("*.yaml")}
    overlays = list(overlays)
    for name in overlays:
        if name not in known and not Path(name).is_file():
            raise ValueError(f"unknown overlay {name!r}; {nearest(name, known)}")
    return [known.get(name, Path(name)) for name in overlays]


def test_set(bundle: Path, overrides: dict[str, Any]) -> Any:
    """The evaluation data set of a bundle, read once where it fits ``cache_gb`` (of the overrides, else 4); give it to every cell as
    the override ``validate::dataset``."""
    return workflow(bundle, _evaluation(bundle), {"cache_gb": CACHE_GB, **overrides}).parser.get_parsed_content("validate::dataset")


def _evaluation(bundle: Path) -> list[Path]:
    return [bundle / "configs" / f"{name}.yaml" for name in ("train", "evaluate")]


def quiet() -> None:
    """Silence what MONAI, MLflow and torch log and warn of on every start; errors, and warnings of this package, stay."""
    logging.disable(logging.INFO)
    for name in ("alembic", "ignite", "mlflow", "monai", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("monai.bundle.workflows").setLevel(
        logging.CRITICAL
    )  # that overlays lie in other folders than a bundle's files
    warnings.filterwarnings("ignore", module=r"(?!monai_advdef)")
