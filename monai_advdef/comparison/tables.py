"""A comparison as a table: plain text for a terminal, and Markdown for documents."""

from __future__ import annotations

from collections.abc import Sequence

from monai_advdef.comparison.compare import Compared, Comparison
from monai_advdef.report import words

HEADS = ("attack", "a", "b", "n", "mean a", "mean b", "difference", "95 % interval", "effect", "p (Holm)", "verdict")


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
            f"{row.n}" + (f" of {words.count(row.patients, 'patient')}" if row.patients != row.n else ""),
            value(name, row.mean_a),
            value(name, row.mean_b),
            change(name, row.difference),
            span(name, row),
            words.gain(row.effect, 2),
            words.p_value(row.p_holm),
            row.verdict,
        ]
        for row in found.rows
    ]


def remarks(found: Comparison) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    side = {"higher": "higher is better", "lower": "lower is better", "nearer 0": "without its sign, nearer 0 is better"}[
        found.better
    ]
    told = [
        f"{found.measure}, {side}; on {words.count(found.cases, 'case')} of {words.count(found.patients, 'patient')} that all sides "
        "have; difference: a minus b, mean over cases, interval over patients; Holm over "
        f"{words.count(len(found.rows), 'comparison')}"
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
    left = (0, 1, 2, 10)
    lines = ["  ".join(t.ljust(w) if k in left else t.rjust(w) for k, (t, w) in enumerate(zip(row, wide))).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in wide))
    return (
        "\n".join([*lines, "", *(f"- {text}" for text in remarks(found)), *(f"- suspect: {text}" for text in found.doubts)]) + "\n"
    )


def markdown_table(found: Comparison) -> str:
    """For documents."""
    lines = [_row(HEADS), "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|", *(_row(row) for row in cells(found))]
    told = [*remarks(found), *(f"**suspect**: {text}" for text in found.doubts)]
    return "\n".join([*lines, "", *(f"- {_escaped(text)}" for text in told)]) + "\n"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _fraction(measure: str) -> bool:
    return not measure.endswith(("_mm", "_ml", "_percent"))
