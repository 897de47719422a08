"""Training of a generator killed by SIGKILL in a process of its own and begun again ends as one that nobody killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import Tensor, nn

from monai_advdef import ThreatModel, Victim
from monai_advdef.synthesis import (
    Critic,
    PerturbationGenerator,
    SynthesisCheckpoint,
    SynthesisTrainer,
    load_generator,
    trained_epochs,
)

EPOCHS, KILLED_AFTER, PATIENCE = 4, 2, 120
SIZE = 24


class Slow(Dataset):
    """Bright discs on noise; each image takes ``pause`` seconds to read."""

    def __init__(self, pause: float) -> None:
        super().__init__([{"number": i} for i in range(8)])
        self.pause = pause

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        time.sleep(self.pause)
        g = torch.Generator().manual_seed(index)
        grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"))
        centre = torch.randint(8, SIZE - 8, (2, 1, 1), generator=g)
        label = ((grid - centre).square().sum(0, keepdim=True) < 30).float()
        return {"image": 80 + 100 * label + 10 * torch.randn(1, SIZE, SIZE, generator=g), "label": label}


def train(folder: str, pause: float = 0.0) -> None:
    """As the bundle's workflow does it, in small: a fixed segmenter of bright pixels, the real trainer and checkpoint."""
    torch.manual_seed(0)
    segmenter = nn.Conv2d(1, 2, 1)
    segmenter.weight.data = torch.tensor([-0.05, 0.05]).reshape(2, 1, 1, 1)
    segmenter.bias.data = torch.tensor([6.5, -6.5])
    generator = PerturbationGenerator(channels=[8, 8], latent_channels=8)
    critic = Critic(channels=(8, 8))
    SynthesisTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=DataLoader(Slow(pause), batch_size=4, shuffle=True, num_workers=0),
        generator=generator,
        critic=critic,
        victim=Victim(segmenter),
        threat=ThreatModel(norm="unbounded"),
        generator_optimizer=torch.optim.RMSprop(generator.parameters(), lr=1e-3, alpha=0.9),
        critic_optimizer=torch.optim.RMSprop(critic.parameters(), lr=1e-3, alpha=0.9),
        critic_steps=1,
        train_handlers=[SynthesisCheckpoint(folder, interval=1)],
    ).run()


def child(folder: Path, pause: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, __file__, str(folder), str(pause)], env={**os.environ, "OMP_NUM_THREADS": "1"})


def weights(folder: Path) -> dict[str, Tensor]:
    return load_generator(str(folder / "generator.pt"))[0].state_dict()


@pytest.mark.slow
def test_killed_training_ends_as_an_uninterrupted_one(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    killed = child(parts, 0.1)  # most of a second an epoch
    deadline = time.monotonic() + PATIENCE
    while not (parts / f"generator_epoch_{KILLED_AFTER}.pt").exists():
        assert killed.poll() is None and time.monotonic() < deadline, "the training ended before it could be killed"
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and trained_epochs(parts) == KILLED_AFTER
    early = weights(parts)
    assert child(parts, 0.0).wait() == 0 and trained_epochs(parts) == EPOCHS
    train(str(whole))
    found, expected = weights(parts), weights(whole)
    assert found.keys() == expected.keys() and any(not torch.equal(early[name], expected[name]) for name in expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    assert {p.name for p in parts.iterdir()} >= {p.name for p in whole.iterdir()}


if __name__ == "__main__":
    train(sys.argv[1], float(sys.argv[2]))
