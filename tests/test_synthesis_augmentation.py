"""Training batches changed by a generator, and the generators that a training kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import blobs
from generators import random_generator

from monai_advdef import ThreatModel
from monai_advdef.synthesis import kept_generators, save_generator, trained_epochs
from monai_advdef.training import SynthesisAugmentation

THREAT = ThreatModel(norm="unbounded")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of a generator that deforms and of one that changes intensities, by parts."""
    folder, files = tmp_path_factory.mktemp("generators"), {}
    for parts in ("deformation", "intensity"):
        files[parts] = str(folder / f"{parts}.pt")
        save_generator(random_generator(scale=0.5, parts=parts), files[parts])
    return files


def changed(handler: SynthesisAugmentation, image, label, epoch: int = 1):
    """What the trainer would see of a batch."""
    batch = {"image": image.clone(), "label": label.clone(), "case": [f"c{i // 2}" for i in range(len(image))]}
    handler(SimpleNamespace(state=SimpleNamespace(batch=batch, device=torch.device("cpu"), epoch=epoch)))
    return batch["image"], batch["label"]


def overlap(a, b) -> float:
    a, b = a > 127.5, b > 0.5
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_labels_follow_the_image(weights):
    _, label = blobs(4, seed=3)
    image = 255 * label.repeat(1, 3, 1, 1)
    made, moved = changed(SynthesisAugmentation(weights["deformation"], THREAT, prob=1.0), image, label)
    assert overlap(made[:, :1], moved) > 0.98 > overlap(made[:, :1], label)
    assert set(moved.unique().tolist()) == {0, 1}


def test_intensity_alone_leaves_labels_and_stays_in_range(weights):
    image, label = blobs(4, seed=3)
    made, same = changed(SynthesisAugmentation(weights["intensity"], THREAT, prob=1.0), image, label)
    assert torch.equal(same, label) and not torch.equal(made, image) and 0 <= float(made.min()) <= float(made.max()) <= 255


def test_a_part_of_the_cases_is_changed_anew_in_every_epoch(weights):
    image, label = blobs(6, seed=3)
    handler = SynthesisAugmentation(weights["deformation"], THREAT, prob=0.5, seed=1)
    first, again, later = (changed(handler, image, label, epoch)[0] for epoch in (1, 1, 2))
    touched = [(made != image).flatten(1).any(1).tolist() for made in (first, later)]
    assert torch.equal(first, again) and 0 < sum(touched[0]) < 6 and not torch.equal(first, later)
    untouched = changed(SynthesisAugmentation(weights["deformation"], THREAT, prob=0.0), image, label)
    assert torch.equal(untouched[0], image) and torch.equal(untouched[1], label)
    with pytest.raises(ValueError, match=r"prob must lie in 0..1, got 1.5"):
        SynthesisAugmentation(weights["deformation"], THREAT, prob=1.5)


def test_the_last_generators_of_a_training_are_kept_by_number(tmp_path):
    assert trained_epochs(tmp_path) == 0
    for epoch in (5, 10, 100):
        (tmp_path / f"generator_epoch_{epoch}.pt").touch()
    torch.save({"epoch": 100}, tmp_path / "training.pt")
    assert list(kept_generators(tmp_path, 2)) == [10, 100] and trained_epochs(tmp_path) == 100
    with pytest.raises(FileNotFoundError, match="3 generators stayed in .* 4 are wanted; train for more epochs"):
        kept_generators(tmp_path, 4)
