"""Gates: numbers that an audit must reach, and what build servers are told. They stand on records and statistics, and never import
torch or monai.

A gate is written as in ``dice[spleen]@5HU/standard >= 0.6``; :mod:`monai_advdef.gates.expression` has its grammar in five lines.
"""

from __future__ import annotations

from monai_advdef.gates.baseline import MARGIN, check_baseline, check_margin, evaluate_baseline
from monai_advdef.gates.evaluate import GateResult, evaluate_gates
from monai_advdef.gates.expression import Gate, parse_gate, parse_gates
from monai_advdef.gates.junit_xml import junit, write_junit
from monai_advdef.gates.outcome import MEANING, doubtful, exit_code, in_words, plain
from monai_advdef.gates.plan import check_plan

__all__ = [
    "MARGIN",
    "MEANING",
    "Gate",
    "GateResult",
    "check_baseline",
    "check_margin",
    "check_plan",
    "doubtful",
    "evaluate_baseline",
    "evaluate_gates",
    "exit_code",
    "in_words",
    "junit",
    "parse_gate",
    "parse_gates",
    "plain",
    "write_junit",
]
