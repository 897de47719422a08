"""Figure 2 of paper 000: what the network sees and says behind each defence, for benign and attacked images."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from monai_advdef.defenses import Defense
from monai_advdef.handlers import AttackHandler
from monai_advdef.papers.attacked import RANKS, attacked_batch, check_cases, deployed, overlap, pick, picture
from monai_advdef.papers.frequency_refinement.drawings import panels_figure
from monai_advdef.switches import as_written
from monai_advdef.victim import Victim


class Held(NamedTuple):
    """One case on the CPU, with its IoU before and after the attack without a defence."""

    clean: Tensor
    adversarial: Tensor
    label: Tensor
    target: Tensor | None
    benign: float
    attacked: float


class DefensePanels:
    """Draws figure 2 over an evaluator whose ``iteration_update`` it is. The attacker does not know the defences.

    Args:
        attack: the handler that crafts the adversarial images; it must be among the evaluator's handlers.
        defenses: what to put in front of the network, a column each, after a column without one.
        output_dir: ``figure2.png`` and ``figure2.json`` go into ``frequency_refinement_figures``.
        cases: names of cases, or ``worst``, ``median``, ``best`` by the IoU lost to the attack without a defence.

    Raises:
        ValueError: no case, or something that is no defence.
    """

    @as_written
    def __init__(
        self,
        *,
        attack: AttackHandler,
        defenses: Sequence[Defense],
        output_dir: str | os.PathLike[str],
        cases: Sequence[str] = RANKS,
    ) -> None:
        if isinstance(cases, str) or not cases:
            raise ValueError(f"cases must be a list of names, or of {', '.join(RANKS)}; got {cases!r}")
        for defense in defenses:
            if not isinstance(defense, Defense):
                raise ValueError(f"defenses must hold defences such as monai_advdef.defenses.JPEG, got {type(defense).__name__}")
        self.attack, self.defenses, self.cases = attack, list(defenses), [str(c) for c in cases]
        self.folder = Path(output_dir) / "frequency_refinement_figures"
        self.held: dict[str, Held] = {}
        self._victim: Victim | None = None

    def run(self, evaluator: Any) -> Path:
        """Draw, and return the path of the picture.

        Raises:
            DataError: no test case, or none of a wanted name.
        """
        check_cases(evaluator, "test")
        self.held = {}
        evaluator.run()
        with evaluator.mode(evaluator.network):
            change = {name: held.attacked - held.benign for name, held in self.held.items()}
            rows = [row for name, said in pick(change, self.cases) for row in self._rows(name, said, evaluator.state.device)]
        self.folder.mkdir(parents=True, exist_ok=True)
        path, columns = self.folder / "figure2.png", ["no defence", *(d.label for d in self.defenses)]
        title = f"{self.attack.label} by an attacker who does not know the defence; IoU with the truth in %"
        panels_figure(rows, columns, path, title)
        about = {
            "attack": self.attack.to_config(),
            "defenses": [d.to_config() for d in self.defenses],
            "n": len(self.held),
            "panels": [
                {"case": r["case"], "image": r["kind"], **{c: round(100 * p["iou"], 3) for c, p in zip(columns, r["panels"])}}
                for r in rows
            ],
        }
        (self.folder / "figure2.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return path

    def __call__(self, engine: Any, batch: Any) -> dict[str, Any]:
        """One batch of the evaluator."""
        cases, self._victim = attacked_batch(engine, self.attack), deployed(engine, self.attack)
        with engine.mode(engine.network):
            scores = [overlap(self._victim, self._victim(x), cases.label).tolist() for x in (cases.clean, cases.adversarial)]
        for i, name in enumerate(cases.names):
            target = None if cases.target is None else cases.target[i].cpu()
            images = (cases.clean[i].cpu(), cases.adversarial[i].cpu(), cases.label[i].cpu())
            self.held[name] = Held(*images, target, scores[0][i], scores[1][i])
        return {}

    def _rows(self, name: str, said: str, device: torch.device) -> list[dict[str, Any]]:
        """Two rows of panels for a case: the source and the attacked image."""
        held, rows = self.held[name], []
        for kind, image in (("source", held.clean), ("attacked", held.adversarial)):
            panels = [self._panel(image[None].to(device), held.label[None].to(device), d) for d in (None, *self.defenses)]
            target = None if held.target is None or kind == "source" else _classes(held.target)
            label = "\n".join(part for part in (name, said, kind) if part)
            rows.append(
                {"case": name, "kind": kind, "label": label, "truth": _classes(held.label), "target": target, "panels": panels}
            )
        return rows

    def _panel(self, image: Tensor, label: Tensor, defense: Defense | None) -> dict[str, Any]:
        assert self._victim is not None
        seen = image if defense is None else defense(image)
        logits = self._victim(seen)
        iou = float(overlap(self._victim, logits, label))
        return {"image": picture(seen[0]), "prediction": _classes(self._victim.predict(logits)[0]), "iou": iou}


def _classes(mask: Tensor) -> np.ndarray:
    """Class map (H, W) in the order of a picture, from a class map (1, W, H) or a mask per class (K, W, H)."""
    mask = mask.float()
    numbers = torch.arange(1, len(mask) + 1).reshape(-1, 1, 1)
    return picture((mask.cpu() * numbers).amax(0, keepdim=True)).astype(int)
