"""What is the same evaluation, adversarial image or case: nothing is replaced, mixed or averaged that is not the same."""

from __future__ import annotations

import copy
import inspect
import logging
import re
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from engines import evaluator, items, network
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.transforms import AsDiscreted, Compose, EnsureTyped, Lambdad, LoadImaged
from PIL import Image
from synthetic_records import row
from test_identity import Standardise
from torch import nn

from monai_advdef.defenses import DefendedInferer
from monai_advdef.handlers import AdversarialCache, AttackHandler, RecordHandler, evaluate
from monai_advdef.handlers.cases import Cases, bare_name
from monai_advdef.handlers.cell import network_identity
from monai_advdef.handlers.identity import weights_hash
from monai_advdef.records import COLUMNS, RecordWriter, check_row, read_provenance, read_records
from monai_advdef.report import build, markdown_table

QUIET = {"card": False, "gallery": False}


def recorded(folder, net, *, data=None, attack=None, after=(), inferer=None, **options):
    """One evaluation of the blobs into ``folder``; its fingerprint."""
    records = RecordHandler(folder, ["lesion"], attack=attack, **{**QUIET, **options})
    handlers = [records] if attack is None else [attack, records]
    evaluate(evaluator(net, handlers, data=data, after=after, inferer=inferer), attack, records)
    return records.fingerprint


# -- the same evaluation


def test_other_pixels_labels_or_geometry_under_the_same_names_are_other_evaluations(trained, tmp_path):
    net, darker, corrected, finer = network(trained), items(), items(), items()
    for d in darker:
        d["image"] = d["image"] * 0.5
    corrected[3]["label"] = 1 - corrected[3]["label"]
    for d in finer:
        d["image"] = MetaTensor(d["image"].as_tensor(), affine=torch.diag(torch.tensor([0.5, 0.5, 1, 1])), meta=d["image"].meta)
    names = [recorded(tmp_path, net, data=d) for d in (None, darker, corrected, finer)]
    assert len(set(names)) == 4
    table = read_records(tmp_path / "records")
    assert table.groupby("fingerprint")["case"].nunique().tolist() == [6] * 4
    assert table.groupby("fingerprint")["data"].nunique().max() == 1 and table["data"].nunique() == 4
    assert recorded(tmp_path, net) == names[0] and len(read_records(tmp_path / "records")) == len(table), "the same replaces itself"


