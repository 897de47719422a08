"""The image and the compose file: what can be read in them, what the linters say, and the scripts that the image runs."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_advdef.bundle import bundles, workflows
from monai_advdef.commands import VERBS, parser

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(DOCKER / "image_constraints.py"))
JOBS = ("train", "evaluate", "train-cpu", "evaluate-cpu")
SWEEPS = ("sweep", "sweep-cpu", "sweep-ray")
CLUSTER = ("ray", "ray-worker")
CHOSEN = {"GPUS": "all", "EPOCHS": "2", "OUTPUT_DIR": "/results", "MLFLOW_PORT": "5055", "MLFLOW_BIND": "0.0.0.0", "STUDY_DIR": "/s"}
SCRIPTS = sorted(file.name for file in DOCKER.glob("*.sh"))

WORDS = {"type": "array", "items": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^(\d+(us|ms|s|m|h))+$"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def every(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": schema}


# The part of the compose specification that the file uses; any other key or type is an error, as for `docker compose config`.
DEVICE = of(driver={"type": "string"}, count={"type": ["integer", "string"]}, capabilities=WORDS)
BIND = of(type={"enum": ["bind"]}, source={"type": "string"}, target={"type": "string"}, read_only={"type": "boolean"})
CONDITIONS = ["service_started", "service_healthy", "service_completed_successfully"]
SERVICE = of(
    image={"type": "string"},
    command=WORDS,
    cap_drop=WORDS,
    depends_on=every(of(condition={"enum": CONDITIONS})),
    deploy=of(resources=of(reservations=of(devices={"type": "array", "items": DEVICE}))),
    environment=every({"type": ["string", "integer", "null"]}),  # empty: the variable is empty
    healthcheck=of(test=WORDS, interval=DURATION, timeout=DURATION, start_period=DURATION, retries={"type": "integer"}),
    init={"type": "boolean"},
    networks=WORDS,
    ports={"type": "array", "items": {"type": "string", "pattern": r"^([\d.]+:)?\d+:\d+$"}},
    profiles=WORDS,
    read_only={"type": "boolean"},
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    security_opt=WORDS,
    shm_size={"type": ["integer", "string"]},
    tmpfs=WORDS,
    volumes={"type": "array", "items": {"anyOf": [{"type": "string", "pattern": "^[^:]+:/"}, BIND]}},
)
COMPOSE = {
    **of(name={"type": "string"}, services=every(SERVICE), networks=every(of(internal={"type": "boolean"})), volumes=every(of())),
    "patternProperties": {"^x-": {}},
    "required": ["services"],
}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and their words, continued lines joined, comments left out."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def substitute(text: str, variables: dict[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}``, ``${NAME:+other}`` and ``${NAME:?message}`` as the compose specification has them."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if kind == ":+":
            return rest if variables.get(name) else ""
        if variables.get(name):
            return variables[name]
        assert kind != ":?", f"{name} is not set: {rest}"
        return rest or ""

    return re.sub(r"\$\{(\w+)(?:(:-|:\?|:\+)([^}]*))?\}", value, text)


def compose(**variables: str) -> dict[str, Any]:
    return yaml.safe_load(substitute((DOCKER / "compose.yaml").read_text(encoding="utf-8"), variables))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return compose(DATA_DIR="/images")["services"]


def test_base_image_is_a_build_argument():
    told = instructions()
    assert told[0][0] == "ARG" and told[0][1].startswith("BASE_IMAGE=")
    assert all(rest.split(" AS ")[0] == "${BASE_IMAGE}" for word, rest in told if word == "FROM")


def test_the_image_runs_as_a_numeric_user_that_is_not_root_and_tells_its_health():
    told = dict(instructions())
    assert told["USER"] == "10001"
    assert [word for word, _ in instructions()].index("USER") < [word for word, _ in instructions()].index("ENTRYPOINT")
    assert 'CMD ["monai-advdef", "list", "--json"]' in told["HEALTHCHECK"]
    assert "chown 10001:10001 /output" in DOCKERFILE and "chown 10001:10001 /data" not in DOCKERFILE


def test_torch_is_installed_by_nobody():
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert installs
    for rest in installs:
        assert "PIP_CONSTRAINT=/tmp/constraints.txt" in rest
        assert not re.search(r"pip install[^&]*\b(torch|numpy|--upgrade|-U)\b", rest)


def test_what_is_copied_reaches_the_builder_and_exists():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {w for word, rest in instructions() if word == "COPY" and "--from" not in rest for w in rest.split()[:-1]} - {"."}
    assert lines[1] == "*" and copied <= sent
    assert all((ROOT / path).exists() for path in sent)
    assert {"monai_advdef", "bundles", "workflows", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= sent


NAMES = st.sampled_from(("torch", "torchvision", "numpy", "scipy", "monai", "pytorch-triton"))


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.sampled_from(("1.9", "2.13.0+cpu", "2.9.0a0+50eac811a6.nv25.09"))))
def test_constraints_keep_torch_of_the_base_and_take_the_rest_from_the_file(installed: dict[str, str]):
    file = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    if "torch" not in installed:
        with pytest.raises(SystemExit, match="BASE_IMAGE has no torch"):
            SCRIPT["constraints"](installed, file)
        return
    made = dict(line.split("==") for line in SCRIPT["constraints"](installed, file))
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(.+)$", file))
    kept = {name: version for name, version in installed.items() if name in SCRIPT["KEPT"]}
    assert made == {**pinned, **kept}


def test_names_are_compared_as_pep_503_has_them():
    made = SCRIPT["constraints"]({"torch": "2.9.0a0+1.nv25.09", "pytorch-triton": "3.4"}, "Pytorch_Triton==1\nSimpleITK==2.5.7\n")
    assert made == ["torch==2.9.0a0+1.nv25.09", "pytorch-triton==3.4", "SimpleITK==2.5.7"]


@pytest.mark.parametrize(
    ("words", "program", "given"),
    [
        (["list", "--json"], "monai-advdef", "list --json"),
        ([], "monai-advdef", ""),
        (["bundle", "run", "--config_file", "['a b']"], "python3", "-m monai.bundle run --config_file ['a b']"),
        (["mlflow", "server"], "mlflow", "server"),
        (["torchrun", "--nproc_per_node=2"], "torchrun", "--nproc_per_node=2"),
        (["sweep", "study.yaml", "--output_dir", "out"], "monai-advdef", "sweep study.yaml --output_dir out"),
        (["ray", "start", "--head"], "ray", "start --head"),
    ],
)
def test_entry_point_sends_words_to_their_program(tmp_path: Path, words: list[str], program: str, given: str):
    for name in ("monai-advdef", "python3", "mlflow", "torchrun", "ray"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name}:$*"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    told = subprocess.run(
        ["sh", str(DOCKER / "entrypoint.sh"), *words], env={"PATH": f"{tmp_path}:/bin"}, capture_output=True, text=True
    )
    assert told.stdout == f"{program}:{given}\n", told.stderr


def test_scripts_are_executable():
    for name in SCRIPTS:
        assert os.access(DOCKER / name, os.X_OK), f"chmod +x docker/{name}"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"GPUS": "all", "EPOCHS": "2", "OUTPUT_DIR": "/results", "MLFLOW_PORT": "5055", "MLFLOW_BIND": "0.0.0.0", "STUDY_DIR": "/s"},
    ],
)
def test_compose_file_is_what_compose_specifies(variables: dict[str, str]):
    file = compose(DATA_DIR="/images", **variables)
    jsonschema.validate(file, COMPOSE)
    for service in file["services"].values():
        assert set(service["networks"]) <= set(file["networks"])
        named = {v.split(":")[0] for v in service["volumes"] if isinstance(v, str) and not v.startswith("/")}
        assert named <= set(file["volumes"])
        assert set(service.get("depends_on", ())) <= set(file["services"])


def test_the_server_is_checked_and_every_job_waits_for_it(services: dict[str, Any]):
    assert "/health" in " ".join(services["mlflow"]["healthcheck"]["test"])
    assert services["mlflow"]["command"] == ["mlflow_server"]
    assert set(services) == {"mlflow", *JOBS, *SWEEPS, *CLUSTER}
    for name in (*JOBS, *SWEEPS):
        job = services[name]
        assert job["depends_on"]["mlflow"] == {"condition": "service_healthy"}
        assert job["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
        assert job["shm_size"] == "8g" and job["networks"] == ["inside"]
        assert {"type": "bind", "source": "/images", "target": "/data", "read_only": True} in job["volumes"]
    for suffix in ("", "-cpu"):
        assert services[f"evaluate{suffix}"]["depends_on"][f"train{suffix}"] == {"condition": "service_completed_successfully"}
    assert compose(DATA_DIR="/images")["networks"]["inside"] == {"internal": True}


def test_a_gpu_is_reserved_by_the_gpu_profile_alone(services: dict[str, Any]):
    for name in JOBS:
        assert services[name]["profiles"] == ["cpu" if name.endswith("-cpu") else "gpu"]
    reserve = {name for name, service in services.items() if "deploy" in service}
    assert reserve == {"train", "evaluate", "sweep", "ray", "ray-worker"}
    (device,) = services["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


@pytest.mark.parametrize("bundle", sorted(bundles()))
def test_the_jobs_name_files_that_the_package_has(bundle: str):
    services = compose(DATA_DIR="/images", BUNDLE=bundle, OVERLAY="defenses/jpeg")["services"]
    for name in JOBS:
        words = services[name]["command"]
        files = re.findall(r"/opt/monai_advdef/([\w/]+)\.yaml", words[words.index("--config_file") + 1])
        assert len(files) == (1 if name.startswith("train") else 3)
        assert all((ROOT / f"{file}.yaml").is_file() for file in files)
        assert f"/output/{bundle}" in words and "/data" in words
    assert "defenses/jpeg" in workflows()


@pytest.mark.parametrize("password", ["", "correct horse battery"])
def test_the_server_is_published_to_this_machine_and_jobs_know_its_password(password: str):
    services = compose(DATA_DIR="/images", MLFLOW_PASSWORD=password)["services"]
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert all("ports" not in service for name, service in services.items() if name != "mlflow")
    assert (services["mlflow"]["environment"]["MLFLOW_PASSWORD"] or "") == password
    for name in (*JOBS, *SWEEPS):
        told = services[name]["environment"]
        assert (told["MLFLOW_TRACKING_USERNAME"] or "", told["MLFLOW_TRACKING_PASSWORD"] or "") == (password and "admin", password)


def test_a_study_runs_on_this_machine_or_on_a_cluster_of_ray():
    services = compose(DATA_DIR="/images", STUDY="mine.yaml", STUDY_DIR="/studies", WORKERS="2", RAY_TOKEN="secret")["services"]
    for name in SWEEPS:
        job = services[name]
        assert job["command"][:4] == ["sweep", "/study/mine.yaml", "--output_dir", "/output/sweep"]
        if "sweep" in VERBS and (name != "sweep-ray" or "--engine" in parser().options()):
            assert parser().parse_args(job["command"]).study == "/study/mine.yaml"
    assert services["sweep"]["command"][-2:] == ["--workers", "2"] and services["sweep-ray"]["command"][-2:] == ["--engine", "ray"]
    assert services["sweep-ray"]["depends_on"]["ray"] == {"condition": "service_healthy"}
    for name in (*SWEEPS, *CLUSTER):
        volumes = services[name]["volumes"]
        assert [v["target"] for v in volumes if isinstance(v, dict)] == ["/study", "/data"] and volumes[-1] == "output:/output"
        assert all(v["read_only"] for v in volumes if isinstance(v, dict))
    for name in (*CLUSTER, "sweep-ray"):
        told = services[name]["environment"]
        assert (told["RAY_AUTH_MODE"], told["RAY_AUTH_TOKEN"]) == ("token", "secret") and services[name]["networks"] == ["inside"]
        assert ("RAY_ADDRESS" in told) is (name == "sweep-ray")  # the others are the cluster, or told where it is
    assert "--include-dashboard=false" in services["ray"]["command"]


def test_the_study_of_the_container_is_one(tmp_path: Path):
    study = pytest.importorskip("monai_advdef.sweep.study", reason="this version has no sweep")
    text = (DOCKER / "study.yaml").read_text(encoding="utf-8")
    (tmp_path / "model.pt").touch()
    text = text.replace("/output/skin_lesion_dermoscopy_segmentation/models/model.pt", str(tmp_path / "model.pt"))
    (tmp_path / "study.yaml").write_text(text.replace("/data", str(tmp_path)), encoding="utf-8")
    told = study.read_study(tmp_path / "study.yaml")
    assert [part.name for part in told.attacks] == ["clean", "pgd eps 8"] and list(told.models) == ["skin"]


def test_the_recipe_of_apptainer_builds_the_same_image():
    recipe = (DOCKER / "apptainer.def").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^%(\w+)\n", recipe)
    sections = dict(zip(parts[1::2], parts[2::2]))
    assert {"arguments", "files", "post", "environment", "runscript", "test"} <= set(sections)
    header = dict(line.split(": ", 1) for line in parts[0].splitlines() if line and not line.startswith("#"))
    assert header == {"Bootstrap": "docker", "From": "{{ base_image }}"}
    arguments = dict(line.strip().split("=", 1) for line in sections["arguments"].splitlines() if line.strip())
    assert arguments["base_image"] == dict(instructions())["ARG"].split("=")[-1] or arguments["base_image"] in DOCKERFILE
    files = dict(line.split() for line in sections["files"].splitlines() if line.strip())
    assert all((ROOT / source).exists() for source in files)
    copied = {w for word, rest in instructions() if word == "COPY" and "--from" not in rest for w in rest.split()[:-1]} - {"."}
    assert copied <= set(files) and {"monai_advdef", "bundles", "workflows", "setup.cfg"} <= set(files)
    scripts = "\n".join(re.sub(r"\{\{ \w+ \}\}", "server", sections[name]) for name in ("post", "runscript", "test"))
    told = subprocess.run(["sh", "-n"], input=scripts, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "image_constraints.py" in sections["post"] and not re.search(r"pip install[^\n]*\b(torch|numpy|-U)\b", sections["post"])


def test_without_data_compose_says_what_is_missing():
    with pytest.raises(AssertionError, match="set DATA_DIR"):
        compose()


def test_every_variable_is_told_in_the_readme():
    files = [DOCKER / "compose.yaml", *(DOCKER / name for name in ("mlflow_server.sh", "slurm_array.sh", "lsf_array.sh"))]
    used = {name for file in files for name in re.findall(r"\$\{([A-Z]\w+)", file.read_text(encoding="utf-8"))}
    used -= {name for name in used if name.startswith(("SLURM_", "LSB_"))}
    told = (DOCKER / "README.md").read_text(encoding="utf-8")
    assert used and not {name for name in used if f"`{name}`" not in told}


@pytest.mark.parametrize(
    "words",
    [
        ("hadolint", "docker/Dockerfile"),
        ("dclint", "--max-warnings", "0", "docker/compose.yaml"),
        ("shellcheck", *(f"docker/{name}" for name in SCRIPTS)),
    ],
    ids=lambda words: words[0],
)
def test_linters_find_nothing(words: tuple[str, ...]):
    beside = shutil.which(words[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if beside is None:
        pytest.skip(f"{words[0]} is not installed (docker/README.md says where it comes from)")
    told = subprocess.run([beside, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
