"""The last word on an evaluation: fail it if what was configured did not happen."""

from __future__ import annotations

import logging
import os

from ignite.engine import Engine

from monai_advdef.handlers.attack import AttackHandler, AttackNotApplied
from monai_advdef.handlers.batches import in_words
from monai_advdef.handlers.record import RecordHandler
from monai_advdef.handlers.tracking import close_failed
from monai_advdef.neighbours import check_writable, stoppable
from monai_advdef.switches import as_written, folder

logger = logging.getLogger(__name__)
ADVERSARIAL, UNFINISHED = "adversarial", "unfinished"
WEIGHTS = (".pt", ".pth", ".ts", ".ckpt")
REMEDY = (
    "List overlays after evaluate.yaml, and add to handlers with '+validate::handlers' inside a file only: on the command line it "
    "replaces them"
)


class Suspect(SystemExit):
    """Checks doubt an evaluation that is complete and recorded; as a ``SystemExit`` it ends the process with exit code 1."""

    def __init__(self, told: str) -> None:
        super().__init__(1)
        self.words = told

    def __str__(self) -> str:
        return self.words


@as_written
def evaluate(
    evaluator: Engine, attack: AttackHandler | None = None, records: RecordHandler | None = None, *, keep: str | None = ADVERSARIAL
) -> None:
    """Run an evaluator, and fail if an attack was configured that did not touch every batch, or records that were not written.

    Args:
        evaluator: with its handlers.
        attack: the ``AttackHandler`` among them, if an attack is configured.
        records: the ``RecordHandler`` among them.
        keep: ``"adversarial"``: adversarial images stay in the attack's ``cache_dir`` and serve other evaluations; ``None``: they
            lie in its folder ``_unfinished`` while this one runs, so that a killed run goes on, and are dropped at its end;
            ``"unfinished"``: they lie there, and whoever runs several evaluations drops them at the end of all.

    SIGTERM and SIGHUP end it as Ctrl-C does: with the rows and images kept, and MLflow's run closed.

    Raises:
        Stopped: after such a signal; a ``SystemExit``.
        ValueError: an unknown ``keep``; no case to evaluate.
        AttackNotApplied: with the reason and the remedy.
        RuntimeError: the same for records.
        FileNotFoundError: weights that a handler should load are not there.
        Suspect: at the very end, where a check of this evaluation is ``suspect`` or ``broken``; a ``SystemExit``.
    """
    if evaluator.state.epoch_length == 0:
        raise ValueError("the data to evaluate hold no case; check the folder, its sections and the data list")
    if keep not in (None, ADVERSARIAL, UNFINISHED):
        raise ValueError(f"keep must be {ADVERSARIAL} or nothing, got {keep!r}; --keep {ADVERSARIAL} keeps adversarial images")
    cache = None if attack is None else attack.cache
    if attack is not None:
        attack.touched = 0
    if cache is not None:
        cache.passing = keep != ADVERSARIAL
    if records is not None:
        records.done = False
    try:
        with stoppable("what was recorded and crafted so far stays, and the same command goes on from here"):
            with in_words(evaluator):
                evaluator.run()
    except FileNotFoundError as error:
        if not str(error.filename).endswith(WEIGHTS):
            raise
        words = "no such weights; train the bundle first, or name with ckpt_dir the folder in which they lie"
        raise FileNotFoundError(error.errno, words, error.filename) from error
    finally:
        close_failed(evaluator)  # where another handler ended the chain before the tracker's turn
        if records is not None:
            records.release()
    _require(evaluator, attack, records)
    if cache is not None and keep is None:
        cache.drop()
    doubts = [
        f"{v['name']} {v['verdict']}: {v['evidence']}" for v in getattr(evaluator.state, "verdicts", []) if v["verdict"] != "ok"
    ]
    if doubts:
        suspect = Suspect(f"recorded, but not to be trusted as it is: {'; '.join(doubts)}")
        logger.warning("%s", suspect)
        raise suspect


def _require(evaluator: Engine, attack: AttackHandler | None, records: RecordHandler | None) -> None:
    """Raise where what was configured did not happen."""
    batches = evaluator.state.iteration
    if attack is not None and attack.touched != batches:
        raise AttackNotApplied(
            f"{attack.attack.label} is configured but touched {attack.touched} of {batches} batches, so this run's scores are those "
            f"of clean images. {REMEDY}"
        )
    if records is not None and not records.done:
        raise RuntimeError(f"a RecordHandler is configured but recorded nothing: it is not among the evaluator's handlers. {REMEDY}")


def writable(**folders: str | os.PathLike[str]) -> None:
    """Fail before any work where a folder cannot be written: an item of a bundle's ``run`` with ``ckpt_dir: '@ckpt_dir'``.

    Raises:
        OSError: naming option, folder and remedy.
        ValueError: an option that is empty, or no folder.
    """
    check_writable(**{name: folder(name, value) for name, value in folders.items()})
