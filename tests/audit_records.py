"""Invented records of an audit: a clean cell and a suite's worst case with its members, for gates, baselines and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.records import RecordWriter, add_verdicts, fingerprint

CLASSES = ("liver", "spleen")
MEMBERS = (("PGD", 10), ("SegPGD", 20))


def scores(clean: float, attacked: float, *, cases: int = 8, spread: float = 0.05, seed: int = 0) -> dict[str, np.ndarray]:
    """Dice (cases, classes) on clean images and under the suite; difficulty is a property of the case."""
    hard = np.random.default_rng(seed).uniform(-spread, spread, (cases, len(CLASSES)))
    return {"clean": clean + hard, "worst": attacked + hard}


def write_audit(
    folder: Path,
    values: Mapping[str, np.ndarray],
    *,
    eps: float = 5.0,
    unit: str = "HU",
    model: str = "network A",
    names: Sequence[str] | None = None,
    per_patient: int = 1,
    suite: str = "standard",
    digest: str = "d1",
    data: str = "data1",
    weights: str = "w1",
    defense: str = "none",
    adaptive: bool = False,
    reference: str = "",
    more: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
    classes: Sequence[str] = CLASSES,
    task: str = "abdomen",
) -> Path:
    """Write ``folder/records`` and, with ``checks``, ``checks.json``.

    Args:
        values: ``clean`` and ``worst`` Dice (cases, classes); either may be left out.
        more: further metrics of the deployed pipeline, each with values as these.
        per_patient: how many cases in a row are of one patient.
    """
    count = len(next(iter(values.values())))
    names = [f"c{i:03d}" for i in range(count)] if names is None else list(names)
    for kind, dice in values.items():
        attacked = kind != "clean"
        cell = {"attack": "worst" if attacked else "none", "eps": eps if attacked else 0.0, "unit": unit if attacked else ""}
        cell |= {"norm": "linf" if attacked else "", "adaptive": attacked and adaptive, "suite": suite if attacked else ""}
        cell |= {"task": task, "model": model, "defense": defense, "weights": weights, "data": data, "seed": 0}
        cell |= {"reference": reference} if reference else {}
        name = fingerprint({**cell, "digest": digest, "classes": list(classes)})
        config = {"attack": {"attack": {"name": suite, "version": 1, "digest": digest}, "threat": {"value_range": [-57, 164]}}}
        facts = {"config": config if attacked else {"attack": None}, "weights": weights, "data": data, "versions": {"monai": "1.6"}}
        with RecordWriter(folder / "records", name, facts) as writer:
            for i, case in enumerate(names):
                about = {**cell, "case": case, "patient": f"p{i // per_patient:03d}", "fingerprint": name, "steps": 0, "restarts": 0}
                about |= {"forwards": 1, "backwards": 0, "linf": eps if attacked else 0.0, "l2": 0.0, "seconds": 0.1}
                own = {"dice": dice, **{metric: of[kind] for metric, of in (more or {}).items()}}
                found = [
                    {**about, "class": c, "metric": metric, "value": float(v[i, k])}
                    for metric, v in own.items()
                    for k, c in enumerate(classes)
                ]
                for rank, (attack, steps) in enumerate(MEMBERS if attacked else ()):
                    run = {**about, "attack": attack, "steps": steps}
                    lift = 0.1 * (len(MEMBERS) - 1 - rank)
                    found += [
                        {**run, "class": c, "metric": "dice", "value": float(min(1.0, dice[i, k] + lift))}
                        for k, c in enumerate(classes)
                    ]
                writer.add(found)
        if checks and attacked:
            entry = {"attack": "worst", "defense": defense, "adaptive": adaptive, "eps": eps, "unit": unit, "cases": names[:2]}
            add_verdicts(folder, name, {**entry, "verdicts": list(checks)})
    return folder
