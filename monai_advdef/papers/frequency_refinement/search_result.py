"""What a search for the quantisation table found: the rows, the chosen one, and the files that show them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from monai_advdef.papers.frequency_refinement.band_statistics import BANDS, band_group, band_ranks, top_bands
from monai_advdef.papers.frequency_refinement.drawings import bands_figure, heat_map

REFERENCES = ("none", "JPEG(85)")
"""What the benign loss is measured against, and the paper's bound on it; on benign images only."""
SLACK = 0.5
"""IoU points a table may lose beyond JPEG(85) on benign images, where no bound is given; the paper's criterion is informal."""
PAPER = ((20, 10, 60), (30, 5, 80))
Triple = tuple[int, int, int]


class Found(NamedTuple):
    """IoU of one case in one setting on the benign and the adversarial image, and the forward passes that took."""

    benign: float
    adversarial: float | None
    passes: int


def setting_name(steps: Sequence[float]) -> str:
    """``"FR(30,5,80)"``."""
    return f"FR({','.join(f'{s:g}' for s in steps)})"


def choose(rows: pd.DataFrame, limit: float) -> int | None:
    """Index of the row with the highest adversarial mean among those that lose at most ``limit``; of equals the smallest loss.

    ``None`` where every row loses more.
    """
    allowed = rows[rows["benign_loss"] <= limit]
    order = allowed.sort_values(["adversarial_mean", "benign_loss"], ascending=[False, True], kind="stable")
    return None if order.empty else int(order.index[0])


@dataclass(frozen=True)
class SearchResult:
    """``rows`` has one row a table, in IoU points: qs1, qs2, qs3, n, benign_mean, benign_std, benign_loss (against no defence),
    adversarial_mean, adversarial_std, admissible, best, note. Standard deviations are over cases (population)."""

    rows: pd.DataFrame
    references: dict[str, tuple[float, float]]
    limit: float
    limit_given: bool
    best: Triple | None
    table: Tensor | None
    edges: tuple[str, ...]
    cases: tuple[str, ...]
    passes: int

    @classmethod
    def of(
        cls,
        values: Mapping[str, Mapping[str, Found]],
        tables: Mapping[Triple, Tensor],
        grid: Sequence[Sequence[int]],
        max_benign_loss: float | None = None,
    ) -> SearchResult:
        """From the IoU by case and setting (see :data:`REFERENCES` and :func:`setting_name`)."""

        def points(setting: str, image: str) -> np.ndarray:
            return 100 * np.array([getattr(found[setting], image) for found in values.values()])

        references = {r: (float(points(r, "benign").mean()), float(points(r, "benign").std())) for r in REFERENCES}
        clean, jpeg = (references[r][0] for r in REFERENCES)
        limit = clean - jpeg + SLACK if max_benign_loss is None else max_benign_loss
        rows = []
        for steps in tables:
            benign, adversarial = (points(setting_name(steps), image) for image in ("benign", "adversarial"))
            row: dict[str, Any] = {**dict(zip(("qs1", "qs2", "qs3"), steps)), "n": len(values)}
            row |= {"benign_mean": benign.mean(), "benign_std": benign.std(), "benign_loss": clean - benign.mean()}
            rows.append({**row, "adversarial_mean": adversarial.mean(), "adversarial_std": adversarial.std()})
        frame = pd.DataFrame(rows)
        at = choose(frame, limit)
        best = None if at is None else list(tables)[at]
        frame["admissible"], frame["best"] = frame["benign_loss"] <= limit, frame.index == at
        frame["note"] = [_note(steps, steps == best, ok) for steps, ok in zip(tables, frame["admissible"])]
        passes = max(sum(found.passes for found in case.values()) for case in _only(values, tables))
        edges = () if best is None else _edges(best, grid)
        given = max_benign_loss is not None
        return cls(frame, references, limit, given, best, None if best is None else tables[best], edges, tuple(values), passes)


