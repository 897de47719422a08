"""Networks against budgets: several architectures, several attacks, a list of eps; every cell recorded like any other evaluation."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_advdef.attacks import IterativeFGSM
from monai_advdef.errors import nearest
from monai_advdef.papers.page import PaperPage
from monai_advdef.papers.study_rows import CLEAN, csv
from monai_advdef.progress import Steps
from monai_advdef.study import Cell, carry_out, quiet, recorded, test_set
from monai_advdef.switches import as_written
from monai_advdef.threat import ThreatModel

TWIN = "twin"
GREY_LEVELS = (0.0, 255.0)


class NetworkStudy(PaperPage, ABC):
    """Networks, trained where weights are missing and evaluated under attacks over a list of strengths; a paper writes the page.

    Args:
        networks: ``{"name": ..., "options": {"network": "nlcen"}, "trainings": 3, "twin": ..., "start": ..., "freeze": true,
            "settings": {...}}`` each. ``options`` are those that tell the bundle the network; ``trainings`` how many seeds or folds;
            ``settings`` further overrides of its training. With ``start``, the name of another network of the list, training goes
            on from the other's weights, only the new layers where ``freeze`` is true. ``twin`` names the network that this one is
            compared with. Weights lie in ``ckpt_dir/<name in lower case>/seed<k>``; what is missing is trained. ``overlay``, one of
            ``workflows/training`` in place of ``training/finetune``, trains it otherwise and writes to its own folder below;
            ``start_as`` is the setting that overlay takes the other's weights by, ``evaluate`` lists overlays of its evaluation.
        attacks: ``{"name": ..., "overlay": "attacks/tifgsm", "options": {...}, "eps": [...], "times": 3, "step": 0.5, "source":
            "twin"}`` each, the first the paper's. ``overlay`` may be a list. ``times`` sets the number of steps to so many times the
            grey level rule's, ``step`` their length as a share of eps; ``channels`` gives every channel so many times eps;
            ``source`` crafts the images on the twin; ``networks`` names those that an attack is for (default: all, or those with a
            twin).
        repeat: the setting that tells trainings apart: ``"seed"``, or ``"fold"`` of a cross-validation.
        dataset: the cases to evaluate, read once for all cells; None: the bundle's, read once for every network and training.
        page: ``name, title, bundle_root, settings`` and ``note`` of :class:`~monai_advdef.papers.page.PaperPage`.

    Run again, a study goes on where it stopped.

    Raises:
        ValueError: two networks or attacks of one name, a ``twin`` or ``start`` that is not in the list.
    """

    @as_written
    def __init__(
        self,
        *,
        networks: Sequence[Mapping[str, Any]],
        attacks: Sequence[Mapping[str, Any]],
        repeat: str = "seed",
        dataset: Any = None,
        **page: Any,
    ) -> None:
        super().__init__(**page)
        self.repeat, self.dataset = repeat, dataset
        self._read: tuple[tuple[str, int], Any] | None = None
        self.networks, self.attacks = {str(n["name"]): dict(n) for n in networks}, [dict(a) for a in attacks]
        if len(self.networks) < len(networks) or len({a["name"] for a in attacks}) < len(attacks):
            raise ValueError(f"networks or attacks of {self.name} share a name; give each its own")
        for network in self.networks.values():
            for role in (TWIN, "start"):
                if role in network and network[role] not in self.networks:
                    raise ValueError(
                        f"{role} of {network['name']!r} names no network of the list: {nearest(network[role], self.networks)}"
                    )
        self.pairs = [(n, str(about[TWIN])) for n, about in self.networks.items() if TWIN in about]

    def run(self) -> Path:
        """Train and evaluate what is missing and write the page.

        Returns:
            The Markdown file.
        """
        quiet()
        for name in self.networks:
            for seed in range(self._trainings(name)):
                self.prepare(name, seed)
        plan = [cell for name in self.networks for seed in range(self._trainings(name)) for cell in self.cells(name, seed)]
        rows = []
        with Steps(f"{self.name}: {len(plan)} evaluations", len(plan)) as steps:
            for name, seed, attack, eps in plan:
                rows.append(self._evaluate(name, seed, attack, eps))
                steps.done(f"{name}, seed {seed}, {attack.get('name', CLEAN)} {eps:g}")
        table = pd.concat(rows, ignore_index=True)
        csv(table).to_csv(self.output / f"{self.name}.csv", index=False)
        return self.write("\n".join(self.page(table, self.output)))

    def folder(self, name: str, seed: int) -> Path:
        """Where the weights of a network lie."""
        folder = self._trained_in(name, seed)
        overlays = _list(self.networks[name].get("overlay", ()))
        return folder / overlays[0].split("/")[-1] if overlays else folder

    def prepare(self, name: str, seed: int) -> None:
        """Train a network if its weights are missing, what it starts from first."""
        about = self.networks[name]
        if (self.folder(name, seed) / "model.pt").exists():
            return
        settings = {**self._settings(name, seed), "ckpt_dir": str(self._trained_in(name, seed)), **about.get("settings", {})}
        if "start" in about:
            self.prepare(about["start"], seed)
            weights = {about.get("start_as", "start_from"): str(self.folder(about["start"], seed) / "model.pt")}
            freeze = {} if "overlay" in about else {"freeze": bool(about.get("freeze", False))}
            print(f"{self.name}: {name}, {self.repeat} {seed}, goes on from {about['start']}")
            carry_out(self.bundle, _list(about.get("overlay", "training/finetune")), {**settings, **weights, **freeze})
            return
        self.train(settings, f"no weights of {name}, {self.repeat} {seed}")

    def cells(self, name: str, seed: int) -> list[tuple[str, int, Mapping[str, Any], float]]:
        """Network, seed, attack and eps of every evaluation of one network."""
        plan: list[tuple[str, int, Mapping[str, Any], float]] = [(name, seed, {}, 0.0)]
        for attack in self.attacks:
            among = attack.get("networks", self.networks)
            if name in among and (attack.get("source") != TWIN or TWIN in self.networks[name]):
                plan += [(name, seed, attack, float(eps)) for eps in attack["eps"]]
        return plan

    def _trainings(self, name: str) -> int:
        return int(self.networks[name].get("trainings", 1))

    def _trained_in(self, name: str, seed: int) -> Path:
        return Path(self.settings["ckpt_dir"]) / re.sub(r"[^a-z0-9]+", "_", name.lower()) / f"{self.repeat}{seed}"

    def _settings(self, name: str, seed: int) -> dict[str, Any]:
        return {**self.settings, **self.networks[name]["options"], "ckpt_dir": str(self.folder(name, seed)), self.repeat: seed}

    def _evaluate(self, name: str, seed: int, attack: Mapping[str, Any], eps: float) -> pd.DataFrame:
        overrides: dict[str, Any] = {"record_def::model": name, "record_def::card": False, "record_def::gallery": False}
        if attack:
            overrides |= {f"attack_def::{k}": v for k, v in attack.get("options", {}).items()}
            shares = attack.get("channels")
            overrides |= {"attack_def::eps": [eps * float(c) for c in shares] if shares else eps, "record_def::gradients": True}
            if "times" in attack:
                overrides["attack_def::steps"] = int(attack["times"]) * paper_steps(eps)
            elif not shares:
                overrides["attack_def::sweep"] = [float(e) for e in attack["eps"]]
            if "step" in attack:
                overrides["attack_def::step_size"] = float(attack["step"]) * eps
            if attack.get("source") == TWIN:
                overrides |= self._source(self.networks[name][TWIN], seed)
        overlays = (*_list(self.networks[name].get("evaluate", ())), *_list(attack.get("overlay", ())))
        rows = recorded(
            self.bundle, Cell(overlays, overrides), {**self._settings(name, seed), "validate::dataset": self._cases(name, seed)}
        )
        return rows.assign(network=name, training=seed, attack_row=attack.get("name", CLEAN), eps=eps)

    def _cases(self, name: str, seed: int) -> Any:
        if self.dataset is not None:
            return self.dataset
        if self._read is None or self._read[0] != (name, seed):
            self._read = (name, seed), test_set(self.bundle, self._settings(name, seed))
        return self._read[1]

    def _source(self, twin: str, seed: int) -> dict[str, Any]:
        """The options that make another network the one on which images are crafted."""
        options = dict(self.networks[twin]["options"])
        shared = {k: f"@network_def::{k}" for k in ("in_channels", "out_channels", "mean", "std")}
        made = {"_target_": "monai_advdef.networks.trained", "weights": str(self.folder(twin, seed) / "model.pt")}
        return {"attack_def::source": {**made, "name": options.pop("network"), **options, **shared}, "attack_def::source_name": twin}

    @abstractmethod
    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page; figures are written beside it."""


def _list(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def paper_steps(eps: float) -> int:
    """min(eps + 4, ceil(1.25 eps)) for ``eps`` in grey levels: the paper's number of iterations (i-FGSM's grey level rule)."""
    return IterativeFGSM(rule="grey_level").count(ThreatModel(eps=eps, value_range=GREY_LEVELS))
