"""Record every case of an evaluation: one row per class and metric, written as they come."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor

from monai_advdef.handlers.attack import Attacked, AttackHandler, AttackNotApplied
from monai_advdef.handlers.batches import check_classes, entry
from monai_advdef.handlers.cases import Cases, loaded
from monai_advdef.handlers.cell import (
    Engine,
    announced,
    batching,
    defense_identity,
    defense_of,
    described,
    inferer_identity,
    items_of,
    label_map,
    masks_of,
    network_identity,
    networks_of,
    not_annotated,
    outward,
    postprocessing_identity,
    provenance,
    weights_of,
)
from monai_advdef.handlers.finite import FiniteCheck
from monai_advdef.handlers.gallery import Gallery
from monai_advdef.handlers.identity import known
from monai_advdef.handlers.options import RecordOptions, budget, gather, names_of, refuse_unknown, unit
from monai_advdef.handlers.suite import member_rows
from monai_advdef.metrics import counts, dice, iou
from monai_advdef.neighbours import check_writable, clear_leftovers
from monai_advdef.records import LABELS, RecordWriter, fingerprint
from monai_advdef.report import build
from monai_advdef.report.words import BY_CHANNEL, IN_L2
from monai_advdef.switches import as_written, folder
from monai_advdef.victim import Victim

logger = logging.getLogger(__name__)
METRICS = {"dice": dice, "iou": iou}


class RecordHandler:
    """Writes ``output_dir/records`` (one parquet table), ``output_dir/gallery`` (worst and median case) and ``card.html``.

    It reads ``pred`` and ``label`` of every case after the postprocessing, so what is scored is the deployed pipeline. A targeted
    attack is also judged by its own aim: ``target_iou`` is the IoU of prediction and target, ``target_overlap`` that of target and
    label, below which the IoU cannot be pushed. What other handlers measured on the batch is recorded too: they leave a dictionary
    ``{(class, metric): value}`` per case in ``engine.state.readings``. A class that nobody outlined in a case (``annotated`` of its
    label) has no rows.

    What an evaluation is called, its ``fingerprint``, is a digest of all that decides its numbers: images and labels as they are
    loaded, the network with its weights, the defence with its tables, the threat model, attack and normaliser, the inferer, the
    transforms after it, and what is measured. The same evaluation replaces itself, any other is a cell of its own.

    Args:
        output_dir: made when needed.
        classes: names of the foreground classes in order; class maps hold 1..n, multi-label predictions one channel each.
        attack: the ``AttackHandler`` of this run, or ``None`` for a clean one.
        task, model, suite: written into the rows.
        keep: what is read and kept: :class:`RecordOptions`, or flat options (``activation``, ``image_key``, ``pred_key``,
            ``label_key``, ``gallery``, ``card``, ``undefended``, ``gradients``, ``reference``), which go before it.

    Raises:
        ValueError: an unknown option, with the nearest known one; an empty ``output_dir``; when it runs, two cases of one name.
    """

    @as_written
    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        classes: Sequence[str] | str,
        *,
        attack: AttackHandler | None = None,
        task: str = "segmentation",
        model: str = "network",
        suite: str = "",
        keep: RecordOptions | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        kept = gather(RecordOptions, keep, options)
        own = ("output_dir", "classes", "attack", "task", "model", "suite", "keep")
        refuse_unknown("RecordHandler", options, [*names_of(RecordOptions), *own])
        self.folder, self.attack = Path(folder("output_dir", output_dir)), attack
        self.classes = [str(c) for c in ([classes] if isinstance(classes, str) else classes)]
        suite = str(suite) or getattr(attack, "suite", "")
        self.of = {"task": str(task), "model": str(model), "suite": suite}  # a command line reads 2018 as a number
        self.activation, self.image_key = kept.activation, kept.image_key
        self.pred_key, self.label_key, self.reference = kept.pred_key, kept.label_key, kept.reference
        self.card, self.undefended, self.gradients = kept.card, kept.undefended, kept.gradients
        self.columns: dict[str, Any] = {}
        self.gallery: Gallery | None = Gallery(self.folder / "gallery", masks=kept.activation == "sigmoid") if kept.gallery else None
        self.cell: dict[str, Any] = {}
        self.fingerprint, self.done = "", False
        self.cases = Cases(None, self.image_key)
        self._writer: RecordWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Open the cell when an epoch starts, add rows after every batch, close it when the epoch ends."""
        FiniteCheck(image_key=self.image_key).attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self.started)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.named)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.completed)

    @property
    def records(self) -> Path:
        """The folder that is the table."""
        return self.folder / "records"

    def named(self, engine: Engine) -> None:
        """Compare the names of the classes with what the network gives."""
        check_classes(self.classes, engine.state.output, self.activation)

    def started(self, engine: Engine) -> None:
        """Find out what is evaluated, its fingerprint, and begin the table."""
        attack, defense = self.attack, defense_of(engine)
        adaptive = attack is not None and attack.is_adaptive(engine)
        self.cell = self._describe(engine, adaptive)
        told = self.cell["identity"]
        self.fingerprint = fingerprint({k: v for k, v in self.cell.items() if k not in ("attack", "defense")})
        threat = None if attack is None else attack.threat
        self.columns = {
            **self.of,
            "attack": "none" if attack is None else attack.named(through=adaptive),
            "eps": 0.0 if threat is None else float(np.max(threat.eps)),
            "unit": "" if threat is None else unit(threat),
            "norm": "" if threat is None else threat.norm,
            "defense": "none" if defense is None else getattr(defense, "label", type(defense).__name__),
            "adaptive": adaptive,
            "steps": 0 if attack is None else attack.attack.count(attack.threat),
            "restarts": 0 if attack is None else attack.attack.restarts,
            "seed": 0 if attack is None else attack.seed,
            "fingerprint": self.fingerprint,
            "budget": "" if threat is None else budget(threat),
            "weights": self.cell["weights"],
            "data": told["data"],
            "reference": self.reference,
        }
        self.release()
        check_writable(output_dir=self.folder, **({"gallery": self.gallery.folder} if self.gallery else {}))
        clear_leftovers(self.folder)
        clear_leftovers(self.folder / "gallery")
        facts = {"config": outward(self.cell), "weights": self.cell["weights"], "data": told["data"], **provenance()}
        self._writer = RecordWriter(self.records, self.fingerprint, facts)
        if self.gallery:
            about = {k: self.columns[k] for k in ("fingerprint", "attack", "suite", "defense", "adaptive", "eps", "unit")}
            own = BY_CHANNEL + self.columns["budget"] if self.columns["budget"].startswith("[") else ""
            own = IN_L2 if self.columns["norm"] == "l2" else own
            self.gallery.start({**about, "unit": about["unit"] + own})

    def _describe(self, engine: Engine, adaptive: bool) -> dict[str, Any]:
        """The evaluation: for people, and under ``identity`` as the digests of all that decides its numbers."""
        attack, defense, loader = self.attack, defense_of(engine), engine.state.dataloader
        self.cases = Cases(getattr(loader, "dataset", None), self.image_key)
        names: list[str] = []
        length, whole = engine.state.epoch_length, len(loader) if hasattr(loader, "__len__") else None
        batches = None if length in (None, whole) else length
        aims = attack is not None and attack.attack.target == "other_case"
        order = [part for part in (batching(engine, batches), "other_case" if aims else None) if part is not None]

        def data() -> str:
            found, names[:] = loaded(loader, self.cases, order=order or None)
            return found

        networks, source = networks_of(engine), None if attack is None else attack.view.source
        told = {
            "data": known("the data", data),
            "network": known("the network", lambda: network_identity(networks)),
            "inferer": known("the inferer", lambda: inferer_identity(engine.inferer)),  # type: ignore[attr-defined]
            "defense": known("the defence", lambda: defense_identity(defense)),
            "attack": "none" if attack is None else known("the attack", lambda: attack.identity(through=adaptive)),
            "source": "none" if source is None else known("the source", lambda: network_identity(source)),
            "after": known("the postprocessing", lambda: postprocessing_identity(engine)),
        }
        measured = {"activation": self.activation, "undefended": self.undefended, "gradients": self.gradients, **announced(engine)}
        measured |= {} if self.reference == LABELS else {"reference": self.reference}
        return {
            **self.of,
            "classes": self.classes,
            "attack": None if attack is None else attack.to_config(),
            "adaptive": adaptive,
            "defense": described(defense),
            "weights": weights_of(networks),
            "cases": names,
            "measured": measured | ({} if batches is None else {"batches": batches}),
            "identity": told,
        }

    def __call__(self, engine: Engine) -> None:
        assert self._writer is not None
        attacked = self._attacked(engine)
        readings, engine.state.readings = getattr(engine.state, "readings", None), None  # type: ignore[attr-defined]
        bare = self._bare(engine) if self.undefended else None
        for i, (item, output) in enumerate(zip(items_of(engine.state.batch), items_of(engine.state.output))):
            name, image = outward(self.cases.name(item)), item[self.image_key]
            prediction, label = (entry(output, getattr(self, key), key, "the output") for key in ("pred_key", "label_key"))
            values = self._values(prediction, label)
            near, drawn = (output.get(f"network_{n}", x) for n, x in (("pred", prediction), ("label", label)))  # on the image's grid
            aim = None if attacked is None or attacked.target is None else attacked.target[i]
            if aim is not None and aim.shape[1:] == near.shape[1:] and int(aim.min()) >= 0:  # -1: there is no such target
                values |= {(c, "target_iou"): v for (c, m), v in self._values(near, aim).items() if m == "iou"}
                values |= {(c, "target_overlap"): v for (c, m), v in self._values(aim, drawn).items() if m == "iou"}
            if bare is not None:
                values |= {(c, "undefended_iou"): v for (c, m), v in self._values(bare[i], drawn).items() if m == "iou"}
            if attacked is not None and self.gradients:
                values["image", "zero_gradient"] = attacked.zero_gradient[i]
            values |= readings[i] if readings else {}
            hidden = not_annotated(item.get(self.label_key, label), self.classes)
            values = {(c, m): v for (c, m), v in values.items() if c not in hidden}
            about = {"case": name, "patient": outward(str(item.get("patient", name))), **self.columns, **_effort(attacked, i)}
            rows = [{**about, "class": c, "metric": m, "value": v} for (c, m), v in values.items()]
            self._writer.add(rows + member_rows(attacked, i, about, self.classes, hidden))
            if self.gallery:
                mean = float(np.mean([v for (_, m), v in values.items() if m == "dice"]))
                clean = image if attacked is None else attacked.clean[i]
                self.gallery.offer(name, mean, clean, image, output.get("shown_label", drawn), output.get("shown_pred", near))

    def completed(self, engine: Engine) -> None:
        """Close the table and write gallery and card."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        if self.gallery:
            self.gallery.finish()
        self.done = True
        if self.card:
            try:
                build(self.folder, model=self.of["model"], run=self.fingerprint)
            except (ValueError, OSError) as error:  # of other cells in the folder, or a full disk; this one's records are written
                logger.warning("card not written: %s; monai-advdef report %s makes it later", error, self.folder)

    def release(self) -> None:
        """Leave the cell to the next that evaluates it; for one that was not completed. Its rows stay among the unfinished."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None

    def _attacked(self, engine: Engine) -> Attacked | None:
        """What the attack did to this batch; ``None`` for a clean evaluation.

        Raises:
            AttackNotApplied: an attack is configured, but did not touch this batch.
        """
        if self.attack is None:
            return None
        attacked = getattr(engine.state, "attack", None)
        if attacked is None or attacked.iteration != engine.state.iteration:
            raise AttackNotApplied(
                f"{self.attack.label} is configured but did not touch batch {engine.state.iteration}: list the attack "
                "overlay after evaluate.yaml, so that its '+validate::handlers' adds to the handlers"
            )
        return attacked

    def _bare(self, engine: Engine) -> Tensor | None:
        """Predictions (B, 1, \\*S) or (B, K, \\*S) for this batch's images without the defence; ``None`` where there is none."""
        if defense_of(engine) is None:
            return None
        victim = Victim(engine.network, inferer=engine.inferer.inferer, activation=self.activation)  # type: ignore[attr-defined]
        image = torch.stack([torch.as_tensor(item[self.image_key]) for item in items_of(engine.state.batch)])
        image = image.as_tensor() if hasattr(image, "as_tensor") else image
        with torch.no_grad():
            return victim.predict(victim(image.to(engine.state.device)))

    def _values(self, prediction: Tensor, label: Tensor) -> dict[tuple[str, str], float]:
        """Metric by class name and metric name."""
        if prediction.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"the prediction has shape {tuple(prediction.shape)}, the label {tuple(label.shape)}, which must agree behind the "
                "channels; score both on one grid (the same Invertd or Resized for both), and of a network's heads the deployed one"
            )
        if self.activation == "softmax":
            k = len(self.classes) + 1
            found, true = label_map(prediction, "the prediction", k), label_map(label, "the label", k, hard=True)
            table = counts(found[None, None], true[None, None], k)
        else:
            table = counts(masks_of(prediction, "the prediction")[None], masks_of(label, "the label")[None])
        if table[0].shape[1] != len(self.classes):
            raise ValueError(
                f"classes names {len(self.classes)} foreground classes ({self.classes}), the prediction has {table[0].shape[1]}"
            )
        return {(c, m): float(f(*table)[0, k]) for m, f in METRICS.items() for k, c in enumerate(self.classes)}


def _effort(attacked: Attacked | None, i: int) -> dict[str, Any]:
    found = {n: (0 if attacked is None else getattr(attacked, n)[i]) for n in ("forwards", "backwards", "linf", "l2", "seconds")}
    return found if attacked is None or attacked.adaptive is None else {**found, "adaptive": attacked.adaptive}
