"""What an audit found, planned and concluded: on the terminal, and as ``audit.json``."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import monai
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monai_advdef import __version__
from monai_advdef import gates as gating
from monai_advdef.audit.plan import Plan
from monai_advdef.audit.reading import Fact, Reading
from monai_advdef.handlers.cell import outward
from monai_advdef.neighbours import cannot_write, whole
from monai_advdef.suite import Suite

FILE = "audit.json"


@dataclass
class Audit:
    """What an audit left.

    Args:
        folder: with records, card, evidence and ``audit.json``.
        suite: which was run.
        code: what a process ends with: 0 fine, 1 suspect or a gate missed.
        reading, facts, notes: of the model.
        plan: what was to be done.
        threat: the fields of the threat model.
        verdicts: of the checks.
        gates: results of gates and baseline.
    """

    folder: Path
    suite: Suite
    code: int = gating.outcome.FINE
    reading: Reading | None = None
    facts: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Plan | None = None
    threat: dict[str, Any] = field(default_factory=dict)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    gates: list[gating.GateResult] = field(default_factory=list)

    @property
    def card(self) -> Path:
        """The Robustness Card."""
        return self.folder / "card.html"

    @property
    def records(self) -> Path:
        """The folder of the records."""
        return self.folder / "records"


def print_plan(made: Audit, console: Console) -> None:
    """What was recovered, and what the audit will cost."""
    assert made.reading is not None and made.plan is not None
    title = f"{made.reading.kind} {made.reading.name}"
    rows = [(fact.field, fact.value, fact.source) for fact in made.facts]
    rows += [(name, str(value), "threat model") for name, value in made.threat.items()]
    rows += [(name, value, f"suite {made.suite.name}") for name, value in made.plan.lines()]
    if console.is_terminal:
        shown = Table("what", "value", "where from", title=title, title_justify="left")
        for row in rows:
            shown.add_row(*map(escape, row))
        console.print(shown)
    else:  # a line each, for logs
        console.print(
            title, *(f"{name}: {value} ({source})" for name, value, source in rows), sep="\n", markup=False, soft_wrap=True
        )
    for note in made.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def write_audit(made: Audit) -> Path:
    """Write ``audit.json`` and return its path.

    Raises:
        OSError: it cannot be written; names it and the remedy.
    """
    assert made.reading is not None and made.plan is not None
    held = {
        "model": {"name": made.reading.name, "kind": made.reading.kind},
        "suite": {"name": made.suite.name, "version": made.suite.version, "digest": made.suite.digest},
        "threat": made.threat,
        "facts": [asdict(fact) for fact in made.facts],
        "notes": made.notes,
        "plan": asdict(made.plan),
        "verdicts": made.verdicts,
        **gating.plain(made.verdicts, made.gates),
        "versions": {
            "monai_advdef": __version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    path = made.folder / FILE
    try:
        with whole(path) as new:
            new.write_text(json.dumps(outward(held), indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "what the audit found") from error
    return path
