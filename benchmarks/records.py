"""Card and Markdown table of a large folder of records: time and memory of a process of its own each, imports included.

The records are invented: 288 cells (8 defences, noise, three attacks of five sizes and one without a bound, attackers who know the
defence and who do not) of 350 cases, 4 classes and 2 metrics each are 806,400 rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import child, peak_memory

CASES, CLASSES = 350, ("liver", "spleen", "left kidney", "right kidney")
DEFENSES = ("none", *(f"JPEG({quality})" for quality in (95, 85, 75, 50)), "FR(30,5,80)", "blur", "adversarial training")
STEPS = {"FGSM": 1, "PGD": 10, "Auto-PGD": 100}
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)
MIB = 2**20


def main(*, quick: bool = False) -> None:
    """Print seconds and peak memory, for a twentieth of the cases too."""
    for cases in (CASES // 20,) if quick else (CASES // 20, CASES):
        with tempfile.TemporaryDirectory() as folder:
            rows = write(Path(folder) / "records", cases)
            found = [child("benchmarks.records", what, folder) for what in ("card", "table")]
        print(f"\n{rows} rows in {len(cells())} cells   target of both together <= 30 s, of each <= 1024 MiB")
        for what, of in zip(("card", "table"), found):
            print(f"  {what:5s}  {of['seconds']:5.1f} s, CPU time {of['cpu']:5.1f} s, peak {of['peak'] / MIB:5.0f} MiB", flush=True)


def cells() -> list[dict]:
    """What tells the cells apart."""
    found: list[dict] = []
    for defense in DEFENSES:
        found.append({"attack": "none", "eps": 0.0, "norm": "", "unit": "", "steps": 0, "defense": defense, "adaptive": False})
        noise = [("noise-uniform", eps, 0, False) for eps in SIZES]
        knows = (False, True) if defense != "none" else (False,)
        attacks = [(name, eps, steps, side) for name, steps in STEPS.items() for eps in SIZES for side in knows]
        for attack, eps, steps, side in noise + attacks + [("ASMA", np.inf, 1000, side) for side in knows]:
            norm = "linf" if np.isfinite(eps) else "unbounded"
            about = {"attack": attack, "eps": eps, "norm": norm, "unit": "grey level", "steps": steps}
            found.append({**about, "defense": defense, "adaptive": side})
    return found


def write(folder: Path, cases: int = CASES) -> int:
    """Write the cells of a study on so many cases into a folder of records; how many rows they have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from monai_advdef.records import fingerprint
    from monai_advdef.records.rows import COLUMNS, EXTRAS, SCHEMA

    (folder / "_provenance").mkdir(parents=True)
    hard = np.random.default_rng(0).normal(0, 1, (cases, len(CLASSES)))
    empty = {name: {str: "", float: 0.0, int: 0, bool: False}[kind] for name, kind in (COLUMNS | EXTRAS).items()}
    case, klass, metric = (a.ravel() for a in np.meshgrid(range(cases), range(len(CLASSES)), range(2), indexing="ij"))
    names = {"case": [f"S{c:05d}" for c in case], "patient": [f"P{c // 2:05d}" for c in case]}
    names |= {"class": [CLASSES[k] for k in klass], "metric": [("dice", "iou")[m] for m in metric]}
    for number, cell in enumerate(cells()):
        name = fingerprint({**cell, "eps": str(cell["eps"])})
        size = 20.0 if np.isinf(cell["eps"]) else cell["eps"]
        power = {"none": 0.0, "noise-uniform": 0.001}.get(cell["attack"], 0.05 + 0.02 * np.log1p(cell["steps"])) * size
        draw = np.random.default_rng(number).normal(0, 0.01, hard.shape)
        dice = (0.9 * np.exp(-power * (1 + 0.3 * hard) / (1 + 0.3 * (cell["defense"] != "none"))) + draw).clip(0, 1)[case, klass]
        about = {**empty, **cell, "task": "abdominal organ segmentation", "model": "unet3d", "fingerprint": name}
        about |= {
            "weights": "4f1c77d2a3b09e5c",
            "data": "91be02c7d65a4f38",
            "linf": size if cell["norm"] else 0.0,
            "forwards": cell["steps"],
            "seconds": 0.1,
        }
        columns = {key: pa.array([value] * len(case)) for key, value in about.items()}
        columns |= {key: pa.array(values) for key, values in names.items()}
        columns["value"] = pa.array(np.where(metric == 0, dice, dice / (2 - dice)))
        pq.write_table(pa.table(columns).select(SCHEMA.names).cast(SCHEMA), folder / f"{name}.parquet")
        facts = {"command": "monai-advdef sweep", "weights": "4f1c77d2a3b09e5c", "recorded": "2026-01-01T00:00:00+00:00"}
        (folder / "_provenance" / f"{name}.json").write_text(json.dumps(facts))
    return len(cells()) * len(case)


def measure(what: str, folder: Path) -> dict[str, float]:
    """Seconds, CPU seconds and peak resident bytes of this process, which writes the card or the Markdown table."""
    from monai_advdef.records import read_provenance, read_records
    from monai_advdef.report import build, markdown_table

    start = time.perf_counter()
    if what == "card":
        build(folder)
    else:
        records = folder / "records"
        (folder / "table.md").write_text(markdown_table(read_records(records), read_provenance(records)))
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time(), "peak": peak_memory()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
