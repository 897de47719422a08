"""The search for Frequency Refinement's three step sizes over a grid, on validation images (paper 000, section 4.1)."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_advdef.dct import block_dct, block_idct, crop_to, pad_to_block
from monai_advdef.defenses import JPEG, frequency_table
from monai_advdef.errors import nearest
from monai_advdef.handlers import AttackHandler
from monai_advdef.handlers.cell import network_identity
from monai_advdef.handlers.identity import digest, identity, tensor_bytes
from monai_advdef.papers.attacked import AttackedBatch, attacked_batch, check_cases, deployed, overlap
from monai_advdef.papers.frequency_refinement.band_statistics import read_band_std
from monai_advdef.papers.frequency_refinement.search_result import REFERENCES, Found, SearchResult, setting_name, write_result
from monai_advdef.progress import Steps
from monai_advdef.switches import as_written
from monai_advdef.types import Images
from monai_advdef.victim import Victim

GRIDS: dict[str, tuple[Sequence[int], ...]] = {
    "paper": ((20, 30, 40, 50), (5, 10, 15, 20), (50, 60, 80, 100)),
    "extended": ((20, 30, 40, 50, 60, 80), (5, 10, 15, 20, 30, 40), (50, 60, 80, 100, 150, 255)),
}
"""QS1, QS2, QS3 in grey levels: the paper's 64 triples, and 198 that contain them and go on past their edge."""


def triples(grid: str) -> list[tuple[int, int, int]]:
    """All (QS1, QS2, QS3) of a grid that keep QS1 >= QS2 <= QS3.

    Raises:
        ValueError: unknown grid.
    """
    if grid not in GRIDS:
        raise ValueError(f"unknown grid {grid!r}; {nearest(str(grid), GRIDS)}")
    first, second, third = GRIDS[grid]
    return [t for t in itertools.product(first, second, third) if t[0] >= t[1] <= t[2]]


