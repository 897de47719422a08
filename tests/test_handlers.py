"""AttackHandler on MONAI engines: what it must leave as it was, what it must change, and how it answers wrong words."""

from __future__ import annotations

import copy

import ignite.distributed as idist
import pytest
import torch
from engines import evaluator, items, loader, network
from ignite.engine import Events
from monai.data import MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Invertd, LoadImaged, Resized, SaveImaged
from PIL import Image
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.data import write_phantoms
from monai_advdef.defenses import JPEG, DefendedInferer
from monai_advdef.handlers import AttackHandler, AttackNotApplied, evaluate
from monai_advdef.handlers.cell import case_seeds


def seen_by(engine):
    """Copies of every batch's image as the engine's own forward pass finds it."""
    images = []

    def note(e):
        images.append(torch.stack([torch.as_tensor(i["image"]) for i in _list(e)]))

    engine.add_event_handler(Events.ITERATION_COMPLETED, note)
    return images


def _list(engine):
    batch = engine.state.batch
    return batch if isinstance(batch, list) else decollate_batch(batch)


def test_image_is_replaced_by_an_adversarial_one_of_the_same_kind(trained):
    for meta in (True, False):
        data = items(meta=meta)
        engine = evaluator(network(trained), [AttackHandler("PGD", steps=3)], data=data)
        kinds, images = [], seen_by(engine)
        engine.add_event_handler(Events.ITERATION_STARTED, lambda e, kinds=kinds: kinds.append(e.state.batch["image"]))
        engine.run()
        clean = torch.stack([torch.as_tensor(d["image"]) for d in data])
        change = (torch.cat(images) - clean).abs().flatten(1).amax(1)
        assert bool((change > 0).all()) and float(change.max()) <= 8.0
        assert all(isinstance(k, MetaTensor) is meta and not k.requires_grad for k in kinds)
        if meta:
            assert [f for k in kinds for f in k.meta["filename_or_obj"]] == [f"case_{i}.png" for i in range(6)]
            assert all(k.is_batch for k in kinds)
        assert torch.equal(torch.stack([torch.as_tensor(d["image"]) for d in data]), clean), "the data set itself was changed"


def test_attack_lowers_the_score_and_leaves_the_data_alone(trained):
    clean, attacked = evaluator(network(trained), []), evaluator(network(trained), [AttackHandler("PGD", steps=10)])
    for engine in (clean, attacked):
        engine.run()
    assert clean.state.metrics["val_dice"] > 0.9
    assert attacked.state.metrics["val_dice"] < clean.state.metrics["val_dice"] - 0.3


def test_applied_operations_survive_so_that_masks_go_back_to_the_original_grid(trained, tmp_path):
    write_phantoms("skin", tmp_path / "p", cases=2, sizes=((70, 66), (96, 64)))
    pictures, keys = sorted((tmp_path / "p" / "images").iterdir()), ["image", "label"]
    files = [{"image": str(f), "label": str(tmp_path / "p" / "masks" / f"{f.stem}.png")} for f in pictures]
    before = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), Resized(keys, (48, 48), mode=["area", "nearest"])])
    data = [before(f) for f in files]
    for d in data:
        d["image"], d["label"] = d["image"].round().clamp(0, 255), (d["label"] > 0).float()
    after = [
        AsDiscreted("pred", argmax=True),
        Invertd("pred", transform=before, orig_keys="image", nearest_interp=True),
        SaveImaged("pred", output_dir=tmp_path / "out", output_ext=".png", separate_folder=False, resample=False, print_log=False),
    ]
    handler = AttackHandler("FGSM")
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(data, 2),
        network=network(trained),
        postprocessing=Compose(after),
        val_handlers=[handler],
    )
    evaluate(engine, handler)
    written = sorted((tmp_path / "out").iterdir())
    assert [Image.open(w).size for w in written] == [Image.open(f).size for f in pictures]


class WithNorm(nn.Module):
    """The victim behind a batch norm that is kept in evaluation mode while everything else trains, and a dropout."""

    def __init__(self, net):
        super().__init__()
        self.frozen, self.free, self.drop, self.net = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Dropout(0.2), net

    def forward(self, x):
        return self.net(self.drop(self.free(self.frozen(x))))

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self


