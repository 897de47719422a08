"""What a sweep adds to its cells, and what a cell costs whose images are cached: CPU seconds of the bundle's phantoms."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.timing import cpu_seconds, one_thread, rotate

CELL = 10.0  # seconds of the cell that the overhead is a share of
NAME = "skin_lesion_dermoscopy_segmentation"


def main(*, quick: bool = False) -> None:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    folder = Path(tempfile.mkdtemp(prefix="sweep_"))
    try:
        with one_thread():
            measure(folder, rounds=5 if quick else 15)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, rounds: int) -> None:
    """The same cell, its images cached, in a sweep and by hand, in turn."""
    from monai_advdef.study import recorded
    from monai_advdef.sweep import Store, cells_of, read_study
    from monai_advdef.sweep.run import Runner
    from monai_advdef.sweep.tracking import StudyRun

    study = read_study(studied(folder))
    cell, store = cells_of(study, folder / "out")[0][0], Store(folder / "out")
    store.start(study.name, [cell])
    StudyRun(folder / "out", study.name).begin()
    run = Runner(folder / "out")
    inputs = run.evaluation(cell)

    def swept() -> None:
        (store.files / f"{cell.id}.json").unlink(missing_ok=True)
        assert run(cell).status == "done"

    candidates = {"in a sweep": swept, "by hand": lambda: recorded(*inputs)}
    for candidate in candidates.values():
        candidate()
    timed = {name: partial(cpu_seconds, candidate) for name, candidate in candidates.items()}
    seconds = rotate(timed, rounds)
    added = [ours - bare for ours, bare in zip(seconds["in a sweep"], seconds["by hand"])]
    low, median, high = min(added), statistics.median(added), max(added)
    print(
        f"\na cell of 3 images whose adversarial images are cached: {statistics.median(seconds['in a sweep']):.2f} s   target < 0.5"
    )
    share = f"{100 * median / CELL:.2f} % of a cell of {CELL:.0f} s   target <= 3"
    print(f"what the sweep adds to it: {median:.3f} s [{low:.3f}..{high:.3f}], {share}", flush=True)


def studied(folder: Path) -> Path:
    """A study of one cell, of a network that was not trained."""
    import torch

    from monai_advdef.bundle import bundles
    from monai_advdef.data import write_phantoms
    from monai_advdef.study import quiet, workflow

    quiet()
    root = folder / "bundle"
    shutil.copytree(bundles()[NAME] / "configs", root / "configs")
    write_phantoms("skin", root / "phantom", cases=24)
    settings = {"dataset_dir": str(root / "phantom"), "output_dir": str(folder / "none")}
    made = workflow(root, [root / "configs" / "train.yaml"], settings)
    (root / "models").mkdir()
    torch.save(made.parser.get_parsed_content("net").state_dict(), root / "models" / "model.pt")
    file = folder / "study.yaml"
    told = ["models: {unet: {model: bundle, settings: {image_size: 64}}}", "data: {test: bundle/phantom}"]
    told += ["attacks: [{overlay: attacks/pgd, options: {steps: 5}, checks: false}]"]
    file.write_text("\n".join(told), encoding="utf-8")
    return file
