"""Which case trains, validates and tests: the same rule for every task, and an empty section told where it is needed."""

from __future__ import annotations

import pytest
from layout_folders import mask, msd, organ, pairs, picture, scan, sections, volume, write_json

from monai_advdef.__main__ import main
from monai_advdef.data import DataError, Sections, cases_in, check_folder, dataset
from monai_advdef.data.sections import sections_of


def made_up(count, **more):
    return [{"case": f"c{k}", "patient": f"p{k}", "image": f"/x/images/c{k}.png", **more} for k in range(count)]


def plain(root, cases):
    for k in range(cases):
        picture(root / f"images/{k}.png", k)
        mask(root / f"masks/{k}.png", k)


def heads(root, cases):
    for k in range(cases):
        for place, name in enumerate(("t1", "t1ce", "t2", "flair")):
            scan(root / f"s{k}/{name}.nii.gz", 10 * place + k, low=0)
        volume(root / f"s{k}/seg.nii.gz", organ(k))


def scans(root, cases):
    for k in range(cases):
        scan(root / f"images/{k}.nii.gz", k)
        volume(root / f"labels/{k}.nii.gz", organ(k))


TASKS = {"skin": plain, "lung": plain, "fundus": plain, "glioma": heads, "abdomen": scans}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cases", [1, 2, 3, 4])
def test_few_cases_mean_the_same_for_every_task(tmp_path, capsys, task, cases):
    """Three patients can be split; fewer are for testing, which check tells and training is told."""
    TASKS[task](tmp_path, cases)
    assert main(["check", str(tmp_path), "--task", task]) == 0
    out = capsys.readouterr().out
    found = dataset(task, tmp_path)
    if cases >= 3:
        assert all(found.values()) and "too few" not in out
        return
    assert f"{cases} too few to split" in out and len(cases_in(found, "test")) == cases and not found["train"]
    with pytest.raises(
        DataError, match=r"the section 'train' is empty, but a training learns from it: . patient.* too few to split"
    ):
        cases_in(found, "train")


def test_the_hash_decides_where_it_fills_every_section():
    many = sections_of(made_up(40), (0.6125, 0.0875, 0.30))
    assert all(many.values()) and not many.notes
    again = sections_of(made_up(45), (0.6125, 0.0875, 0.30))
    assert {p["case"] for p in many["test"]} <= {p["case"] for p in again["test"]}, "further cases move none"


def test_only_a_test_section(tmp_path):
    plain(tmp_path / "plain", 5)
    (tmp_path / "plain" / "split.csv").write_text("case,section\n" + "".join(f"{k},test\n" for k in range(5)))
    sections(tmp_path / "folders", parts=(("test", 5),))
    msd(tmp_path / "msd")
    for part in ("images", "labels"):
        (tmp_path / "msd" / f"{part}Tr").rename(tmp_path / "msd" / f"{part}Ts")
    write_json(tmp_path / "msd/dataset.json", {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}})
    for name, task, count in (("plain", "skin", 5), ("folders", "skin", 5), ("msd", "abdomen", 4)):
        found = dataset(task, tmp_path / name, tmp_path / "b" / "p")
        assert {section: len(cases) for section, cases in found.items()} == {"train": 0, "validation": 0, "test": count}, name
        report = check_folder(tmp_path / name)
        assert not report.problems and any("no case in the sections train, validation" in note for note in report.notes)
        with pytest.raises(DataError, match="the section 'train' is empty, but a training learns from it"):
            cases_in(found, "train")


def test_parts_that_are_told_are_kept(tmp_path):
    sections(tmp_path, parts=(("train", 8), ("val", 4)))
    found = dataset("skin", tmp_path, tmp_path / "p")
    assert {section: len(cases) for section, cases in found.items()} == {"train": 8, "validation": 4, "test": 0}
    with pytest.raises(
        DataError, match="'test' is empty, but an evaluation is made on it: the data set itself puts no case into it"
    ):
        cases_in(found, "test")


def test_a_training_part_alone_is_split(tmp_path):
    sections(tmp_path, parts=(("train", 20),))
    assert all(dataset("skin", tmp_path, tmp_path / "p").values())


def test_split_csv_comes_before_the_folders(tmp_path):
    pairs(tmp_path, cases=6)
    rows = [f"{k:03},{'train' if k < 3 else 'validation' if k < 4 else 'test'}" for k in range(6)]
    (tmp_path / "split.csv").write_text("\n".join(["case,section", *rows]) + "\n")
    found = dataset("skin", tmp_path, tmp_path / "p")
    assert {section: len(cases) for section, cases in found.items()} == {"train": 3, "validation": 1, "test": 2}
    assert dict(check_folder(tmp_path).sections) == {"train": 3, "validation": 1, "test": 2}


def test_folds_of_any_layout(tmp_path):
    pairs(tmp_path, cases=8)
    tested = [pair["case"] for fold in range(4) for pair in dataset("skin", tmp_path, tmp_path / "p", folds=4, fold=fold)["test"]]
    assert sorted(tested) == [f"{k:03}" for k in range(8)]


def test_plain_lists_by_section_serve_too():
    assert cases_in({"train": made_up(2)}, "train") == made_up(2)
    with pytest.raises(DataError, match="no case is in it"):
        cases_in({"train": []}, "train")
    with pytest.raises(ValueError, match="no section 'tests'; did you mean 'test'"):
        cases_in(Sections({}), "tests")
