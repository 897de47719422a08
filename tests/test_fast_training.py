"""Fast adversarial training, weight perturbation and the watch for catastrophic overfitting against hand-made steps."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from conftest import blobs, small_unet
from engines import evaluator, items, network
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents, SupervisedTrainer
from monai.handlers import CheckpointSaver, ValidationHandler
from torch import nn
from torch.nn import functional as F

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.networks.losses import ClassMapCrossEntropy
from monai_advdef.training import TRADES, AdversarialTraining, FastGradient, OverfittingWatch, TRADESLoss, WeightPerturbation
from monai_advdef.training.overfitting_watch import Look

THREAT = ThreatModel(eps=4.0)


def trainer(net, handlers, *, loss=None, epochs=1, data=None, lr=1e-3):
    data = Dataset(items(3)) if data is None else data
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_size=len(data)),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr),
        loss_function=loss or ClassMapCrossEntropy(),
        decollate=False,
        train_handlers=handlers,
    )


# -- one step of 1.25 eps


@pytest.mark.parametrize("threat", [THREAT, ThreatModel(eps=[4.0, 0.0, 2.0]), ThreatModel(norm="l2", eps=60.0)])
def test_the_fast_step_is_that_of_the_paper(victim, cases, threat):
    image, label = cases[0][:2], cases[1][:2]
    found = run(FastGradient(), victim, threat, image, label, seed=[1, 2])
    start = threat.around(image).start([torch.Generator().manual_seed(s) for s in (1, 2)]).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(victim(start), label[:, 0].long()), start)
    ball = threat.around(image)
    expected = ball.project(start.detach() + 1.25 * ball.eps * ball.direction(gradient))
    assert (found.adversarial - expected).abs().gt(1e-2).float().mean() < 1e-3
    assert found.backwards == 1 and (found.size <= torch.as_tensor(threat.eps).max() * (1 + 1e-6)).all()


def test_the_fast_step_is_checked_and_described():
    with pytest.raises(ValueError, match="stretch must be > 0, got 0"):
        FastGradient(stretch=0)
    assert FastGradient().to_config()["_target_"] == "monai_advdef.training.FastGradient"
    with pytest.raises(ValueError, match="a random start needs a bounded threat"):
        run(FastGradient(), Victim(nn.Conv2d(3, 2, 1)), ThreatModel(norm="unbounded"), *(x[:1] for x in blobs(1)))


# -- weight perturbation


class Two(nn.Module):
    """Two weights and a bias: (B, 2, *S) -> (B, 1, *S)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([3.0, -4.0]).reshape(1, 2, 1, 1))
            self.layer.bias.fill_(0.5)

    def forward(self, x):
        return self.layer(x)


def test_a_step_is_that_computed_by_hand_on_two_weights():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 3, 4, generator=g), torch.randn(2, 1, 3, 4, generator=g)
    data = Dataset([{"image": a, "label": b, "case": str(i)} for i, (a, b) in enumerate(zip(x, y))])
    gamma, lr, w, b = 0.1, 0.05, torch.tensor([3.0, -4.0], dtype=torch.float64), 0.5

    def gradients(w):
        residual = (x.double() * w.reshape(1, 2, 1, 1)).sum(1, keepdim=True) + b - y.double()
        return torch.stack([2 * (residual[:, 0] * x[:, k]).mean() for k in (0, 1)]), 2 * residual.mean()

    at_w, _ = gradients(w)
    moved = w + gamma * 5.0 * at_w / at_w.norm()  # |(3, -4)| = 5
    at_moved, bias = gradients(moved)
    net = Two()
    trainer(net, [WeightPerturbation(gamma=gamma)], loss=nn.MSELoss(), data=data, lr=lr).run()
    torch.testing.assert_close(net.layer.weight.flatten().double(), w - lr * at_moved, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.layer.bias.double(), torch.tensor([b - lr * bias], dtype=torch.float64), rtol=1e-5, atol=1e-6)


