"""What training with a generator's images is worth: networks before and after it, under the old generator and under new attacks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_advdef.papers.synthesis import networks as synthesis_networks
from monai_advdef.papers.synthesis.table1 import SynthesisTable, generator_folder
from monai_advdef.study import carry_out
from monai_advdef.synthesis import kept_generators


class SynthesisRobustness(SynthesisTable):
    """Several networks under the generator trained against the first, under one trained against each, and under the field attack.

    Args:
        networks: ``{"name": ..., "overlay": "training/synthesis_augmentation", "settings": {...}}`` each, the first (without an
            overlay) the bundle's own. The others go on from its weights: by the overlay, which is given its last generator of the
            first row, or, without one, by the same training once more, so that the gain is not that of longer training. Weights lie
            in ``ckpt_dir/<name in lower case>``.
        options: of :class:`SynthesisTable`; ``factors`` are not used.

    Raises:
        ValueError: fewer than two networks, or two of one name.

    Source: the future work named by Chen et al., "Intelligent image synthesis to attack a segmentation CNN using adversarial
    learning", 2019.
    """

    def __init__(self, *, networks: Sequence[Mapping[str, Any]], **options: Any) -> None:
        super().__init__(**options)
        self.networks = {str(network["name"]): dict(network) for network in networks}
        if len(networks) < 2 or len(self.networks) < len(networks):
            raise ValueError(f"networks of {self.name} must be two or more, each with a name of its own")
        self.factors = [1.0]

    def folder(self, name: str) -> str:
        """Where the weights of a network lie."""
        first, *_ = self.networks
        if name == first:
            return str(self.settings["ckpt_dir"])
        folder = self._trained_in(name)
        overlay = self.networks[name].get("overlay")
        return str(folder / overlay.split("/")[-1] if overlay else folder)

    def prepare(self, ckpt_dir: str) -> None:
        """Train the first network and its generators, then the others and theirs."""
        super().prepare(ckpt_dir)
        for name in list(self.networks)[1:]:
            if not (Path(self.folder(name)) / "model.pt").exists():
                print(f"{self.name}: no weights of {name}, training")
                self._train(name)
            super().prepare(self.folder(name))

    def evaluated(self, ckpt_dir: str) -> pd.DataFrame:
        """Records of all networks, with the added columns ``network`` and ``maker``, whom its generator was trained against."""
        first, found = next(iter(self.networks)), []
        of_first = [cell for row in self.rows for cell in self.generator_cells(ckpt_dir, *row)]
        for name in self.networks:
            found.append(super().evaluated(self.folder(name)).assign(network=name, maker=name))
            if name != first:
                found.append(self.evaluated_cells(self.folder(name), of_first).assign(network=name, maker=first))
        return pd.concat(found, ignore_index=True)

    def page(self, rows: pd.DataFrame, output: Path) -> list[str]:
        """The parts of the Markdown page."""
        return synthesis_networks.page(rows, list(self.networks), self.per)

    def _train(self, name: str) -> None:
        about = self.networks[name]
        told = {**self.settings, "ckpt_dir": str(self._trained_in(name)), **about.get("settings", {})}
        told["start_from"] = str(Path(self.settings["ckpt_dir"]) / "model.pt")
        if "overlay" in about:
            kept = kept_generators(generator_folder(self.settings["ckpt_dir"], *self.rows[0]), 1)
            told["generator_weights"] = str(*kept.values())
        carry_out(self.bundle, [about.get("overlay", "training/finetune")], told)

    def _trained_in(self, name: str) -> Path:
        return Path(self.settings["ckpt_dir"]) / re.sub(r"[^a-z0-9]+", "_", name.lower())
