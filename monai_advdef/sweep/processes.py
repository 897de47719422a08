"""Local worker processes, each with a GPU of its own where there are any."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.engine import Workers

IDLE, GRACE = 1.0, 10.0  # seconds that a worker has to end when it has nothing to do, and when it is in the middle of a cell


class Processes(Workers):
    """Processes of this machine.

    Args:
        folder: the output folder; what a worker itself says is in ``sweep/worker<number>.log`` there.
        threads: of the CPU, for each.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.gpus = visible_gpus()
        self.running: dict[int, subprocess.Popen[str]] = {}
        self.selector = selectors.DefaultSelector()

    def start(self, number: int) -> str:
        """Start a process with the next GPU."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[number % len(self.gpus)]
        words = [sys.executable, "-m", "monai_advdef.sweep.worker", str(self.folder)]
        with open(self.folder / "sweep" / f"worker{number}.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )
        self.running[number] = process
        assert process.stdout is not None
        self.selector.register(process.stdout, selectors.EVENT_READ, number)
        return f"worker {number + 1}" + (f" on GPU {environment['CUDA_VISIBLE_DEVICES']}" if self.gpus else "")

    def give(self, number: int, cell: SweepCell) -> None:
        """Write the cell to the process."""
        stdin = self.running[number].stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # it has died, which is heard next
            stdin.write(json.dumps(cell.plain()) + "\n")

    def wait(self) -> list[tuple[int, str]]:
        """What processes say, or that they died."""
        heard = []
        for key, _ in self.selector.select():
            stream: Any = key.fileobj
            said = stream.readline().strip()
            if not said:
                self.selector.unregister(stream)
                heard.append((key.data, f"died: {_ended(self.running[key.data])}"))
            else:
                heard.append((key.data, said))
        return heard

    def stop(self) -> None:
        """Tell all that there are no more cells, and end those that do not end by themselves."""
        for process in self.running.values():
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in self.running.values():
            try:
                process.wait(IDLE)
            except subprocess.TimeoutExpired:
                process.terminate()
        for process in self.running.values():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.selector.close()


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name.strip() for name in (told or "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return (named if told is not None else [str(n) for n in range(count)])[:count]


def _ended(process: subprocess.Popen[str]) -> str:
    """Why a process ended, in words."""
    code = process.wait()
    if code == -signal.SIGKILL:
        return "ended by SIGKILL, as where memory ran out"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
