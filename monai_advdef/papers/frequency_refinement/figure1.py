"""Figure 1 of paper 000: the perturbation of one case, and all perturbations in the 64 bands; ours: colours and band groups."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from monai_advdef.data import DataError
from monai_advdef.dct import block_dct, crop_to
from monai_advdef.errors import nearest
from monai_advdef.handlers import AttackHandler
from monai_advdef.papers.attacked import attacked_batch, check_cases, picture
from monai_advdef.papers.frequency_refinement.band_statistics import BANDS, band_group, band_ranks, read_band_std
from monai_advdef.papers.frequency_refinement.drawings import perturbation_figure
from monai_advdef.switches import as_written
from monai_advdef.types import Images

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""RGB to Y, Cb, Cr of ITU-R BT.601, full range, as JFIF 1.02 gives it."""


class BandSums:
    """Running sums over the DCT coefficients and colours of perturbations; holds no image."""

    def __init__(self) -> None:
        self.images = self.blocks = 0
        self.total = self.squares = torch.zeros(())
        self.colour = torch.zeros(3, dtype=torch.float64)

    def add(self, change: Images) -> None:
        """Perturbations (B, C, H, W) in grey levels; what is left of the last whole 8x8 block in a row or column is not counted.

        Raises:
            ValueError: smaller than a block.
        """
        change = change.detach().cpu().double()
        height, width = (n // 8 * 8 for n in change.shape[-2:])
        if not height or not width:
            raise ValueError(f"images must hold a whole 8x8 block, got {tuple(change.shape[-2:])}; use larger images")
        whole = block_dct(crop_to(change, (height, width))).reshape(*change.shape[:2], height // 8, 8, width // 8, 8)
        self.total = self.total + whole.sum((0, 2, 4))
        self.squares = self.squares + whole.square().sum((0, 2, 4))
        self.images, self.blocks = self.images + len(change), self.blocks + len(change) * (height // 8) * (width // 8)
        if change.shape[1] == 3:
            self.colour += torch.einsum("kc,bchw->bkhw", torch.tensor(YCBCR, dtype=torch.float64), change).square().sum((0, 2, 3))

    def moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and population standard deviation, each over all channels (8, 8) and by channel (C, 8, 8), in grey levels."""
        mean, power = self.total / self.blocks, self.squares / self.blocks
        pooled, pooled_power = mean.mean(0), power.mean(0)
        return pooled, (pooled_power - pooled**2).clamp(min=0).sqrt(), mean, (power - mean**2).clamp(min=0).sqrt()

    def shares(self, groups: np.ndarray) -> dict[str, dict[str, float]]:
        """Shares 0..1 of the energy: of Y, Cb and Cr (colour images only), and of PD, AC and GD by ``groups`` (8, 8)."""
        energy = self.squares.sum(0).numpy()
        band = {name: float(energy[groups == g].sum() / energy.sum()) for g, name in enumerate(BANDS)}
        if not float(self.colour.sum()):
            return {"band": band}
        colour = self.colour / self.colour.sum()
        return {"colour": dict(zip(("luma", "Cb", "Cr"), colour.tolist())), "band": band}


class PerturbationFigure:
    """Draws figure 1 over every case of an evaluator whose ``iteration_update`` it is; no forward pass is spent.

    Args:
        attack: the handler that crafts the adversarial images; it must be among the evaluator's handlers.
        output_dir: ``figure1.png``, ``figure1.csv`` (the 64 bands) and ``figure1.json`` go into ``frequency_refinement_figures``.
        band_std: path of the band statistics of the training images, which say what PD, AC and GD are.
        case: name of the case to be shown; empty: the first.
    """

    @as_written
    def __init__(
        self, *, attack: AttackHandler, output_dir: str | os.PathLike[str], band_std: str | os.PathLike[str], case: str = ""
    ) -> None:
        self.attack, self.folder = attack, Path(output_dir) / "frequency_refinement_figures"
        self.band_std, self.case = band_std, str(case)
        self.sums, self.names = BandSums(), [""]
        self.shown: dict[str, Any] = {}

    def run(self, evaluator: Any) -> Path:
        """Draw, and return the path of the picture.

        Raises:
            DataError: no test case, or none of that name.
            ValueError: the attack changed nothing.
        """
        check_cases(evaluator, "test")
        self.sums, self.names, self.shown = BandSums(), [], {}
        evaluator.run()
        if not self.shown:
            raise DataError(f"no test case is called {self.case!r}; {nearest(self.case, self.names)}")
        if not float(self.sums.squares.sum()):
            raise ValueError(f"{self.attack.label} changed no image, so there is no perturbation to show; give it more steps")
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._write()

    def __call__(self, engine: Any, batch: Any) -> dict[str, Any]:
        """One batch of the evaluator."""
        cases = attacked_batch(engine, self.attack)
        self.sums.add(cases.adversarial - cases.clean)
        self.names += cases.names
        for i, name in enumerate(cases.names):
            if name == self.case or not (self.case or self.shown):
                self.shown = {"name": name, "clean": picture(cases.clean[i]), "adversarial": picture(cases.adversarial[i])}
        return {}

    def _write(self) -> Path:
        ranks = band_ranks(read_band_std(self.band_std))
        groups = band_group(ranks)
        pooled_mean, pooled_std, mean, std = (x.numpy() for x in self.sums.moments())
        shares, path = self.sums.shares(groups), self.folder / "figure1.png"
        title = f"Perturbation by {self.attack.label}; (b)–(d) over {self.sums.images} test images, 8×8 orthonormal DCT"
        perturbation_figure(self.shown, pooled_mean.T, pooled_std.T, shares, path, title)
        energy = self.sums.squares.sum(0).numpy()
        rows = []
        for u, v in np.ndindex(8, 8):
            row = {"across": u, "down": v, "mean": pooled_mean[u, v], "std": pooled_std[u, v], "rank": ranks[u, v]}
            row |= {"band": BANDS[groups[u, v]], "energy_share": energy[u, v] / energy.sum()}
            rows.append({**row, **{f"{n}_{c}": x[c, u, v] for c in range(len(mean)) for n, x in (("mean", mean), ("std", std))}})
        pd.DataFrame(rows).to_csv(self.folder / "figure1.csv", index=False, float_format="%.6g")
        change = self.shown["adversarial"] - self.shown["clean"]
        about = {
            "attack": self.attack.to_config(),
            "n": self.sums.images,
            "blocks": self.sums.blocks,
            "energy_share": shares,
            "case": {"name": self.shown["name"], "linf": float(np.abs(change).max()), "rms": float(np.sqrt((change**2).mean()))},
        }
        (self.folder / "figure1.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return path
