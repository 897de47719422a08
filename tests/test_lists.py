"""A data set told by a list: a table or JSON with image, label, patient and section of every case."""

from __future__ import annotations

import json

import pytest
from layout_folders import mask, msd, picture, write_json

from monai_advdef.__main__ import main
from monai_advdef.data import DataError, check_folder, dataset, prepare

SECTIONS = ("train",) * 6 + ("val",) * 2 + ("test",) * 4


@pytest.fixture
def home(tmp_path):
    for k in range(12):
        picture(tmp_path / f"a/{k:02}.jpg", k)
        mask(tmp_path / f"b/{k:02}.png", k)
    return tmp_path


def entries(**more):
    return [
        {"image": f"a/{k:02}.jpg", "label": f"b/{k:02}.png", "patient": f"p{k // 2}", "section": SECTIONS[k], **more}
        for k in range(12)
    ]


def as_table(path, rows, delimiter=","):
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def as_json(path, rows):
    write_json(path, rows)
    return path


def by_section(path, rows):
    names = {"train": "training", "val": "validation", "test": "testing"}
    plain = [{key: row[key] for key in ("image", "label", "patient")} for row in rows]
    write_json(path, {name: [p for p, row in zip(plain, rows) if row["section"] == s] for s, name in names.items()})
    return path


WRITERS = {
    "csv": lambda r: as_table(r / "cases.csv", entries()),
    "semicolons": lambda r: as_table(r / "cases.csv", entries(), ";"),
    "json": lambda r: as_json(r / "cases.json", entries()),
    "decathlon": lambda r: by_section(r / "datalist.json", entries()),
    "other words": lambda r: as_table(
        r / "cases.csv",
        [{"Image": e["image"], "Mask": e["label"], "Patient": e["patient"], "split": e["section"]} for e in entries()],
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_list_is_checked_loaded_and_converted(home, name):
    path = WRITERS[name](home)
    report = check_folder(path)
    assert not report.problems and (report.cases, report.patients) == (12, 6)
    assert dict(report.sections) == {"train": 6, "validation": 2, "test": 4} and path.name in str(report)
    found = dataset("skin", path, home / "bundle" / "phantom")
    assert [pair["case"] for pair in found["test"]] == ["08", "09", "10", "11"] and found["test"][0]["patient"] == "p4"
    assert found == dataset("skin", home, home / "p", images=path.name), "a list in the folder, named as images"
    prepare(path, home / "out", task="skin")
    assert [pair["patient"] for pair in dataset("skin", home / "out")["test"]] == ["p4", "p4", "p5", "p5"]


def test_tables_beside_a_list_do_not_count(home):
    path = as_table(home / "split.csv", entries())
    assert check_folder(path).cases == 12 and not check_folder(path).problems


def test_paths_of_a_list_as_systems_write_them(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    spoilt = [
        {"image": f"file://{home}/a/00.jpg", "label": "~/b/00.png"},
        {"image": ".\\a\\01.jpg", "label": "b\\01.png"},
        {"image": f"{home}/a/02.jpg", "label": "./b/02.png"},
    ]
    (home / "a" / "ü 3.jpg").write_bytes((home / "a" / "03.jpg").read_bytes())
    spoilt.append({"image": f"file://{home}/a/%C3%BC%203.jpg", "label": "b/03.png"})
    found = dataset("skin", as_table(home / "cases.csv", spoilt), home / "p", test_only=True)
    assert [pair["case"] for pair in found["test"]] == ["00", "01", "02", "ü 3"]


def test_numbers_in_json_are_names_and_nought_is_one(home):
    rows = [{**entry, "patient": k // 3, "case": k} for k, entry in enumerate(entries())]
    for row in rows:
        del row["section"]
    found = dataset("skin", as_json(home / "cases.json", rows), home / "p")
    of = {pair["case"]: pair["patient"] for pairs in found.values() for pair in pairs}
    assert of == {str(k): str(k // 3) for k in range(12)}
    assert check_folder(home / "cases.json").patients == 4


def test_a_label_of_several_images_is_told(home):
    rows = entries()
    rows[1]["label"] = rows[0]["label"]
    assert "1 labels belong to several images each (00.png)" in check_folder(as_table(home / "cases.csv", rows)).notes


BROKEN = {
    "image is label": (lambda e: e[3].update(label=e[3]["image"]), "entry 4: 03.jpg is image and label at once"),
    "address": (lambda e: e[3].update(image="https://host/a/03.jpg"), "entry 4: 'https://host/a/03.jpg' is an address; fetch the"),
    "no file": (lambda e: e[3].update(label="b/none.png"), r"entry 4 \(03.jpg\) has no file .*none.png"),
    "no label": (lambda e: e[3].update(label=""), r"entry 4 \(03.jpg\) has no label"),
    "no image": (lambda e: e[3].update(image=""), "entry 4 names no image"),
    "twice": (lambda e: e[3].update(e[2]), "names .*02.jpg 2 times; keep one entry an image"),
    "section": (lambda e: e[3].update(section="holdout"), "entry 4: no section 'holdout'"),
    "patient on two sides": (lambda e: e[11].update(patient="p0"), "'p0' is in test and in train; keep a patient on one side"),
    "some without section": (lambda e: e[3].update(section=""), "in more than one section|have no section"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_is_wrong_in_a_list(home, name, kind):
    spoil, told = BROKEN[name]
    rows = entries()
    spoil(rows)
    path = as_table(home / "cases.csv", rows) if kind == "csv" else as_json(home / "cases.json", rows)
    report = check_folder(path)
    with pytest.raises(DataError, match=told):
        raise DataError("\n".join(report.problems))
    with pytest.raises(DataError, match=told):
        dataset("skin", path, home / "p")
    assert main(["check", str(path)]) == 2


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("c.csv", "picture,drawing\na,b\n", r"has the columns \['drawing', 'picture'\]; it needs image and label"),
        ("c.json", "{", "cannot be read as JSON"),
        ("c.json", '{"cases": []}', "holds cases; it must be a list"),
        ("c.json", "3", "holds int; it must be a list"),
        ("c.json", '["a.png"]', "must name image and label"),
        ("c.csv", "", "is empty"),
    ],
)
def test_lists_that_are_none(tmp_path, capsys, name, content, told):
    (tmp_path / name).write_text(content)
    assert main(["check", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(said.out + said.err)


def test_a_list_of_volumes_and_of_unlabelled_test_images(tmp_path):
    msd(tmp_path)
    about = json.loads((tmp_path / "dataset.json").read_text())
    write_json(tmp_path / "datalist.json", {"training": about["training"], "testing": [{"image": "imagesTr/spleen_0.nii.gz"}]})
    report = check_folder(tmp_path / "datalist.json", values="0=0,1=4")
    assert report.cases == 4 and any("1 test image has no label and is left out (spleen_0.nii.gz)" in note for note in report.notes)
    found = dataset("abdomen", tmp_path / "datalist.json", tmp_path / "b/p", values="0=0,1=4")
    assert all(item["annotated"] == [True, False, False, False, True] for items in found.values() for item in items)
