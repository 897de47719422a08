"""Tables as people bring them: every delimiter, encoding and spelling gives the same patients, or words that name the file."""

from __future__ import annotations

import os

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pairs import SECTIONS, drawing, picture

from monai_advdef.data import DataError, check_folder, dataset, split_pairs
from monai_advdef.data.annotations import with_diagnoses, with_patients
from monai_advdef.data.columns import Names, like_patients, role_of
from monai_advdef.data.notes import noted
from monai_advdef.data.tables import find_table, read_table

CASES = [f"im{n:02}" for n in range(20)]
PATIENT = {case: f"P{n // 4}" for n, case in enumerate(CASES)}


@pytest.fixture
def root(tmp_path):
    for case in CASES:
        picture(tmp_path / "images" / f"{case}.png")
        drawing(tmp_path / "masks" / f"{case}.png")
    return tmp_path


def some_pairs(names, ending=".png"):
    return [{"image": f"d/images/{n}{ending}", "label": f"d/masks/{n}.png", "case": n, "patient": n} for n in names]


def lines(delimiter=",", head=("image", "patient"), rows=None):
    rows = [(case, PATIENT[case]) for case in CASES] if rows is None else rows
    return "\r\n".join(delimiter.join(row) for row in [head, *rows]) + "\r\n"


def book(path, rows, *, title_sheet=False):
    made = openpyxl.Workbook()
    sheet = made.active
    if title_sheet:
        sheet.append(["Study of 2021"])
        sheet = made.create_sheet("cases")
    for row in rows:
        sheet.append(row)
    made.save(path)


TABLES = {
    "comma": lines().encode(),
    "semicolon": lines(";").encode(),
    "tab": lines("\t").encode(),
    "bar": lines("|").encode(),
    "sep": b"sep=;\r\n" + lines(";").encode(),
    "byte order mark": lines(";").encode("utf-8-sig"),
    "UTF-16": lines("\t").encode("utf-16"),
    "UTF-16 big-endian": b"\xfe\xff" + lines("\t").encode("utf-16-be"),
    "UTF-16 without mark": lines("\t").encode("utf-16-le"),
    "UTF-32": lines(",").encode("utf-32"),
    "umlaut in cp1252": lines(";", rows=[(c, "Müller" * int(PATIENT[c][1]) + "x") for c in CASES]).encode("cp1252"),
    "quoted": lines(rows=[(f'"{c}"', f'"{PATIENT[c]}, female"') for c in CASES]).encode(),
    "remark with the other delimiter": lines(
        ";", ("image", "patient", "remark"), [(c, PATIENT[c], "a, b, c") for c in CASES]
    ).encode(),
    "blank lines": lines().replace("\r\n", "\r\n\r\n").encode(),
    "old Mac line ends": lines().replace("\r\n", "\r").encode(),
    "trailing delimiters": lines(";").replace("\r\n", ";;\r\n").encode(),
    "kept as text": lines(";", rows=[(f'="{c}"', f'="{PATIENT[c]}"') for c in CASES]).encode(),
    "endings": lines(rows=[(f"{c}.png", PATIENT[c]) for c in CASES]).encode(),
    "paths": lines(rows=[(f"images/{c}.png", PATIENT[c]) for c in CASES]).encode(),
    "Windows paths, other ending": lines(rows=[(f"D:\\study\\{c}.JPG", PATIENT[c]) for c in CASES]).encode(),
    "capitals": lines(rows=[(c.upper(), PATIENT[c]) for c in CASES]).encode(),
    "numbered rows": lines(",", ("id", "image_name", "patient_id"), [(str(n), c, PATIENT[c]) for n, c in enumerate(CASES)]).encode(),
    "other order and columns": lines(
        ",", ("Patient Age", "Patient ID", "File"), [("50", PATIENT[c], c) for c in CASES[::-1]]
    ).encode(),
    "twice the same unknown column": lines(",", ("image", "patient", "x", "x"), [(c, PATIENT[c], "1", "2") for c in CASES]).encode(),
    "spaces": lines(" ").encode(),
    "each line quoted as a whole": "".join(f'"{line}"\r\n' for line in lines().split()).encode(),
    "German": lines(";", ("Bilder", "Alter", "Patienten"), [(c, "3,5", PATIENT[c]) for c in CASES]).encode(),
    "a title above the header": b"Study of 2021\r\n\r\n" + lines().encode(),
    "remarks above the header": b"# exported; 2021\r\n# by hand\r\n" + lines(";").encode(),
    "a title that is a word for patients": b"Patients\r\n" + lines(";").encode(),
    "patients in two spellings": lines(
        rows=[(c, PATIENT[c] if n % 2 else f"p{PATIENT[c][1]} ") for n, c in enumerate(CASES)]
    ).encode(),
    "patients as numbers": lines(
        rows=[(c, f"00{PATIENT[c][1]}" if n % 2 else f"{PATIENT[c][1]}.0") for n, c in enumerate(CASES)]
    ).encode(),
}
HEADS = (
    *(
        "Patient",
        "PATIENT",
        "patient_id",
        "PatientID",
        "Patient ID",
        "Subject ID",
        "subject",
        "participant_id",
        "Patienten-ID",
        "patients",
    ),
    *("Patient Number", " patient "),
)
IMAGE_HEADS = ("Image", "image_id", "Image Name", "filename", "File Name", "case", "ISIC_id", "Image Index", "image_path", "Bild")


