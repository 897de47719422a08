"""Attacks crafted on another network, on every head of a network, and for several budgets at once through the handler."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import blobs, small_unet
from engines import evaluator, items, network
from ignite.engine import Events
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.handlers import AttackHandler, RecordHandler, evaluate
from monai_advdef.objectives import cross_entropy
from monai_advdef.records import read_records


class TwoHeads(nn.Module):
    """A deployed head and a coarse one that sees the image mirrored."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return self.one(x)

    def forward_heads(self, x):
        return [self.one(x), self.other(x.flip(-1))]


def attacked(net, folder, **options):
    """The images that the evaluation saw, by case, and the records."""
    attack = AttackHandler("PGD", steps=2, seed=3, cache_dir=folder / "adversarial", **options)
    records = RecordHandler(folder, ["lesion"], attack=attack, card=False, gallery=False, gradients=True)
    engine, seen = evaluator(net, [attack, records], data=items(4)), {}
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.update({d["case"]: d["image"].clone() for d in e.state.batch})
    )
    evaluate(engine, attack, records)
    return seen, read_records(folder / "records"), attack


def test_images_of_a_transfer_attack_are_those_of_the_source(trained, tmp_path):
    own, source = network(trained), network(small_unet())
    there, _, plain = attacked(source, tmp_path / "there", eps=4.0)
    here, records, attack = attacked(own, tmp_path / "here", eps=4.0, source=copy.deepcopy(source), source_name="untrained")
    assert all(torch.equal(here[case], there[case]) for case in there) and len(there) == 4
    assert set(records["attack"]) == {"PGD dice from untrained"} and attack.to_config() != plain.to_config()
    stored = {p.name for p in (tmp_path / "there" / "adversarial").iterdir()}
    assert stored == {p.name for p in (tmp_path / "here" / "adversarial").iterdir()}, "the two evaluations share their images"
    zeros = records[records["metric"] == "zero_gradient"]
    assert set(zeros["class"]) == {"image"} and zeros["value"].between(0, 1).all() and len(zeros) == 4


def test_budgets_crafted_along_are_found_by_the_cells_that_come(trained, tmp_path):
    net, options = network(trained), {"attack": "TargetedIterativeFGSM", "rule": "grey_level", "keep": "last"}
    cell = {k: v for k, v in options.items() if k != "attack"}

    def images(folder, **more):
        attack = AttackHandler(options["attack"], seed=3, cache_dir=folder, **cell, **more)
        engine, seen = evaluator(net, [attack], data=items(4)), {}
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: seen.update({d["case"]: d["image"].clone() for d in e.state.batch})
        )
        engine.run()
        return seen

    images(tmp_path / "together", eps=4.0, sweep=[1.0, 2.0, 4.0])
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "together").iterdir()}
    assert len(made) == 12
    for eps in (1.0, 2.0, 4.0):
        together, alone = images(tmp_path / "together", eps=eps), images(tmp_path / f"alone{eps}", eps=eps)
        assert all(torch.equal(together[case], alone[case]) for case in alone)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "together").iterdir()} == made


def test_a_sweep_without_a_cache_is_refused():
    with pytest.raises(ValueError, match=r"sweep \[1.0, 2.0\] needs cache_dir"):
        AttackHandler("PGD", eps=1.0, sweep=[1.0, 2.0])


def test_gradient_on_all_heads_is_that_of_the_mean_loss(trained):
    image, label = blobs(2, seed=8)
    heads = TwoHeads(trained, small_unet().eval())
    victim = Victim(heads, (127.5, 127.5), heads=True)
    with victim.frozen():
        logits, values, gradient = victim.gradient(image, lambda z: cross_entropy(z, label.long()))
    x = image.clone().requires_grad_()
    outputs = heads.forward_heads((x - 127.5) / 127.5)
    mean = sum(cross_entropy(z, label.long()) for z in outputs) / 2
    torch.testing.assert_close(gradient, torch.autograd.grad(mean.sum(), x)[0])
    torch.testing.assert_close(values, mean.detach())
    torch.testing.assert_close(logits, outputs[0].detach())
    outcome = run(PGD(steps=2), victim, ThreatModel(eps=4.0), image, label)
    assert not torch.equal(
        outcome.adversarial, run(PGD(steps=2), Victim(heads, (127.5, 127.5)), ThreatModel(eps=4.0), image, label).adversarial
    )


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer(32)], ids=["one output", "windows"])
def test_heads_that_are_not_there_are_named(trained, inferer):
    net = trained if inferer is None else TwoHeads(trained, trained)
    image, label = blobs(1)
    with pytest.raises(ValueError, match=f"heads is true, but {type(net).__name__} behind {type(inferer).__name__}"):
        run(PGD(steps=1), Victim(net, (127.5, 127.5), inferer=inferer, heads=True), ThreatModel(eps=1.0), image, label)


def test_label_says_that_all_heads_were_attacked(trained, tmp_path):
    net = network(trained)
    net.network = TwoHeads(net.network, small_unet())
    _, records, _ = attacked(net, tmp_path, eps=2.0, heads=True)
    assert set(records["attack"]) == {"PGD dice on all heads"}
