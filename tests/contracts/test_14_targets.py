"""Promise 14, targeted: a lesion is erased, invented, shifted and grown; told is how near the prediction came to that."""

from __future__ import annotations

import pytest
import torch
from engines import evaluator, items, network

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import ASMA, PGD, TargetedIterativeFGSM, UniversalPerturbation
from monai_advdef.attacks.universal import save_universal
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.records import read_records

NAMES = ("invent", "shift 4 voxels", "grow 0.3", "grow -0.3")


@pytest.mark.parametrize("name", NAMES)
def test_the_prediction_becomes_the_target(victim, cases, name):
    attack = PGD(steps=30, target=name, objective="cross_entropy")
    outcome, before = run(attack, victim, ThreatModel(eps=16), *cases), run(attack, victim, ThreatModel(eps=0), *cases)
    assert bool((outcome.score > before.score).all()) and float(outcome.score.mean()) > 0.9
    assert outcome.backwards <= 30 and outcome.forwards <= outcome.backwards + 1, "a case at its target takes no more passes"


def test_a_lesion_is_erased(victim, cases):
    """Wholly in half of the cases, to below one per cent of its voxels in the others: then its IoU with nothing is still 0."""
    attack = PGD(steps=60, target="erase", objective="cross_entropy", schedule="constant")
    outcome = run(attack, victim, ThreatModel(eps=24), *cases)
    left = victim.predict(victim(outcome.adversarial)).flatten(1).sum(1)
    assert torch.equal(outcome.score, (left == 0).float()) and float(outcome.score.mean()) >= 0.5
    assert bool((left < 0.01 * cases[1].flatten(1).sum(1)).all())


def test_the_target_is_the_same_behind_a_defence_and_for_every_attack(victim, cases):
    for name in NAMES:
        attacks = (PGD(steps=1, target=name), TargetedIterativeFGSM(steps=1, target=name), ASMA(steps=1, target=name))
        of = [run(a, victim, ThreatModel(eps=4), *cases).target for a in attacks]
        other = Victim(lambda x: -victim(x))
        of += [run(attacks[0], other, ThreatModel(eps=4), *cases).target]
        assert all(torch.equal(of[0], target) for target in of[1:])


def test_a_case_without_such_a_target_is_named_left_alone_and_not_counted(victim, cases):
    image, label = cases[0][:3], cases[1][:3].clone()
    label[1] = 0
    with pytest.warns(UserWarning, match="target 'erase' cannot be made for case 1 of the batch .*no foreground"):
        outcome = run(PGD(steps=3, target="erase"), victim, ThreatModel(eps=8), image, label)
    assert outcome.score.isnan().tolist() == [False, True, False] and outcome.size.tolist() == [8, 0, 8]
    assert torch.equal(outcome.adversarial[1], image[1]) and bool((outcome.target[1] == -1).all())


@pytest.mark.parametrize("attack", ["PGD", "TargetedIterativeFGSM"])
def test_records_hold_how_near_the_prediction_came(trained, tmp_path, attack):
    data = items(3)
    data[2]["label"] = torch.zeros_like(torch.as_tensor(data[2]["label"]))
    handler = AttackHandler(
        attack, target="shift 4 voxels", steps=20, eps=16, objective="cross_entropy", cache_dir=tmp_path / "kept"
    )
    for _ in range(2):  # the second time out of the cache
        records = RecordHandler(tmp_path, ["lesion"], attack=handler, card=False, gallery=False)
        with pytest.warns(UserWarning) if not handler.touched else torch.no_grad():
            evaluator(network(trained), [records, handler], data=data).run()
        rows = read_records(tmp_path / "records")
        near = rows[rows["metric"] == "target_iou"].set_index("case")["value"]
        assert set(near.index) == {"case_0", "case_1"} and (near > 0.6).all()
        assert rows["attack"].str.endswith("to shift 4 voxels").all() and rows["value"].notna().all()
        assert (rows[rows["case"] == "case_2"]["linf"] == 0).all()


def test_the_label_says_the_size_and_another_size_is_another_evaluation():
    small, large = (AttackHandler("PGD", target=f"grow {share}") for share in (0.2, 0.4))
    assert small.label.endswith("to grow 0.2") and small.identity() != large.identity()


def test_a_perturbation_in_a_file_is_part_of_the_identity(tmp_path):
    """Of an attack that reads a file, what the file holds decides."""
    handlers = []
    for value in (1.0, 2.0):
        path = tmp_path / f"{value}.pt"
        save_universal(path, torch.full((3, 8, 8), value), ThreatModel(), periodic=True)
        handlers.append(AttackHandler(UniversalPerturbation(weights=str(path)), ThreatModel()))
    assert handlers[0].identity() != handlers[1].identity()