def test_networks_inferers_defences_and_what_follows_them_are_told_apart(trained, tmp_path):
    class Halved(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    other, doubled = network(trained), nn.Sequential(network(trained))
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    windows = SlidingWindowInferer((32, 32), overlap=0.25), SlidingWindowInferer((32, 32), overlap=0.5)
    defended = [DefendedInferer(SimpleInferer(), d) for d in (Halved(0.5), Halved(0.9), lambda x: x * 0.5)]
    names = [recorded(tmp_path, network(trained)), recorded(tmp_path, other), recorded(tmp_path, doubled)]
    names += [recorded(tmp_path, network(trained), inferer=i) for i in (*windows, *defended)]
    names.append(recorded(tmp_path, network(trained), after=[Lambdad("pred", func=lambda p: p * 1)]))
    assert len(set(names)) == len(names)
    assert recorded(tmp_path, network(trained), inferer=DefendedInferer(SimpleInferer(), Halved(0.5))) == names[5]


def test_the_same_weights_in_another_structure_are_another_network(trained, tmp_path):
    relu, tanh = (nn.Sequential(nn.Conv2d(3, 2, 1), act) for act in (nn.ReLU(), nn.Tanh()))
    tanh.load_state_dict(relu.state_dict())
    assert weights_hash(relu) == weights_hash(tanh) and network_identity(relu) != network_identity(tanh)
    sources = (relu, tanh, copy.deepcopy(tanh))
    names = [recorded(tmp_path, network(trained), attack=AttackHandler("FGSM", source=s, cache_dir=tmp_path / "c")) for s in sources]
    assert names[0] != names[1] == names[2] and len(list((tmp_path / "c").iterdir())) == 2 * 6


def test_files_moved_elsewhere_and_a_cache_before_them_change_nothing(trained, tmp_path):
    load = Compose([LoadImaged(["image", "label"], ensure_channel_first=True, image_only=True), EnsureTyped(["image", "label"])])
    names = []
    for folder, kind in (("a", Dataset), ("b", Dataset), ("b", CacheDataset)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for d in items(2):
            pixels = np.asarray(d["image"]).transpose(2, 1, 0).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{d['case']}.png")
            Image.fromarray(np.asarray(d["label"])[0].T.astype(np.uint8)).save(tmp_path / folder / f"{d['case']}_mask.png")
        data = [{k: str(tmp_path / folder / f"case_{i}{s}.png") for k, s in (("image", ""), ("label", "_mask"))} for i in range(2)]
        records = RecordHandler(tmp_path / "out", ["lesion"], **QUIET)
        loader = DataLoader(kind(data, load, **({"progress": False} if kind is CacheDataset else {})), batch_size=2)
        after = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=2)
        engine = SupervisedEvaluator("cpu", loader, network(trained), postprocessing=after, val_handlers=[records])
        evaluate(engine, None, records)
        names.append(records.fingerprint)
    assert len(set(names)) == 1


def test_what_cannot_be_recognised_is_an_evaluation_of_its_own_and_is_told(trained, tmp_path, caplog):
    class Locked(SimpleInferer):
        def __init__(self):
            self.lock = threading.Lock()

    with caplog.at_level(logging.WARNING):
        names = {recorded(tmp_path, network(trained), inferer=Locked()) for _ in range(2)}
    assert len(names) == 2 and "the inferer cannot be recognised again" in caplog.text
    assert len(read_records(tmp_path / "records")) == 2 * 12


# -- the same adversarial image


def crafted(trained, folder, normalize, **options):
    """Images as the network sees them, and how many files the cache then holds."""
    attack, seen = AttackHandler("PGD", steps=2, normalize=normalize, cache_dir=folder, **options), []
    engine = evaluator(copy.deepcopy(trained), [attack], batch_size=6)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.extend(torch.as_tensor(i["image"]) for i in e.state.batch))
    engine.run()
    return torch.stack(seen), len(list(folder.glob("*.npz"))) if folder.exists() else 0


def test_a_normaliser_is_never_served_anothers_images_and_resumes_its_own(trained, tmp_path):
    kinds = [lambda: Standardise(127.5, 127.5), lambda: Standardise(100, 50), lambda: lambda x: (x - 127.5) / 127.5]
    kinds += [lambda: lambda x: (x - 100) / 50, lambda: (127.5, 127.5), lambda: torch.nn.Sequential(Standardise(90, 50))]
    for number, make in enumerate(kinds):
        images, files = crafted(trained, tmp_path / "shared", make())
        assert files == 6 * (number + 1)
        assert torch.equal(images, crafted(trained, tmp_path / f"own{number}", make())[0])
        again, files = crafted(trained, tmp_path / "shared", make())
        assert torch.equal(again, images) and files == 6 * (number + 1), "made anew it finds its images"


def test_images_of_what_cannot_be_recognised_are_not_kept(trained, tmp_path, caplog):
    class Scale:
        def __init__(self):
            self.lock = threading.Lock()

        def __call__(self, x):
            return (x - 127.5) / 127.5

    with caplog.at_level(logging.WARNING):
        images, files = crafted(trained, tmp_path / "c", Scale())
    assert files == 0 and "neither kept in nor taken from" in caplog.text and "lock" in caplog.text
    assert torch.equal(images, crafted(trained, tmp_path / "d", lambda x: (x - 127.5) / 127.5)[0])


def test_an_image_in_the_cache_that_leaves_the_threat_model_is_refused(trained, tmp_path, monkeypatch):
    crafted(trained, tmp_path / "c", (127.5, 127.5))
    load = AdversarialCache.load

    def changed(cache, key, clean=None):
        entry = load(cache, key, clean)
        return {**entry, "adversarial": entry["adversarial"] + 3}

    monkeypatch.setattr(AdversarialCache, "load", changed)
    with pytest.raises(ValueError, match=r"case case_0 was changed by 1.* norm linf, channel \d, allowed are 8 .*cache_dir"):
        crafted(trained, tmp_path / "c", (127.5, 127.5))


