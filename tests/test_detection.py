"""The detector by disagreement, and the attacker who knows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import blobs
from engines import evaluator, items, network
from monai.data import Dataset
from monai.inferers import SlidingWindowInferer

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.defenses import JPEG, Blur, FrequencyRefinement, RandomizedFrequencyRefinement
from monai_advdef.detection import DisagreementHandler, EvadingPGD, EvasionHandler, WatchedVictim, agreement, disagreement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.metrics import mean_dice
from monai_advdef.records import read_records

THREAT = ThreatModel(eps=8.0)
FR = FrequencyRefinement(steps=(60, 30, 80))


def test_agreement_is_one_for_equal_predictions_and_falls_to_nothing():
    z = torch.randn(3, 4, 5, 6, 2, generator=torch.Generator().manual_seed(0))
    for head in ("softmax", "sigmoid"):
        torch.testing.assert_close(agreement(z, z, head), torch.ones(3))
        assert (agreement(z, -z, head) < 0.99).all()
    p, q = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
    p[:, 1], q[:, 1] = torch.tensor([20.0, 20, -20, -20]), torch.tensor([-20.0, 20, 20, -20])
    assert agreement(p, q).item() == pytest.approx(0.5, abs=1e-4)
    assert disagreement(Victim(torch.nn.Identity()), p, q).item() == pytest.approx(0.5)


# -- the pair of looks


@pytest.mark.parametrize("deployed", [None, Blur()])
@pytest.mark.parametrize("windows", [False, True])
def test_a_watched_victim_looks_twice_and_passes_the_gradient_of_both(victim, cases, windows, deployed):
    inferer = SlidingWindowInferer((32, 32), overlap=0.5) if windows else None
    own = Victim(victim.network, (127.5, 127.5), inferer=inferer, defense=deployed)
    watched, image = WatchedVictim(own, FR), cases[0][:2]

    def loss(z):
        first, second = z.chunk(2, 1)
        return agreement(first, second) + first.flatten(1).mean(1)

    with own.frozen():
        x = image.clone().requires_grad_()
        expected = torch.cat([own(x), own(FR(x))], 1)
        (gradient,) = torch.autograd.grad(loss(expected).sum(), x)
        logits, values, found = watched.gradient(image, loss)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-6 + 1e-4 * gradient.abs().max().item())
    assert torch.equal(watched.predict(logits), own.predict(expected[:, :2])) and watched.classes(logits) == 2
    assert not any(p.grad is not None for p in victim.network.parameters())


def test_a_detector_without_a_gradient_is_told(victim, cases):
    class Hard(torch.nn.Module):
        def forward(self, x):
            return x.detach().round()

    with pytest.raises(ValueError, match="Hard passes no gradient, so an attacker who evades the detector cannot see through it"):
        run(EvadingPGD(steps=1), WatchedVictim(victim, Hard()), THREAT, cases[0], cases[1])
    with pytest.raises(ValueError, match="JPEG has value_range \\(0, 1\\), but the images span"):
        run(EvadingPGD(steps=1), WatchedVictim(victim, JPEG(value_range=(0, 1))), THREAT, cases[0], cases[1])


# -- the attack


def looks(victim, x, label):
    """Dice and disagreement of each case."""
    with torch.no_grad():
        first, second = victim(x), victim(FR(x))
    return mean_dice(victim.predict(first), label.long(), 2), disagreement(victim, first, second)


def test_evasion_trades_damage_for_silence(victim):
    image, label = blobs(6, seed=9)
    watched = WatchedVictim(victim, FR)
    plain = run(PGD(steps=12, step_size=2.0), victim, THREAT, image, label).adversarial
    found = run(EvadingPGD(steps=12, step_size=2.0, weight=2.0), watched, THREAT, image, label)
    clean_dice, clean_apart = looks(victim, image, label)
    plain_dice, plain_apart = looks(victim, plain, label)
    evading_dice, evading_apart = looks(victim, found.adversarial, label)
    assert (found.size <= 8 * (1 + 1e-6)).all() and evading_dice.mean() < clean_dice.mean() - 0.1
    assert evading_apart.mean() < 0.6 * plain_apart.mean() and clean_apart.mean() < plain_apart.mean()
    np.testing.assert_allclose(found.score, 1 - evading_dice, atol=1e-5)


def test_with_a_threshold_the_best_iterate_is_the_worst_that_raises_no_alarm(victim):
    image, label = blobs(4, seed=9)
    threshold = 0.15
    attack = EvadingPGD(steps=10, step_size=1.0, weight=1.0, threshold=threshold, random_start=False)
    found = run(attack, WatchedVictim(victim, FR), THREAT, image, label)
    left, apart = looks(victim, found.adversarial, label)
    assert (apart <= threshold).all(), "the clean images raise none"
    assert (left <= looks(victim, image, label)[0] + 1e-6).all()
    alone = run(attack, WatchedVictim(victim, FR), THREAT, image[2:3], label[2:3])
    torch.testing.assert_close(alone.adversarial, found.adversarial[2:3], rtol=0, atol=2e-2)


def test_without_weight_it_is_the_attacker_who_knows_of_nothing(victim, cases):
    image, label = cases[0][:3], cases[1][:3]
    mine = run(EvadingPGD(steps=4, step_size=2.0, weight=0.0), WatchedVictim(victim, FR), THREAT, image, label, seed=3)
    theirs = run(PGD(steps=4, step_size=2.0), victim, THREAT, image, label, seed=3)
    torch.testing.assert_close(mine.score, theirs.score, rtol=0, atol=2e-2)


def test_detectors_that_draw_and_sigmoid_heads(victim, cases):
    drawing = WatchedVictim(victim, RandomizedFrequencyRefinement())
    assert drawing.stochastic and run(EvadingPGD(steps=2), drawing, THREAT, cases[0][:1], cases[1][:1]).backwards == 2 * 8

    class OneChannel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = victim.network

        def forward(self, x):
            z = self.inner(x)
            return z[:, 1:] - z[:, :1]

    own = Victim(OneChannel(), (127.5, 127.5), activation="sigmoid")
    assert (run(EvadingPGD(steps=3), WatchedVictim(own, FR), THREAT, cases[0][:2], cases[1][:2]).score >= 0).all()


def test_what_is_refused(victim, cases):
    with pytest.raises(ValueError, match="weight must be ≥ 0, got -1"):
        EvadingPGD(weight=-1)
    with pytest.raises(ValueError, match="this victim has none; give it a WatchedVictim, or take PGD"):
        run(EvadingPGD(steps=1), victim, THREAT, cases[0][:1], cases[1][:1])
    with pytest.raises(ValueError, match="stpes given beside a ready-made attack"):
        EvasionHandler(DisagreementHandler(FR, calibration=[]), THREAT, stpes=3)
    assert EvasionHandler(DisagreementHandler(FR, calibration=[]), THREAT, eps=2.0, weight="0.5").threat.eps == 2


# -- the handlers


def evaluate(folder, trained, attack=None, **options):
    detector = DisagreementHandler(FR, calibration=Dataset(items(10, seed=5)), rate=0.1, **options)
    made = attack(detector) if attack else None
    handlers = [RecordHandler(folder, ["lesion"], attack=made, gallery=False, card=True), detector, *([made] if made else [])]
    evaluator(network(trained), handlers, data=items(5), batch_size=3).run()
    return detector


def test_oblivious_and_evading_side_by_side(tmp_path, trained):
    evaluate(tmp_path, trained)
    evaluate(tmp_path, trained, lambda _: AttackHandler("PGD", THREAT, steps=8))
    own = {"steps": 8, "step_size": 2.0, "cache_dir": tmp_path / "adversarial"}
    detector = evaluate(tmp_path, trained, lambda d: EvasionHandler(d, THREAT, **own))
    table = read_records(tmp_path / "records")
    wide = table[table["class"] == "image"].pivot_table(index=["attack", "case"], columns="metric", values="value")
    names = [n for n in wide.index.levels[0] if "PGD" in n]
    evading, plain = (next(n for n in names if ("evading" in n) is wanted) for wanted in (True, False))
    assert wide.loc[evading, "disagreement"].mean() < wide.loc[plain, "disagreement"].mean()
    assert wide.loc[evading, "disagreement_alarm"].sum() <= wide.loc[plain, "disagreement_alarm"].sum()
    victim, image = Victim(network(trained)), blobs(10, seed=5)[0]
    with torch.no_grad():
        scores = np.sort(disagreement(victim, victim(image), victim(FR(image))).numpy())[::-1]
    assert detector.threshold == pytest.approx(scores[1], abs=1e-6)
    rows = table[table["attack"] == evading]
    assert rows["adaptive"].all() and (rows["backwards"] == 16).all(), "a step is two looks"
    card = (tmp_path / "card.html").read_text()
    assert "Does the detector see it?" in card and "evading 3" in card
    evaluate(tmp_path, trained, lambda d: EvasionHandler(d, THREAT, **own))
    assert len(list((tmp_path / "adversarial").glob("*.npz"))) == 5, "kept"