def together(sections):
    """Whether every true patient is in one section, and all cases are there."""
    of = {pair["case"]: section for section, pairs in sections.items() for pair in pairs}
    assert set(of) == set(CASES)
    return all(len({of[c] for c in CASES if PATIENT[c] == patient}) == 1 for patient in set(PATIENT.values()))


@pytest.mark.parametrize("name", TABLES)
def test_patients_are_the_same_however_the_table_is_written(tmp_path, name):
    (tmp_path / "labels.csv").write_bytes(TABLES[name])
    with noted() as notes:
        pairs = with_patients(some_pairs(CASES), tmp_path / "labels.csv")
    assert [pair["case"] for pair in pairs] == CASES
    assert len({pair["patient"] for pair in pairs}) == len({(pair["patient"], PATIENT[pair["case"]]) for pair in pairs}) == 5
    told = {"capitals": "without capitals", "patients in two spellings": "two ways", "patients as numbers": "two ways"}
    told |= dict.fromkeys([name for name in TABLES if "above" in name or "title" in name], "is taken for the header")
    assert len(notes) == (name in told) and all(told[name] in text for text in notes)


@pytest.mark.parametrize("name", ["comma", "semicolon", "tab", "UTF-16"])
def test_the_loader_and_check_act_by_the_same_table(root, name):
    (root / "labels.csv").write_bytes(TABLES[name])
    sections = dataset("skin", root)
    assert together(sections)
    assert check_folder(root).sections == {section: len(pairs) for section, pairs in sections.items()}


@pytest.mark.parametrize("head", HEADS)
def test_patients_stay_together_whatever_the_column_is_called(head):
    assert role_of(head, "patient") is not None and role_of(head, "case") is None


@pytest.mark.parametrize("head", IMAGE_HEADS)
def test_images_are_named_by_columns_of_many_names(tmp_path, head):
    (tmp_path / "labels.csv").write_text(lines(";", (head, "Patient")), encoding="utf-8")
    pairs = with_patients(some_pairs(CASES), tmp_path / "labels.csv")
    assert {pair["case"]: pair["patient"] for pair in pairs} == PATIENT


