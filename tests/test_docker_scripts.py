"""What the container's MLflow server asks and refuses, and the job arrays of Slurm and LSF: each script is run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from monai_advdef.handlers.mlflow_store import TrackingStore

DOCKER = Path(__file__).parents[1] / "docker"
PASSWORD = "correct horse battery"


def called(tmp_path: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a script says that would run the programs of the image, which here say what they were told."""
    for name in ("monai-advdef", "srun", "apptainer", "mlflow"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tmp_path / "python3").chmod(0o755)
    told = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MLFLOW_FOLDER": str(tmp_path), **environment}
    return subprocess.run([str(DOCKER / script), *words], env=told, capture_output=True, text=True, cwd=tmp_path)


ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", **ARRAY}, "3/8"),
        ({"SLURM_ARRAY_TASK_ID": "0", **ARRAY, "SLURM_ARRAY_TASK_MIN": "0"}, "1/8"),
        ({"SLURM_ARRAY_TASK_ID": "14", **ARRAY, "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "2"}, "8/8"),
    ],
)
def test_a_task_of_slurm_runs_its_shard(tmp_path: Path, environment: dict[str, str], shard: str):
    told = called(tmp_path, "slurm_array.sh", "study.yaml", "out", **environment)
    assert told.stdout == f"srun monai-advdef sweep study.yaml --output_dir out --shard {shard}\n", told.stderr
    told = called(tmp_path, "slurm_array.sh", "study.yaml", "out", **environment, ADVDEF_IMAGE="a.sif")
    assert told.stdout.startswith(f"srun apptainer run --nv --bind {tmp_path} a.sif sweep study.yaml")
    assert "usage: sbatch" in called(tmp_path, "slurm_array.sh", "study.yaml", **environment).stderr


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "8"}, "3/8"),
        ({"LSB_JOBINDEX": "5", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "2"}, "3/4"),
    ],
)
def test_a_task_of_lsf_runs_its_shard(tmp_path: Path, environment: dict[str, str], shard: str):
    told = called(tmp_path, "lsf_array.sh", STUDY="study.yaml", OUT="out", **environment)
    assert told.stdout == f"monai-advdef sweep study.yaml --output_dir out --shard {shard}\n", told.stderr
    assert "set STUDY to the file of the study" in called(tmp_path, "lsf_array.sh", OUT="out", **environment).stderr


@pytest.mark.parametrize("script", ["slurm_array.sh", "lsf_array.sh"])
def test_what_a_scheduler_reads_stands_before_the_first_command(script: str):
    lines = (DOCKER / script).read_text(encoding="utf-8").splitlines()
    sign = "#SBATCH " if script.startswith("slurm") else "#BSUB "
    directives = [i for i, line in enumerate(lines) if line.startswith(sign)]
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert len(directives) >= 5 and max(directives) < first and lines[0] == "#!/bin/bash"


def test_the_server_asks_for_its_password_and_refuses_to_be_open_to_others(tmp_path: Path):
    told = called(tmp_path, "mlflow_server.sh")
    assert told.stdout.startswith("mlflow server --backend-store-uri sqlite:///") and "basic-auth" not in told.stdout, told.stderr
    assert "--allowed-hosts mlflow:5000,localhost:5000,localhost:5000,127.0.0.1:5000" in told.stdout
    told = called(tmp_path, "mlflow_server.sh", MLFLOW_BIND="0.0.0.0")
    assert told.returncode == 2 and "MLFLOW_BIND is 0.0.0.0" in told.stderr and "MLFLOW_PASSWORD is not set; set" in told.stderr
    told = called(tmp_path, "mlflow_server.sh", MLFLOW_PASSWORD="short")
    assert told.returncode == 2 and "has 5 characters" in told.stderr and "short" not in told.stderr + told.stdout
    hosts = {"MLFLOW_BIND": "0.0.0.0", "MLFLOW_HOSTS": "server.example.org:5000", "MLFLOW_PORT": "5055"}
    pytest.importorskip("flask_wtf", reason="the extra `server` is not installed")
    told = called(tmp_path, "mlflow_server.sh", MLFLOW_PASSWORD=PASSWORD, **hosts)
    assert "--app-name basic-auth" in told.stdout and "battery" not in told.stdout, told.stderr
    assert "127.0.0.1:5055,server.example.org:5000" in told.stdout


@pytest.mark.slow
def test_nobody_without_the_password_reaches_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real server, as the compose file starts it, and a tracked run of ours."""
    pytest.importorskip("flask_wtf", reason="the extra `server` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {
        "MLFLOW_FOLDER": str(tmp_path),
        "MLFLOW_PORT": str(port),
        "MLFLOW_BIND": "0.0.0.0",
        "MLFLOW_PASSWORD": "correct horse battery",
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    words = [str(DOCKER / "mlflow_server.sh"), "--host", "127.0.0.1", "--port", str(port)]
    uri = f"http://127.0.0.1:{port}"
    with open(tmp_path / "server.log", "w", encoding="utf-8") as log, started(words, log, {**os.environ, **told, "PATH": path}, uri):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{uri}/", timeout=60)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for password, tracked in (("wrong horse battery", False), (PASSWORD, True)):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
            store = TrackingStore(uri, "the records stay")
            if tracked:
                client = store.connect()
                run = client.create_run(client.create_experiment("behind a password"))
                (tmp_path / "card.html").write_text("card", encoding="utf-8")
                client.log_artifact(run.info.run_id, str(tmp_path / "card.html"))
                assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["card.html"]
            else:
                with pytest.warns(UserWarning, match="MLflow at"):
                    assert store.connect() is None


@contextmanager
def started(words: list[str], log: Any, environment: dict[str, str], uri: str) -> Iterator[None]:
    """A server that answers at ``/health``, ended with all that it started."""
    process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        for _ in range(600):
            assert process.poll() is None, Path(log.name).read_text(encoding="utf-8")
            with suppress(OSError):
                urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                break
            time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
