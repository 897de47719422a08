"""Table 1 of paper 002: generators of deformations and intensity changes over xi, beside fields optimised for each image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_advdef.attacks import FieldAttack
from monai_advdef.papers.page import PaperPage
from monai_advdef.papers.synthesis import scores as synthesis_scores
from monai_advdef.papers.synthesis import tables as synthesis_tables
from monai_advdef.papers.synthesis import text as synthesis_text
from monai_advdef.papers.synthesis.drawings import curves
from monai_advdef.papers.synthesis.scores import FIELDS, GENERATOR, Line
from monai_advdef.papers.synthesis.tables import Units
from monai_advdef.progress import Steps
from monai_advdef.study import Cell, carry_out, quiet, recorded
from monai_advdef.switches import as_written
from monai_advdef.synthesis import kept_generators, trained_epochs

UNITS = ("patient", "case")
NORMS = ("norm_displacement", "norm_intensity")


class SynthesisTable(PaperPage):
    """Dice of every organ under generators and under field attacks, against the labels as they are and as warped.

    Args:
        rows: ``{"xi": 2, "parts": "both"}`` each: the generator trained so, the field attack of the same objective, and the field
            attack at equal perceptibility; ``parts`` as ``"deformation"`` or ``"intensity"`` alone too.
        epochs: of every generator's training. Generators lie in ``ckpt_dir/synthesis/<parts>_xi<xi>``; what is missing is trained, a
            training that was killed is resumed.
        value_range, unit: of the image (see :class:`monai_advdef.ThreatModel`).
        length: what the voxel spacing is in: ``"mm"``, or ``"pixels"``.
        training: further overrides of ``workflows/training/synthesis``.
        generator: options of the ``SynthesisAttack``, such as ``restarts``.
        fields: options of the ``FieldAttack``, such as ``steps``.
        factors: by which its weights on the norm of the fields are multiplied for the rows of equal perceptibility, beside 1.
        checkpoints: how many generators of a training, the last that it kept, a row is the mean of.
        per: ``"patient"`` pools the voxels of all images of a patient, ``"case"`` takes each image for itself.
        dataset: the cases to evaluate, read once for all cells.
        page: ``name, title, bundle_root, settings`` and ``note`` of :class:`~monai_advdef.papers.page.PaperPage`.

    Run again, a table goes on where it stopped.

    Raises:
        ValueError: no row, or two alike; ``per`` or ``checkpoints`` out of range.
        FileNotFoundError: a training kept fewer generators than ``checkpoints``.

    Source: Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial learning", 2019, table 1; warped
    labels, the field attack, the mean over checkpoints and the pooling are ours.
    """

    @as_written
    def __init__(
        self,
        *,
        rows: Sequence[Mapping[str, Any]],
        epochs: int,
        value_range: Any,
        unit: str,
        length: str = "mm",
        training: Mapping[str, Any] | None = None,
        generator: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
        factors: Sequence[float] = (),
        checkpoints: int = 3,
        per: str = "patient",
        dataset: Any = None,
        **page: Any,
    ) -> None:
        super().__init__(**page)
        self.rows = [(float(row["xi"]), str(row.get("parts", "both"))) for row in rows]
        if not self.rows or len(set(self.rows)) < len(self.rows):
            raise ValueError(f"rows of {self.name} must be given, each once; got {self.rows}")
        if per not in UNITS:
            raise ValueError(f"per must be one of {', '.join(UNITS)}, got {per!r}")
        if checkpoints < 1:
            raise ValueError(f"checkpoints must be ≥ 1, got {checkpoints}; 3 is usual")
        self.cases = {} if dataset is None else {"validate::dataset": dataset}
        self.epochs, self.checkpoints, self.per = int(epochs), int(checkpoints), per
        self.image = {"value_range": value_range, "unit": unit}
        self.units, self.training = Units(length, unit), dict(training or {})
        self.generator, self.fields = dict(generator or {}), dict(fields or {})
        self.factors = sorted({1.0, *map(float, factors)})

    def run(self) -> Path:
        """Train and evaluate what is missing and write the page.

        Returns:
            The Markdown file.
        """
        quiet()
        self.prepare(self.settings["ckpt_dir"])
        rows = self.evaluated(self.settings["ckpt_dir"])
        note = [f"{self.note}\n"] if self.note else []
        return self.write("\n".join([f"## {self.title}\n", *note, *self.page(rows, self.output)]))

    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page; the numbers and figures are written beside it."""
        found = self.lines(rows)
        synthesis_tables.csv(found).to_csv(output / f"{self.name}.csv", index=False)
        if len({xi for xi, _ in self.rows}) > 1:
            curves(found, output / f"{self.name}_curves.png")
        return [
            f"{synthesis_tables.counted(found)} {synthesis_tables.sigma(found, self.units)}\n",
            synthesis_tables.dice_table(found),
            synthesis_tables.dice_table(found, "warped"),
            synthesis_tables.drop_table(found),
            synthesis_tables.change_table(found, self.units),
            synthesis_text.paragraph(found),
        ]

    def prepare(self, ckpt_dir: str) -> None:
        """Train the network in ``ckpt_dir`` and the generators against it, where they are missing or not at their end."""
        if not (Path(ckpt_dir) / "model.pt").exists():
            self.train({**self.settings, "ckpt_dir": ckpt_dir}, f"no weights in {ckpt_dir}")
        for xi, parts in self.rows:
            folder = generator_folder(ckpt_dir, xi, parts)
            if (done := trained_epochs(folder)) < self.epochs:
                print(f"{self.name}: generator of ξ = {xi:g} ({parts}), epoch {done} of {self.epochs}")
                told = {"xi": xi, "parts": parts, "synthesis_dir": str(folder), "synthesis_epochs": self.epochs}
                told |= {f"threat_def::{k}": v for k, v in self.image.items()}
                carry_out(self.bundle, ("training/synthesis",), {**self.settings, "ckpt_dir": ckpt_dir, **told, **self.training})

    def evaluated(self, ckpt_dir: str) -> pd.DataFrame:
        """Records of all cells against the network in ``ckpt_dir``, as :mod:`monai_advdef.papers.synthesis.scores` takes them."""
        plan = [cell for row in self.rows for cell in [*self.generator_cells(ckpt_dir, *row), *self.field_cells(*row)]]
        return self.evaluated_cells(ckpt_dir, plan)

    def evaluated_cells(self, ckpt_dir: str, plan: Sequence[tuple[dict[str, Any], Cell]]) -> pd.DataFrame:
        """Records of some cells against the network in ``ckpt_dir``."""
        rows = []
        with Steps(f"{self.name}: {len(plan)} evaluations", len(plan)) as steps:
            for about, cell in plan:
                told = {**self.settings, "ckpt_dir": ckpt_dir, **self.cases}
                rows.append(recorded(self.bundle, cell, told).assign(**about))
                steps.done(", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in about.values()))
        return pd.concat(rows, ignore_index=True)

    def generator_cells(self, ckpt_dir: str, xi: float, parts: str) -> list[tuple[dict[str, Any], Cell]]:
        """What tells each evaluation of a generator apart, and the evaluation."""
        kept = kept_generators(generator_folder(ckpt_dir, xi, parts), self.checkpoints)
        return [
            (
                {"kind": GENERATOR, "xi": xi, "parts": parts, "run": float(epoch)},
                self.cell("synthesis", weights=str(path), **self.generator),
            )
            for epoch, path in kept.items()
        ]

    def field_cells(self, xi: float, parts: str) -> list[tuple[dict[str, Any], Cell]]:
        """The same for the field attack, once for each factor of the penalty."""
        found = []
        for factor in self.factors:
            weights = {name: factor * float(self.fields.get(name, getattr(FieldAttack, name))) for name in NORMS}
            cell = self.cell("field_attack", **{**self.fields, **weights, "xi": xi, "parts": parts})
            found.append(({"kind": FIELDS, "xi": xi, "parts": parts, "run": factor}, cell))
        return found

    def cell(self, overlay: str, **options: Any) -> Cell:
        """An evaluation under an attack by fields."""
        told = {f"attack_def::{k}": v for k, v in {**self.image, **options}.items()}
        return Cell((f"attacks/{overlay}",), {**told, "record_def::card": False, "record_def::gallery": False})

    def lines(self, rows: pd.DataFrame) -> list[Line]:
        """The lines of the tables."""
        return synthesis_tables.shown(synthesis_scores.lines(rows, self.per))


def generator_folder(ckpt_dir: str | os.PathLike[str], xi: float, parts: str) -> Path:
    """Where the generators of one training lie."""
    return Path(ckpt_dir) / "synthesis" / f"{parts}_xi{xi:g}"
