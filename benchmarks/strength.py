"""How much Dice attacks leave, per gradient pass: ours and other people's, on the same cases of a bundle.

``python -m benchmarks.strength BUNDLE --dataset_dir DATA --ckpt_dir MODELS --out rows.csv [--section validation] [--cases 16]
[--attacks auto_pgd_dice ...] [--passes 10 20 40 100] [--eps 8] [--device cuda] [--defense JSON] [--overlays NAME] [--set K=V]``

Constants are chosen on the section ``validation``; the table is made on ``test``. Rows that the file already holds of the same
weights, defence, suite and images are not measured again. ``python -m benchmarks.strength --table rows.csv ...`` prints means over
the cases with intervals, and the worst case per case over all attacks.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks import published
from monai_advdef import Victim, attacks, run, study
from monai_advdef.defenses import JPEG, EightBit, FrequencyRefinement, RandomizedFrequencyRefinement
from monai_advdef.handlers.cell import network_identity
from monai_advdef.handlers.identity import digest, tensor_bytes
from monai_advdef.metrics import mean_dice
from monai_advdef.neighbours import alone
from monai_advdef.suite import attack_with, load_suite
from monai_advdef.threat import Ball, as_threat

KEY = ["victim", "of", "section", "eps", "attack", "passes", "case"]
DEFENSES = {kind.__name__: kind for kind in (EightBit, FrequencyRefinement, JPEG, RandomizedFrequencyRefinement)}
OURS: dict[str, Callable[[int], Any]] = {
    "pgd": lambda n: attacks.PGD(steps=n),
    "pgd_bce": lambda n: attacks.PGD(steps=n, objective="balanced_cross_entropy"),
    "pgd_margin": lambda n: attacks.PGD(steps=n, objective="margin"),
    "pgd_ce_constant": lambda n: attacks.PGD(steps=n, objective="cross_entropy", schedule="constant"),
    "pgd_dice_constant": lambda n: attacks.PGD(steps=n, objective="dice", schedule="constant"),
    "pgd_dice_linear": lambda n: attacks.PGD(steps=n, objective="dice", schedule="linear", momentum=0.0),
    "pgd_dice_cosine": lambda n: attacks.PGD(steps=n, objective="dice", schedule="cosine", momentum=0.0),
    "pgd_dice_linear_momentum": lambda n: attacks.PGD(steps=n, objective="dice", schedule="linear", momentum=0.5),
    "pgd_dice_linear_m75": lambda n: attacks.PGD(steps=n, objective="dice", schedule="linear", momentum=0.75),
    "pgd_dice_cosine_momentum": lambda n: attacks.PGD(steps=n, objective="dice", schedule="cosine", momentum=0.5),
    "pgd_bce_linear_momentum": lambda n: attacks.PGD(steps=n, objective="balanced_cross_entropy", schedule="linear", momentum=0.5),
    "pgd_js_linear": lambda n: attacks.PGD(steps=n, objective="jensen_shannon", schedule="linear", momentum=0.0),
    "pgd_mce_linear": lambda n: attacks.PGD(steps=n, objective="masked_cross_entropy", schedule="linear", momentum=0.0),
    "pgd_bce_linear": lambda n: attacks.PGD(steps=n, objective="balanced_cross_entropy", schedule="linear", momentum=0.0),
    "pgd_margin_linear": lambda n: attacks.PGD(steps=n, objective="margin", schedule="linear", momentum=0.0),
    "auto_pgd_dice": lambda n: attacks.AutoPGD(steps=n, objective="dice"),
    "auto_pgd_js": lambda n: attacks.AutoPGD(steps=n, objective="jensen_shannon"),
    "auto_pgd_mce": lambda n: attacks.AutoPGD(steps=n, objective="masked_cross_entropy"),
    "auto_pgd_bce": lambda n: attacks.AutoPGD(steps=n, objective="balanced_cross_entropy"),
    "auto_pgd_ce": lambda n: attacks.AutoPGD(steps=n, objective="cross_entropy"),
    "segpgd": lambda n: attacks.SegPGD(steps=n),
    "cospgd": lambda n: attacks.CosPGD(steps=n),
}
STEP = 2.55  # grey levels: the steps of SegPGD's and CosPGD's published settings, .01 of the range
PUBLISHED: dict[str, Callable[..., Tensor]] = {
    "SEA (as published)": published.sea,
    "SegPGD (as published)": published.descent(published.segpgd, STEP),
    "CosPGD (as published)": published.descent(published.cospgd, STEP),
}


class Subject:
    """The network of a bundle, its threat model and the first cases of a section."""

    def __init__(self, options: argparse.Namespace) -> None:
        bundle = Path(options.bundle).resolve()
        given = dict(pair.split("=", 1) for pair in options.set)
        told = {name: json.loads(value) if value[:1] in '[{0123456789tf"' else value for name, value in given.items()}
        told |= {
            "dataset_dir": options.dataset_dir,
            "ckpt_dir": options.ckpt_dir,
            "output_dir": str(Path(options.out).parent / "work"),
        }
        told["validate::dataset::data::section"] = options.section
        parser = study.prepared(bundle, study.Cell(tuple(options.overlays)), told).parser
        network = parser.get_parsed_content("net").eval().to(options.device)
        network.load_state_dict(torch.load(Path(options.ckpt_dir) / "model.pt", weights_only=True, map_location="cpu"))
        data, threat = parser.get_parsed_content("validate::dataset"), as_threat(parser.get_parsed_content("threat_def"))
        self.threat = threat if options.eps is None else as_threat(threat, eps=options.eps)
        config = json.loads(options.defense) if options.defense else None
        self.defense = None if config is None else DEFENSES[config["name"]](**{k: v for k, v in config.items() if k != "name"})
        inferer = parser.get_parsed_content("validate::inferer")
        self.victim = Victim(network, defense=self.defense, inferer=inferer)
        count = min(options.cases, len(data))
        picked = [round(i * len(data) / count) for i in range(count)]
        self.image = [data[i]["image"].as_tensor().float().to(options.device) for i in picked]
        self.label = [data[i]["label"].as_tensor().long().to(options.device) for i in picked]
        self.of = digest(network_identity([network]), str(config), *map(tensor_bytes, self.image + self.label))[:12]

    def dice(self, image: Tensor, label: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.victim(image)
        return mean_dice(self.victim.predict(logits), self.victim.encode(label, logits), self.victim.classes(logits))

    def look(self, label: Tensor) -> published.Look:
        """What published attacks see: logits, Dice and, where a loss is asked for, its gradient."""

        def look(x: Tensor, loss: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor, Tensor | None]:
            if loss is None:
                with torch.no_grad():
                    logits, gradient = self.victim(x), None
            else:
                with self.victim.frozen():
                    logits, _, gradient = self.victim.gradient(x, loss)
            found = mean_dice(self.victim.predict(logits), self.victim.encode(label, logits), self.victim.classes(logits))
            return logits.detach(), found, gradient

        return look

    def attacked(self, name: str, passes: int, image: Tensor, label: Tensor, seeds: list[int]) -> Tensor:
        """Images (B, C, \\*S) within the threat model."""
        if name.startswith("suite "):
            return attack_with(load_suite(name[6:]), self.victim, self.threat, image, label, seed=seeds).adversarial
        if name in OURS:
            return run(OURS[name](passes), self.victim, self.threat, image, label, seed=seeds).adversarial
        if name in PUBLISHED:
            return PUBLISHED[name](self.look(label), image, label, _Ball(self.threat, image), passes)
        return _library(name, self.victim, float(self.threat.eps), image, label, passes)  # type: ignore[arg-type]


class _Ball(Ball):
    """A ball that knows those of other radii around the same image."""

    def of(self, radius: float) -> _Ball:
        return _Ball(as_threat(self.threat, eps=radius * self.threat.eps), self.image)  # type: ignore[operator]


def _library(name: str, victim: Victim, eps: float, image: Tensor, label: Tensor, passes: int) -> Tensor:
    """PGD of a library on images in [0, 1] at its own default step, its last iterate."""

    class Scaled(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return victim(x * 255)

    torch.manual_seed(0)
    if name == "torchattacks PGD":
        import torchattacks

        return (
            torchattacks.PGD(Scaled().eval(), eps=eps / 255, alpha=2 / 255, steps=passes)(image / 255, label[:, 0]) * 255
        ).detach()
    import eagerpy
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD
    from foolbox.criteria import Misclassification

    class Segmentation(LinfPGD):
        def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
            return lambda x: eagerpy.astensor(torch.nn.functional.cross_entropy(model(x).raw, labels.raw, reduction="sum"))

    found = Segmentation(steps=passes).run(
        PyTorchModel(Scaled().eval(), bounds=(0, 1)), image / 255, Misclassification(label[:, 0]), epsilon=eps / 255
    )
    return found.detach() * 255


LIBRARIES = ("torchattacks PGD", "foolbox PGD")


def measure(options: argparse.Namespace) -> None:
    """Append a row for every case, attack and number of passes to the file of rows."""
    subject, out = Subject(options), Path(options.out)
    eps, count = float(torch.as_tensor(subject.threat.eps).max()), len(subject.image)
    about = {"victim": options.name or Path(options.bundle).name, "of": subject.of, "section": options.section, "eps": eps}
    asked = [(a, p) for a in options.attacks for p in (options.passes if not a.startswith("suite ") else [0])]
    for name, passes in [("clean", 0), *asked]:
        suite = f" {load_suite(name[6:]).digest}" if name.startswith("suite ") else ""
        row = {**about, "of": about["of"] + suite, "attack": name, "passes": passes}
        rows = _rows(out)
        if (rows[list(row)] == pd.Series(row)).all(axis=1).sum() >= count:
            continue
        start, found = time.process_time(), []
        for i in range(0, count, options.batch):
            image, label = (torch.stack(x[i : i + options.batch]) for x in (subject.image, subject.label))
            x = image if name == "clean" else subject.attacked(name, passes, image, label, list(range(i, i + len(image))))
            assert float(subject.threat.around(image).size(x).max()) <= eps * 1.0001, f"{name} left the ball"
            found.append(subject.dice(x, label))
        dice, seconds = torch.cat(found), time.process_time() - start
        told = f"{about['victim']} {options.section} eps {eps:g} {name:26s} {passes:4d} passes"
        print(f"{told}: {dice.mean():.4f}  ({seconds:.0f} s)", flush=True)
        new = pd.DataFrame([{**row, "case": i, "dice": float(d), "seconds": seconds} for i, d in enumerate(dice)])
        with alone(f"{out}.lock", timeout=60):  # another run may have added rows meanwhile
            pd.concat([_rows(out), new], ignore_index=True).to_csv(out, index=False)


def _rows(out: Path) -> pd.DataFrame:
    """What the file holds so far."""
    return pd.read_csv(out) if out.exists() else pd.DataFrame(columns=[*KEY, "dice", "seconds"])


def table(files: list[str]) -> None:
    """Print in Markdown, for every victim and eps, the mean Dice left by attack and passes, with its 95 % bootstrap interval over
    the cases, and the mean over the cases of the worst of all attacks."""
    rows = pd.concat([pd.read_csv(f) for f in files]).drop_duplicates(KEY, keep="last")
    rows["of_network"] = rows["of"].str.split().str[0]
    for about, part in rows.groupby(["victim", "of_network", "section", "eps"]):
        attacked = part[part["attack"] != "clean"]
        worst, spent = attacked.groupby("case")["dice"].min(), attacked.drop_duplicates(["attack", "passes"])["passes"].sum()
        victim, of, section, eps = about
        clean = _interval(part[part["attack"] == "clean"]["dice"])
        print(f"\n{victim} ({of}), {section}, eps {eps:g}, n = {worst.size}: clean {clean}")
        print("\n| attack | passes | Dice left [95 %] |\n|---|---:|---|")
        found = attacked.groupby(["attack", "passes"])["dice"]
        for attack, passes in found.mean().sort_values().index:
            print(f"| {attack} | {passes or ''} | {_interval(found.get_group((attack, passes)))} |")
        print(f"| the worst of all per case | {spent} and the suites' | {_interval(worst)} |")


def _interval(dice: pd.Series) -> str:
    """Mean and its percentile interval over 2000 resamplings of the cases."""
    values = dice.to_numpy()
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__)
    parser.add_argument("bundle", nargs="?", help="folder of a bundle")
    parser.add_argument("--table", nargs="+", metavar="CSV")
    for name in ("dataset_dir", "ckpt_dir", "out", "name", "defense"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--section", default="validation")
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--eps", type=float)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attacks", nargs="+", default=["pgd_ce_constant", "pgd_dice_linear", "auto_pgd_dice"])
    parser.add_argument("--passes", nargs="+", type=int, default=[10, 20, 40, 100])
    parser.add_argument("--overlays", nargs="*", default=[])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    study.quiet()
    if options.table:
        table(options.table)
        return
    known = [*OURS, *PUBLISHED, *LIBRARIES]
    if unknown := [name for name in options.attacks if name not in known and not name.startswith("suite ")]:
        parser.error(f"unknown attack {unknown[0]!r}; known: {', '.join(known)}")
    measure(options)


if __name__ == "__main__":
    main()
