"""A comparison as a table: plain text for a terminal, and Markdown for documents."""

from __future__ import annotations

from collections.abc import Sequence

from monai_advdef.comparison.comparing import Compared, Comparison
from monai_advdef.report import words
from monai_advdef.report.scope import METRIC_NAMES

HEADS = ("attack", "a", "b", "verdict", "n (patients)", "mean a", "mean b", "difference", "95 % interval", "effect", "p (Holm)")
LEFT = 4
"""Columns that hold words."""


def called(measure: str) -> str:
    """The measure as a reader knows it."""
    return METRIC_NAMES.get(measure, measure)


def value(measure: str, number: float) -> str:
    """A score as the card has it, a distance or volume with two digits behind the point."""
    return words.fraction(number, 3 if _fraction(measure) else 2)


def change(measure: str, number: float) -> str:
    """A difference with its sign; a dash where there is none."""
    return words.gain(number, 3 if _fraction(measure) else 2)


def span(measure: str, row: Compared) -> str:
    """``−.012 to +.034``, a dash where there is no interval."""
    low, high = change(measure, row.ci_low), change(measure, row.ci_high)
    return "–" if low == "–" else f"{low} to {high}"


def cells(found: Comparison) -> list[list[str]]:
    """The rows as text, in the order of ``HEADS``."""
    name = found.measure
    return [
        [
            row.condition,
            row.a,
            row.b,
            row.verdict,
            f"{row.n} ({row.patients})",
            value(name, row.mean_a),
            value(name, row.mean_b),
            change(name, row.difference),
            span(name, row),
            words.gain(row.effect, 2),
            words.p_value(row.p_holm),
        ]
        for row in found.rows
    ]


def remarks(found: Comparison) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    side = {"higher": "higher is better", "lower": "lower is better", "nearer 0": "without its sign, nearer 0 is better"}[
        found.better
    ]
    on = f"{words.count(found.cases, 'case')} of {words.count(found.patients, 'patient')}"
    told = [
        f"{called(found.measure)}, {side}; on {on} that all sides have; difference: a minus b, mean over cases, interval over "
        f"patients; Holm over {words.count(len(found.rows), 'comparison')}"
    ]
    told += [
        f"{row.a} and {row.b}, {row.condition}: {words.count(row.unpaired, 'pair')} of case and class left out, of which only one "
        "side has a value"
        for row in found.rows
        if row.unpaired
    ]
    return [*told, *found.notes]


def text_table(found: Comparison) -> str:
    """For a terminal: columns aligned, remarks below."""
    rows = [list(HEADS), *cells(found)]
    wide = [max(len(row[k]) for row in rows) for k in range(len(HEADS))]
    lines = ["  ".join(t.ljust(w) if k < LEFT else t.rjust(w) for k, (t, w) in enumerate(zip(row, wide))).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in wide))
    return (
        "\n".join([*lines, "", *(f"- {text}" for text in remarks(found)), *(f"- suspect: {text}" for text in found.doubts)]) + "\n"
    )


def markdown_table(found: Comparison) -> str:
    """For documents."""
    lines = [_row(HEADS), f"|{'---|' * LEFT}{'---:|' * (len(HEADS) - LEFT)}", *(_row(row) for row in cells(found))]
    told = [*remarks(found), *(f"**suspect**: {text}" for text in found.doubts)]
    return "\n".join([*lines, "", *(f"- {_escaped(text)}" for text in told)]) + "\n"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _fraction(measure: str) -> bool:
    return not measure.endswith(("_mm", "_ml", "_percent", "_px", "_mm2"))
