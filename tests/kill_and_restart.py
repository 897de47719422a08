"""Kill one evaluation again and again, and start two evaluations at once: at the end nothing is lost, doubled or left open.

``python tests/kill_and_restart.py --kills 20 --starts 10`` makes a small bundle on phantoms, then

1. starts one evaluation in one folder and ends it by SIGKILL ``--kills`` times, at random moments, then lets it run to its end;
2. starts two evaluations (``--starts`` processes in all) in one folder at once.

Both times the records must equal those of an undisturbed run in every column but ``seconds``, every run of MLflow must be closed,
and no part, lock, owner or temporary file may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import pandas as pd
from phantom_bundle import ENVIRONMENT, PhantomBundle, make

from monai_advdef.bundle import workflows
from monai_advdef.records import read_records, unfinished

MEASURES_TIME = ["seconds"]  # the only column in which two runs of one evaluation may differ
SLOW = {"attack_def::steps": 30, "batch_size": 1}


def words(bundle: PhantomBundle, output: Path, eps: float) -> list[str]:
    """The stock command of an evaluation under attack that takes some seconds for its cases."""
    return [sys.executable, "-m", *bundle.words(output, workflows()["attacks/pgd"], **{**SLOW, "attack_def::eps": eps})]


def start(bundle: PhantomBundle, output: Path, eps: float, log: Path) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "MLFLOW_TRACKING_URI"}
    with open(log, "ab") as told:
        return subprocess.Popen(words(bundle, output, eps), cwd=bundle.root, env=environment, stdout=told, stderr=told)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait() == 0, log.read_text(errors="replace")[-4000:]


def table(output: Path) -> pd.DataFrame:
    return read_records(output / "records").drop(columns=MEASURES_TIME)


def statuses(output: Path) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{output / 'mlruns.db'}")
    return [run.info.status for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]


def check(output: Path, expected: pd.DataFrame) -> list[str]:
    """Nothing lost, doubled or left; the statuses of MLflow's runs."""
    pd.testing.assert_frame_equal(table(output), expected)
    left = [p for p in output.rglob("*") if p.suffix in (".tmp", ".lock", ".part") or p.parent.name == "_unfinished"]
    assert not left and not unfinished(output / "records"), f"left over: {left}"
    found = statuses(output)
    assert found and "RUNNING" not in found, found
    return found


def newer(output: Path, pattern: str, since: float) -> bool:
    """Whether a file of that kind was written after ``since``."""
    with contextlib.suppress(FileNotFoundError):  # it is renamed while it is looked at
        return any(path.stat().st_mtime > since and path.stat().st_size > 0 for path in output.glob(pattern))
    return False


# What a start has come to when the clock of its kill begins, and how many seconds that clock runs at most.
MOMENTS = {
    "starting": (None, 20.0),
    "making or opening the store": ("mlruns.db*", 2.0),
    "crafting": ("adversarial/_unfinished/*", 0.5),
    "recording": ("records/_unfinished/*.part.jsonl", 0.5),
    "closing": ("records/*.parquet", 2.0),
}


def kill_once(bundle: PhantomBundle, output: Path, log: Path, draw: random.Random, cases: int) -> bool:
    """One start, killed at a moment drawn among all that it will go through; ``False`` if it had ended before."""
    crafted = len(list(output.glob("adversarial/_unfinished/*.npz"))) == cases
    moment = draw.choice([name for name in MOMENTS if not (crafted and name == "crafting")])
    pattern, span = MOMENTS[moment]
    wait, since = draw.uniform(0, span), time.time()
    process = start(bundle, output, 8, log)
    while pattern and process.poll() is None and not newer(output, pattern, since):
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait)
    process.kill()
    code = process.wait()
    told = (len(list(output.glob(pattern))) for pattern in ("adversarial/_unfinished/*.npz", "records/*.parquet"))
    print(f"{moment}, {wait:.2f} s later: exit code {code}; %d images crafted, %d tables" % tuple(told), flush=True)
    return code == -signal.SIGKILL


def kill(bundle: PhantomBundle, folder: Path, expected: pd.DataFrame, *, kills: int, seed: int) -> list[str]:
    """Killed ``kills`` times, then finished."""
    output, log, draw, done = folder / "killed", folder / "killed.log", random.Random(seed), 0
    while done < kills:
        done += kill_once(bundle, output, log, draw, expected["case"].nunique())
    finish(start(bundle, output, 8, log), log)
    return check(output, expected)


def together(bundle: PhantomBundle, folder: Path, expected: pd.DataFrame, *, starts: int) -> list[str]:
    """Two evaluations, started in turn, all at once, in one folder."""
    output, logs = folder / "together", [folder / f"together_{n}.log" for n in range(starts)]
    processes = [start(bundle, output, (8, 4)[n % 2], log) for n, log in enumerate(logs)]
    for process, log in zip(processes, logs):
        finish(process, log)
    found = check(output, expected)
    assert found == ["FINISHED"] * starts, found
    return found


def run(bundle: PhantomBundle, folder: Path, *, kills: int, starts: int, seed: int = 0) -> None:
    """Both trials against undisturbed runs."""
    log, wholes = folder / "whole.log", [folder / "whole_8", folder / "whole_4"]
    finish(start(bundle, wholes[0], 8, log), log)
    finish(start(bundle, wholes[1], 4, log), log)
    both = pd.concat([table(w) for w in wholes]).sort_values("fingerprint", kind="stable", ignore_index=True)
    closed = kill(bundle, folder, table(wholes[0]), kills=kills, seed=seed)
    print(f"MLflow after {kills} kills and one run to the end: {closed}", flush=True)
    closed = together(bundle, folder, both, starts=starts)
    print(f"MLflow after {starts} starts at once: {closed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary folder, removed when all is well")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill_and_restart_"))
    (folder / "bundle").mkdir(parents=True)
    run(make(folder / "bundle"), folder, kills=args.kills, starts=args.starts, seed=args.seed)
    print(f"records identical in every column but {', '.join(MEASURES_TIME)}; no run left open, no file left over")
    if not args.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
