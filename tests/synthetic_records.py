"""Invented records for the tests of records, statistics and report: no network was attacked to make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from monai_advdef.records import COLUMNS, RecordWriter, fingerprint

DEFENSES = ("none", "JPEG(85), 4:2:0", "FR(30,5,80)", "adversarial training")
_TOUGHNESS = {"none": (1.0, 1.0), "JPEG(85), 4:2:0": (0.3, 0.95), "FR(30,5,80)": (0.35, 1.02), "adversarial training": (0.2, 0.22)}
_POWER = {"none": 0.0, "noise-uniform": 0.0006, "FGSM": 0.06, "PGD": 0.16}
_CONFIG = {"task": "skin_lesion_dermoscopy_segmentation", "model": "UNet", "suite": "standard-v1"}


def row(**changes: object) -> dict:
    """One valid row; the arguments replace its values."""
    base = {name: {str: "", float: 0.0, int: 0, bool: False}[kind] for name, kind in COLUMNS.items()}
    base |= {**_CONFIG, "case": "c1", "patient": "p1", "class": "lesion", "metric": "dice", "value": 0.9}
    return {**base, "attack": "none", "defense": "none", "fingerprint": "abc123", **changes}


def frame(values: dict[str, float] | Sequence[float], **changes: object) -> pd.DataFrame:
    """Rows of one cell from the values of its cases; every case is a patient unless given as ``patient/case``."""
    named = values if isinstance(values, dict) else {f"c{i:03d}": value for i, value in enumerate(values)}
    return pd.DataFrame([row(case=case, patient=case.split("/")[0], value=value, **changes) for case, value in named.items()])


def cells(epsilons: Sequence[float] = (1, 2, 4, 8, 16)) -> list[dict]:
    """The cells of a study: clean, uniform noise, FGSM and PGD along the curve, ASMA; per defence; oblivious and adaptive."""
    found = []
    for defense in DEFENSES:
        found.append({"attack": "none", "eps": 0.0, "defense": defense, "adaptive": False})
        for adaptive in (False, True) if defense != "none" else (False,):
            found += [
                {"attack": a, "eps": float(e), "defense": defense, "adaptive": adaptive} for a in ("FGSM", "PGD") for e in epsilons
            ]
            found.append({"attack": "ASMA", "eps": float("inf"), "defense": defense, "adaptive": adaptive})
        found += [{"attack": "noise-uniform", "eps": float(e), "defense": defense, "adaptive": False} for e in epsilons]
    return found


def rows_of(cell: dict, *, cases: int = 12, classes: Sequence[str] = ("lesion",)) -> list[dict]:
    """Rows of one cell. Difficulty is a property of the case, so that cells are paired as real ones are."""
    attack, eps, defense = cell["attack"], cell["eps"], cell["defense"]
    power = _POWER.get(attack, 0.0) * eps if np.isfinite(eps) else 1.1
    exposure = _TOUGHNESS[defense][int(cell["adaptive"])]
    strength = power if attack.startswith("noise") else power * exposure
    config = {**_CONFIG, **cell, "eps": str(eps)}
    rows = []
    for index in range(cases):
        difficulty = np.random.default_rng(index).normal(0, 1, size=len(classes))
        for name, hard in zip(classes, difficulty):
            start = 0.92 - 0.02 * abs(hard) - {"none": 0.0, "adversarial training": 0.02}.get(defense, 0.001)
            dice = float(np.clip(start * np.exp(-strength * (1 + 0.25 * hard)), 0, 1))
            common = row(**_CONFIG, **cell, case=f"ISIC_{index:04d}", patient=f"P{index:03d}", fingerprint=fingerprint(config))
            common |= {"class": name, "steps": {"FGSM": 1, "PGD": 10, "ASMA": 100}.get(attack, 0), "unit": "grey level"}
            common |= {"norm": "unbounded" if np.isinf(eps) else "linf", "linf": 43.0 + index if np.isinf(eps) else eps, "l2": 4.1}
            rows += [{**common, "metric": "dice", "value": dice}, {**common, "metric": "iou", "value": dice / (2 - dice)}]
    return rows


def study(**options: object) -> pd.DataFrame:
    """All rows of the invented study as one table."""
    return pd.DataFrame([line for cell in cells() for line in rows_of(cell, **options)])  # type: ignore[arg-type]


def write_study(folder: Path, **options: object) -> pd.DataFrame:
    """Write the invented study as records under ``folder/records`` and its gallery under ``folder/gallery``."""
    for cell in cells():
        rows = rows_of(cell, **options)  # type: ignore[arg-type]
        facts = {"command": "monai-advdef demo --output_dir demo", "weights": "4f1c77d2a3b09e5c1d9a", "versions": {"monai": "1.6.1"}}
        with RecordWriter(folder / "records", rows[0]["fingerprint"], {**facts, "config": {"defense": cell["defense"]}}) as writer:
            writer.add(rows)
    write_gallery(folder / "gallery")
    return study(**options)


def write_gallery(folder: Path, *, size: int = 160, channels: int = 3) -> None:
    """A worst and a median picture of the undefended and of one defended network, as the evaluation writes them."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:size, :size]
    for defense, adaptive in (("none", False), ("FR(30,5,80)", True)):
        for case, rank, value in (("ISIC_0003", "worst", 0.004), ("ISIC_0007", "median", 0.231)):
            rng = np.random.default_rng(len(rank) + adaptive)
            label = (((x - size * 0.5) / (size * 0.24)) ** 2 + ((y - size * 0.52) / (size * 0.18)) ** 2 < 1).astype(np.uint8)
            shift = np.roll(label, (-size // 4, size // 5), axis=(0, 1)) & (rng.random((size, size)) < 0.995)
            skin = np.stack([227 - 118.0 * label, 183 - 124.0 * label, 156 - 114.0 * label], axis=-1)
            skin = skin + rng.normal(0, 4, skin.shape) + 8 * np.sin(x / 9 + y / 23)[..., None]
            difference = np.where(rng.random(skin.shape) < 0.5, -8, 8) * (rng.random(skin.shape) < 0.9)
            image, attacked = (np.clip(v, 0, 255).astype(np.uint8) for v in (skin, skin + difference))
            if channels == 1:
                image, attacked, difference = image[..., 0], attacked[..., 0], difference[..., 0]
            np.savez(
                folder / f"{defense[:2]}-{rank}.npz", image=image, adversarial=attacked, difference=difference.astype(np.float32),
                label=label, prediction=shift.astype(np.uint8), prediction_clean=label, case=case, fingerprint="abc", rank=rank,
                value=value, value_clean=0.912, eps=8.0, unit="grey level", attack="PGD", defense=defense, adaptive=adaptive,
            )  # fmt: skip