@pytest.mark.parametrize(
    "file", ["labels.csv", "labels.xlsx", "Labels.XLSX", "labels.xlsm", "labels.tsv", "labels.txt", "labels.csv.txt"]
)
def test_spreadsheets_and_other_endings_are_found(root, file):
    rows = [("image", "patient", "age"), *((case, PATIENT[case], 50.0) for case in CASES)]
    if file.endswith(("tsv", "txt")):
        (root / file).write_text(lines("\t"), encoding="utf-8")
    else:
        book(root / file, rows, title_sheet=file == "labels.csv")
    assert together(dataset("skin", root))
    rows = [("Case", "Set"), *((c, "Training" if n < 12 else "val" if n < 16 else "Testing") for n, c in enumerate(CASES))]
    book(root / "split.xlsx", rows)
    sections = dataset("skin", root)
    assert [len(sections[s]) for s in SECTIONS] == [12, 4, 4] and sections["test"][0]["patient"] == "P4"
    assert check_folder(root).sections == {"train": 12, "validation": 4, "test": 4}


def test_a_spreadsheet_with_a_title_above_its_header(root):
    book(root / "labels.xlsx", [("Study of 2021",), (), ("image", "patient"), *PATIENT.items()])
    with pytest.warns(UserWarning, match="line 3 is taken for the header"):
        assert together(dataset("skin", root))


@pytest.mark.parametrize("name", ["labels.xls", "labels.ods", "Labels.ODS", "split.numbers", "split.csv.gz"])
def test_tables_of_a_kind_that_is_not_read_are_never_passed_over(root, name):
    (root / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"{name} is a table of a kind that is not read.*save it again as CSV"):
        dataset("skin", root)
    assert len(check_folder(root).problems) == 1
    (root / f"{name.split('.')[0].lower()}.csv").write_text(lines(head=("case", "section"), rows=[(c, "test") for c in CASES]))
    with noted() as notes:
        dataset("skin", root)
    assert any(f"left aside: {name}" in text for text in notes)


def test_tables_of_other_names_are_told_where_they_name_patients(root):
    (root / "labels.txt").write_text("background\nlesion\n")
    (root / "labels.json").write_text("{}")
    (root / "colours.csv").write_text("name,colour\nlesion,red\n")
    assert not check_folder(root).notes, "lists of classes are no tables of cases"
    (root / "metadata.csv").write_text(lines(";"))
    (note,) = check_folder(root).notes
    assert "metadata.csv is not read, though it has a column 'patient'" in note and "call it labels.csv" in note
    (root / "metadata.csv").write_text(lines(head=("image_id", "lesion_id", "dx"), rows=[(c, PATIENT[c], "nv") for c in CASES]))
    assert "a column 'lesion_id'" in check_folder(root).notes[0] and "and that column patient" in check_folder(root).notes[0]
    (root / "metadata.csv").write_text(lines(";"))
    (root / "metadata.csv").rename(root / "labels.csv")
    assert not check_folder(root).notes and together(dataset("skin", root))


def test_lists_that_look_like_a_split_are_told(root):
    (root / "train.txt").write_text("im00\n")
    assert not check_folder(root).notes
    (root / "val.txt").write_text("im01\n")
    (note,) = check_folder(root).notes
    assert "train.txt, val.txt in " in note and "are not read; a split.csv with the columns case,section would be" in note
    (root / "split.csv").write_text(lines(head=("case", "section"), rows=[(c, "test") for c in CASES]))
    assert "are not read" not in str(check_folder(root))


def test_of_several_tables_csv_counts_and_that_is_told(root):
    book(root / "labels.xlsx", [("image", "patient")])
    (root / "labels.csv").write_text(lines(), encoding="utf-8")
    with noted() as notes:
        assert find_table(root, "labels") == root / "labels.csv"
    assert notes == [f"{root / 'labels.csv'} is read; left aside: labels.xlsx"]
    assert find_table(root, "split") is None and find_table(root / "nowhere", "labels") is None


