"""What a row of records is: its columns, and what makes one wrong."""

from __future__ import annotations

import math
import numbers

import numpy as np
import pyarrow as pa

COLUMNS: dict[str, type] = {
    **dict.fromkeys(("case", "patient", "task", "model", "class", "metric"), str),
    **{"value": float, "attack": str, "eps": float, "unit": str, "norm": str, "defense": str, "adaptive": bool},
    **dict.fromkeys(("steps", "restarts", "forwards", "backwards"), int),
    **{"linf": float, "l2": float, "seconds": float, "seed": int, "suite": str, "fingerprint": str},
}
EXTRAS: dict[str, type] = {"budget": str, "weights": str, "data": str, "reference": str}
"""Columns that a table has beside ``COLUMNS`` where they are known: each channel's budget, digests of weights and data, and what was
scored against (empty in older tables, which were all scored against labels)."""
LABELS, OWN_PREDICTION = "labels", "own prediction"
REFERENCES = (LABELS, OWN_PREDICTION)
"""What predictions are scored against: labels of the data set, or the model's own prediction for the clean image."""
KEY = ("case", "class", "metric", "seed", "attack", "adaptive", "steps", "restarts")
"""What a cell holds one row of; the cell of a suite has rows of several attacks."""
_ARROW = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
_ABSTRACT = {str: str, float: numbers.Real, int: numbers.Integral, bool: (bool, np.bool_)}
SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in (COLUMNS | EXTRAS).items()])


def check_row(row: dict) -> dict:
    """The row with plain Python values in the order of ``COLUMNS``. Raises ``ValueError`` naming column, value and remedy.

    Beyond columns and types: Dice and IoU lie in 0..1 (NaN where undefined), ``eps`` is >= 0 (infinite for an unbounded attack),
    no measured size exceeds it, and a clean row (attack ``"none"``) has ``eps=0.0`` and ``adaptive=False``. Of ``EXTRAS`` what is
    left out is empty.
    """
    row = {**dict.fromkeys(EXTRAS, ""), **row}
    known = COLUMNS | EXTRAS
    missing, surplus = known.keys() - row.keys(), row.keys() - known.keys()
    if missing or surplus:
        raise ValueError(f"a row must have exactly the columns of COLUMNS; missing {sorted(missing)}, not known {sorted(surplus)}")
    for name, kind in known.items():
        numeric_flag = kind is not bool and isinstance(row[name], (bool, np.bool_))
        if numeric_flag or not isinstance(row[name], _ABSTRACT[kind]):  # type: ignore[arg-type]
            raise ValueError(f"{name} must be of type {kind.__name__}, got {row[name]!r}")
    clean = {name: kind(row[name]) for name, kind in known.items()}
    if clean["metric"] in ("dice", "iou") and not (math.isnan(clean["value"]) or 0.0 <= clean["value"] <= 1.0):
        raise ValueError(f"value of {clean['metric']} must lie in 0..1, got {clean['value']}; record fractions, not per cent")
    if not clean["eps"] >= 0:
        raise ValueError(f"eps must be >= 0 (inf for an unbounded attack), got {clean['eps']}")
    if clean["attack"] == "none" and (clean["eps"] != 0 or clean["adaptive"]):
        raise ValueError(
            f"a clean row (attack 'none') has eps 0.0 and adaptive False, got eps {clean['eps']} and adaptive {clean['adaptive']}"
        )
    if clean["reference"] not in ("", *REFERENCES):
        raise ValueError(f"reference must be one of {list(REFERENCES)}, got {clean['reference']!r}")
    _check_size(clean)
    return clean


def _check_size(row: dict) -> None:
    """Refuse a change that was measured to be larger than eps. Not compared: an eps in per cent of each image's range, and images
    stored with 8 bits, which rounding may carry half a level further; who knows the images compares these."""
    measured = row["norm"] if row["norm"] in ("linf", "l2") else None
    if measured is None or row["attack"] == "none" or row["budget"].endswith("%") or "(8-bit)" in row["attack"]:
        return
    if not row[measured] <= row["eps"] * (1 + 1e-6):
        raise ValueError(
            f"case {row['case']} was changed by {row[measured]:.6g} ({measured}), more than eps {row['eps']:g} {row['unit']}; such "
            "a row is not stored: check the attack's projection, its unit and whether eps is relative"
        )


def refuse_twice(known: set[tuple], fresh: set[tuple], row: dict) -> None:
    """Refuse a second row of one case, class and metric in one cell: no reader could tell which of the two counts.

    It is looked for among those ``known`` and the ``fresh`` ones, and joins these.
    """
    key = tuple(row[name] for name in KEY)
    if key in known or key in fresh:
        raise ValueError(
            f"case {row['case']} has a second {row['metric']} of class {row['class']!r} in cell {row['fingerprint']}; give every "
            "case a 'case' of its own in the data list, and evaluate it whole"
        )
    fresh.add(key)
