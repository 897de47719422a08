"""A small victim trained on simple images, once per session; shape annotations of the core are executed while the tests run."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors here are small: a second thread only waits; for subprocesses too
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow  # noqa: E402
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from jaxtyping import install_import_hook
from torch import Tensor

CORE = ["threat", "objectives", "metrics", "victim", "windows", "attacks"]
install_import_hook([f"monai_advdef.{m}" for m in CORE], "shapecheck.checker")

from monai.networks.nets import UNet  # noqa: E402
from phantom_bundle import PhantomBundle, make  # noqa: E402

from monai_advdef import ThreatModel, Victim  # noqa: E402

# Every run on a developer's machine tries other examples; what must pass before a change lands tries the same ones each time.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


Once = Callable[[str, Callable[[Path], None]], Path]
SHARED = Path(__file__).parents[2] / "shared" / "data"
SIZE = 48


def blobs(cases: int, seed: int = 0, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Images (B, 3, size, size) of integers 0..255 with one slightly darker ellipse each, and its mask (B, 1, size, size)."""
    g = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij"))
    images, masks = [], []
    for _ in range(cases):
        centre, radii = torch.rand(2, generator=g) - 0.5, 0.25 + 0.35 * torch.rand(2, generator=g)
        mask = (((grid - centre[:, None, None]) / radii[:, None, None]) ** 2).sum(0) < 1
        skin = torch.tensor([200.0, 150.0, 120.0]) + 20 * torch.randn(3, generator=g)
        lesion = skin * (0.8 + 0.1 * torch.rand(1, generator=g))
        image = torch.where(mask, lesion[:, None, None], skin[:, None, None]) + 12 * torch.randn(3, size, size, generator=g)
        images.append(image.round().clamp(0, 255))
        masks.append(mask[None].float())
    return torch.stack(images), torch.stack(masks)


def small_unet(dims: int = 2, channels: int = 3, classes: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(dims, channels, classes, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """``once(name, make)``: a folder that ``make`` filled, once for all workers of a run. They share it, so nobody writes there."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, finished = common / name, common / f"{name}.made"
        with FileLock(common / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that did not get to the end
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

    return made


def train(folder: Path) -> None:
    """A small U-Net that segments :func:`blobs` (Dice about .95), expecting (x - 127.5) / 127.5."""
    network = small_unet()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    image, mask = blobs(64, seed=1)
    for step in range(60):
        at = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:16]
        loss = torch.nn.functional.cross_entropy(network((image[at] - 127.5) / 127.5), mask[at, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / "model.pt")


@pytest.fixture(scope="session")
def trained(once: Once) -> torch.nn.Module:
    """The network of :func:`train`."""
    network = small_unet()
    network.load_state_dict(torch.load(once("small_unet", train) / "model.pt", weights_only=True))
    return network.eval()


@pytest.fixture(scope="session")
def victim(trained: torch.nn.Module) -> Victim:
    return Victim(trained, normalize=(127.5, 127.5))


@pytest.fixture(scope="session")
def cases() -> tuple[Tensor, Tensor]:
    return blobs(6, seed=2)


@pytest.fixture
def threat() -> ThreatModel:
    return ThreatModel(eps=8.0)


@pytest.fixture(autouse=True)
def heard() -> None:
    """What an earlier test silenced (see :func:`monai_advdef.study.quiet`) is heard again."""
    logging.disable(logging.NOTSET)


def migrate(folder: Path) -> None:
    """An empty MLflow store: making its tables takes seconds."""
    mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns.db'}").search_experiments()


@pytest.fixture(scope="module")
def store(once: Once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One MLflow store for all runs of a file, a copy of an empty one; it is named in the environment too."""
    uri = f"sqlite:///{shutil.copy(once('mlflow', migrate) / 'mlruns.db', tmp_path_factory.mktemp('mlflow'))}"
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=uri):
        yield uri


@pytest.fixture(scope="session")
def phantom_bundle(once: Once, tmp_path_factory: pytest.TempPathFactory) -> PhantomBundle:
    """The skin bundle trained on phantoms (see :mod:`phantom_bundle`), a copy for each worker: tests write beside its networks."""
    return PhantomBundle(Path(shutil.copytree(once("phantom_bundle", make), tmp_path_factory.mktemp("bundle") / "skin")))


@pytest.fixture(scope="session")
def made_store(once: Once) -> Path:
    """An SQLite store of MLflow to copy: making one takes seconds."""
    return once("mlflow", migrate) / "mlruns.db"