def write_result(folder: Path, result: SearchResult, std: np.ndarray, about: Mapping[str, Any]) -> None:
    """Write the files of a search; ``std`` are the 8x8 band statistics, ``about`` says what was searched on.

    Raises:
        ValueError: no table keeps the benign loss within the bound; everything but ``table.json`` is written.
    """
    ranks = band_ranks(std)
    result.rows.to_csv(folder / "search.csv", index=False, float_format="%.4f")
    (folder / "search.md").write_text(markdown(result, std, about), encoding="utf-8")
    bands = {"band_std": std.tolist(), "rank": ranks.tolist(), "top": top_bands(std)}
    (folder / "bands.json").write_text(json.dumps(bands, indent=1) + "\n", encoding="utf-8")
    about_n = f"{about['attack_name']}, n = {len(result.cases)} {about['section']} images"
    heat_map(result.rows, folder / "heat_map.png", f"Step sizes of Frequency Refinement: {about_n}", result.limit)
    bands_figure(std.T, ranks.T, band_group(ranks).T, folder / "bands.png")
    if result.best is None or result.table is None:
        (folder / "table.json").unlink(missing_ok=True)
        least = result.rows.sort_values("benign_loss").iloc[0]
        raise ValueError(
            f"no table loses at most {result.limit:.2f} IoU points on benign images; {setting_name(least[['qs1', 'qs2', 'qs3']])} "
            f"loses least, {least['benign_loss']:.2f}. Set max_benign_loss to that, or train the network longer; see {folder}"
        )
    row = result.rows[result.rows["best"]].iloc[0]
    numbers = {k: round(float(row[k]), 4) for k in row.index if k.startswith(("benign", "adversarial"))}
    written = {
        "table": result.table.tolist(),
        "steps": list(result.best),
        "band_std_digest": hashlib.sha256(std.tobytes()).hexdigest()[:16],
        **about,
        "n": len(result.cases),
        "cases": list(result.cases),
        "iou_percent": numbers,
        "references_percent": {name: {"benign_mean": m, "benign_std": s} for name, (m, s) in result.references.items()},
        "max_benign_loss": result.limit,
        "on_edge": list(result.edges),
        "forward_passes_per_image": result.passes,
    }
    (folder / "table.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def markdown(result: SearchResult, std: np.ndarray, about: Mapping[str, Any]) -> str:
    """The text of ``search.md``."""
    clean, jpeg = (result.references[r] for r in REFERENCES)
    bound = "as given" if result.limit_given else f"JPEG(85)'s {clean[0] - jpeg[0]:.2f} and {SLACK} more"
    lines = [
        "# Search for the step sizes of Frequency Refinement",
        "",
        f"Data: {about['data']}, {about['section']} section, n = {len(result.cases)}. Attack: {about['attack_name']}, without "
        f"knowledge of the defence. Grid: {about['grid']}, {len(result.rows)} triples (QS1, QS2, QS3). IoU in %, mean ± population "
        "standard deviation over the images, against the true masks; the loss is in IoU points against no defence.",
        f"Cost: {result.passes} forward passes an image, beside crafting the adversarial images once.",
        "",
        f"Benign images without a defence: {_pm(*clean)}; behind JPEG(85), 4:2:0: {_pm(*jpeg)}.",
        f"Constraint: a benign loss of at most {result.limit:.2f} points ({bound}). Among those the highest adversarial mean is "
        "chosen, of equals the smallest benign loss.",
        "",
        _verdict(result),
        "",
        "| QS1 | QS2 | QS3 | benign | benign loss | adversarial | |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in result.rows.sort_values(["adversarial_mean", "benign_loss"], ascending=[False, True]).to_dict("records"):
        cells = [str(row["qs1"]), str(row["qs2"]), str(row["qs3"]), _pm(row["benign_mean"], row["benign_std"])]
        cells += [f"{row['benign_loss']:.2f}", _pm(row["adversarial_mean"], row["adversarial_std"]), row["note"]]
        mark = "**" if row["best"] else ""
        lines.append("| " + " | ".join(f"{mark}{c}{mark}" if c else "" for c in cells) + " |")
    return "\n".join([*lines, "", *_bands(std)]) + "\n"


def _verdict(result: SearchResult) -> str:
    if result.best is None:
        return "**No table meets the constraint.**"
    edge = f"It lies on the edge of the grid: {', '.join(result.edges)}." if result.edges else "It lies inside the grid."
    return f"**Chosen: {setting_name(result.best)}.** {edge}"


def _bands(std: np.ndarray) -> list[str]:
    """The section on the band statistics."""
    ranks = band_ranks(std)
    rows, ranked = ([[f"{v:g}" for v in row] for row in matrix.T] for matrix in (std.round(1), ranks))
    head = ["| v \\ u | " + " | ".join(map(str, range(8))) + " |", "|---:" * 9 + "|"]
    group = [[BANDS[g] for g in row] for row in band_group(ranks).T]
    both = [[f"{r} {g}" for r, g in zip(*pair)] for pair in zip(ranked, group)]
    return [
        "## Band statistics",
        "",
        "Standard deviation of the orthonormal 8x8 DCT coefficients of the benign training images, in grey levels, over all blocks "
        "and channels. Columns: half waves across the picture (u), rows: half waves down it (v); files hold arrays indexed [u][v].",
        "",
        f"The three top bands (PD): {'; '.join(top_bands(std))}.",
        "",
        *head,
        *(f"| {v} | " + " | ".join(row) + " |" for v, row in enumerate(rows)),
        "",
        "Rank and band (PD: ranks 1-3, QS1; AC: 4-15, QS2; GD: 16-64, QS3):",
        "",
        *head,
        *(f"| {v} | " + " | ".join(row) + " |" for v, row in enumerate(both)),
    ]


def _only(values: Mapping[str, Mapping[str, Found]], tables: Mapping[Triple, Tensor]) -> list[dict[str, Found]]:
    """The settings of this search: the progress of another grid may hold more."""
    wanted = {*REFERENCES, *map(setting_name, tables)}
    return [{s: f for s, f in case.items() if s in wanted} for case in values.values()]


def _edges(best: Triple, grid: Sequence[Sequence[int]]) -> tuple[str, ...]:
    said = []
    for name, step, known in zip(("QS1", "QS2", "QS3"), best, grid):
        if step in (min(known), max(known)):
            said.append(f"{name} = {step} is the {'smallest' if step == min(known) else 'largest'}")
    return tuple(said)


def _note(steps: Triple, best: bool, admissible: bool) -> str:
    words = ["chosen"] * best + ["the paper's"] * (steps in PAPER) + ["loses too much"] * (not admissible)
    return ", ".join(words)


def _pm(mean: float, std: float) -> str:
    return f"{mean:.1f} ± {std:.1f}"
