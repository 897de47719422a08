"""Adversarial images as an 8-bit file holds them, and what else is said of a targeted attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engines import evaluator, items, network
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Events
from monai.inferers import SimpleInferer
from PIL import Image

from monai_advdef import ThreatModel
from monai_advdef.attacks import ASMA, PGD
from monai_advdef.attacks.targets import make_target
from monai_advdef.defenses import DefendedInferer, FrequencyRefinement
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.handlers.stored import store
from monai_advdef.records import read_records


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), eps=st.sampled_from([0.5, 1.0, 3.7, 8.0]), low=st.sampled_from([0.0, -1000.0]))
def test_stored_images_are_levels_inside_the_ball(seed, eps, low):
    high, rng = low + 255 * (1 if low == 0 else 8), np.random.default_rng(seed)
    step = (high - low) / 255
    clean = torch.tensor(low + step * rng.integers(0, 256, (2, 3, 5, 4)), dtype=torch.float32)
    ball = ThreatModel(eps=eps * step, value_range=(low, high)).around(clean)
    x = ball.start([torch.Generator().manual_seed(seed + i) for i in range(2)])
    stored = store(x.clone(), ball)
    levels = (stored.double() - low) / step
    assert (levels - levels.round()).abs().max() < 1e-3
    assert ((stored - clean).abs() <= eps * step * (1 + 1e-6) + 1e-3).all()
    assert ((stored - x).abs() < step + 1e-3).all(), "the nearest allowed level is at most a step away"
    far = (x - clean).abs() <= (int(eps) - 0.5) * step
    assert ((stored - x).abs()[far] <= step / 2 + 1e-3).all(), "well inside the ball it is the nearest level"


def test_an_image_between_two_levels_goes_to_the_nearest_if_eps_reaches_none():
    clean = torch.full((1, 1, 2, 2), 10.3)
    assert store(clean.clone(), ThreatModel(eps=0.1).around(clean)).eq(10).all()


def test_a_png_file_keeps_what_the_network_was_scored_on(trained, tmp_path):
    handler = AttackHandler("PGD", eps=6.5, steps=3, stored="uint8", cache_dir=tmp_path)
    seen = []
    net = network(trained)
    net.register_forward_hook(lambda m, x, y: seen.append(x[0].detach().clone()))
    engine = evaluator(net, [handler], data=items(3))
    engine.run()
    scored = seen[-1]
    for image in scored:
        Image.fromarray(image.permute(1, 2, 0).numpy().astype(np.uint8)).save(tmp_path / "x.png")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), image.permute(1, 2, 0).numpy())
    assert handler.label == "PGD dice (8-bit)" and max(engine.state.attack.linf) <= 6.5


def test_how_images_are_stored_is_part_of_what_the_cache_is_asked_for(trained, tmp_path):
    for stored, files in (("uint8", 3), ("float32", 6), ("uint8", 6)):
        evaluator(network(trained), [AttackHandler("FGSM", eps=2.5, stored=stored, cache_dir=tmp_path)], data=items(3)).run()
        assert len(list(tmp_path.glob("*.npz"))) == files


def test_unknown_storage_and_a_range_of_each_image_are_refused(trained):
    with pytest.raises(ValueError, match="stored must be one of float32, uint8, got 'int4'"):
        AttackHandler("FGSM", stored="int4")
    handler = AttackHandler("FGSM", eps=2.0, value_range="image", stored="uint8")
    with pytest.raises(ValueError, match="numeric value_range"):
        evaluator(network(trained), [handler]).run()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_target_elsewhere_has_the_labels_shape_and_never_meets_it(head):
    label = torch.zeros(2, 1, 16, 12, dtype=torch.long)
    label[0, 0, 2:6, 1:4] = 1
    label[1, 0, :, 2:9] = 1  # seven of twelve columns: moved by seven it comes in again on the other side
    logits = torch.zeros(2, 2, 16, 12)
    given = label if head == "softmax" else label.float()
    target = make_target("elsewhere", given, logits, head)
    assert not bool((target.bool() & label.bool()).any())
    assert target[0].sum() == label[0].sum() and bool((target[0, 0, 6:10, 1:4] == 1).all())
    assert target[1].sum() == 16 * 5


@pytest.mark.parametrize("target", ["other_case", "elsewhere"])
def test_a_targeted_attack_is_also_judged_by_its_aim(trained, tmp_path, target):
    attack = AttackHandler(
        ASMA(target=target, steps=30, tau=1e-3, beta=1e-2), ThreatModel(norm="unbounded"), cache_dir=tmp_path / "cache"
    )
    for folder in ("crafted", "from the cache"):
        records = RecordHandler(tmp_path / folder, ["lesion"], attack=attack, gallery=False, card=False)
        evaluator(network(trained), [attack, records]).run()
        found = read_records(tmp_path / folder / "records").pivot_table(index="case", columns="metric", values="value")
        assert found["target_iou"].mean() > 0.6 > found["iou"].mean()
        if target == "elsewhere":
            assert (found["target_overlap"] == 0).all()
        else:
            truth = {i["case"]: i["label"].bool() for i in items()}
            a, b = truth["case_0"], truth["case_1"]
            assert found["target_overlap"]["case_0"] == pytest.approx(float((a & b).sum() / (a | b).sum()))


def test_untargeted_attacks_and_clean_runs_have_no_such_rows(trained, tmp_path):
    attack = AttackHandler(PGD(steps=1))
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False)
    evaluator(network(trained), [attack, records]).run()
    assert set(read_records(tmp_path / "records")["metric"]) == {"dice", "iou"}


def test_readings_of_other_handlers_are_recorded_once(trained, tmp_path):
    class Reader:
        def attach(self, engine):
            from monai.engines.utils import IterationEvents

            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

        def __call__(self, engine):
            if engine.state.iteration == 1:
                engine.state.readings = [{("glaucoma", "probability"): i / 4} for i in range(3)]

    records = RecordHandler(tmp_path, ["lesion"], gallery=False, card=False)
    evaluator(network(trained), [records, Reader()]).run()
    found = read_records(tmp_path / "records")
    found = found[found["metric"] == "probability"]
    assert found["value"].tolist() == [0, 0.25, 0.5] and set(found["class"]) == {"glaucoma"}


def test_images_made_for_a_defence_are_also_scored_without_it(trained, tmp_path):
    attack = AttackHandler(PGD(steps=4, step_size=None), ThreatModel(eps=8.0))
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False, undefended=True)
    seen = []
    net = network(trained)
    engine = evaluator(net, [attack, records], inferer=DefendedInferer(SimpleInferer(), FrequencyRefinement()))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.extend(i["image"].as_tensor() for i in e.state.batch))
    engine.run()
    found = read_records(tmp_path / "records").pivot_table(index="case", columns="metric", values="value")
    with torch.no_grad():
        masks = net(torch.stack(seen)).argmax(1, keepdim=True).bool()
    truth = torch.stack([i["label"].bool().as_tensor() for i in items()])
    expected = (masks & truth).flatten(1).sum(1) / (masks | truth).flatten(1).sum(1)
    assert found["undefended_iou"].tolist() == pytest.approx(expected.tolist())
    assert found["undefended_iou"].tolist() != found["iou"].tolist()