@pytest.mark.parametrize("row", ["{case}", "{number}", "{number}.0", "{number},0"])
def test_numbers_that_a_spreadsheet_shortened_match_and_that_is_told(tmp_path, row):
    names = [f"{n:04}" for n in range(8)]
    text = "".join(f"{row.format(case=name, number=int(name))};P{n // 2}\n" for n, name in enumerate(names))
    (tmp_path / "labels.csv").write_text("image;patient\n" + text)
    with noted() as notes:
        pairs = with_patients(some_pairs(names), tmp_path / "labels.csv")
    assert [pair["patient"] for pair in pairs] == [f"P{n // 2}" for n in range(8)]
    assert any("8 names match only without capitals or leading noughts" in text for text in notes) == (row != "{case}")


def test_what_may_be_two_cases_is_none():
    names = Names({"7": "7.png", "007": "007.png", "A": "A.png", "a": "a.png", "B": "B.png", "1.2.840.0": "1.2.840.0.png"})
    assert [names.find(w) for w in ("7", "007", "7.0", "A", "a.png", "b", "1.2.840.0", "1.2.840", "x/B.jpg")] == [
        *("7", "007", None, "A", "a", "B", "1.2.840.0", None, "B")
    ]


def test_composed_and_decomposed_names_are_one(tmp_path):
    (tmp_path / "labels.csv").write_text("image,patient\nLa\u0308sion,Mu\u0308ller\nb,M\u00fcller\n", encoding="utf-8")
    pairs = with_patients(some_pairs(["L\u00e4sion", "b"]), tmp_path / "labels.csv")
    assert [pair["patient"] for pair in pairs] == ["M\u00fcller", "M\u00fcller"]


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        (("image", "age"), ""),
        (("image", "MRN"), "'MRN' looks like one"),
        (("image", "pt"), "'pt' looks like one"),
        (("image", "lesion_id"), "'lesion_id' looks like one"),
        (("image", "patient_age"), ""),
    ],
)
def test_a_table_without_patients_is_told_by_check_and_loader(root, head, hint):
    (root / "labels.csv").write_text(lines(";", head), encoding="utf-8")
    wanted = f"labels.csv has no column of patients (its columns: {', '.join(head)}): every image counts as a patient of its own"
    with pytest.warns(UserWarning) as caught:
        dataset("skin", root)
    for text in (str(caught[0].message), *check_folder(root).notes):
        assert wanted in text and (hint in text if hint else "looks like" not in text)
    split = "".join(f"{c};train;{PATIENT[c]}\n" for c in CASES[:8]) + "".join(f"{c};test;{PATIENT[c]}\n" for c in CASES[8:])
    (root / "split.csv").write_text("case;section;Patient ID\n" + split)
    with noted() as notes:
        with_patients(some_pairs(CASES), root / "labels.csv")
    assert not notes, "the split tells the patients"


def test_like_patients():
    assert like_patients(["image", "sex", "PatientAge", "patient_sex", "PT no", "Accession Number"]) == [
        "PT no",
        "Accession Number",
    ]


SPLIT_HEADS = (("case", "section"), ("Image", "Set"), ("filename", "Split"), ("image_id", "subset"), ("case", "fold"))


@pytest.mark.parametrize("head", SPLIT_HEADS)
@pytest.mark.parametrize(
    "words", [("train", "validation", "test"), ("Training", "VAL", "testing"), ("TRAIN", "valid", "Test"), ("tr", "dev", "ts")]
)
def test_sections_in_many_words(tmp_path, head, words):
    text = lines(";", head, [(f"{c}.png", words[n % 3]) for n, c in enumerate(CASES)])
    (tmp_path / "split.csv").write_text(text)
    for n, section in enumerate(SECTIONS):
        picked = split_pairs(some_pairs(CASES), section, split_file=tmp_path / "split.csv")
        assert [pair["case"] for pair in picked] == CASES[n::3]


def test_a_split_that_parts_a_patient_of_the_labels_is_refused(root):
    (root / "labels.csv").write_text(lines(), encoding="utf-8")
    (root / "split.csv").write_text(
        "case,section,patient\n" + "".join(f"{c},{'train' if n % 2 else 'test'},{c}\n" for n, c in enumerate(CASES))
    )
    with pytest.raises(DataError, match=r"split\.csv, line 3: patient 'P0' is in test and in train"):
        dataset("skin", root)


