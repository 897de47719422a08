"""Counts of overlap, as a CPU and as a GPU count them, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_advdef.metrics import compared, tabled


@pytest.mark.parametrize("count", [compared, tabled])
@pytest.mark.parametrize("classes", [2, 5])
def test_counts_are_those_of_numpy(count, classes):
    generator = torch.Generator().manual_seed(classes)
    prediction, label = (torch.randint(classes, (3, 1, 5, 6, 7), generator=generator) for _ in range(2))
    label[0] = 0  # a case of background alone
    found = torch.stack(count(prediction, label, classes))
    p, t = prediction.numpy(), label.numpy()
    expected = [
        [[part[b].sum() for k in range(1, classes) for part in [which(p == k, t == k)]] for b in range(3)]
        for which in (np.logical_and, lambda p, t: p, lambda p, t: t)
    ]
    assert found.tolist() == np.array(expected).tolist()