# -- the same case


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("1.2.840.0.png", "1.2.840.0"),
        ("a/11ah-1.8_roi1.PNG", "11ah-1.8_roi1"),
        ("scan.001.nii.gz", "scan.001"),
        ("SCAN.001.NII.GZ", "SCAN.001"),
        ("v1.2/img.tiff", "img"),
        ("case_7.nrrd", "case_7"),
        ("1.2.840.113619.2", "1.2.840.113619.2"),
        ("1.2.840.5.dcm", "1.2.840.5"),
        ("archive.gz", "archive.gz"),
        ("case.v2", "case.v2"),
        (".png", ".png"),
    ],
)
def test_only_known_suffixes_are_no_part_of_a_name(file, name):
    assert bare_name(file) == name


def test_a_folder_keeps_its_dots(tmp_path):
    (tmp_path / "1.2.dcm").mkdir()
    assert bare_name(tmp_path / "1.2.dcm") == "1.2.dcm"


def unnamed(files):
    """The blobs without ``case``, read from ``files``."""
    data = items(len(files))
    for d, file in zip(data, files):
        d["image"].meta["filename_or_obj"] = file
        d.pop("case")
        d.pop("patient")
    return data


class Listed(Dataset):
    """A data set whose list names the files that its items were read from."""

    def __init__(self, loaded):
        super().__init__([{"image": d["image"].meta["filename_or_obj"]} for d in loaded])
        self.loaded = loaded

    def __getitem__(self, index):
        return self.loaded[index]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([f"x/1.2.840.{n}.png" for n in range(4)], [f"1.2.840.{n}" for n in range(4)]),
        (["scan.001.nii.gz", "scan.002.nii.gz"], ["scan.001", "scan.002"]),
        (["p1/img.png", "p2/img.png", "p2/other.png"], ["p1/img", "p2/img", "other"]),
        (["a/p/img.png", "b/p/img.png"], ["a/p/img", "b/p/img"]),
        (["a/img.png", "a/img.tif"], ["img.png", "img.tif"]),
    ],
)
def test_cases_without_a_name_stay_different_cases(trained, tmp_path, files, names):
    attack, records = AttackHandler("FGSM"), RecordHandler(tmp_path, ["lesion"], **QUIET)
    records.attack = attack
    engine = evaluator(network(trained), [attack, records], data=unnamed(files))
    engine.data_loader = DataLoader(Listed(unnamed(files)), batch_size=3)
    engine.run()
    table = read_records(tmp_path / "records")
    assert table.groupby("case", sort=False)["metric"].nunique().to_dict() == dict.fromkeys(names, 2)
    assert table["patient"].tolist() == table["case"].tolist()


def test_two_cases_of_one_name_are_refused_with_both_files(trained, tmp_path):
    files = ["a/img.png", "b/img.png"]
    with pytest.raises(ValueError, match=r"two cases are called 'img': a/img.png and b/img.png; give each a 'case'"):
        recorded(tmp_path, network(trained), data=unnamed(files))  # the data list tells no files, only the images do
    twice = [{**d, "case": "same"} for d in items(2)]
    with pytest.raises(ValueError, match=r"two cases are called 'same': case_0.png and case_1.png"):
        recorded(tmp_path, network(trained), data=twice)
    with pytest.raises(ValueError, match=r"case 'case_0' \(case_0.png\) is in the data list twice"):
        recorded(tmp_path, network(trained), data=[items(1)[0], items(1)[0]])
    assert not list((tmp_path / "records").glob("*.parquet")) if (tmp_path / "records").exists() else True


def test_names_of_a_batch_follow_the_data_list():
    cases = Cases(Listed(unnamed(["p1/img.png", "p2/img.png"])), "image")
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "p2/img.png"})
    assert cases.name({"image": image}) == "p2/img"
    assert Cases(None, "image").name({"image": image}) == "img"


# -- rows


def test_a_second_row_of_one_case_class_and_metric_is_refused(tmp_path):
    writer = RecordWriter(tmp_path, "abc123", {})
    writer.add([row(case="c1"), row(case="c1", metric="iou"), row(case="c2")])
    with pytest.raises(ValueError, match="case c1 has a second dice of class 'lesion' in cell abc123; give every case a 'case'"):
        writer.add([row(case="c3"), row(case="c1", value=0.2)])
    writer.close()
    assert read_records(tmp_path)["case"].tolist() == ["c1", "c1", "c2"], "nothing of the refused batch is kept"


