"""Adversarial training (online, offline, free) and TRADES against hand-written loops, and their overlays on phantoms."""

from __future__ import annotations

import math
import os
from unittest.mock import patch

import pytest
import torch
from conftest import blobs, small_unet
from engines import items, network
from generators import generator_file
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedTrainer
from phantom_bundle import PhantomBundle
from torch.nn import functional as F

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD
from monai_advdef.bundle import workflows
from monai_advdef.handlers import AttackHandler
from monai_advdef.networks.losses import ClassMapCrossEntropy
from monai_advdef.study import workflow
from monai_advdef.training import (
    TRADES,
    AdversarialTraining,
    FreeAdversarialTraining,
    ReplayedDataLoader,
    TRADESLoss,
    adversarial_copies,
    divergence,
)

THREAT = ThreatModel(eps=4.0)
OVERLAYS = {
    "adversarial_offline": {},
    "adversarial_online": {"attack_def::attack": "FGSM", "adversarial_prob": 1},
    "distillation": {"temperature": 50},
    "distillation_teacher": {"temperature": 5},
    "fast_adversarial": {},
    "free_adversarial": {"replays": 2},
    "synthesis_augmentation": {"generator_weights": generator_file(), "augmentation_prob": 1},
    "trades": {"attack_def::steps": 2, "beta": 1},
    "weight_perturbation": {},
}


def train(net, handlers, *, loss=None, epochs=1, data_loader=None, lr=1e-3):
    """Losses, and images as the network saw them, of a few iterations on three cases in one batch each."""
    losses, images = [], []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=data_loader or DataLoader(Dataset(items(3)), batch_size=3),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr),
        loss_function=loss or ClassMapCrossEntropy(),
        decollate=False,
        train_handlers=handlers,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: images.append(torch.as_tensor(e.state.output["image"]).clone()))
    trainer.run()
    return losses, images


def step(net, loss, lr=1e-3):
    """Plain gradient descent."""
    for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters()))):
        p.data.sub_(lr * g)


def cross_entropy(net, x, y):
    return F.cross_entropy(net(x), y[:, 0].long())


# -- online


def test_online_loss_and_step_are_those_of_a_hand_written_loop():
    """FGSM in evaluation mode, in grey levels, then the training forward on the attacked batch."""
    (x, y), theirs, ours = blobs(3, seed=2), network(small_unet()), network(small_unet())
    theirs.eval()
    image = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(theirs, image, y), image)
    adversarial = (x + 4 * gradient.sign()).clamp(0, 255)
    theirs.train()
    loss = cross_entropy(theirs, adversarial, y)
    step(theirs, loss)
    handler = AdversarialTraining(FGSM(keep="last"), THREAT, prob=1.0, random_eps=False)
    losses, images = train(ours, [handler])
    torch.testing.assert_close(images[0], adversarial)
    assert losses[0] == pytest.approx(loss.item(), rel=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_beside_clean_the_loss_is_the_mean_of_the_two():
    (x, y), net = blobs(3, seed=2), network(small_unet())
    handler = AdversarialTraining("FGSM", THREAT, prob=1.0, random_eps=False, beside_clean=True)
    losses, images = train(net, [handler], lr=0.0)
    assert images[0].shape == (6, *x.shape[1:]) and torch.equal(images[0][:3], x)
    assert not torch.equal(images[0][3:], x)
    with torch.no_grad():
        net.train()  # instance norm: no case sees another
        both = [cross_entropy(net, part, y).item() for part in images[0].split(3)]
    assert losses[0] == pytest.approx(sum(both) / 2, rel=1e-5)


def test_a_part_of_the_cases_is_attacked_within_drawn_budgets_anew_in_every_epoch():
    x = blobs(3, seed=2)[0]
    handlers = [AdversarialTraining("FGSM", THREAT, prob=0.5, seed=s) for s in (1, 1)]
    runs = [train(network(small_unet()), [h], epochs=12, lr=0.0)[1] for h in handlers]
    assert all(torch.equal(a, b) for a, b in zip(*runs)), "the seed decides"
    sizes = torch.stack([(image - x).abs().flatten(1).amax(1) for image in runs[0]])
    share = (sizes > 0).float().mean().item()
    assert 0.2 < share < 0.8 and sizes.max() <= 4 * (1 + 1e-6)
    attacked = [row[row > 0] for row in sizes if (row > 0).any()]
    assert all(torch.allclose(row, row[0], atol=1e-4) for row in attacked), "one budget a batch"
    assert len({round(float(row[0]), 3) for row in attacked}) > 3


def test_prob_0_is_plain_training():
    plain, none = network(small_unet()), network(small_unet())
    losses = train(plain, [], epochs=2)[0]
    assert train(none, [AdversarialTraining("FGSM", THREAT, prob=0.0)], epochs=2)[0] == losses
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), none.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"prob": 1.5}, r"prob must lie in 0..1, got 1.5"), ({"cache_dir": "c"}, "cache_dir must be left out")],
)
def test_online_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarialTraining("FGSM", THREAT, **options)


