"""A sweep of 24 cells, killed again and again: here, by workers, as shards and on Ray its records are those of one left alone.

``python tests/kill_sweep.py --kills 3`` makes a small bundle on phantoms and compares, file by file, every column but ``seconds``:

1. the sweep in one process, left alone;
2. in one process, ended by SIGKILL ``--kills`` times at random moments, and started again;
3. by two workers, the same;
4. as two shards at once, the same, a kill now of the one, now of the other;
5. on Ray with two actors, the process of one killed ``--kills`` times while it works on a cell.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from phantom_bundle import SMALL, PhantomBundle, make
from swept import require_equal, start, study_file

from monai_advdef.sweep import State, Store

ATTACKS = [
    "clean",
    *({"overlay": f"attacks/{name}", "checks": False} for name in ("noise", "fgsm")),
    {"overlay": "attacks/pgd", "options": {"steps": 10}, "eps": [2, 8], "checks": False},
    {"overlay": "suites/smoke", "checks": False},
]
JPEG = {"overlay": "defenses/jpeg", "options": {"quality": 50}}


def study(bundle: PhantomBundle, folder: Path) -> Path:
    """Two sections x six attacks x two defences."""
    data = {name: {"dataset_dir": str(bundle.root / "phantom"), "section": name} for name in ("test", "validation")}
    models = {"unet": {"model": str(bundle.root), "settings": dict(SMALL)}}
    return study_file(bundle, folder, models=models, data=data, attacks=ATTACKS, defenses=["none", JPEG])


def states(output: Path) -> list[State]:
    """Of all cells; none before the plan is written."""
    store = Store(output)
    try:
        return [store.state(cell) for cell in store.plan()[1]]
    except ValueError:  # the plan is not there yet
        return []


def wait_for(output: Path, done: int, processes: Sequence[subprocess.Popen[str]]) -> None:
    """Until so many cells are done, or a process has ended."""
    while sum(state.status == "done" for state in states(output)) < done and all(p.poll() is None for p in processes):
        time.sleep(0.05)


def kill_and_finish(file: Path, output: Path, ways: Sequence[Sequence[str]], kills: int, draw: random.Random) -> None:
    """Start the command in every one of its ``ways``, kill one at a random moment, start that again; at the end all finish."""
    log = output.with_suffix(".log")
    processes = [start(file, output, *words, log=log) for words in ways]
    for _ in range(kills):
        done = sum(state.status == "done" for state in states(output))
        wait_for(output, draw.randint(done, min(done + 6, 20)), processes)
        time.sleep(draw.uniform(0, 2))
        which = draw.randrange(len(ways))
        os.killpg(processes[which].pid, signal.SIGKILL)
        code = processes[which].wait()
        counts = [state.status for state in states(output)]
        print(f"  killed {' '.join(ways[which]) or 'the process'}: {counts.count('done')} of {len(counts)} done", flush=True)
        assert code == -signal.SIGKILL
        processes[which] = start(file, output, *ways[which], log=log)
    assert [process.wait() for process in processes] == [0] * len(ways), log.read_text()[-4000:]


def kill_actors(file: Path, output: Path, kills: int) -> None:
    """One sweep on Ray; meanwhile processes that work on a cell are killed."""
    log = output.with_suffix(".log")
    process = start(file, output, "--engine", "ray", "--workers", "2", log=log)
    for number in range(kills):
        wait_for(output, 3 * number + 1, [process])
        while process.poll() is None:
            found = states(output)  # in which what a dead process left running is open
            if pids := [state.process["pid"] for state in found if state.status == "running"]:
                os.kill(pids[0], signal.SIGKILL)
                print(f"  killed an actor, after {sum(state.ended for state in found)} cells", flush=True)
                break
    assert process.wait() == 0, log.read_text()[-4000:]
    assert log.read_text().count("tried again") == kills, log.read_text()


def run(bundle: PhantomBundle, folder: Path, *, kills: int, seed: int = 0) -> None:
    """All five."""
    file, draw = study(bundle, folder), random.Random(seed)
    alone = folder / "alone"
    begun = time.monotonic()
    kill_and_finish(file, alone, [[]], 0, draw)
    print(f"left alone: {len(states(alone))} cells in {time.monotonic() - begun:.0f} s", flush=True)
    for name, ways in (
        ("in one process", [[]]),
        ("by two workers", [["--workers", "2"]]),
        ("as two shards", [["--shard", "1/2"], ["--shard", "2/2"]]),
    ):
        print(name, flush=True)
        output = folder / name.replace(" ", "_")
        kill_and_finish(file, output, ways, kills, draw)
        require_equal(output, alone)
        print("  the same records", flush=True)
    print("on Ray", flush=True)
    kill_actors(file, folder / "on_ray", kills)
    require_equal(folder / "on_ray", alone)
    print("  the same records", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary folder, removed when all is well")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill_sweep_"))
    (folder / "bundle").mkdir(parents=True)
    run(make(folder / "bundle"), folder, kills=args.kills, seed=args.seed)
    if not args.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
