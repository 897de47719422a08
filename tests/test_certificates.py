"""Certificates by randomised smoothing: against closed forms of a linear victim, scipy, brute force, simulation and an attack."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SHARED, small_unet
from engines import evaluator, items, network
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureType, LoadImage
from scipy.stats import binom, norm
from torch import nn
from torch.nn import functional as F

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.certificates import (
    Certificate,
    CertificateHandler,
    Smoothing,
    Votes,
    certified_dice,
    certify,
    draw_votes,
    draws_needed,
    p_values,
    smoothed,
)
from monai_advdef.defenses import RandomizedFrequencyRefinement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.metrics import counts, dice
from monai_advdef.records import read_records


class Linear(nn.Module):
    """Two classes (or one yes-or-no channel), each voxel by itself: logit of the foreground w · x + b."""

    def __init__(self, weight, bias, *, sigmoid=False):
        super().__init__()
        self.weight, self.bias, self.sigmoid = nn.Parameter(torch.tensor(weight)), bias, sigmoid

    def forward(self, x):
        z = (x * self.weight.reshape(1, -1, *(1,) * (x.ndim - 2))).sum(1, keepdim=True) + self.bias
        return z if self.sigmoid else torch.cat([torch.zeros_like(z), z], 1)


SETTINGS = Smoothing(sigma=4.0, tau=[0.6, 0.75, 0.9], n=400, n0=40, alpha=0.01, batch_size=50)


def blank(count, chosen=None):
    count = torch.as_tensor(count, dtype=torch.int32).reshape(1, -1, 1)
    chosen = torch.ones_like(count).long() if chosen is None else chosen
    return count, chosen


# -- the tests of voxels


@given(n=st.integers(1, 300), tau=st.floats(0.51, 0.99))
@settings(max_examples=30, deadline=None)
def test_p_values_are_those_of_scipy(n, tau):
    np.testing.assert_allclose(p_values(n, tau), binom.sf(np.arange(n + 1) - 1, n, tau), rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize("correction", ["holm", "bonferroni"])
def test_corrections_are_those_of_a_loop(correction):
    n, m, alpha = 200, 60, 0.05
    rng = np.random.default_rng(3)
    count, chosen = blank(rng.integers(140, 201, m))
    (made,) = certify(Smoothing(sigma=1, tau=0.75, n=n, alpha=alpha, correction=correction), Votes(chosen, count, chosen, n))
    p = binom.sf(count.numpy().ravel() - 1, n, 0.75)
    rejected = np.zeros(m, dtype=bool)
    for i, at in enumerate(np.argsort(p, kind="stable")):
        if p[at] > alpha / (m - i if correction == "holm" else m):
            break
        rejected[at] = True
    assert (made.certified.numpy().ravel() == rejected).all() and 0 < rejected.sum() < m


def test_the_published_radius_and_the_draws_that_are_needed():
    assert Smoothing(sigma=0.25).radius(0.75) == pytest.approx(0.1686, abs=1e-4)  # R(.25, .75) = .169 in the paper
    for m, tau, alpha in ((50176, 0.75, 0.001), (9, 0.9, 0.05)):
        n = draws_needed(m, tau, alpha)
        assert tau**n <= alpha / m < tau ** (n - 1)
        count, chosen = blank([n] * m)
        assert certify(Smoothing(sigma=1, tau=tau, n=n, alpha=alpha), Votes(chosen, count, chosen, n))[0].abstained == 0
        with pytest.raises(ValueError, match=rf"n = {n - 1} draws can certify none of {m} voxels .* draw n = {n} or more"):
            certify(Smoothing(sigma=1, tau=tau, n=n - 1, alpha=alpha), Votes(chosen, count - 1, chosen, n - 1))


@pytest.mark.parametrize("correction", ["holm", "bonferroni"])
def test_coverage_simulated(correction):
    """Votes drawn with known probabilities: some voxel is certified wrongly in at most a share alpha of the images."""
    rng, alpha, n, runs = np.random.default_rng(0), 0.1, 300, 600
    p = np.concatenate([np.full(30, 0.75), np.full(10, 0.7), np.linspace(0.8, 1, 20)])  # for 40 no certificate would be right
    smoothing = Smoothing(sigma=1, tau=0.75, n=n, n0=1, alpha=alpha, correction=correction)
    wrong = certified = 0
    for _ in range(runs):
        count, chosen = blank(rng.binomial(n, p))
        mask = certify(smoothing, Votes(chosen, count, chosen, n))[0].certified.numpy().ravel()
        wrong, certified = wrong + mask[:40].any(), certified + mask[40:].mean()
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs), "covered"
    assert certified / runs > 0.4, "and not by saying nothing"


# -- a linear victim


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("shape", [(12, 10), (6, 5, 4)])
def test_on_a_linear_victim_no_radius_exceeds_the_true_one(sigmoid, shape):
    weight, bias = [1.0, -2.0], 0.5
    image = 8 * torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(1))
    victim = Victim(Linear(weight, bias, sigmoid=sigmoid), activation="sigmoid" if sigmoid else "softmax")
    margin = Linear(weight, bias, sigmoid=True)(image).abs() / math.hypot(*weight)
    for case, votes in enumerate(draw_votes(SETTINGS, victim, image, seed=5)):
        expected = norm.cdf(margin[case].detach() / 4.0)
        assert abs((votes.count / 400).mean() - expected.mean()) < 0.01, "votes follow the closed form"
        for made in certify(SETTINGS, votes):
            assert made.prediction.shape == made.certified.shape == (1, *shape)
            assert (margin[case][made.certified] >= made.radius).all()
            assert (made.prediction.bool() == (Linear(weight, bias, sigmoid=True)(image[case : case + 1])[0] > 0))[
                made.certified
            ].all()
            assert made.certified[margin[case] > made.radius + 2].float().mean() > 0.95, "what is far inside is certified"


def test_draws_depend_on_the_seed_alone(victim, cases):
    image = cases[0][:2]
    one = Smoothing(sigma=10, n=6, n0=3, batch_size=8)
    together = draw_votes(one, victim, image, seed=[3, 4])
    alone = draw_votes(replace(one, batch_size=1), victim, image[1:], seed=4)[0]
    assert torch.equal(together[1].count, alone.count) and torch.equal(together[1].chosen, alone.chosen)
    assert not torch.equal(draw_votes(one, victim, image[:1], seed=9)[0].count, together[0].count)


def test_windows_defences_that_draw_and_half_precision(trained, cases):
    image, smoothing = cases[0][:1], Smoothing(sigma=5, n=4, n0=2, batch_size=4)
    windowed = Victim(trained, (127.5, 127.5), inferer=SlidingWindowInferer((32, 32), overlap=0.5))
    drawing = Victim(trained, (127.5, 127.5), defense=RandomizedFrequencyRefinement())
    half = Victim(network(trained).to(torch.bfloat16))
    for victim in (windowed, drawing, half):
        made = [draw_votes(replace(smoothing, batch_size=b), victim, image, seed=1)[0] for b in (4, 2)]
        assert made[0].count.shape == (1, 48, 48) and (made[0].count == made[1].count).float().mean() > 0.999
        assert made[0].count.max() == 4 and not any(p.grad is not None for p in trained.parameters())


# -- certified Dice


def test_certified_dice_is_the_worst_over_everything_an_abstained_voxel_may_be():
    """All answers of the abstained voxels, tried one by one, for each class."""
    rng, k = np.random.default_rng(1), 3
    for _ in range(25):
        prediction, label = (torch.from_numpy(rng.integers(0, k, (1, 2, 4))) for _ in range(2))
        sure = torch.from_numpy(rng.random((1, 2, 4)) < 0.6)
        open_voxels = (~sure).flatten().nonzero().flatten().tolist()
        worst = torch.ones(k - 1)
        for answers in itertools.product(range(k), repeat=len(open_voxels)):
            tried = prediction.clone().flatten()
            tried[open_voxels] = torch.tensor(answers, dtype=tried.dtype)
            worst = torch.minimum(worst, dice(*counts(tried.reshape(1, 1, 2, 4), label[None], k))[0])
        bound = certified_dice(Certificate(prediction, sure, 1.0, 0.75), label, k)
        torch.testing.assert_close(bound.float(), worst)


def test_certified_dice_of_masks_and_of_empty_classes():
    nothing, everything = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    sure = torch.ones(2, 3, 4, dtype=torch.bool)
    assert certified_dice(Certificate(nothing, sure, 1, 0.75), nothing).tolist() == [1, 1]
    assert certified_dice(Certificate(everything, sure, 1, 0.75), nothing).tolist() == [0, 0]
    sure[0, 0, 0] = False
    assert certified_dice(Certificate(nothing, sure, 1, 0.75), nothing).tolist() == [0, 1]
    assert certified_dice(Certificate(everything, sure, 1, 0.75), everything).tolist() == [pytest.approx(22 / 23), 1]


def bounded_by_an_attack(victim, image, label, sigma):
    """The certified Dice of each case, and what an attack within the radius leaves of the smoothed network's Dice."""
    smoothing = Smoothing(sigma=sigma, tau=0.75, n=150, n0=20, alpha=0.01, batch_size=25)
    votes = draw_votes(smoothing, victim, image, seed=1)
    bound = torch.stack([certified_dice(certify(smoothing, v)[0], y, 2) for v, y in zip(votes, label)])
    threat = ThreatModel(norm="l2", eps=smoothing.radius(0.75), value_range=(0, 255))
    found = run(PGD(steps=8, step_size=sigma / 4), smoothed(victim, sigma, draws=4), threat, image, label, seed=0)
    assert (found.size <= threat.eps * (1 + 1e-6)).all() and (found.size > threat.eps / 2).all()
    left = draw_votes(smoothing, victim, found.adversarial, seed=2)
    return bound, torch.stack([dice(*counts(v.most[None], y[None].long(), 2))[0] for v, y in zip(left, label)])


