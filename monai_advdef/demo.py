"""The demonstration: phantom images, a small victim, attacks, defences, a card and an MLflow store, in a few minutes on a CPU."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from monai_advdef.bundle import bundles
from monai_advdef.data import write_phantoms
from monai_advdef.handlers.tracking import store
from monai_advdef.neighbours.allocator import tune_allocator
from monai_advdef.progress import Steps, Terminal
from monai_advdef.records import read_records
from monai_advdef.report import build
from monai_advdef.stats import summarize
from monai_advdef.study import Cell, evaluate, quiet, test_set, train

BUNDLE = "skin_lesion_dermoscopy_segmentation"
JPEG, FR = "defenses/jpeg", "defenses/frequency_refinement"
FAST_ASMA = {"attack_def::steps": 40, "attack_def::tau": 5e-5, "attack_def::beta": 5e-4}


def cells() -> list[Cell]:
    """Everything the card of the demonstration shows."""
    plan = [Cell(d) for d in ((), (JPEG,), (FR,))]
    plan += [Cell(("attacks/noise", *d)) for d in ((), (JPEG,), (FR,))]
    for attack, options in (("attacks/fgsm", {}), ("attacks/pgd", {}), ("attacks/asma", FAST_ASMA)):
        plan.append(Cell((attack,), options))
        plan += [Cell((attack, d), {**options, "adaptive": a}) for d in (JPEG, FR) for a in (False, True)]
    for eps in (2, 4, 16):
        plan += [
            Cell((a, *d), {"attack_def::eps": eps}) for a, d in (("attacks/noise", ()), ("attacks/pgd", ()), ("attacks/pgd", (FR,)))
        ]
    return plan


def demo(output_dir: str | os.PathLike[str], *, epochs: int = 20, phantoms: int = 84, image_size: int = 128) -> Path:
    """Run the demonstration in ``output_dir`` and return the card. Run again, it goes on where it was stopped."""
    quiet()
    tune_allocator()
    console, folder, bundle = Terminal(), Path(output_dir).resolve(), bundles()[BUNDLE]
    settings = {
        "dataset_dir": str(folder / "phantom"),
        "output_dir": str(folder / "output"),
        "ckpt_dir": str(folder / "models"),
        "image_size": image_size,
    }
    console.print(f"1/4  {phantoms} phantom dermoscopy images in {folder / 'phantom'}")
    write_phantoms("skin", folder / "phantom", cases=phantoms)
    _train_once(console, bundle, settings, folder / "models" / "trained.json", epochs)
    plan = cells()
    settings |= {"validate::dataset": test_set(bundle, settings), "keep": "adversarial"}  # what the cells share
    with Steps(f"3/4  evaluating {len(plan)} cells", len(plan), console) as steps:
        for cell in plan:
            evaluate(bundle, cell, {**settings, "record_def::card": cell is plan[-1]})
            steps.done(str(cell))
    card = build(folder / "output")
    _summary(console, folder / "output")
    console.print(f"4/4  card:    {card}")
    console.print(f"     records: {folder / 'output' / 'records'}")
    console.print(f"     MLflow:  mlflow ui --backend-store-uri {shlex.quote(store(folder / 'output'))}")
    return card


def _train_once(console: Console, bundle: Path, settings: dict[str, Any], marker: Path, epochs: int) -> None:
    if marker.exists():
        console.print(f"2/4  victim: {marker.parent / 'model.pt'} (trained before)")
        return
    with Steps(f"2/4  training a small victim ({epochs} epochs)", epochs, console) as steps:
        train(
            bundle,
            {**settings, "train::trainer::max_epochs": epochs, "val_interval": min(4, epochs)},
            lambda epoch, total: steps.done(f"epoch {epoch}"),
        )
    marker.write_text(json.dumps({"epochs": epochs, "image_size": settings["image_size"]}), encoding="utf-8")


def _summary(console: Console, output: Path) -> None:
    records = read_records(output / "records")
    table = summarize(records[records["metric"] == "dice"], by=["defense", "attack", "eps", "adaptive"])
    shown = Table("defence", "attack", "eps", "attacker", "Dice, mean ± std", title="Dice of the lesion", title_justify="left")
    for row in table.to_dict("records"):
        attacker = "" if row["attack"] == "none" else "adaptive" if row["adaptive"] else "oblivious"
        shown.add_row(row["defense"], row["attack"], f"{row['eps']:g}", attacker, f"{row['mean']:.3f} ± {row['std']:.3f}")
    console.print(shown)
