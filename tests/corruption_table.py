"""The table of severities in words, as the page of the corruptions has it."""

from __future__ import annotations

from monai_advdef.corruptions import SEVERITIES


def table() -> str:
    """A row for each parameter of each corruption: values at the severities 1 to 5, unit, and what it is."""
    rows = ["| corruption | of | 1 | 2 | 3 | 4 | 5 | unit | what happens | source of the values |", "|" + "---|" * 10]
    for name, scale in SEVERITIES.items():
        for parameter in scale.parameters:
            values = " | ".join(f"{v:.4g}" for v in parameter.levels)
            rows.append(f"| `{name}` | {scale.modality} | {values} | {parameter.unit} | {scale.title} | {scale.source} |")
    return "\n".join(rows) + "\n"
