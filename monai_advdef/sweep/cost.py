"""What a study will take, before it is run: passes, time, disk and memory, from one look at the first case of each kind of cell."""

from __future__ import annotations

import io
import resource
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monai_advdef.audit import audit
from monai_advdef.audit.building import built, unwrapped
from monai_advdef.audit.plan import Plan, told_bytes, told_seconds
from monai_advdef.audit.plan import timed as time_passes
from monai_advdef.handlers import SuiteHandler
from monai_advdef.handlers.options import VictimSettings
from monai_advdef.study import prepared, quiet
from monai_advdef.suite.plan import plan as plan_of
from monai_advdef.sweep.board import say
from monai_advdef.sweep.cells import BUNDLE, CHECKS, SweepCell
from monai_advdef.sweep.run import Runner, audit_folder, computing_with, in_words
from monai_advdef.victim import Victim

SET_UP = 1.0  # seconds of a cell beside its passes


@dataclass(frozen=True)
class Cost:
    """Of one cell: see :class:`monai_advdef.audit.plan.Plan`; ``error`` says why it is not known."""

    cell: SweepCell
    plan: Plan | None = None
    error: str = ""

    @property
    def seconds(self) -> float:
        """At most, but for checks."""
        return SET_UP + self.plan.cases * (self.plan.passes + 1) * self.plan.seconds if self.plan else 0.0

    @property
    def disk(self) -> float:
        """Bytes of adversarial images."""
        return self.plan.cases * self.plan.image_bytes if self.plan and self.plan.passes else 0.0


class Estimate:
    """Looks at cells, once at each model on each section behind each defence.

    Args:
        folder: the output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.runner = folder, Runner(folder)
        self._looks: dict[Any, Plan] = {}

    def __call__(self, cell: SweepCell) -> Cost:
        """The cost of one cell; nothing is recorded."""
        quiet()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), computing_with(cell.threads), unwrapped():
                return Cost(cell, self._look(cell) if cell.kind == BUNDLE else self._audit(cell))
        except Exception as error:  # the dry run says of all cells what is wrong
            return Cost(cell, error=in_words(error))

    def _audit(self, cell: SweepCell) -> Plan | None:
        return audit(cell.root, **{**cell.options, "dry_run": True}, output_dir=str(audit_folder(self.folder, cell))).plan

    def _look(self, cell: SweepCell) -> Plan:
        parser = prepared(*self.runner.evaluation(cell)).parser
        handler, evaluator = (built(parser, name) for name in ("attack_def", "validate::evaluator"))
        view = VictimSettings() if handler is None else handler.view
        batch = next(iter(evaluator.data_loader))
        device = evaluator.state.device
        image = batch["image" if handler is None else handler.image_key].to(device)
        image = (image.as_tensor() if hasattr(image, "as_tensor") else image).float()[:1]
        network = evaluator.network.to(device).eval()
        victim = view.victim(network, evaluator.inferer, device)
        cases = min(len(evaluator.data_loader.dataset), _limit(parser) or sys.maxsize)
        key = (cell.root, str(cell.settings), cell.data, cell.defense)
        if key not in self._looks:
            self._looks[key] = time_passes(victim, image, 0, cases)
        return replace(self._looks[key], passes=_passes(handler, victim, image), cases=cases)


def _limit(parser: ConfigParser) -> int:
    return int(parser.get("validate::evaluator::epoch_length", 0) or 0)


def _passes(handler: Any, victim: Victim, image: torch.Tensor) -> int:
    """Steps of an attack on one case, at most; each a pass forward and back."""
    if handler is None:
        return 0
    threat = handler.threat
    if not isinstance(handler, SuiteHandler):
        times = 2 if handler.begin == "oblivious" and victim.defense is not None else 1
        return int(handler.attack.count(threat) * handler.attack.restarts * times)
    runs = plan_of(handler.frozen, victim, threat, image, adaptive=handler.adaptive, transfer=handler.source is not None)
    return int(sum(slot.member.attack.count(threat) * slot.member.attack.restarts for slot in runs.slots))


def print_costs(folder: Path, cells: Sequence[SweepCell], done: int, workers: int, console: Console) -> bool:
    """Print cells, passes and estimates; returns whether all of them could be looked at."""
    estimate = Estimate(folder)
    costs = [estimate(cell) for cell in cells]
    table = Table("cell", "cases", "passes a case", "time", "disk")
    for cost in costs:
        plan, cell = cost.plan, cost.cell
        known = [str(plan.cases), f"at most {plan.passes}"] if plan else ["?", "?"]
        row = [cell.name, *known, *((told_seconds(cost.seconds), told_bytes(cost.disk)) if plan else ("?", "?"))]
        if console.is_terminal:
            table.add_row(*map(escape, row))
        else:
            say(console, f"{row[0]}: {row[1]} cases, {row[2]} passes a case, {row[3]}, {row[4]}")
    if console.is_terminal:
        console.print(table)
    for cost in costs:
        if cost.error:
            say(console, f"wrong: {cost.cell.name}: {cost.error}")
    _sum_up(costs, done, workers, console)
    return not any(cost.error for cost in costs)


def _sum_up(costs: Sequence[Cost], done: int, workers: int, console: Console) -> None:
    seconds, passes = sum(c.seconds for c in costs), sum(c.plan.cases * c.plan.passes for c in costs if c.plan)
    unknown = sum(bool(c.error) for c in costs)
    say(console, f"cells: {len(costs)} to run, {done} done before" + (f"; without the {unknown} that are wrong:" if unknown else ""))
    say(console, f"passes: at most {passes}")
    at_once = f", {told_seconds(seconds / workers)} by {workers} workers" if workers > 1 else ""
    checked = " and its checks" if any(CHECKS in c.cell.overlays or c.cell.options.get("checks") for c in costs) else ""
    source = "from one pass over the first case of each kind"
    say(console, f"time: about {told_seconds(seconds)}{at_once}, without loading{checked}; {source}")
    say(console, f"disk: {told_bytes(sum(c.disk for c in costs))} of adversarial images")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    gpu = f", {told_bytes(torch.cuda.max_memory_allocated())} of the GPU" if torch.cuda.is_available() else ""
    source = "this look's peak with one case at a time; batches take more"
    say(console, f"memory: {told_bytes(peak)}{gpu} for each worker, {source}")
