"""What is the same thing: digests that follow what something does, in this process and in the next, and never where it lies."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import AsDiscreted, Compose
from torch import nn

from monai_advdef.attacks import PGD
from monai_advdef.defenses import JPEG, FrequencyRefinement
from monai_advdef.handlers.code import installed, named
from monai_advdef.handlers.identity import Unidentified, identity, structure

FACTOR = 3


class Standardise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.std = torch.tensor(float(std))  # a tensor that state_dict does not know

    def forward(self, x):
        return (x - self.mean) / self.std


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x - self.by


def shifted_by(k):
    def shift(x):
        return x - k

    return shift


def local_class(k):
    class Local(nn.Module):
        def forward(self, x):
            return x * k

    return Local()


def times_global(x):
    return x * FACTOR


def unet(act="prelu", seed=0):
    torch.manual_seed(seed)
    return UNet(2, 1, 2, channels=(4, 8), strides=(2,), act=act)


def hooked(k):
    net = unet()
    net.register_forward_hook(lambda module, given, out: out * k)
    return net


MADE = {
    "module": (lambda: Standardise(0, 1), lambda: Standardise(127.5, 1), lambda: Standardise(0, 50)),
    "object": (lambda: Shift(1), lambda: Shift(2)),
    "bound method": (lambda: Shift(1).__call__, lambda: Shift(2).__call__),
    "lambda": (lambda: lambda x: (x - 100) / 50, lambda: lambda x: (x - 100) / 51, lambda: lambda x: (x + 100) / 50),
    "nested lambda": (lambda: lambda x: (lambda y: y + 1)(x), lambda: lambda x: (lambda y: y + 2)(x)),
    "closure": (lambda: shifted_by(1), lambda: shifted_by(2)),
    "partial": (lambda: functools.partial(shifted_by(1), 1), lambda: functools.partial(shifted_by(2), 1)),
    "partial keywords": (lambda: functools.partial(np.clip, a_max=1), lambda: functools.partial(np.clip, a_max=2)),
    "defaults": (lambda: lambda x, k=1: x - k, lambda: lambda x, k=2: x - k),
    "local class": (lambda: local_class(2), lambda: local_class(3)),
    "named function": (lambda: torch.sigmoid, lambda: torch.tanh, lambda: np.exp),
    "vectorised": (lambda: np.vectorize(lambda x: x + 1), lambda: np.vectorize(lambda x: x + 2)),
    "cached": (lambda: functools.lru_cache(shifted_by(1)), lambda: functools.lru_cache(shifted_by(2))),
    "nested": (lambda: nn.Sequential(nn.Identity(), Standardise(0, 1)), lambda: nn.Sequential(Standardise(0, 1), nn.Identity())),
    "traced": (lambda: torch.jit.trace(Standardise(0, 1), torch.ones(2)), lambda: torch.jit.trace(Standardise(1, 1), torch.ones(2))),
    "numbers": (lambda: 8, lambda: 8.5, lambda: [8, 0, 0], lambda: [0, 8, 0], lambda: "8", lambda: True),
    "arrays": (lambda: np.zeros(3), lambda: np.zeros(4), lambda: torch.zeros(3), lambda: np.zeros(3, np.float32)),
    "inferer": (lambda: SimpleInferer(), lambda: SlidingWindowInferer(8), lambda: SlidingWindowInferer(8, overlap=0.5)),
    "defence": (
        lambda: JPEG(),
        lambda: JPEG(quality=50),
        FrequencyRefinement,
        lambda: FrequencyRefinement(steps=(3, 2, 3)),
    ),
    "attack": (lambda: PGD(), lambda: PGD(steps=3)),
    "after": (lambda: Compose([AsDiscreted("pred", argmax=True)]), lambda: Compose([AsDiscreted("pred", threshold=0.5)])),
    "network": (unet, lambda: unet("relu"), lambda: unet(seed=1), lambda: hooked(2), lambda: hooked(3)),
}


@pytest.mark.parametrize("kind", MADE)
def test_made_anew_it_is_the_same_and_every_other_is_another(kind):
    digests = [identity(make()) for make in MADE[kind]]
    assert len(set(digests)) == len(digests)
    assert [identity(make()) for make in MADE[kind]] == digests


def test_what_a_function_reads_from_its_module_counts(monkeypatch):
    before = identity(times_global)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 4)
    assert identity(times_global) != before
    monkeypatch.undo()
    assert identity(times_global) == before


def test_structure_is_apart_from_weights_and_modes_and_devices_decide_nothing():
    assert structure(unet()) == structure(unet(seed=1)) == structure(nn.DataParallel(unet())) == structure(unet().eval())
    assert structure(unet()) != structure(unet("relu"))
    assert identity({"device": torch.device("cpu")}) == identity({"device": torch.device("cuda")})
    assert identity({"b": 1, "a": (2,)}) == identity({"a": [2], "b": 1.0})


def test_a_file_counts_by_its_content_not_by_its_place(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name, text in (("a.pt", "1"), ("elsewhere/b.pt", "1"), ("c.pt", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (identity({"weights": str(tmp_path / n)}) for n in ("a.pt", "elsewhere/b.pt", "c.pt"))
    assert a == b != c


def test_things_that_hold_themselves_or_cannot_be_looked_into():
    ring: list = []
    ring.append(ring)
    assert identity(ring) == identity(ring)
    holder = Shift(threading.Lock())
    with pytest.raises(Unidentified, match=r"lock cannot be told from another of its kind .*give a module, a function"):
        identity(holder)
    with pytest.raises(Unidentified, match="generator"):
        identity(number for number in range(3))


def test_another_process_finds_the_same():
    names = [name for name in MADE if name != "traced"]
    words = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_identity as t\n"
    words += f"print(*(t.identity(t.MADE[n][0]()) for n in {names!r}))"
    there = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert there.stdout.split() == [identity(MADE[name][0]()) for name in names], there.stderr


def test_what_an_object_knows_of_the_case_at_hand_decides_nothing():
    class Tail:
        fleeting = ("held",)

        def __init__(self, scale, held):
            self.scale, self.held = scale, held

    assert identity(Tail(1, "a")) == identity(Tail(1, "b")) != identity(Tail(2, "a"))


def test_what_an_installer_put_into_a_folder_of_its_own_counts_by_name(tmp_path, monkeypatch):
    """``pip install --target``, as containers and clusters have it; a project edited where it stands counts by its code."""
    for folder, name in ((tmp_path / "target", "put_there"), (tmp_path / "project", "edited_there")):
        folder.mkdir()
        (folder / f"{name}.py").write_text("def turn(x):\n    return x\n")
        monkeypatch.syspath_prepend(str(folder))
    (tmp_path / "target" / "put_there-1.0.dist-info").mkdir()
    (tmp_path / "project" / "edited_there.egg-info").mkdir()
    assert installed("put_there") and not installed("edited_there")
    assert named(importlib.import_module("put_there").turn) == "put_there.turn"
    assert named(importlib.import_module("edited_there").turn) is None
