"""What an evaluation cell costs before its first batch, in a process where others ran before: cases in memory, images kept."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.memory import SIDE, SKIN, part, write_images
from benchmarks.timing import child

CASES = 200


def main(*, quick: bool = False) -> None:
    """Print the CPU seconds of the set-up, and of the whole cell."""
    cases = CASES // 4 if quick else CASES
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "all", cases)
        part(Path(folder) / "all", Path(folder) / "data", cases)
        found = child("benchmarks.setup", Path(folder) / "data", Path(folder) / "output")
    print(f"\ndermoscopy bundle, {cases} images of {SIDE}^2 in memory, FGSM's images kept; CPU time of the median of 5 cells")
    print(f"  before the first batch {found['setup']:.2f} s (the first cell {found['first']:.2f})   target < 0.5 s")
    print(f"  the whole cell {found['cell']:.2f} s", flush=True)


def measure(data: Path, output: Path) -> dict[str, float]:
    """CPU seconds of this process before the first batch of a cell (median of five, and of the first), and of the whole cell."""
    import torch

    from monai_advdef.bundle import bundles
    from monai_advdef.handlers import AttackHandler
    from monai_advdef.study import Cell, evaluate, quiet, test_set, workflow

    quiet()
    torch.set_num_threads(1)
    bundle = bundles()[SKIN]
    told: dict[str, Any] = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(output), "image_size": SIDE}
    output.mkdir()
    network = workflow(bundle, [bundle / "configs" / "train.yaml"], told).parser.get_parsed_content("net")
    torch.save(network.state_dict(), output / "model.pt")
    told |= {"validate::dataset": test_set(bundle, told), "keep": "adversarial"}
    cell = Cell(("attacks/fgsm",), {"record_def::card": False, "record_def::gallery": False})
    attack, begun = AttackHandler.__call__, [0.0]

    def first(handler: AttackHandler, engine: Any) -> None:
        begun[0] = begun[0] or time.process_time()
        attack(handler, engine)

    setups, cells = [], []
    with patch.object(AttackHandler, "__call__", first):
        for _ in range(6):
            begun[0], start = 0.0, time.process_time()
            evaluate(bundle, cell, told)
            setups.append(begun[0] - start)
            cells.append(time.process_time() - start)
    return {"first": setups[0], "setup": statistics.median(setups[1:]), "cell": statistics.median(cells[1:])}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
