"""Adversarial images on disk: small, back bit for bit, and dropped when the evaluation that needed them is finished."""

from __future__ import annotations

import numpy as np
import pytest
from engines import evaluator, network
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import PGD
from monai_advdef.handlers import AdversarialCache, AttackHandler, evaluate
from monai_advdef.handlers.cache import _unpacked, packed

SHAPE = (3, 32, 32)
ANY = arrays.arrays(np.uint32, SHAPE, elements=st.integers(0, 2**32 - 1))


def bits(x: np.ndarray) -> bytes:
    return x.dtype.str.encode() + str(x.shape).encode() + x.tobytes()


@given(ANY, ANY)
def test_whatever_the_numbers_are_they_come_back_bit_for_bit(image, clean):
    image, clean = image.view(np.float32), clean.view(np.float32)
    assert bits(_unpacked(packed("adversarial", image, clean), clean)["adversarial"]) == bits(image)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-6, 0.1, 8.0, 300.0]), st.booleans())
def test_a_changed_image_comes_back_bit_for_bit(seed, eps, whole):
    draw = np.random.default_rng(seed)
    clean = draw.uniform(0, 255, SHAPE).astype(np.float32)
    clean = clean.round() if whole else clean
    image = (clean + draw.choice([-eps, 0, eps, eps * draw.random()], SHAPE)).clip(0, 255).astype(np.float32)
    image[0, 0, :3] = [-0.0, 1e-40, 255]
    assert bits(_unpacked(packed("adversarial", image, clean), clean)["adversarial"]) == bits(image)


@pytest.mark.parametrize("array", [np.arange(9000, dtype=np.int16), np.ones((2, 5000), bool), np.full((0, 3), 1.0), np.array(3.5)])
def test_other_arrays_come_back_too(array):
    assert bits(_unpacked(packed("x", array), None)["x"]) == bits(array)


def test_images_of_an_attack_take_less_than_half(victim, cases):
    image, label = cases
    made = run(PGD(steps=10), victim, ThreatModel(eps=8.0), image, label).adversarial.numpy()
    sizes = [
        sum(a.nbytes for a in packed("adversarial", x, c).values()) / x.nbytes
        for x, c in zip((*made, *made.round()), (*image.numpy(), *image.numpy()))
    ]
    assert max(sizes[: len(made)]) < 0.6 and max(sizes[len(made) :]) < 0.25, sizes


def test_what_passes_is_found_again_and_dropped_and_what_is_kept_stays(tmp_path):
    clean = np.zeros((3, 40, 40), np.float32)
    kept, passing, other = (AdversarialCache(tmp_path / "images") for _ in range(3))
    passing.passing = other.passing = True
    kept.store("a", clean, adversarial=clean + 1)
    passing.load("b", clean)
    passing.store("b", clean, adversarial=clean + 2.5)
    other.load("c", clean)
    other.store("c", clean, adversarial=clean + 3.5)
    found = kept.load("b", clean)
    assert found is not None and (found["adversarial"] == 2.5).all()
    assert passing.load("a", clean) is not None
    passing.drop()
    assert kept.load("b", clean) is None and kept.load("a", clean) is not None and kept.load("c", clean) is not None
    other.drop()
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["a.npz"]


def test_an_image_kept_as_a_change_is_made_again_where_the_clean_one_is_not_given(tmp_path):
    draw = np.random.default_rng(0)
    clean = draw.integers(0, 255, SHAPE).astype(np.float32)
    cache = AdversarialCache(tmp_path)
    cache.store("a", clean, adversarial=clean + draw.choice([-0.25, 0.25], SHAPE).astype(np.float32))
    assert cache.load("a") is None


def test_images_serve_until_whoever_asked_for_them_is_finished(trained, tmp_path, monkeypatch):
    folder = tmp_path / "adversarial"

    def done(keep):
        attack = AttackHandler("PGD", eps=4.0, steps=2, cache_dir=folder)
        engine = evaluator(network(trained), [attack])
        evaluate(engine, attack, keep=keep)
        return engine.state.metrics["val_dice"], len(list(folder.glob("*.npz"))), len(list(folder.glob("_unfinished/*.npz")))

    dice, *where = done("unfinished")
    assert where == [0, 6]
    monkeypatch.setattr("monai_advdef.handlers.attack.run_sweep", lambda *a, **k: pytest.fail("a case was attacked again"))
    assert done(None) == (dice, 0, 0) and not folder.exists()
    monkeypatch.undo()
    assert done("adversarial") == (dice, 6, 0)
    assert done(None) == (dice, 6, 0), "what was kept stays"
    with pytest.raises(ValueError, match="keep must be adversarial or nothing, got 'all'"):
        done("all")
