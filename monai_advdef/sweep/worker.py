"""A local worker process: ``python -m monai_advdef.sweep.worker FOLDER`` reads a cell a line and says what became of it.

What is said are the words of :meth:`monai_advdef.sweep.engine.Workers.wait`, a line each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from monai_advdef.neighbours import stoppable


def main(folder: str) -> None:
    """Run cells until the input ends."""
    said = os.fdopen(os.dup(1), "w", buffering=1)  # for the engine alone; what libraries print goes the way of errors
    os.dup2(2, 1)

    from monai_advdef.sweep.cells import SweepCell
    from monai_advdef.sweep.run import Runner

    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    run = Runner(Path(folder))
    for line in sys.stdin:
        try:
            run(SweepCell.of(json.loads(line)))
        except TimeoutError:
            said.write("elsewhere\n")
        else:
            said.write("ended\n")


def _follow(parent: int) -> None:
    """End with the process that started this one, also where that was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        with stoppable("its cell is begun anew when the sweep goes on"):
            main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