def snapshot(net):
    modes = [m.training for m in net.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    return modes, [p.requires_grad for p in net.parameters()], grads, {k: v.clone() for k, v in net.state_dict().items()}


def same(a, b):
    """Whether module flags, parameter flags, gradients and state of two snapshots are equal."""
    grads = all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in zip(a[2], b[2]))
    return a[0] == b[0], a[1] == b[1], grads, all(torch.equal(v, b[3][k]) for k, v in a[3].items())


@pytest.mark.parametrize("with_gradients", [False, True])
def test_trainer_finds_everything_as_it_was(trained, with_gradients):
    """Flags of all modules (a frozen batch norm too) and parameters, gradients and running statistics are not touched."""
    net = WithNorm(network(trained)).train()
    next(net.net.parameters()).requires_grad_(False)
    if with_gradients:
        for p in net.parameters():
            p.grad = torch.full_like(p, 0.5) if p.requires_grad else None
    handler, seen = AttackHandler("PGD", steps=2), []
    engine = trainer(net, [])
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: (net.train(), seen.append(snapshot(net))))
    handler.attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: seen.append(snapshot(net)))
    engine.run()
    assert len(seen) == 4
    assert any(seen[0][0]) and not all(seen[0][0]) and not all(seen[0][1])
    assert all(same(before, after) == (True,) * 4 for before, after in zip(seen[::2], seen[1::2]))


def trainer(net, handlers, **kwargs):
    parameters = [p for p in net.parameters() if p.requires_grad]
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader(items()),
        network=net,
        optimizer=torch.optim.SGD(parameters, 1e-3),
        loss_function=lambda out, y: nn.functional.cross_entropy(out, y[:, 0].long()),
        inferer=SimpleInferer(),
        train_handlers=handlers,
        **kwargs,
    )