# -- offline


def test_copies_are_what_the_attacks_make_and_are_crafted_once(trained, tmp_path):
    data, net = items(4), network(trained).eval()
    attacks = [AttackHandler(a, THREAT, cache_dir=tmp_path) for a in (FGSM(), PGD(steps=1, random_start=False))]
    copies = adversarial_copies(Dataset(data), net, attacks, batch_size=3)
    image, label = blobs(4, seed=2)
    assert [c["case"] for c in copies] == 2 * [f"case_{i}" for i in range(4)] and len(list(tmp_path.glob("*.npz"))) == 8
    for i, attack in enumerate(attacks):
        made = torch.stack([torch.as_tensor(c["image"]) for c in copies[4 * i : 4 * i + 4]])
        expected = run(attack.attack, Victim(net), THREAT, image, label, seed=0).adversarial
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)
    assert all(torch.equal(c["label"], d["label"]) for c, d in zip(copies, 2 * data))
    assert all(isinstance(c["image"], MetaTensor) and c["image"].meta == d["image"].meta for c, d in zip(copies, 2 * data))
    with patch("monai_advdef.handlers.attack.run_sweep", side_effect=AssertionError("crafted again")):
        again = adversarial_copies(Dataset(data), net, attacks, batch_size=2)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(again, copies))


# -- TRADES


def test_divergence_is_that_of_torch_and_of_the_closed_form():
    g = torch.Generator().manual_seed(0)
    a, b = (3 * torch.randn(2, 4, 3, 5, 2, generator=g, dtype=torch.float64) for _ in range(2))
    reference = F.kl_div(b.log_softmax(1), a.log_softmax(1), reduction="none", log_target=True).sum(1).flatten(1).mean(1)
    torch.testing.assert_close(divergence(a, b), reference)
    assert (divergence(a, b) > 0).all() and divergence(a, a).abs().max() < 1e-12
    p, q = 0.8, 0.3
    logits = [torch.tensor([math.log(r / (1 - r)), 0.0], dtype=torch.float64).reshape(1, 2, 1, 1) for r in (p, q)]
    closed = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert divergence(*logits).item() == pytest.approx(closed)


def test_trades_loss_on_one_batch():
    (x, y), net = blobs(3, seed=2), network(small_unet())
    losses, images = train(net, [TRADES(THREAT, steps=2)], loss=TRADESLoss(ClassMapCrossEntropy(), beta=6.0), lr=0.0)
    with torch.no_grad():
        clean, other = net(x), net(images[0][3:])
        expected = F.cross_entropy(clean, y[:, 0].long())
        expected += 6 * F.kl_div(other.log_softmax(1), clean.softmax(1), reduction="none").sum(1).mean()
    assert torch.equal(images[0][:3], x) and losses[0] == pytest.approx(expected.item(), rel=1e-4)
    assert 0 < (images[0][3:] - x).abs().max() <= 4 * (1 + 1e-6)


def test_neighbours_diverge_more_than_where_they_started(trained):
    net, x = network(trained).eval(), blobs(3, seed=2)[0]
    images = train(net, [TRADES(THREAT, steps=5)], loss=TRADESLoss(ClassMapCrossEntropy()), lr=0.0)[1][0]
    start = THREAT.around(x).start([torch.Generator().manual_seed(s) for s in range(3)])
    with torch.no_grad():
        found, random = (divergence(net(x), net(other)) for other in (images[3:], start))
    assert (found > 2 * random).all()