def refined(grey: Images, tables: Iterable[Tensor]) -> Iterator[Images]:
    """``FrequencyRefinement(table=t)(grey)`` for every table, bit for bit, with one forward transform for all of them.

    Args:
        grey: (B, C, H, W) grey levels 0..255.
        tables: 8x8 step sizes each.
    """
    coefficients = block_dct(pad_to_block(grey.clamp(0, 255).round()))
    height, width = coefficients.shape[-2:]
    for table in tables:
        step = table.to(coefficients).repeat(height // 8, width // 8)
        pixels = block_idct((coefficients / step).round_().mul_(step))
        yield crop_to(pixels, grey.shape[-2:]).clamp(0, 255).round_()


class TableSearch:
    """Every table of a grid on every case, benign and attacked; the ``iteration_update`` of a MONAI evaluator.

    A case costs two forward passes a table and one for each of :data:`REFERENCES`. What is finished is kept in
    ``search_progress.jsonl`` and not computed again, also by a search of another grid.

    Args:
        attack: the handler that crafts the adversarial images; it must be among the evaluator's handlers.
        output_dir: the results go into ``frequency_refinement_search`` in it.
        band_std: path of the band statistics of the training images.
        grid: ``"paper"`` or ``"extended"``.
        max_benign_loss: IoU points that a table may lose on benign images; ``None``: what JPEG(85) loses on them and 0.5 more.
        data: name or folder of the data set, written into the results.

    Raises:
        ValueError: unknown grid, or a bound that is no number.
    """

    @as_written
    def __init__(
        self,
        *,
        attack: AttackHandler,
        output_dir: str | os.PathLike[str],
        band_std: str | os.PathLike[str],
        grid: str = "paper",
        max_benign_loss: float | None = None,
        data: str = "",
    ) -> None:
        if max_benign_loss is not None and not math.isfinite(max_benign_loss):
            raise ValueError(f"max_benign_loss must be a number of IoU points, or null, got {max_benign_loss!r}")
        self.attack, self.folder = attack, Path(output_dir) / "frequency_refinement_search"
        self.band_std, self.grid, self.max_benign_loss, self.data = Path(band_std), grid, max_benign_loss, data
        self.tables = {t: frequency_table(t, self.band_std) for t in triples(grid)}
        self.jpeg = JPEG(quality=85)
        self.values: dict[str, dict[str, Found]] = {}
        self._known: dict[str, dict[str, Found]] = {}
        self._network = ""

    @property
    def progress(self) -> Path:
        """One line of JSON for each case and setting that is finished."""
        return self.folder / "search_progress.jsonl"

    def run(self, evaluator: Any) -> SearchResult:
        """Search, and write ``search.csv``, ``search.md``, ``bands.json``, ``heat_map.png``, ``bands.png`` and ``table.json``.

        Raises:
            DataError: no validation case.
            ValueError: no table keeps the benign loss within the bound (all but ``table.json`` is written).
        """
        check_cases(evaluator, "validation")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known, self.values, self._network = read_progress(self.progress), {}, ""
        title = f"searching {len(self.tables)} tables on {len(evaluator.data_loader.dataset)} validation cases"
        with Steps(title, len(evaluator.data_loader) * len(self._ends())) as self._steps:
            evaluator.run()
        about = {
            "grid": self.grid,
            "data": str(self.data) or "phantoms",
            "section": "validation",
            "attack": self.attack.to_config(),
            "attack_name": self.attack.label,
            "network": self._network,
        }
        found = SearchResult.of(self.values, self.tables, GRIDS[self.grid], self.max_benign_loss)
        write_result(self.folder, found, read_band_std(self.band_std), about)
        return found

    def __call__(self, engine: Any, batch: Any) -> dict[str, Any]:
        """One batch of the evaluator."""
        self._network = self._network or digest(network_identity(engine.network), _settings(engine.inferer))
        cases, victim = attacked_batch(engine, self.attack), deployed(engine, self.attack)
        found = [self._known.get(self._key(cases, i), {}) for i in range(len(cases.names))]
        with engine.mode(engine.network), open(self.progress, "a", encoding="utf-8") as file:
            for setting, images in self._settings(cases, found):
                fresh = self._measure(victim, images, cases.label) if images else []
                for i, value in enumerate(fresh):
                    found[i][setting] = value
                    line = {"case": cases.names[i], "key": self._key(cases, i), "setting": setting, **value._asdict()}
                    file.write(json.dumps(line) + "\n")
                file.flush()
                if setting in self._ends():
                    self._steps.done(f"batch {engine.state.iteration} of {engine.state.epoch_length}, up to {setting}")
        self.values.update(zip(cases.names, found))
        return {}

    def _settings(self, cases: AttackedBatch, found: list[dict[str, Found]]) -> Iterator[tuple[str, list[Images]]]:
        """Name and images (benign, adversarial) of every setting; no images where all cases have been measured before."""
        names = {setting_name(t): table for t, table in self.tables.items()}
        todo = {s for s in (*REFERENCES, *names) if not all(s in f for f in found)}
        for setting in REFERENCES:
            yield setting, [cases.clean if setting == "none" else self.jpeg(cases.clean)] if setting in todo else []
        tables = [table for s, table in names.items() if s in todo]
        pairs = zip(refined(cases.clean, tables), refined(cases.adversarial, tables))
        for setting in names:
            yield setting, list(next(pairs)) if setting in todo else []

    def _measure(self, victim: Victim, images: list[Images], label: Tensor) -> list[Found]:
        """IoU of every case on its benign and, if given, its adversarial image: one forward pass each."""
        scores, passes = [], 0
        for image in images:
            scores.append(overlap(victim, victim(image), label).tolist())
            passes += 1
        return [Found(values[0], values[1] if len(values) > 1 else None, passes) for values in zip(*scores)]

    def _ends(self) -> set[str]:
        """The last setting of each QS1: where progress is told."""
        return set({t[0]: setting_name(t) for t in self.tables}.values())

    def _key(self, cases: AttackedBatch, i: int) -> str:
        """Changes with the network, the band statistics, the images and the label."""
        tensors = (cases.clean[i], cases.adversarial[i], cases.label[i])
        return digest(self._network, self.band_std.read_bytes(), *(tensor_bytes(t) for t in tensors))


def _settings(inferer: Any) -> str:
    """What tells an inferer from another one. An object in it that computes nothing itself counts by what it says of itself: a meter
    goes on counting while a search that was stopped goes on."""
    held = {name: repr(value) if _bystander(value) else value for name, value in vars(inferer).items()}
    return identity(type(inferer), held)


def _bystander(value: Any) -> bool:
    speaks = type(value).__repr__ is not object.__repr__
    return speaks and hasattr(value, "__dict__") and not callable(value) and not isinstance(value, (Tensor, Sequence, Mapping))


def read_progress(path: Path) -> dict[str, dict[str, Found]]:
    """What was finished, by case key and setting; a line that was cut short is left out."""
    known: dict[str, dict[str, Found]] = defaultdict(dict)
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                known[entry["key"]][entry["setting"]] = Found(entry["benign"], entry["adversarial"], entry["passes"])
            except (ValueError, KeyError):
                continue
    return known