REFUSED = {
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 50, r"old \.xls format; save it as \.xlsx or CSV"),
    "broken spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe", r"cannot be read as a spreadsheet .*save it again"),
    "NUL": (b"case,section\r\nim00,train\x00\r\n", "line 2: a NUL byte"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "blank": (b"\r\n  \r\n", "holds no line; write a header"),
    "open quote": (b'case,section\r\nim00,"train\r\nim01,test\r\n', "line 3: unexpected end of data; close the quotation mark"),
    "too many cells": (b"case,section,remark\r\nim00,train,a, b\r\n", "line 2: 4 cells where the header has 3 columns"),
    "two columns of a name": (b"case,section,Section\r\nim00,train,test\r\n", "more than one column called 'section'"),
    "no header, and words above": (b"cases\r\nim00;train\r\n", "2 cells where the header has 1 column|it needs case,section"),
    "no header": (b"im00,train\r\nim01,test\r\n", r"has the columns \['im00', 'train'\]; it needs case,section"),
    "numbers for sections": (b"case,fold\r\nim00,0\r\n", "line 2: no section '0'; known: test, train, validation"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), r"a NUL byte, so that this is no text or damaged"),
    "UTF-16 cut short": (b"\xff\xfec\0a", r"cannot be read as utf-16 text \(truncated data\); save it again"),
    "unknown case": (b"case,section\nim00,train\nim77,test\n", "line 3: no image is called 'im77'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_failure_names_the_file_and_the_remedy(tmp_path, name):
    raw, message = REFUSED[name]
    (tmp_path / "split.csv").write_bytes(raw)
    with pytest.raises(DataError, match=rf"split\.csv.*{message}"):
        split_pairs(some_pairs(CASES), "train", split_file=tmp_path / "split.csv")


def test_check_names_a_table_that_cannot_be_read(root):
    (root / "split.csv").write_bytes(b"PK\x03\x04\x14\0")
    (problem,) = check_folder(root).problems
    assert "split.csv cannot be read as a spreadsheet" in problem


def test_links_to_nothing_and_folders_are_no_tables(root):
    for name in ("labels.csv", "split.csv"):
        os.symlink("annex/object", root / name)
        with pytest.raises(DataError, match=rf"{name} is a link to annex/object, which is not there; .*git annex get"):
            dataset("skin", root)
        (root / name).unlink()
        (root / name).mkdir()
        with pytest.raises(DataError, match=rf"{name} cannot be opened"):
            dataset("skin", root)
        (root / name).rmdir()


@pytest.mark.parametrize("empty", ["", "nan", "N/A", "NULL", "-"])
def test_empty_patients_are_named(root, empty):
    (root / "labels.csv").write_text(lines(rows=[(c, PATIENT[c] if n else empty) for n, c in enumerate(CASES)]))
    with pytest.raises(DataError, match=r"labels\.csv, line 2: the patient is empty"):
        dataset("skin", root)


def test_diagnoses_in_any_capitals(tmp_path):
    (tmp_path / "labels.csv").write_text("File Name;Diagnosis\na.jpg;Glaucoma\nb;NORMAL\n")
    found = with_diagnoses(some_pairs("ab", ".jpg"), tmp_path / "labels.csv", ("normal", "glaucoma"))
    assert [pair["diagnosis"] for pair in found] == ["glaucoma", "normal"]


words = st.text("abcXYZ019 ,;|\t'äß.-", min_size=1, max_size=8).map(str.strip).filter(lambda w: w and w[0] not in "'")


@given(
    st.lists(st.tuples(words, words), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-16", "cp1252"]),
)
def test_any_table_that_a_library_writes_comes_back(tmp_path_factory, rows, delimiter, encoding):
    import csv

    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([("image", "patient"), *rows])
    table = read_table(path)
    assert table.columns == ("image", "patient") and [cells for _, cells in table.rows] == rows