class Normed(nn.Module):
    """With running statistics and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 2, 1))

    def forward(self, x):
        return self.layers((x - 127.5) / 127.5)


def test_without_size_it_is_plain_training_random_numbers_and_statistics_included():
    nets = [Normed(), Normed(), Normed()]
    for net, handlers in zip(nets, ([], [WeightPerturbation(gamma=0)], [WeightPerturbation(gamma=0.5, warmup=3)])):
        torch.manual_seed(1)
        trainer(net, handlers, epochs=3).run()
    for other in nets[1:]:
        assert all(torch.equal(a, b) for a, b in zip(nets[0].state_dict().values(), other.state_dict().values()))


def test_weights_are_moved_in_the_pass_and_back_before_the_step():
    net, seen = Normed(), {}
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    engine = trainer(net, [WeightPerturbation(gamma=0.01)], lr=0.0)
    for event in (IterationEvents.FORWARD_COMPLETED, IterationEvents.BACKWARD_COMPLETED):
        engine.add_event_handler(
            event, lambda e, at: seen.update({at: {n: p.detach().clone() for n, p in net.named_parameters()}}), event
        )
    engine.run()
    moved, back = seen[IterationEvents.FORWARD_COMPLETED], seen[IterationEvents.BACKWARD_COMPLETED]
    for name, w in before.items():
        assert float((moved[name] - w).norm()) == pytest.approx(0.01 * float(w.norm()) * (w.ndim > 1), rel=1e-3), name
        assert torch.equal(back[name], w) and torch.equal(net.get_parameter(name), w)


def test_weights_are_back_after_an_error():
    net = Normed()
    before = [p.detach().clone() for p in net.parameters()]
    calls = []

    def failing(prediction, label):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the disk is full")
        return prediction.square().mean()

    with pytest.raises(RuntimeError, match="the disk is full"):
        trainer(net, [WeightPerturbation(gamma=0.3)], loss=failing).run()
    assert len(calls) == 2 and all(torch.equal(a, b) for a, b in zip(before, net.parameters()))


@pytest.mark.parametrize("kind", ["online", "trades"])
def test_it_goes_with_adversarial_training(kind):
    """The images are crafted on the weights, the loss is that of the attacked batch at the moved weights."""
    images, losses, net = [], [], network(small_unet())
    own = {
        "online": (AdversarialTraining("FGSM", THREAT, prob=1.0, random_eps=False), None),
        "trades": (TRADES(THREAT, steps=2), TRADESLoss(ClassMapCrossEntropy(), beta=1.0)),
    }
    for handlers in ([], [WeightPerturbation(gamma=0.02)]):
        attack, loss = own[kind]
        engine = trainer(net, [*handlers, attack], loss=loss, lr=0.0)
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: images.append(torch.as_tensor(e.state.output["image"]).clone())
        )
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
        engine.run()
    assert torch.equal(*images) and losses[1] > losses[0] * 1.001, "the weights were moved uphill, after the attack"


def test_perturbation_is_checked():
    for options, words in (({"gamma": -1}, "gamma must be ≥ 0"), ({"gamma": math.inf}, "gamma must be"), ({"warmup": -1}, "warmup")):
        with pytest.raises(ValueError, match=words):
            WeightPerturbation(**options)


# -- the watch


class Fickle(nn.Module):
    """At first it draws what it has always seen, whatever the image: robust. While ``overfitted`` it calls the darker of two greys
    the foreground, and its gradient at whole grey levels points the wrong way: one step from there does no harm, several do."""

    def __init__(self):
        super().__init__()
        self.weight, self.overfitted = nn.Parameter(torch.ones(1, 1, 1, 1)), False

    def forward(self, x):
        x = x.mean(1, keepdim=True)
        if self.overfitted:
            x = x - 1.5 / (2 * math.pi) * torch.sin(2 * math.pi * x)
            z = self.weight * (100.0 - x)
        else:
            usual = F.pad(torch.ones(8, 7), (4, 5, 4, 4)) - 0.5
            z = self.weight * (usual + 0 * x)
        return torch.cat([torch.zeros_like(z), z], 1)


def squares(count=2):
    made = []
    for i in range(count):
        label = torch.zeros(1, 16, 16)
        label[:, 4:12, 4 : 12 - i] = 1
        made.append({"image": torch.where(label > 0, 97.0, 103.0), "label": label, "case": f"case_{i}"})
    return made


def train_and_overfit(folder, at=99, *, epochs=4, **options):
    """A training in whose epoch ``at`` the network overfits; what the watch saw, the epochs trained, and those validated."""
    net, saved = Fickle(), []
    keep = CheckpointSaver(folder, {"model": net}, save_key_metric=True, key_metric_filename="model.pt")
    validator = evaluator(net, [keep], data=squares(), batch_size=2)
    validator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: saved.append(e.state.epoch))
    watch = OverfittingWatch(validator, Dataset(squares()), threat=THREAT, cases=2, **options)
    engine = trainer(net, [ValidationHandler(1, validator), watch], epochs=epochs, data=Dataset(squares()), lr=0.1)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: setattr(net, "overfitted", e.state.epoch >= at))
    engine.run()
    return watch, engine.state.epoch, saved


def test_a_network_that_overfits_is_caught_and_the_checkpoint_from_before_is_kept(tmp_path, caplog):
    watch, epochs, saved = train_and_overfit(tmp_path / "a", at=3)
    assert epochs == 3 and saved == [1, 2] and all(look.fgsm == look.pgd > 0.9 for look in watch.history)
    assert "catastrophic overfitting in epoch 3: Dice under PGD-10 fell" in caplog.text
    before = train_and_overfit(tmp_path / "b", epochs=2)
    assert before[2] == [1, 2]
    kept = [torch.load(tmp_path / f / "model.pt", weights_only=True)["weight"] for f in "ab"]
    assert torch.equal(*kept), "that of an epoch without overfitting"


def test_catastrophic_overfitting_ends_the_training_and_keeps_the_checkpoint_from_before(tmp_path, caplog, monkeypatch):
    seen = iter([(0.8, 0.6), (0.82, 0.62), (0.9, 0.05), (0.9, 0.5)])
    monkeypatch.setattr(OverfittingWatch, "look", lambda self, v: looked(v, next(seen)))
    with caplog.at_level(logging.INFO):
        watch, epochs, saved = train_and_overfit(tmp_path)
    assert epochs == 3 and saved == [1, 2] and len(watch.history) == 2
    assert (
        "catastrophic overfitting in epoch 3: Dice under PGD-10 fell from 0.620 to 0.050 while under FGSM it is 0.900" in caplog.text
    )
    assert (
        "training ends here with that of before" in caplog.text
        and "epoch 2: Dice under FGSM 0.820, under PGD-10 0.620" in caplog.text
    )


def looked(validator, dices):
    return Look(validator.state.epoch, *dices)


def test_without_stop_training_goes_on_and_later_epochs_are_kept_again(tmp_path, monkeypatch):
    seen = iter([(0.8, 0.6), (0.9, 0.05), (0.9, 0.5), (0.1, 0.1)])
    monkeypatch.setattr(OverfittingWatch, "look", lambda self, v: looked(v, next(seen)))
    watch, epochs, saved = train_and_overfit(tmp_path, stop="false")
    assert epochs == 4 and saved == [1, 3, 4], "in the last epoch both fall: that is no catastrophic overfitting"


def test_the_watch_is_checked():
    for options, words in (
        ({"cases": 0}, "cases must be a whole number ≥ 1, got 0"),
        ({"drop": 1.0}, "drop must lie above 0 and below 1"),
        ({"objective": "dise"}, "unknown objective 'dise'"),
        ({"bogus": 1}, "OverfittingWatch has no option 'bogus'"),
    ):
        with pytest.raises(ValueError, match=words):
            OverfittingWatch(None, [], threat=THREAT, **options)
    validator = evaluator(Fickle(), [], data=squares())
    with pytest.raises(ValueError, match="no validation case to attack"):
        OverfittingWatch(validator, [], threat=THREAT).look(validator)
