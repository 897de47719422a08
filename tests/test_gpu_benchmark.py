"""The GPU's benchmark says so where there is none; what it times runs on a CPU, too."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import nn

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(capsys):
    gpu.main()
    assert "no GPU is here" in capsys.readouterr().out


def test_throughputs_are_rates_of_images():
    bare, ours = gpu.throughputs(lambda: nn.Conv2d(3, 2, 3, padding=1), (2, 3, 8, 8), "fp32", "cpu")
    assert bare > 0 and ours > 0 and math.isfinite(bare / ours)


def test_the_gradient_of_a_whole_volume_is_measured_in_every_way():
    found = dict(gpu.whole_volume(32, time.monotonic() + 60, "cpu"))
    assert set(found) == {"inference alone", "the plain graph", "ours, kept_windows 0", "ours, kept_windows 1000"}


def test_what_no_time_is_left_for_is_named():
    assert set(dict(gpu.whole_volume(16, time.monotonic() - 1, "cpu")).values()) == {"left out: no time |"}