def test_trades_loss_takes_the_deployed_head_and_refuses_a_batch_without_neighbours():
    z, y = torch.randn(4, 2, 3, 3), torch.zeros(2, 1, 3, 3).repeat(2, 1, 1, 1)
    loss = TRADESLoss(ClassMapCrossEntropy(), beta=2.0)
    heads = TRADESLoss(lambda prediction, label: loss.loss(prediction[0], label), beta=2.0)  # type: ignore[arg-type]
    assert torch.equal(heads([z, torch.randn(4, 2, 3, 3)], y), loss(z, y))
    with pytest.raises(ValueError, match="put the TRADES handler into the trainer"):
        loss(z[:3], y[:3])
    with pytest.raises(ValueError, match="beta must be ≥ 0"):
        TRADESLoss(ClassMapCrossEntropy(), beta=-1)
    with pytest.raises(ValueError, match="random_start must be true"):
        TRADES(THREAT, random_start=False)
    with pytest.raises(ValueError, match="activation must be 'softmax'"):
        TRADES(THREAT, activation="sigmoid")


# -- free


def test_free_training_replays_as_a_plain_loop_does():
    """Two batches, each replayed three times: the perturbation goes on, weights and perturbation move from one backward pass."""
    data, replays = items(4), 3
    theirs, ours = network(small_unet()), network(small_unet())
    image, label = blobs(4, seed=2)
    delta, expected = torch.zeros_like(image[:2]), []
    for x, y in zip(image.split(2), label.split(2)):
        for _ in range(replays):
            seen = (x + delta).clamp(0, 255).requires_grad_()
            loss = cross_entropy(theirs.train(), seen, y)
            (gradient,) = torch.autograd.grad(loss, seen, retain_graph=True)
            step(theirs, loss)
            delta = (seen.detach() - x + 4 * gradient.sign()).clamp(-4, 4)
            delta = (x + delta).clamp(0, 255) - x
            expected.append((loss.item(), seen.detach()))
    loader = ReplayedDataLoader(Dataset(data), replays=replays, batch_size=2)
    losses, images = train(ours, [FreeAdversarialTraining(THREAT)], data_loader=loader)
    assert len(loader) == len(losses) == 6
    assert losses == pytest.approx([v for v, _ in expected], rel=1e-4)
    for (_, seen), mine in zip(expected, images):
        assert (mine - seen).abs().gt(1e-3).float().mean() < 1e-3
    assert all(not image.requires_grad for image in images)
    assert all(torch.equal(d["image"], x) for d, x in zip(data, image)), "the data stay clean"


def test_free_training_is_checked():
    with pytest.raises(ValueError, match="replays must be a whole number ≥ 1, got 0"):
        ReplayedDataLoader(Dataset(items(2)), replays=0)
    with pytest.raises(ValueError, match="norm must be 'linf' or 'l2'"):
        FreeAdversarialTraining(ThreatModel(norm="unbounded", eps=math.inf))


# -- overlays


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAYS)
def test_one_epoch_on_phantoms_writes_beside_the_clean_model(phantom_bundle: PhantomBundle, tmp_path, name):
    root, models = phantom_bundle.root, phantom_bundle.root / "models"
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in models.iterdir() if p.is_file()}
    told = {"val_interval": 1, "train::trainer::max_epochs": 1, "image_size": 32, **OVERLAYS[name]}
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        settings = {**phantom_bundle.settings(tmp_path), **told}
        workflow(root, [root / "configs" / "train.yaml", workflows()[f"training/{name}"]], settings).run()
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in models.iterdir() if p.is_file()} == before
    assert [p.name for p in (models / name).iterdir()] == ["model.pt"]
    distilled = ["networks/distilled"] if name == "distillation" else []
    files = [root / "configs" / "train.yaml", root / "configs" / "evaluate.yaml", *(workflows()[o] for o in distilled)]
    deployed = {**phantom_bundle.settings(tmp_path / "e"), "ckpt_dir": str(models / name), "image_size": 32}
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        made = workflow(root, files, deployed)
        made.run()
    assert 0 <= made.evaluator.state.metrics["val_dice"] <= 1
    if distilled:
        assert made.parser.get_parsed_content("net").factor == 50
