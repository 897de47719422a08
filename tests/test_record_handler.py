"""RecordHandler and the cache of adversarial images: right numbers, nothing lost when the disk is full or a file was cut short."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from engines import evaluator, items, network
from ignite.engine import Events
from monai.data import DataLoader, Dataset, DistributedSampler

from monai_advdef.defenses import JPEG, DefendedInferer
from monai_advdef.handlers import AdversarialCache, AttackHandler, AttackNotApplied, RecordHandler, evaluate
from monai_advdef.records import read_provenance, read_records, unfinished


def reference_dice(prediction, label):
    """Dice and IoU of foreground sets of pixels, by Python sets."""
    a, b = ({tuple(i) for i in np.argwhere(np.asarray(m) > 0).tolist()} for m in (prediction, label))
    return (2 * len(a & b) / (len(a) + len(b)), len(a & b) / len(a | b)) if a | b else (1.0, 1.0)


def test_rows_are_complete_and_right(trained, tmp_path):
    attack = AttackHandler("PGD", steps=3, restarts=2, eps=4.0, seed=7)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, task="blobs", model="small", suite="s1")
    engine = evaluator(network(trained), [records, attack], data=items(5))
    expected, sizes, clean = {}, {}, {d["case"]: np.asarray(d["image"]) for d in items(5)}

    def note(e):
        for item, out in zip(e.state.batch, e.state.output):
            expected[item["case"]] = reference_dice(out["pred"][1], out["label"][1])
            sizes[item["case"]] = np.asarray(item["image"], np.float64) - clean[item["case"]]

    engine.add_event_handler(Events.ITERATION_COMPLETED, note)
    evaluate(engine, attack, records)
    table = read_records(tmp_path / "records")
    assert len(table) == 10 and not table.duplicated(["case", "class", "metric"]).any()
    values = table.pivot(index="case", columns="metric", values="value")
    for case, (dice, iou) in expected.items():
        assert values.loc[case, "dice"] == pytest.approx(dice, abs=1e-6)
        assert values.loc[case, "iou"] == pytest.approx(iou, abs=1e-6)
    measured = table.drop_duplicates("case").set_index("case")
    for case, change in sizes.items():
        assert measured.loc[case, "linf"] == np.abs(change).max() <= 4.0
        assert measured.loc[case, "l2"] == pytest.approx(np.sqrt((change**2).sum()), rel=1e-12)
        assert measured.loc[case, "patient"] == f"patient_{int(case[-1]) // 2}"
    constant = {
        "task": "blobs",
        "model": "small",
        "suite": "s1",
        "class": "lesion",
        "attack": "PGD dice",
        "defense": "none",
        "adaptive": False,
    }
    constant |= {"eps": 4.0, "unit": "grey level", "norm": "linf", "steps": 3, "restarts": 2, "forwards": 8, "backwards": 6}
    constant |= {"seed": 7, "fingerprint": records.fingerprint}
    assert all((table[k] == v).all() for k, v in constant.items())
    assert (table["seconds"] > 0).all()


def test_mean_of_the_rows_is_the_evaluators_own_metric(trained, tmp_path):
    records = RecordHandler(tmp_path, ["lesion"])
    engine = evaluator(network(trained), [records])
    engine.run()
    rows = read_records(tmp_path / "records").query("metric == 'dice'")
    assert rows["value"].mean() == pytest.approx(engine.state.metrics["val_dice"], abs=1e-6)
    assert (rows["attack"] == "none").all() and (rows["eps"] == 0).all() and (rows["forwards"] == 0).all()
    assert (tmp_path / "card.html").stat().st_size > 1000 and len(list((tmp_path / "gallery").glob("*.npz"))) == 2


def test_fingerprint_moves_with_all_that_matters_and_with_nothing_else(trained, tmp_path):
    def name(net=None, data=None, defense=None, batch_size=3, **options):
        attack = AttackHandler("PGD", **{"steps": 2, "eps": 2.0, "seed": 0, **options})
        records = RecordHandler(tmp_path, ["lesion"], attack=attack, gallery=False, card=False)
        inferer = defense and DefendedInferer(None, defense)
        engine = evaluator(net or network(trained), [], data=data, inferer=inferer, batch_size=batch_size)
        engine.state.dataloader = engine.data_loader
        records.started(engine)
        return records.fingerprint

    other = network(trained)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    names = [name(), name(steps=3), name(eps=3.0), name(seed=1), name(other), name(data=items(5))]
    names += [name(defense=JPEG()), name(defense=JPEG(quality=50)), name(defense=JPEG(), adaptive=False)]
    assert len(set(names)) == len(names)
    assert name() == name(batch_size=1) == names[0]


def test_wrong_number_of_class_names_is_told(tmp_path):
    with pytest.raises(ValueError, match="classes names 2 foreground classes .* the prediction has 1"):
        RecordHandler(tmp_path, ["lesion", "hair"], activation="sigmoid")._values(torch.ones(1, 4, 4), torch.ones(1, 4, 4))


def test_sigmoid_masks_get_a_row_per_class(tmp_path):
    records = RecordHandler(tmp_path, ["cup", "disc"], activation="sigmoid")
    label = torch.zeros(2, 4, 4)
    label[1, :2] = 1
    prediction = torch.zeros(2, 4, 4)
    prediction[1, :1] = 1
    values = records._values(prediction, label)
    assert values == pytest.approx({("cup", "dice"): 1.0, ("disc", "dice"): 2 / 3, ("cup", "iou"): 1.0, ("disc", "iou"): 0.5})


def test_an_attack_that_misses_a_batch_leaves_no_table(trained, tmp_path):
    attack = AttackHandler("FGSM")
    records = RecordHandler(tmp_path, ["lesion"], attack=attack)
    with pytest.raises(AttackNotApplied, match="did not touch batch 1"):
        evaluate(evaluator(network(trained), [records]), attack, records)
    assert not list((tmp_path / "records").glob("*.parquet")) and not (tmp_path / "card.html").exists()
    assert all(not p.read_text() for p in (tmp_path / "records" / "_unfinished").iterdir())


def test_records_that_are_configured_but_not_written_fail_the_run(trained, tmp_path):
    attack = AttackHandler("FGSM")
    records = RecordHandler(tmp_path, ["lesion"], attack=attack)
    with pytest.raises(RuntimeError, match="RecordHandler is configured but recorded nothing.*inside a file only"):
        evaluate(evaluator(network(trained), [attack]), attack, records)


def test_two_models_may_share_an_output_folder(trained, tmp_path):
    for model in ("small", "smaller"):
        evaluator(network(trained), [RecordHandler(tmp_path, ["lesion"], model=model)]).run()
    assert set(read_records(tmp_path / "records")["model"]) == {"small", "smaller"}


# -- interruptions


def cell(trained, folder, *, stop_after=None, **options):
    attack = AttackHandler("PGD", steps=3, cache_dir=folder / "adversarial", **options)
    records = RecordHandler(folder, ["lesion"], attack=attack, card=False)
    engine = evaluator(network(trained), [records, attack], batch_size=2)

    def stop(e):
        if e.state.iteration == stop_after:
            raise KeyboardInterrupt

    engine.add_event_handler(Events.ITERATION_COMPLETED, stop)
    evaluate(engine, attack, records)
    return read_records(folder / "records")


def test_interrupted_run_goes_on_and_ends_with_identical_records(trained, tmp_path):
    whole = cell(trained, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        cell(trained, tmp_path / "cut", stop_after=2)
    crafted = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut" / "adversarial").iterdir()}
    assert len(crafted) == 4 and len(unfinished(tmp_path / "cut" / "records")) == 1
    with pytest.warns(UserWarning, match="8 rows"):
        assert len(read_records(tmp_path / "cut" / "records", incomplete=True)) == 8
    resumed = cell(trained, tmp_path / "cut")
    assert resumed.drop(columns="seconds").equals(whole.drop(columns="seconds"))
    assert {p: p.stat().st_mtime_ns for p in crafted} == crafted and not unfinished(tmp_path / "cut" / "records")


def test_cached_images_are_taken_only_where_all_they_depend_on_is_the_same(trained, tmp_path):
    for options in ({}, {"seed": 1}, {"eps": 4.0}, {"adaptive": False}):
        cell(trained, tmp_path, **options)
    assert len(list((tmp_path / "adversarial").iterdir())) == 3 * 6  # without a defence, adaptive and oblivious are one attack


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK\x03\x04" + b"\0" * 40])
def test_a_cached_image_that_was_cut_short_is_made_again(tmp_path, damage):
    cache = AdversarialCache(tmp_path)
    cache.store("k", adversarial=np.arange(2000.0))
    path = tmp_path / "k.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("k") is None
    cache.store("k", adversarial=np.ones(3))
    assert cache.load("k")["adversarial"].tolist() == [1, 1, 1]


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self):
        return 0


def test_full_disk_names_file_and_remedy_and_keeps_the_rows(trained, tmp_path):
    attack = AttackHandler("FGSM")
    records = RecordHandler(tmp_path, ["lesion"], attack=attack)
    engine = evaluator(network(trained), [records, attack])

    def fill(e):
        if e.state.iteration == 2:
            records._writer._file = FullDisk()

    engine.add_event_handler(Events.ITERATION_STARTED, fill)
    with pytest.raises(OSError, match=r"cannot write .*records/_unfinished/.*\.part\.jsonl.*free some space.*run this cell again"):
        evaluate(engine, attack, records)
    with pytest.warns(UserWarning, match="6 rows"):
        assert len(read_records(tmp_path / "records", incomplete=True)) == 6


@pytest.mark.parametrize(
    ("module", "function", "where"), [("cache", "savez", "adversarial"), ("gallery", "savez_compressed", "gallery")]
)
def test_full_disk_elsewhere_names_file_and_remedy(trained, tmp_path, monkeypatch, module, function, where):
    def full(file, **_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"monai_advdef.handlers.{module}.np.{function}", full)
    with pytest.raises(OSError, match=rf"No space left.*free space.*run the same command again.*{where}/[0-9a-f]+.*\.npz") as told:
        cell(trained, tmp_path)
    assert told.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert not [p for p in tmp_path.rglob("*.tmp")]
    assert len(cell(trained, tmp_path)) == 12


def test_what_a_killed_process_left_half_written_is_cleared_on_resume(trained, tmp_path):
    cache = tmp_path / "adversarial"
    cache.mkdir()
    script = "from monai_advdef.neighbours import me; print(me().token)"
    gone = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip()
    for folder in (cache, tmp_path):
        (folder / f"0123.npz~{gone}.tmp").write_bytes(b"half")
    cell(trained, tmp_path)
    assert not list(tmp_path.rglob("*.tmp")) and len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(("where", "option"), [("adversarial", "cache_dir"), ("gallery", "gallery"), ("records", "records")])
def test_a_folder_that_cannot_be_written_is_named_before_any_attack(trained, tmp_path, monkeypatch, where, option):
    (tmp_path / where).write_text("in the way")
    monkeypatch.setattr(AttackHandler, "_attack", lambda *_: pytest.fail("crafted before the folders were tried"))
    with pytest.raises(OSError, match=rf"cannot write .*{option}.*a file stands where a folder is wanted: move it"):
        cell(trained, tmp_path)


def test_a_card_that_cannot_be_written_is_told_and_the_records_stand(trained, tmp_path, caplog):
    (tmp_path / "card.html").mkdir()
    records = RecordHandler(tmp_path, ["lesion"])
    evaluate(evaluator(network(trained), [records]), None, records)
    assert len(read_records(tmp_path / "records")) == 12
    assert "card not written" in caplog.text and "a folder stands where a file is wanted" in caplog.text
    assert "monai-advdef report" in caplog.text


def test_provenance_traces_every_table(trained, tmp_path):
    cell(trained, tmp_path)
    (facts,) = read_provenance(tmp_path / "records").values()
    assert {"monai_advdef", "monai", "torch", "numpy", "python"} <= facts["versions"].keys() and facts["command"]
    assert facts["config"]["attack"]["attack"]["_target_"] == "monai_advdef.attacks.PGD"
    assert facts["config"]["cases"] == [f"case_{i}" for i in range(6)]


def test_cases_that_are_shared_among_processes_are_refused(trained, tmp_path):
    """Under torchrun every process would record its share, under the name of the whole."""
    records = RecordHandler(tmp_path, ["lesion"])
    engine = evaluator(network(trained), [records], data=items(4))
    data = Dataset(items(4))
    engine.data_loader = DataLoader(data, sampler=DistributedSampler(data, num_replicas=2, rank=0, shuffle=False))
    with pytest.raises(ValueError, match="shared among 2 processes.*evaluate in one process, without configs/multi_gpu_train.yaml"):
        evaluate(engine, None, records)
    assert not (tmp_path / "records").exists()
