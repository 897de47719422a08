"""Interleaved measurement on a noisy machine: ratios to a reference measured in the same round, so that other jobs cancel out."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class Ratio(NamedTuple):
    """Cost of a candidate in units of the reference: median, smallest and largest over the rounds."""

    median: float
    low: float
    high: float


def interleave(
    candidates: Mapping[str, Callable[[], Any]], reference: str, rounds: int = 15, budget_s: float = 30.0
) -> dict[str, Ratio]:
    """Time every candidate once per round, in rotating order, and compare it with ``reference`` within the round.

    Args:
        candidates: name -> function without arguments; each is called once beforehand to warm up.
        reference: the candidate whose cost is 1.
        rounds: rounds at most; at least three are run.
        budget_s: stop after the round in which this many seconds of wall time have passed.
    """
    for candidate in candidates.values():
        candidate()
    timed = {name: lambda candidate=candidate: cpu_seconds(candidate) for name, candidate in candidates.items()}  # type: ignore[misc]
    return compare(rotate(timed, rounds, budget_s), reference)


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU time of this process spent on ``call()``, which other processes disturb less than wall time."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rotate(candidates: Mapping[str, Callable[[], Result]], rounds: int, budget_s: float = 600.0) -> dict[str, list[Result]]:
    """What every candidate returns, round by round, each round beginning with another one; at least three rounds are run."""
    names, begin = list(candidates), time.monotonic()
    results: dict[str, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        if number >= 3 and time.monotonic() - begin > budget_s:
            break
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            results[name].append(candidates[name]())
    return results


def compare(costs: Mapping[str, Iterable[float]], reference: str) -> dict[str, Ratio]:
    """The cost of every candidate divided by that of ``reference`` in the same round."""
    ratios = {name: [own / other for own, other in zip(cost, costs[reference])] for name, cost in costs.items()}
    return {name: Ratio(statistics.median(r), min(r), max(r)) for name, r in ratios.items()}


def child(module: str, *arguments: object) -> dict[str, float]:
    """Run ``python -m module arguments`` in a fresh process, with its own allocator and peak memory; read the last line's JSON.

    Raises:
        RuntimeError: the process failed; its last lines are shown.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_memory() -> int:
    """Bytes this process has held resident at most (``ru_maxrss`` would count the parent's, too)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, as many as before afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def show(title: str, ratios: Mapping[str, Ratio], reference: str, targets: Mapping[str, str] | None = None) -> None:
    """Print one table of ratios: ``name  median [min..max]``, with the target of those that have one."""
    print(f"\n{title}  (cost / {reference}: median [min..max])")
    width, targets = max(len(name) for name in ratios), targets or {}
    for name, ratio in ratios.items():
        target = f"   target {targets[name]}" if name in targets else ""
        print(f"  {name:<{width}}  {ratio.median:9.2f}  [{ratio.low:.2f}..{ratio.high:.2f}]{target}", flush=True)