BEYOND = {"attack": "PGD", "eps": 8.0, "unit": "grey level", "norm": "linf", "linf": 20.4, "l2": 500.0}


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, r"case c1 was changed by 20.4 \(linf\), more than eps 8 grey level; such a row is not stored"),
        ({"linf": 8.0 * (1 + 2e-6)}, "more than eps 8"),
        ({"linf": float("nan")}, "changed by nan"),
        ({"norm": "l2", "eps": 400.0}, r"changed by 500 \(l2\), more than eps 400"),
        ({"budget": "[8, 0, 0]"}, "changed by 20.4"),
        ({"linf": 8.0}, ""),
        ({"linf": 8.0 * (1 + 0.9e-6)}, ""),
        ({"norm": "l2", "eps": 500.0}, ""),
        ({"norm": "unbounded", "eps": float("inf")}, ""),
        ({"budget": "8 %"}, ""),
        ({"attack": "PGD (8-bit)"}, ""),
    ],
)
def test_a_measured_size_beyond_eps_is_never_stored(change, refused):
    if not refused:
        assert check_row(row(**{**BEYOND, **change}))["attack"].startswith("PGD")
        return
    with pytest.raises(ValueError, match=refused):
        check_row(row(**{**BEYOND, **change}))


@pytest.mark.parametrize(
    "options",
    [
        {"eps": [8.0, 0.0, 2.0]},
        {"eps": 2.0, "relative": True},
        {"eps": 300.0, "norm": "l2"},
        {"eps": 0.3, "stored": "uint8"},
        {"eps": 0.0},
        {"eps": 5.0, "region": "nonzero"},
    ],
    ids=str,
)
def test_every_kind_of_budget_is_kept_and_recorded(trained, tmp_path, options):
    recorded(tmp_path, network(trained), attack=AttackHandler("PGD", steps=2, **options))
    table = read_records(tmp_path / "records")
    assert len(table) == 12 and set(COLUMNS) < set(table)
    told = {"[8.0, 0.0, 2.0]": "[8, 0, 2]", "2.0": "2 %", "300.0": "300", "0.3": "0.3", "0.0": "0", "5.0": "5"}[str(options["eps"])]
    assert (table["budget"] == told).all() and (table["eps"] == np.max(options["eps"])).all()
    assert (table["unit"] == ("% of the range" if options.get("relative") else "grey level")).all()


def test_tables_of_before_still_read(tmp_path):
    pd.DataFrame([row(fingerprint="aaa1")]).to_parquet(tmp_path / "aaa1.parquet")
    assert list(read_records(tmp_path)) == list(COLUMNS)
    with RecordWriter(tmp_path, "bbb2", {}) as writer:
        writer.add([row(fingerprint="bbb2", **BEYOND | {"linf": 8.0}, budget="[8, 0, 0]")])
    assert read_records(tmp_path)["budget"].tolist() == ["", "[8, 0, 0]"]
    assert list(read_records(tmp_path / "bbb2.parquet")) == [*COLUMNS, "budget"]
    assert pd.read_parquet(tmp_path)["case"].tolist() == ["c1", "c1"]


# -- tables and card


def test_budgets_by_channel_stand_beside_each_other_in_table_and_card(trained, tmp_path):
    net = network(trained)
    names = [recorded(tmp_path, net)]
    names += [recorded(tmp_path, net, attack=AttackHandler("FGSM", eps=eps)) for eps in (8.0, [8.0, 0.0, 0.0], [0, 0, 8], [8, 8, 8])]
    assert len(set(names)) == 4 and names[1] == names[4], "8 for every channel is 8"
    lines = markdown_table(read_records(tmp_path / "records")).splitlines()[2:]
    assert {"8 grey levels", "[8, 0, 0] grey levels", "[0, 0, 8] grey levels"} <= set(_sizes(lines)) and len(lines) == 4
    card = build(tmp_path).read_text(encoding="utf-8")
    assert "[8, 0, 0] grey levels" in card and "at most <b>8 of 255 grey levels" in card


def _sizes(lines):
    return [line.split("|")[2].strip() for line in lines]