def test_certified_dice_is_never_above_what_an_attack_within_the_radius_leaves(victim, cases):
    bound, attacked = bounded_by_an_attack(victim, cases[0][:3], cases[1][:3], 12)
    assert (bound <= attacked).all() and (bound > 0.3).all()


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "skin").is_dir(), reason="the real photographs are not beside the checkout")
def test_and_on_real_photographs():
    load = Compose([LoadImage(image_only=True, ensure_channel_first=True), EnsureType(track_meta=False)])
    files = sorted((SHARED / "skin" / "images").iterdir())[:40]
    masks = {p.stem.split("_seg")[0].removesuffix("_mask"): p for p in (SHARED / "skin" / "masks").iterdir()}
    image = torch.stack([F.interpolate(load(p)[None, :3].float(), (48, 48), mode="area")[0] for p in files]).round()
    label = torch.stack([(F.interpolate(load(masks[p.stem])[None, :1].float(), (48, 48))[0] > 127).float() for p in files])
    net, noise = small_unet(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(40):
        noisy = image[:32] + 24 * torch.randn(image[:32].shape, generator=noise)
        loss = F.cross_entropy(net((noisy - 127.5) / 127.5), label[:32, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bound, attacked = bounded_by_an_attack(Victim(net, (127.5, 127.5)), image[32:36], label[32:36], 24)
    assert (bound <= attacked).all() and bound.max() > 0.2


# -- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0}, "sigma must be > 0 in image units, got 0"),
        ({"sigma": -1.0}, "sigma must be > 0"),
        ({"sigma": math.nan}, "sigma must be > 0"),
        ({"sigma": 1, "tau": 0.5}, "tau must lie above 0.5 and below 1, got 0.5"),
        ({"sigma": 1, "tau": [0.75, 1.0]}, "tau must lie above 0.5"),
        ({"sigma": 1, "tau": []}, "tau must lie above 0.5"),
        ({"sigma": 1, "n": 0}, "n must be a whole number in 1"),
        ({"sigma": 1, "n0": 2**31}, "n0 must be a whole number in 1"),
        ({"sigma": 1, "batch_size": 0}, "batch_size must be a whole number"),
        ({"sigma": 1, "alpha": 0}, "alpha must lie above 0"),
        ({"sigma": 1, "correction": "none"}, "correction must be one of holm, bonferroni"),
        ({"sigma": "much"}, "sigma must be a number, got the text 'much'"),
    ],
)
def test_settings_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        Smoothing(**options)


def test_more_copies_than_memory_holds_and_images_that_are_none(victim, cases):
    huge = Smoothing(sigma=1, n=10**9, n0=10**9, batch_size=10**9)
    with pytest.raises(
        ValueError, match=r"1000000000 noisy copies of an image \(3, 48, 48\) at once do not fit in memory; lower batch_size"
    ):
        draw_votes(huge, victim, cases[0][:1])
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        draw_votes(Smoothing(sigma=1), victim, cases[0][:1] * math.nan)
    with pytest.raises(ValueError, match="seed has 2 numbers for 1 cases"):
        draw_votes(Smoothing(sigma=1), victim, cases[0][:1], seed=[1, 2])
    with pytest.raises(ValueError, match="sigma is not given"):
        CertificateHandler(["lesion"], threat={"norm": "unbounded", "value_range": (0, 255), "unit": "grey level"})
    with pytest.raises(ValueError, match="CertificateHandler has no option 'sgima'"):
        CertificateHandler(["lesion"], sgima=3)


# -- the handler


def certified(folder, trained, handlers=(), **options):
    told = {"tau": [0.6, 0.75], "n": 60, "n0": 10, "batch_size": 30, "sigma": 6, **options}
    own = CertificateHandler("lesion", cache_dir=folder / "votes", **told)
    records = RecordHandler(folder, ["lesion"], gallery=False, card=False)
    evaluator(network(trained), [records, *handlers, own], data=items(2), batch_size=2).run()
    return read_records(folder / "records")


def test_the_records_hold_the_bound_at_every_radius(tmp_path, trained, cases):
    table = certified(tmp_path, trained)
    values = table.pivot(index="case", columns=["class", "metric"], values="value")
    radii = [f"{6 * norm.ppf(t):.4g}" for t in (0.6, 0.75)]
    assert (values["lesion", f"certified_dice_r{radii[1]}"] <= values["lesion", f"certified_dice_r{radii[0]}"]).all()
    assert (values["lesion", f"certified_dice_r{radii[0]}"] <= values["lesion", "smoothed_dice"]).all()
    assert (values["lesion", f"certified_dice_r{radii[0]}"] > 0.5).all()
    assert (values["image", f"abstained_r{radii[1]}"] > 0).all() and (values["image", "certificate_sigma"] == 6).all()
    assert {m for c, m in values.columns if c == "image"} >= {f"certificate_{n}" for n in ("sigma", "n", "n0", "alpha")}


def test_votes_are_kept_and_other_settings_are_another_evaluation(tmp_path, trained, monkeypatch):
    first = certified(tmp_path, trained)
    monkeypatch.setattr("monai_advdef.certificates.handler.draw_votes", lambda *_, **__: pytest.fail("drawn again"))
    again = certified(tmp_path, trained)
    assert first["value"].tolist() == again["value"].tolist() and again["fingerprint"].nunique() == 1
    assert certified(tmp_path, trained, alpha=0.01)["fingerprint"].nunique() == 2
    assert len(list((tmp_path / "votes").glob("*.npz"))) == 2


def test_attacked_images_are_not_certified(tmp_path, trained):
    attack = AttackHandler("FGSM", ThreatModel())
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False)
    own = CertificateHandler("lesion", threat=ThreatModel(eps=[2.0, 3.0, 8.0]), n=60)
    assert own.smoothing.sigma == 8
    with pytest.raises(ValueError, match="certificates are about clean images"):
        evaluator(network(trained), [records, attack, own], data=items(2)).run()


def test_names_that_do_not_fit_the_network(tmp_path):
    handler = CertificateHandler(["a", "b"], sigma=1, n=60, n0=5, activation="sigmoid")
    engine = evaluator(Linear([1.0, 1, 1], 0.0, sigmoid=True), [handler], data=items(1))
    with pytest.raises(ValueError, match=r"classes names 2 classes .* the network has 1 channels"):
        engine.run()
