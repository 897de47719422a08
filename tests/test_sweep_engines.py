"""Engines beside this process: jobs through submitit and actors of Ray give the same records, also where one of them is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from swept import QUICK, require_equal, study_file

from monai_advdef.__main__ import main
from monai_advdef.sweep import Store, SweepCell, Ways
from monai_advdef.sweep.engine import TRIES, Event, Workers, run_workers
from monai_advdef.sweep.store import DONE, State


@pytest.fixture(scope="module")
def swept(phantom_bundle, tmp_path_factory, store):
    """Two cells, run here."""
    folder = tmp_path_factory.mktemp("engines")
    study = study_file(phantom_bundle, folder, attacks=["clean", QUICK])
    assert main(["sweep", str(study), "--output_dir", str(folder / "out")]) == 0
    return study, folder / "out"


@contextmanager
def killing(output: Path) -> Iterator[list[int]]:
    """Meanwhile the first process that works on a cell is killed; its number is in the list."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02) and not killed:
            for file in (output / "sweep").glob("*.json"):
                told = json.loads(file.read_text())
                if told.get("status") == "running" and told["process"]["pid"] != os.getpid():
                    os.kill(told["process"]["pid"], signal.SIGKILL)
                    killed.append(told["process"]["pid"])
                    return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_job_of_submitit_that_is_killed_is_followed_by_another(swept, tmp_path, capsys):
    pytest.importorskip("submitit")
    study, expected = swept
    with killing(tmp_path / "out") as killed:
        words = ["--engine", "slurm", "--workers", "1", "--set", "cluster=local"]
        assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out"), *words]) == 0
    told = capsys.readouterr().out
    assert killed and "tried again: unet, test, clean: its process ended: job " in told
    require_equal(tmp_path / "out", expected)


@pytest.mark.slow
def test_an_actor_of_ray_that_is_killed_is_followed_by_another(swept, tmp_path, capsys):
    if importlib.util.find_spec("ray") is None:  # it is loaded later, when its environment is set
        pytest.skip("Ray is not installed")
    study, expected = swept
    with killing(tmp_path / "out") as killed:
        assert main(["sweep", str(study), "--output_dir", str(tmp_path / "out"), "--engine", "ray", "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert killed and "tried again: unet, test, clean: its process was lost" in told
    require_equal(tmp_path / "out", expected)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--engine", "slurm", "--set", "partition=gpu", "cluster=local"], "submitit has no parameter 'partition'"),
        (["--engine", "slurm", "--set", "cluster=pbs"], "cluster must be one of slurm, local, got 'pbs'"),
        (["--engine", "ray", "--set", "adress=auto"], "no setting 'adress'; did you mean 'address'"),
        (["--engine", "ray", "--set", "num_gpus=all"], "num_gpus must be a number of an actor's share, as 1 or 0.5, got 'all'"),
        (["--set", "address=auto"], "--set is for the jobs of --engine slurm"),
        (["--workers", "-1"], "workers must be a number of processes"),
    ],
)
@pytest.mark.slow
def test_what_engines_do_not_take_is_refused(swept, tmp_path, capsys, words, told):
    assert main(["sweep", str(swept[0]), "--output_dir", str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err


def test_an_engine_that_there_is_not():
    with pytest.raises(ValueError, match="no engine 'slrum'; did you mean 'slurm'"):
        Ways(engine="slrum")


@pytest.mark.slow
def test_without_slurm_that_is_said(swept, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["sweep", str(swept[0]), "--output_dir", str(tmp_path), "--engine", "slurm"]) == 2
    assert "there is no Slurm here (no sbatch)" in capsys.readouterr().err


# -- what engines of many do, told by workers that only say what they are told to


class Said(Workers):
    """Workers that say of each cell, in turn, what stands in a list; one of which they say that it ended is done."""

    def __init__(self, folder: Path, script: dict[str, list[str]]) -> None:
        self.store, self.script, self.given, self.taken, self.started = Store(folder), script, {}, [], 0

    def start(self, number):
        self.started += 1
        return f"worker {number}"

    def give(self, number, cell):
        self.taken.append(cell.name)
        self.given[number] = cell

    def wait(self):
        number, cell = next(iter(self.given.items()))
        del self.given[number]
        said = self.script.get(cell.name, []).pop(0) if self.script.get(cell.name) else "ended"
        if said == "ended":
            self.store.write(cell, State(DONE))
        return [(number, said)]

    def stop(self):
        self.given = None


def cells(*names: str, elders: dict[str, str] | None = None) -> list[SweepCell]:
    about = {"model": "m", "data": "d", "attack": "a", "defense": "none", "kind": "bundle", "root": "."}
    return [SweepCell(id=name, name=name, elder=(elders or {}).get(name, ""), **about) for name in names]


def course(folder: Path, many: list[SweepCell], script: dict[str, list[str]], number: int = 2):
    (folder / "sweep").mkdir(parents=True, exist_ok=True)
    workers, events = Said(folder, script), list[Event]()
    run_workers(folder, many, events.append, workers, number)
    assert workers.given is None, "the workers are ended"
    return workers, [(event.what, event.cell.name, event.state.status) for event in events if event.what != "began"]


def test_a_cell_is_tried_again_twice_and_the_others_go_on(tmp_path):
    workers, events = course(tmp_path, cells("a", "b"), {"a": ["died: of cold"] * TRIES})
    assert (
        events.count(("lost", "a", "open")) == TRIES - 1 and ("ended", "a", "failed") in events and ("ended", "b", "done") in events
    )
    state = Store(tmp_path).state(cells("a")[0])
    assert "its process died 3 times (of cold); see " in state.error and "a.log" in state.error
    assert workers.started == 2 + TRIES


def test_a_cell_that_ended_although_its_worker_died_then_is_done(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "sweep").mkdir()
    (a,) = cells("a")
    store.write(a, State(DONE))
    _, events = course(tmp_path, [a], {"a": ["died: late"]}, 1)
    assert events == [("ended", "a", "done")]


def test_a_cell_that_another_process_works_on_comes_later(tmp_path):
    workers, events = course(tmp_path, cells("a", "b"), {"a": ["elsewhere"]}, 1)
    assert workers.taken == ["a", "b", "a"] and ("elsewhere", "a", "open") in events


def test_cells_that_share_images_are_not_worked_on_at_once_where_others_are_left(tmp_path):
    workers, _ = course(tmp_path, cells("a", "a+", "b", "b+", elders={"a+": "a", "b+": "b"}), {})
    assert workers.taken[:2] == ["a", "b"] and sorted(workers.taken) == ["a", "a+", "b", "b+"]
