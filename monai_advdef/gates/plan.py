"""Gates against what an audit is going to do, before it does it: a number that will not be there is refused at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai_advdef.comparison.measures import OVERLAPS, SAME, STABILITY, recorded, same_unit
from monai_advdef.errors import DataError, nearest
from monai_advdef.gates.expression import EXAMPLES, Gate


def check_plan(
    gates: Sequence[Gate],
    *,
    sizes: Sequence[float],
    unit: str,
    classes: Sequence[str],
    measures: Sequence[str] = (),
    attacks: Sequence[str] = (),
    labels: bool = True,
) -> None:
    """Refuse the first gate whose number the audit will not record.

    Args:
        gates: see :func:`monai_advdef.gates.parse_gates`.
        sizes: what will be attacked, in ``unit``.
        unit: of the images: ``"HU"``, ``"grey level"``, ``"sigma"``, ``"% of the range"``.
        classes: names of the foreground classes (and regions).
        measures: the metrics that will be recorded, as ``("dice", "iou", "nsd", "hd95_mm")``; empty: not compared.
        attacks: suites and attacks that will be run; empty: not compared.
        labels: whether there are labels.

    Raises:
        DataError: names the gate, what it asks for and what there will be.
    """
    for gate in gates:
        if gate.eps is not None and gate.unit and not same_unit(gate.unit, unit):
            _refuse(gate, f"it is in {gate.unit}, and the images are in {unit}", "write it in that unit, or give --unit")
        if gate.eps is not None and not any(math.isclose(gate.eps, size, rel_tol=SAME) for size in sizes):
            told = ", ".join(f"{size:g}" for size in sizes)
            _refuse(gate, f"{gate.eps:g} {unit} will not be attacked (but {told})", "change the gate, or --eps")
        if gate.measure == STABILITY and labels:
            _refuse(gate, "stability is for audits without labels, and there are labels", "the measure is dice")
        if gate.measure in OVERLAPS and not labels:
            _refuse(gate, f"there are no labels, so there is no {gate.measure}", "the measure is stability")
        if measures and recorded(gate.measure) not in measures:
            _refuse(gate, f"{gate.measure} will not be measured", f"measured are {', '.join(measures)}")
        if gate.structure and gate.structure.casefold() not in (name.casefold() for name in classes):
            _refuse(gate, f"this model has no class {gate.structure!r}", nearest(gate.structure, classes))
        known = [name.casefold() for name in attacks]
        if gate.attack and known and not any(gate.attack.casefold() in (name, name.partition("-")[0]) for name in known):
            _refuse(gate, f"no suite or attack is called {gate.attack!r}", nearest(gate.attack, attacks))


def _refuse(gate: Gate, why: str, remedy: str) -> None:
    raise DataError(f"gate {str(gate)!r}: {why}; {remedy}. Examples: {', '.join(EXAMPLES[:3])}")
