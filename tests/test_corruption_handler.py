"""Corruptions of an evaluation: the batch, its labels, the records, the search, and the overlays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import blobs
from engines import evaluator, items, network
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer

from monai_advdef.bundle import bundles, workflows
from monai_advdef.corruptions import KINDS, SEVERITIES, of
from monai_advdef.data.tasks import TASKS
from monai_advdef.defenses import JPEG, DefendedInferer
from monai_advdef.handlers import AttackNotApplied, RecordHandler, evaluate
from monai_advdef.handlers.corruption import Corrupted, CorruptionHandler
from monai_advdef.records import read_records

FILES = {"photo": "photo", "x-ray": "xray", "MRI": "mri", "CT": "ct"}
MODALITY = {"skin": "photo", "fundus": "photo", "lung": "x-ray", "glioma": "MRI", "abdomen": "CT"}
GREY = {"value_range": (0, 255), "unit": "grey level"}


def run(victim, folder, handler, batch_size=3, **options):
    """Rows of an evaluation of the small victim, and its evaluator."""
    records = RecordHandler(folder, ["lesion"], attack=handler, gallery=False, card=False)
    engine = evaluator(network(victim), [h for h in (handler, records) if h is not None], batch_size=batch_size, **options)
    evaluate(engine, handler, records)
    return read_records(records.records / f"{records.fingerprint}.parquet"), engine


def dice(table):
    return table.query("metric == 'dice'").set_index("case")["value"].sort_index()


def test_an_evaluation_is_recorded_with_severity_and_values(victim, tmp_path):
    handler = CorruptionHandler("Exposure", 4, **GREY)
    table, engine = run(victim.network, tmp_path, handler)
    assert set(table["attack"]) == {"Exposure 4 (2 stops)"} and set(table["norm"]) == {"unbounded"}
    assert set(table["budget"]) == {"no bound"} and (table["linf"] > 20).all() and (table["forwards"] == 0).all()
    assert dice(table).mean() == pytest.approx(engine.state.metrics["val_dice"], abs=1e-5)


def test_the_same_seed_gives_the_same_images_in_any_batch_as_the_transform_does(victim, tmp_path):
    seen = {}
    for size in (1, 4):
        handler = CorruptionHandler("Hairs", 5, **GREY)
        caught: list = []
        engine = evaluator(network(victim.network), [handler], batch_size=size)
        engine.add_event_handler(
            Events.ITERATION_STARTED, lambda e, caught=caught: caught.append(torch.as_tensor(e.state.batch["image"]))
        )
        engine.run()
        seen[size] = torch.cat([c.clone() for c in caught]).float()
    assert torch.equal(seen[1], seen[4])
    for made, item in zip(seen[1], items()):
        assert torch.equal(made, torch.as_tensor(KINDS["Hairs"](severity=5)(item["image"])))


def test_severity_0_is_the_clean_evaluation(victim, tmp_path):
    table, _ = run(victim.network, tmp_path / "a", CorruptionHandler("OtherCamera", 0, **GREY))
    clean, _ = run(victim.network, tmp_path / "b", None)
    assert (table["linf"] == 0).all() and dice(table).equals(dice(clean))


def test_the_worst_of_more_draws_is_never_better(victim, tmp_path):
    found = [
        dice(run(victim.network, tmp_path / str(n), CorruptionHandler("OtherCamera", 5, queries=n, **GREY))[0]) for n in (1, 4, 8)
    ]
    clean = dice(run(victim.network, tmp_path / "clean", None)[0])
    assert (found[1] <= found[0] + 1e-6).all() and (found[2] <= found[1] + 1e-6).all() and found[2].mean() < clean.mean()
    table, _ = run(victim.network, tmp_path / "again", CorruptionHandler("OtherCamera", 5, queries=4, **GREY), batch_size=1)
    assert dice(table).equals(found[1]) and set(table["forwards"]) == {4} and set(table["steps"]) == {3}
    assert set(table["attack"]) == {"OtherCamera 5 (30 % of the other colours, 40 % of the exponent), worst of 4"}


def test_the_search_looks_through_a_defence_where_it_is_adaptive(victim, tmp_path):
    for adaptive in (True, False):
        handler = CorruptionHandler("Vignette", 5, queries=2, adaptive=adaptive, **GREY)
        inferer = DefendedInferer(SimpleInferer(), JPEG(quality=50))
        table, _ = run(victim.network, tmp_path / str(adaptive), handler, inferer=inferer)
        assert set(table["adaptive"]) == {adaptive}


class Seen:
    """Keeps the labels of the batches."""

    def __init__(self) -> None:
        self.labels: list = []

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, lambda e: self.labels.extend(torch.as_tensor(e.state.batch["label"])))


def test_labels_are_scored_where_the_objects_went(victim, tmp_path):
    images, masks = blobs(3)
    grey = images.mean(1, keepdim=True).round()
    data = [{"image": g, "label": m, "case": f"c{i}"} for i, (g, m) in enumerate(zip(grey, masks))]
    seen = Seen()
    handler = CorruptionHandler("XRayRotation", 5, **GREY)
    net = torch.nn.Conv2d(1, 2, 1)
    evaluator(net, [handler, seen], data=data).run()
    expected = [KINDS["XRayRotation"](severity=5).both(d["image"], d["label"])[1] for d in data]
    assert all(torch.equal(a, b) for a, b in zip(seen.labels, expected)) and not torch.equal(seen.labels[0], masks[0])


def test_a_search_keeps_each_label_with_its_image(victim, tmp_path):
    images, masks = blobs(3)
    data = [{"image": g.mean(0, keepdim=True).round(), "label": m, "case": f"c{i}"} for i, (g, m) in enumerate(zip(images, masks))]
    seen = Seen()
    evaluator(torch.nn.Conv2d(1, 2, 1), [CorruptionHandler("XRayRotation", 5, queries=6, **GREY), seen], data=data).run()
    noun = Corrupted(corruption="XRayRotation", severity=5, queries=6)
    threat = CorruptionHandler("XRayRotation", 5, **GREY).threat
    for d, label in zip(data, seen.labels):
        drawn = [noun.draw(n, 0, threat).both(d["image"], d["label"])[1] for n in range(6)]
        assert any(torch.equal(label, other) for other in drawn)


def test_draws_stay_within_the_severity():
    noun = Corrupted(corruption="Defocus", severity=3, queries=9)
    threat = CorruptionHandler("Defocus", **GREY).threat
    draws = [noun.draw(n, 0, threat) for n in range(9)]
    assert draws[0].severity == 3 and draws[0].seed == 0 and len({d.seed for d in draws}) == 9
    assert all(d.severity == 3 for d in draws[1::2]) and all(0 <= d.severity < 3 for d in draws[2::2])


def test_what_does_not_fit_is_refused_in_words(victim, tmp_path):
    with pytest.raises(ValueError, match="Dose is a corruption of CT, whose images are in HU, and this image is in grey level"):
        CorruptionHandler("Dose", **GREY)
    with pytest.raises(ValueError, match="there is no corruption 'Hair'; did you mean 'Hairs'"):
        CorruptionHandler("Hair", **GREY)
    with pytest.raises(ValueError, match="severity must be a number in"):
        CorruptionHandler("Hairs", 6, **GREY)
    with pytest.raises(ValueError, match="queries must be a whole number"):
        CorruptionHandler("Hairs", queries=0, **GREY)
    with pytest.raises(ValueError, match="no option 'querys'; did you mean 'queries'"):
        CorruptionHandler("Hairs", querys=2, **GREY)
    handler = CorruptionHandler("RigidMotion", unit="signal", value_range="image")
    with pytest.raises(ValueError, match="case case_0: RigidMotion is in mm"):
        evaluator(network(victim.network), [handler]).run()
    with pytest.raises(AttackNotApplied):
        evaluate(evaluator(network(victim.network), []), CorruptionHandler("Hairs", **GREY), None)


@pytest.mark.parametrize("task", TASKS)
def test_overlays_fit_the_bundles_of_their_modality_and_no_other(task):
    parser = ConfigParser()
    configs = bundles()[TASKS[task].bundle] / "configs"
    for modality, file in FILES.items():
        parser.read_config([configs / "train.yaml", configs / "evaluate.yaml", workflows()[f"corruptions/{file}"]])
        fits = modality == MODALITY[task] or {modality, MODALITY[task]} == {"x-ray", "photo"}  # told apart by their channels
        if fits:
            assert parser.get_parsed_content("attack_def").noun.severity == 3
        else:
            with pytest.raises(Exception, match=r"."):
                parser.get_parsed_content("attack_def")


def test_overlays_name_every_corruption():
    for modality, file in FILES.items():
        text = workflows()[f"corruptions/{file}"].read_text(encoding="utf-8")
        assert all(name in text for name in of(modality)), text
    assert sum(len(of(m)) for m in FILES) == len(SEVERITIES)


def test_an_overlay_evaluates_a_bundle(phantom_bundle, tmp_path):
    for queries in (1, 2):
        phantom_bundle.evaluate(
            tmp_path, "corruptions/photo", corruption="Defocus", severity=4, attack__queries=queries, record__gallery=False
        )
    table = read_records(tmp_path / "records").query("metric == 'dice'")
    means = table.groupby("attack")["value"].mean()
    assert sorted(means.index) == ["Defocus 4 (5 px)", "Defocus 4 (5 px), worst of 2"] and np.diff(means)[0] <= 0
    assert "Defocus 4 (5 px)" in (tmp_path / "card.html").read_text()