def test_adversarial_training_takes_one_step_on_adversarial_images_with_accumulation(trained):
    """With accumulation over both batches the one step equals the one computed by hand on the recorded adversarial images."""
    net = network(trained)
    engine = trainer(net, [AttackHandler("PGD", steps=2)], accumulation_steps=2)
    images, start = seen_by(engine), copy.deepcopy(net)
    engine.run()
    optimizer = torch.optim.SGD(start.parameters(), 1e-3)
    labels = torch.stack([torch.as_tensor(d["label"]) for d in items()])[:, 0].long()
    start.train()
    for image, label in zip(images, labels.split(3)):
        (nn.functional.cross_entropy(start(image), label) / 2).backward()
    optimizer.step()
    for ours, theirs in zip(net.parameters(), start.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_evaluator_in_train_mode_keeps_its_batch_norm_statistics(trained):
    net = WithNorm(network(trained)).train()
    before = snapshot(net)
    evaluator(net, [AttackHandler("PGD", steps=2)]).run()
    assert same(before, snapshot(net))[1:] == (True,) * 3


def test_parallel_wrappers_are_taken_off(trained, tmp_path):
    plain = evaluator(network(trained), [AttackHandler("PGD", steps=3)])
    wrapped = evaluator(nn.DataParallel(network(trained)), [AttackHandler("PGD", steps=3)])
    idist.initialize("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        distributed = evaluator(nn.parallel.DistributedDataParallel(network(trained)), [AttackHandler("PGD", steps=3)])
        images = [seen_by(e) for e in (plain, wrapped, distributed)]
        for engine in (plain, wrapped, distributed):
            engine.run()
    finally:
        idist.finalize()
    assert torch.equal(torch.cat(images[0]), torch.cat(images[1])) and torch.equal(torch.cat(images[0]), torch.cat(images[2]))


def test_adaptive_attacks_through_the_defence_and_oblivious_does_not(trained):
    net, defense = network(trained), JPEG(quality=30)
    image, label = (torch.stack([torch.as_tensor(d[k]) for d in items()]) for k in ("image", "label"))
    seeds = case_seeds(0, [f"case_{i}" for i in range(6)])
    for adaptive in (True, False):
        handler = AttackHandler("PGD", steps=3, adaptive=adaptive)
        engine = evaluator(net, [handler], inferer=DefendedInferer(SimpleInferer(), defense), batch_size=6)
        images = seen_by(engine)
        engine.run()
        expected = run(
            PGD(steps=3), Victim(net, defense=defense if adaptive else None), ThreatModel(eps=8.0), image, label, seed=seeds
        )
        assert torch.equal(images[0], expected.adversarial)
        assert handler.is_adaptive(engine) is adaptive


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_other_case_is_the_next_case_of_the_data_set_whatever_the_batch(trained, batch_size):
    labels = torch.stack([torch.as_tensor(d["label"]) for d in items()])
    handler, targets = AttackHandler("ASMA", steps=1, norm="unbounded"), []
    handler._attack, original = lambda i, y, target, s: (targets.append(target), original(i, y, target, s))[1], handler._attack
    evaluator(network(trained), [handler], batch_size=batch_size).run()
    assert torch.equal(torch.cat(targets), labels.roll(-1, 0))


def test_other_case_needs_a_second_case(trained):
    with pytest.raises(ValueError, match="'other_case' needs a second case"):
        evaluator(network(trained), [AttackHandler("ASMA", steps=1, norm="unbounded")], data=items(1)).run()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"attack": "PDG"}, "unknown attack 'PDG'; did you mean 'PGD'"),
        ({"attack": "Outcome"}, "unknown attack 'Outcome'"),
        ({"attack": "PGD", "stepsize": 2}, "PGD has no option 'stepsize'; did you mean 'step_size'"),
        ({"attack": "PGD", "esp": 2}, "PGD has no option 'esp'; did you mean 'eps'"),
        ({"attack": "PGD", "objective": "cross_entrophy"}, "did you mean 'cross_entropy'"),
        ({"attack": "TargetedIterativeFGSM", "target": "invert"}, "did you mean 'inverted'"),
        ({"attack": "PGD", "norm": "linfty"}, "norm must be one of linf, l2, unbounded, got 'linfty'"),
        ({"attack": "PGD", "eps": -3}, "eps must be ≥ 0 in grey levels, got -3"),
        ({"attack": "PGD", "eps": 8, "value_range": [0, 1]}, "eps = 8/255"),
        ({"attack": "PGD", "steps": 0}, "steps must be a whole number ≥ 1, got 0"),
        ({"attack": "PGD", "adaptive": "yes please"}, "adaptive must be true or false, got 'yes please'"),
        ({"attack": PGD(), "steps": 3}, "steps given beside a ready-made attack"),
        ({"attack": PGD(), "threat": ThreatModel(), "eps": 3}, "eps given beside a ready-made threat model"),
    ],
)
def test_wrong_words_get_the_right_one(words, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        AttackHandler(**words)


@pytest.mark.parametrize("value", [True, False, "true", "false", "True", "FALSE"])
def test_adaptive_as_yaml_python_and_the_command_line_write_it(value):
    assert AttackHandler("FGSM", adaptive=value).adaptive is (str(value).lower() == "true")


def test_images_in_another_unit_and_bad_labels_do_not_pass_silently(trained):
    def attacked(change, meta=True):
        data = items(meta=meta)
        for d in data:
            change(d)
        evaluator(network(trained), [AttackHandler("FGSM")], data=data).run()

    with pytest.raises(ValueError, match=r"inside \[0, 1\].*wrong unit"):
        attacked(lambda d: d.update(image=d["image"] / 255))
    with pytest.raises(ValueError, match="NaN"):
        attacked(lambda d: d.update(image=d["image"] * float("nan")))
    with pytest.raises(ValueError, match=r"label holds class 2, the network knows 0\.\.1"):
        attacked(lambda d: d.update(label=d["label"] * 2))
    with pytest.raises(ValueError, match="no 'case' and its 'image' no file name; add 'case'"):
        attacked(lambda d: d.pop("case"), meta=False)


def test_guard_fails_an_evaluation_whose_attack_is_not_among_its_handlers(trained):
    handler, engine = AttackHandler("FGSM"), evaluator(network(trained), [])
    with pytest.raises(AttackNotApplied, match="FGSM is configured but touched 0 of 2 batches.*after evaluate.yaml"):
        evaluate(engine, handler)


def test_guard_fails_a_run_where_a_batch_was_left_out(trained):
    class Forgetful(AttackHandler):
        def __call__(self, engine):
            if engine.state.iteration != 2:
                super().__call__(engine)

    with pytest.raises(AttackNotApplied, match="FGSM touched 1 of 2 batches"):
        evaluator(network(trained), [Forgetful("FGSM")]).run()
