"""Actors of a Ray cluster, one that is there or one started here: each has a GPU of its own where there are any."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_advdef.errors import DataError, nearest
from monai_advdef.sweep.cells import SweepCell
from monai_advdef.sweep.engine import Workers
from monai_advdef.sweep.run import Runner

SETTINGS = ("address", "num_cpus", "num_gpus")
LOCAL = "local"  # a new cluster, also where another one runs or was left behind on this machine
KEPT = "what is done is kept, and the same command goes on from here"
LOOK = 5.0  # seconds from one look at the cluster to the next
STORE = 100_000_000  # bytes of Ray's object store: cells and words pass through it, no images
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}


class Actor:
    """What lives in a Ray worker: runs a cell at a time, and keeps what neighbours load alike."""

    def __init__(self, folder: str) -> None:
        self.run = Runner(Path(folder))

    def __call__(self, cell: Mapping[str, Any]) -> str:
        """Run a cell; returns the word of :meth:`monai_advdef.sweep.engine.Workers.wait`."""
        try:
            self.run(SweepCell.of(cell))
        except TimeoutError:
            return "elsewhere"
        return "ended"


class RayActors(Workers):
    """Actors of a cluster.

    Args:
        folder: the output folder, which all nodes must see.
        threads: of the CPU, for each.
        number: of actors.
        settings: ``address`` of a cluster (``"auto"``: the one of this machine; default: ``RAY_ADDRESS``, or one is started here and
            ended again); ``num_cpus`` and ``num_gpus`` of an actor (default: ``threads``, and 1 where the cluster has GPUs).

    A cluster that is started here listens to whoever has its token: that of ``RAY_AUTH_TOKEN``, or a new one. Its dashboard is off.
    One that is there is asked with the token that Ray finds; where it uses none, set ``RAY_AUTH_MODE=disabled``.

    Raises:
        ValueError: Ray is not installed, or a setting is unknown.
        RuntimeError: the cluster does not answer; Ray was loaded before without a token.
    """

    def __init__(self, folder: Path, threads: int, number: int, settings: Mapping[str, Any]) -> None:
        _check(settings)
        address = settings.get("address") or os.environ.get("RAY_ADDRESS")
        if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:  # which Ray reads when it is loaded
            raise RuntimeError("Ray was loaded in this process before, without a token; set RAY_AUTH_MODE=token before that")
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if not address and os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            import ray
        except ImportError as error:
            raise ValueError("the engine ray needs Ray; pip install 'monai_advdef[ray]'") from error
        self.ray, self.folder = ray, folder
        self.actors: dict[int, Any] = {}
        self.asked: dict[Any, int] = {}
        cpus = settings.get("num_cpus", threads)
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE, "num_cpus": max(1, round(cpus * number))}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address or LOCAL, log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            where = address or "this machine"
            raise RuntimeError(f"Ray at {where} does not answer: {error}; is it up, and its token right?") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own in its place
        self.head, self.gone = ray.get_runtime_context().gcs_address, False
        there = ray.cluster_resources()
        asked = {"num_cpus": cpus, "num_gpus": settings.get("num_gpus", 1 if there.get("GPU", 0) else 0)}
        for name, kind in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            if asked[name] > there.get(kind, 0):  # Ray would wait for good
                self.stop()
                has = f"the cluster has {there.get(kind, 0):g} {kind}s"
                raise DataError(f"{name} of an actor is {asked[name]:g}, and {has}; ask for less")
        self.kind = ray.remote(max_restarts=0, max_task_retries=0, **asked)(Actor)

    def start(self, number: int) -> str:
        """Make an actor; Ray places it where there is room, and it takes cells from then on."""
        self.actors[number] = self.kind.remote(str(self.folder))
        return f"actor {number + 1}"

    def give(self, number: int, cell: SweepCell) -> None:
        """Send the cell to the actor."""
        self.asked[self.actors[number].__call__.remote(cell.plain())] = number

    def wait(self) -> list[tuple[int, str]]:
        """What actors say, or that they died.

        Raises:
            RuntimeError: the cluster is gone, or an actor cannot write what became of a cell.
        """
        ready: list[Any] = []
        try:
            while not ready:
                ready, _ = self.ray.wait(list(self.asked), num_returns=1, timeout=LOOK)
                self._require_cluster()
            return [(self.asked.pop(said), self._said(said)) for said in ready]
        except ConnectionError as error:
            raise RuntimeError(f"Ray's cluster fails: {error}; {KEPT}") from error

    def _said(self, said: Any) -> str:
        try:
            return self.ray.get(said)
        except self.ray.exceptions.RayTaskError as error:  # it could not write what became of a cell
            raise error.cause from error
        except self.ray.exceptions.RayError as error:  # the actor, its node, or memory was lost
            self._require_cluster()
            return f"died: was lost ({' '.join(str(error).split())[:200]})"

    def _require_cluster(self) -> None:
        """Ask whether the head of the cluster is there; without it Ray ends this process after a minute, with no word of ours."""
        host, _, port = self.head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
        except OSError as error:
            self.gone = True
            raise RuntimeError(f"Ray's cluster at {self.head} is gone ({error.strerror or error}); {KEPT}") from error

    def stop(self) -> None:
        """End the actors, and the cluster if it was started here."""
        if self.gone:  # Ray would wait for it
            return
        with suppress(Exception):  # a cluster that is gone
            for actor in self.actors.values():
                self.ray.kill(actor)
        with suppress(Exception):
            self.ray.shutdown()


def _check(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in SETTINGS:
            raise DataError(f"the engine ray has no setting {name!r}; {nearest(name, SETTINGS)}")
        if name != "address" and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise DataError(f"{name} must be a number of an actor's share, as 1 or 0.5, got {value!r}")
