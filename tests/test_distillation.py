"""Defensive distillation: its loss, its teacher, its temperature, and what an attack on logits/T sees."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import blobs, small_unet
from engines import evaluator, items, network
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM
from monai_advdef.handlers import AttackHandler
from monai_advdef.networks import ScaledLogits
from monai_advdef.training import SoftCrossEntropy, TeacherHandler, TemperedLoss, frozen_copy, student

TEMPERATURE = 20.0


@given(st.floats(0.5, 100), st.floats(-30, 30), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_loss_of_two_classes_in_closed_form(temperature, difference, q):
    """With logits (z, 0) the loss is log(1 + e^(z/T)) - q z/T."""
    z = torch.tensor([difference, 0.0], dtype=torch.float64).reshape(1, 2, 1, 1).expand(2, 2, 3, 3)
    soft = torch.tensor([q, 1 - q], dtype=torch.float64).reshape(1, 2, 1, 1).expand(2, 2, 3, 3)
    scaled = difference / temperature
    expected = max(scaled, 0) + math.log1p(math.exp(-abs(scaled))) - q * scaled
    assert SoftCrossEntropy(temperature=temperature)(z, soft).item() == pytest.approx(expected, abs=1e-9)


def test_loss_in_volumes_is_least_where_the_student_agrees_and_its_gradient_is_the_difference():
    g = torch.Generator().manual_seed(0)
    z, teacher = (torch.randn(2, 4, 3, 4, 5, generator=g, dtype=torch.float64) for _ in range(2))
    soft = (teacher / TEMPERATURE).softmax(1)
    loss = SoftCrossEntropy(temperature=TEMPERATURE)
    entropy = -(soft * soft.log()).sum(1).mean()
    torch.testing.assert_close(loss(teacher, soft), entropy)
    assert loss(z, soft) > entropy
    torch.testing.assert_close(loss([z, teacher], soft), (loss(z, soft) + entropy) / 2)
    (gradient,) = torch.autograd.grad(loss(z.requires_grad_(), soft), z)
    torch.testing.assert_close(gradient, ((z / TEMPERATURE).softmax(1) - soft) / TEMPERATURE / (2 * 3 * 4 * 5))


def test_tempered_loss_divides_the_logits_of_every_head():
    seen = []
    loss = TemperedLoss(lambda prediction, label: seen.append(prediction), temperature=4.0)  # type: ignore[arg-type]
    loss(torch.tensor(8.0), torch.tensor(0.0))
    loss([torch.tensor(8.0), torch.tensor(2.0)], torch.tensor(0.0))
    assert seen == [2.0, [2.0, 0.5]]


@pytest.mark.parametrize("make", [SoftCrossEntropy, lambda temperature: student(nn.Identity(), temperature=temperature)])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(make, temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        make(temperature=temperature)


def distil(net, teacher, *, literal=False, lr=0.1):
    """One step on a batch of three by the handler; the loss it reports."""
    losses, labels = [], []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(items(3)), batch_size=3),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr),
        loss_function=SoftCrossEntropy(temperature=TEMPERATURE),
        decollate=False,
        train_handlers=[TeacherHandler(teacher, temperature=TEMPERATURE, literal=literal)],
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output["loss"].item()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: labels.append((e.state.output["label"], e.state.batch["label"])))
    trainer.run()
    label = blobs(3, seed=2)[1]
    assert all(torch.equal(torch.as_tensor(x), label) for x in labels[0]), "metrics see the true labels"
    return losses[0]


@pytest.mark.parametrize("literal", [False, True])
def test_one_step_is_that_of_a_hand_written_loop(trained, literal):
    image = blobs(3, seed=2)[0]
    teacher = network(trained).eval()
    with torch.no_grad():
        logits = teacher(image)
    soft = (logits / TEMPERATURE if literal else logits).softmax(1)
    ours, theirs = (student(network(small_unet()), temperature=TEMPERATURE, literal=literal) for _ in range(2))
    assert theirs.factor == (1 if literal else TEMPERATURE)
    z = theirs.train()(image)
    loss = -(soft * (z / TEMPERATURE).log_softmax(1)).sum(1).mean()
    loss.backward()
    assert distil(ours, teacher, literal=literal) == pytest.approx(loss.item(), rel=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other - 0.1 * other.grad, rtol=1e-4, atol=1e-6)


def test_teacher_stays_as_it_was(trained, tmp_path):
    torch.save({"model": network(trained).state_dict()}, tmp_path / "model.pt")
    untrained = network(small_unet())
    teacher = frozen_copy(untrained, tmp_path / "model.pt")
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    distil(student(untrained, temperature=TEMPERATURE), teacher)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    torch.testing.assert_close(before, dict(network(trained).state_dict()))
    with pytest.raises(FileNotFoundError, match="nothing.pt"):
        frozen_copy(untrained, tmp_path / "nothing.pt")
    torch.save(dict(list(before.items())[:-1]), tmp_path / "part.pt")
    with pytest.raises(ValueError, match="are not those of this network"):
        frozen_copy(untrained, tmp_path / "part.pt")


def test_a_checkpoint_carries_its_temperature(trained, tmp_path):
    image = blobs(2, seed=3)[0]
    net = student(network(trained), temperature=20.0).eval()
    torch.save({"model": net.state_dict()}, tmp_path / "model.pt")
    deployed = ScaledLogits(network(small_unet()), factor=1.0).eval()
    deployed.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True)["model"])
    with torch.no_grad():
        torch.testing.assert_close(deployed(image), net(image))
        torch.testing.assert_close(ScaledLogits(deployed, factor=50 / 20)(image), 50 * net.network(image))


def test_attack_on_divided_logits_undoes_the_temperature(trained, cases):
    """FGSM on logits/T of the distilled network is FGSM on the network before; on its own logits it is not."""
    image, label = cases
    plain, distilled = network(trained).eval(), ScaledLogits(network(trained), factor=1000.0).eval()
    threat = ThreatModel(eps=4.0)
    expected = run(FGSM(), Victim(plain), threat, image, label)
    masked = run(FGSM(), Victim(distilled), threat, image, label)
    found = []
    attack = AttackHandler("FGSM", threat, logit_scale=1 / 1000.0)
    engine = evaluator(distilled, [attack], batch_size=6)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: found.append(torch.as_tensor(e.state.batch["image"]).clone()))
    engine.run()
    differing = (found[0] != expected.adversarial).float().mean()
    assert differing < 1e-3, "logits times 1000 times 1/1000 round in the last place"
    assert (masked.adversarial != expected.adversarial).float().mean() > 0.05, "saturated pixels have no say in it"
    assert attack.label == "FGSM on logits x 0.001"


def test_logit_scale_is_told_apart_and_checked():
    plain, scaled = AttackHandler("FGSM", eps=4.0), AttackHandler("FGSM", eps=4.0, logit_scale=0.05)
    assert plain.to_config() != scaled.to_config() and "0.05" in scaled.label
    with pytest.raises(ValueError, match="logit_scale must be > 0, got 0"):
        AttackHandler("FGSM", eps=4.0, logit_scale=0)