def test_several_weights_and_data_sets_are_always_readable(trained, tmp_path):
    other, darker = network(trained), items()
    with torch.no_grad():
        next(other.parameters()).mul_(0.5)
    for d in darker:
        d["image"] = d["image"] * 0.6
    for net, data in ((network(trained), None), (other, None), (other, darker)):
        last = recorded(tmp_path, net, data=data)
        recorded(tmp_path, net, data=data, attack=AttackHandler("FGSM", eps=8.0))
    table, facts = read_records(tmp_path / "records"), read_provenance(tmp_path / "records")
    lines = markdown_table(table, facts).splitlines()
    assert len(lines) == 2 + 6 and lines[0].startswith("| network | attack |")
    assert len({line.split("|")[1] for line in lines[2:]}) == 3
    assert all(re.search(r"network, weights \w{4}…\w\w, data \w{4}…\w\w", line) for line in lines[2:])
    card = build(tmp_path, run=last).read_text(encoding="utf-8")
    mine = table[table["fingerprint"] == last]
    assert f"data {mine['data'].iloc[0][:4]}…" in card and f"weights {mine['weights'].iloc[0][:4]}…" in card
    assert "Recorded in the same folder, and not shown here: 2 runs" in card
    time.sleep(1.1)  # the times of provenance are seconds
    newest = recorded(tmp_path, network(trained))
    assert f"weights {table[table['fingerprint'] == newest]['weights'].iloc[0][:4]}…" in build(tmp_path).read_text(encoding="utf-8")


def test_two_runs_of_one_name_that_disagree_are_told_apart(trained, tmp_path):
    recorded(tmp_path, network(trained))
    for step_size in (0.1, 4.0):
        recorded(tmp_path, network(trained), attack=AttackHandler("PGD", eps=8.0, steps=3, step_size=step_size))
    lines = markdown_table(read_records(tmp_path / "records")).splitlines()[2:]
    assert len(lines) == 3 and sum("PGD-3 dice (run " in line for line in lines) == 2
    assert "PGD-3 dice (run " in build(tmp_path).read_text(encoding="utf-8")


# -- constructors


@pytest.mark.parametrize("handler", [AttackHandler, RecordHandler])
def test_handlers_are_made_of_few_things(handler):
    assert len(inspect.signature(handler).parameters) <= 12


def test_objects_mappings_and_flat_options_are_the_same(tmp_path):
    from monai_advdef.handlers import VictimSettings
    from monai_advdef.handlers.options import RecordOptions

    flat = AttackHandler("PGD", eps=4.0, heads="true", compiled="false", draws=3, logit_scale=0.5)
    of = AttackHandler(
        "PGD", {"eps": 4.0, "value_range": [0, 255], "unit": "grey level"}, victim={"heads": True, "draws": 3}, logit_scale=0.5
    )
    ready = AttackHandler("PGD", eps=4.0, victim=VictimSettings(heads=True, draws=3, logit_scale=0.5))
    assert flat.identity() == of.identity() == ready.identity() and flat.settings["compiled"] is False
    kept = RecordHandler(tmp_path, ["a"], undefended="false", gradients="True", card="false", gallery="false")
    assert (kept.undefended, kept.gradients, kept.card, kept.gallery) == (False, True, False, None)
    assert RecordHandler(tmp_path, ["a"], keep=RecordOptions(card=False), activation="sigmoid").activation == "sigmoid"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AttackHandler("PGD", adaptve=True), "PGD has no option 'adaptve'; did you mean 'adaptive'"),
        (lambda: AttackHandler("PGD", normalise=None), "PGD has no option 'normalise'; did you mean 'normalize'"),
        (lambda: AttackHandler("PGD", victim={"drawz": 3}), "VictimSettings has no option 'drawz'; did you mean 'draws'"),
        (lambda: AttackHandler("PGD", compiled="flase"), "compiled must be true or false, got 'flase'"),
        (lambda: RecordHandler("out", ["a"], galery=True), "RecordHandler has no option 'galery'; did you mean 'gallery'"),
        (lambda: RecordHandler("out", ["a"], gradients="yes"), "gradients must be true or false, got 'yes'"),
    ],
)
def test_misspelt_options_get_the_nearest_known(make, words):
    with pytest.raises(ValueError, match=words):
        make()
