"""Names, ids, dates and paths that are planted in file names and DICOM headers are found in nothing that an audit writes or logs."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import stat
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from dicom_series import edit
from hypothesis import given
from hypothesis import strategies as st
from monai.data import PydicomReader
from monai.transforms import LoadImaged
from torch import nn

from monai_advdef.audit import Given, audit
from monai_advdef.audit.privacy import Mask, Person, content, hidden_groups, masking, pseudonyms, read_key, write_key
from monai_advdef.data import write_phantoms
from monai_advdef.errors import DataError
from monai_advdef.handlers.cell import outward, provenance
from monai_advdef.report.subgroups import read_groups

PLANTED = ("SMITH_JOHN_19500101", "MRN-0099887", "Łukasiewicz")


def write_case(folder: Path, name: str, seed: int, shape=(12, 12, 8)) -> dict[str, str]:
    """One volume with a bright box as its label, in a folder called after the patient."""
    folder = folder / name
    folder.mkdir(parents=True)
    label = np.zeros(shape, np.uint8)
    label[3:8, 3 + seed : 8 + seed, 2:6] = 1
    image = np.random.default_rng(seed).normal(0, 20, shape).astype(np.float32) + 100 * label
    for kind, array in (("ct", image), ("seg", label)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{kind}.nii.gz")
    return {"case": name, "patient": name, "image": str(folder / "ct.nii.gz"), "label": str(folder / "seg.nii.gz")}


@pytest.fixture
def cases(tmp_path):
    return [write_case(tmp_path / "hospital", name, seed) for seed, name in enumerate(PLANTED)]


# ------------------------------------------------------------------ pseudonyms


def test_a_pseudonym_depends_on_the_image_alone(tmp_path, cases):
    """Neither on its name, nor its place, nor on which other cases there are, nor on their order."""
    made, people = pseudonyms(cases)
    assert [p.name for p in people] == list(PLANTED) and [c["image"] for c in made] == [c["image"] for c in cases]
    assert len({c["case"] for c in made}) == 3 and all(c["case"].startswith("case-") and len(c["case"]) == 15 for c in made)
    again, _ = pseudonyms(cases[::-1])
    assert [c["case"] for c in again] == [c["case"] for c in made][::-1]
    moved = tmp_path / "elsewhere.nii.gz"
    moved.write_bytes(Path(cases[1]["image"]).read_bytes())
    (one,), _ = pseudonyms([{"case": "other", "image": str(moved)}])
    assert one["case"] == made[1]["case"]
    assert not any(name in json.dumps([c["case"], c["patient"]]) for c in made for name in PLANTED)


def test_cases_of_one_patient_stay_together(cases):
    cases[0]["patient"] = cases[2]["patient"] = "same"
    for given_order in (cases, cases[::-1]):
        made, _ = pseudonyms(given_order)
        by_case = {c["case"]: c["patient"] for c in made}
        groups = pd.Series(by_case).groupby(pd.Series(by_case)).size()
        assert sorted(groups) == [1, 2]
    assert len({tuple(sorted((c["case"], c["patient"]) for c in pseudonyms(order)[0])) for order in (cases, cases[::-1])}) == 1


def test_images_of_every_kind_have_a_content(tmp_path, cases):
    array = np.arange(12.0).reshape(3, 4)
    assert content(array) == content(torch.as_tensor(array)) != content(array + 1) != content(array.reshape(4, 3) + 1)
    image = cases[0]["image"]
    assert content([image, cases[1]["image"]]) != content([cases[1]["image"], image]) and content(Path(image)) == content(image)
    folder, renamed = tmp_path / "slices", tmp_path / "renamed"
    for place, names in ((folder, "ab"), (renamed, "xy")):
        place.mkdir()
        for name, text in zip(names, ("one", "two")):
            (place / name).write_text(text)
    assert content(folder) == content(renamed)
    large, other = bytearray(1 << 20), bytearray(1 << 20)
    other[-1] = 1
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "other").write_bytes(other)
    assert content(tmp_path / "large") != content(tmp_path / "other")
    with pytest.raises(DataError, match="case x: its image cannot be read"):
        content(tmp_path / "nowhere", "case x")
    with pytest.raises(DataError, match="case 'x' has no 'image'"):
        pseudonyms([{"case": "x"}])


def test_equal_images_are_told_apart(tmp_path, cases):
    copy = {**cases[0], "case": "copy", "patient": "copy"}
    made, _ = pseudonyms([*cases, copy])
    assert made[3]["case"] == f"{made[0]['case']}-2" or made[0]["case"] == f"{made[3]['case']}-2"


def test_the_key_is_for_its_owner_alone(tmp_path, cases):
    _, people = pseudonyms(cases)
    path = write_key(tmp_path / "out", people)
    assert path == tmp_path / "out" / "private" / "cases.csv" and read_key(tmp_path / "out") == sorted(people)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"
    with open(path, encoding="utf-8") as file:
        assert {row["name"] for row in csv.DictReader(file)} == set(PLANTED)
    assert read_key(tmp_path) == []
    path.write_text("something else")
    with pytest.raises(DataError, match="is not what an audit writes"):
        read_key(tmp_path / "out")


@pytest.mark.parametrize("by", ["case", "patient"])
def test_groups_of_the_user_go_by_pseudonyms(tmp_path, cases, by):
    cases[0]["patient"] = "P-0001"
    made, people = pseudonyms(cases)
    names = [case[by] for case in cases]
    (tmp_path / "sex.csv").write_text(f"{by};sex\n{names[0]};f\n{made[1][by]};m\nSOMEBODY_ELSE;m\n", encoding="utf-8")
    path = hidden_groups(tmp_path / "sex.csv", people, tmp_path / "out")
    assert path == tmp_path / "out" / "private" / "groups.csv"
    goes, table = read_groups(path)
    assert goes == by and table["sex"].to_dict() == {made[0][by]: "f", made[1][by]: "m"} and "SOMEBODY" not in path.read_text()
    (tmp_path / "other.csv").write_text(f"{by},sex\nSOMEBODY_ELSE,m\n")
    with pytest.raises(DataError, match="holds none of the 3 of this audit; write its column .* as in the column .*cases.csv"):
        hidden_groups(tmp_path / "other.csv", people, tmp_path / "out")


# ------------------------------------------------------------------ masking


def test_text_is_masked(tmp_path, cases):
    made, people = pseudonyms(cases)
    mask = Mask(people, folders=[tmp_path / "hospital"])
    alias = made[0]["case"]
    assert mask(f"cannot read {cases[0]['image']}: no such file") == f"cannot read <{alias}>: no such file"
    assert mask("smith_john_19500101: odd") in (f"{alias}: odd", f"{made[0]['patient']}: odd")
    assert mask(f"{tmp_path}/hospital/JONES_MARY/notes.txt") == "<data>"
    assert mask("/home/anna/models/unet.pt and ./relative/x.py") == "…/unet.pt and ./relative/x.py"
    unchanged = "dice 0.912 of 3 images, 1/2 of it at https://x.org/a/b; blacksmith, image and label"
    assert mask(unchanged) == unchanged and Mask([])(unchanged) == unchanged


def test_names_that_are_words_or_numbers_spoil_no_sentence():
    people = [
        Person("case-1", "patient-1", "1", "image", ("/d/1/ct.nii.gz",)),
        Person("case-2", "patient-2", "12", "CT", ("/d/2/ct.nii.gz",)),
    ]
    text = "12 of 1 image are CT, ct.nii.gz"
    assert Mask(people)(text) == text


def test_what_dicom_headers_say_is_masked(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    write_phantoms("abdomen", tmp_path / "phantoms", cases=1, seed=0, spacing=[12, 12, 12], dicom=True)
    first = next(p for p in sorted((tmp_path / "phantoms").rglob("*.dcm")))
    header = pydicom.dcmread(first)
    header.PatientName, header.PatientID, header.PatientBirthDate = "Roe^Richard", "MRN-445566", "19610203"
    header.InstitutionName, header.StudyDate = "St. Elsewhere", "20240518"
    header.save_as(folder / "0001.dcm")
    made, people = pseudonyms([{"case": "x17", "image": str(folder)}])
    told = Mask(people)("Richard Roe (Roe^Richard, MRN-445566), born 19610203, seen 20240518 at St. Elsewhere")
    for planted in ("Roe", "Richard", "445566", "19610203", "20240518", "Elsewhere"):
        assert planted not in told
    assert Mask(people, headers=False)("Roe^Richard") == "Roe^Richard" and made


def test_logs_tracebacks_warnings_and_the_command_are_masked(tmp_path, cases, caplog, capsys, monkeypatch):
    made, people = pseudonyms(cases)
    mask = Mask(people, folders=[tmp_path / "hospital"])
    monkeypatch.setattr(sys, "argv", ["monai-advdef", "audit", "/home/anna/m.zip", "--dataset_dir", str(tmp_path / "hospital")])
    logger, file = logging.getLogger("a.library"), tmp_path / "log.txt"
    handler = logging.FileHandler(file)
    logger.addHandler(handler)
    before, shown = logging.getLogRecordFactory(), warnings.formatwarning
    with masking(mask):
        logger.warning("reading %s (%d)", cases[0]["image"], 3)
        logger.warning("100 % of it")
        warned = warnings.formatwarning(f"odd header in {cases[1]['image']}", UserWarning, cases[1]["label"], 1)
        try:
            raise OSError(2, "no such file", cases[2]["image"])
        except OSError:
            logger.exception("it ended")
        command = provenance()["command"]
    logger.removeHandler(handler)
    handler.close()
    told = file.read_text(encoding="utf-8") + caplog.text + capsys.readouterr().err + warned + command
    assert not [name for name in (*PLANTED, "anna", "hospital", str(tmp_path)) if name in told], told
    assert f"reading <{made[0]['case']}> (3)" in told and "100 % of it" in told and "OSError" in told
    assert command.endswith("audit …/m.zip --dataset_dir <data>")
    assert logging.getLogRecordFactory() is before and warnings.formatwarning is shown
    assert "anna" in provenance()["command"]


def test_plain_values_are_masked_whole(cases):
    _, people = pseudonyms(cases)
    value = {"note": f"read {cases[0]['image']}", "n": [1, 2.5, None, True, [PLANTED[1]]], "name": {}}
    with masking(Mask(people)):
        told = json.dumps(outward(value), ensure_ascii=False)
    assert outward(value) == value
    assert not any(name in told for name in PLANTED) and json.loads(told)["n"][:4] == [1, 2.5, None, True]


@given(st.text(max_size=60))
def test_masking_takes_any_text_and_twice_is_once(text):
    mask = Mask(
        [Person("case-1a", "patient-1a", "SMITH_JOHN", "SMITH_JOHN", ("/data/SMITH_JOHN/ct.nii",))], folders=["/data"], headers=False
    )
    assert mask(mask(text)) == mask(text) and "smith_john" not in mask(text).casefold().split()


# ------------------------------------------------------------------ an audit


class Bright(nn.Module):
    """Foreground where it is bright."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), self.gain * (x - 50)], 1)


def found_in(folder: Path, planted: tuple[str, ...]) -> list[str]:
    """Files below a folder that hold one of the words, in their names or, unpacked, in their content."""
    hits = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".parquet":
            text = pd.read_parquet(path).to_csv()
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                text = " ".join(str(held[name]) for name in held.files if held[name].dtype.kind == "U")
        else:
            text = path.read_bytes().decode("utf-8", errors="replace")
        hits += [f"{path.relative_to(folder)}: {word}" for word in planted if word in text or word in str(path.relative_to(folder))]
    return hits


def test_nothing_that_an_audit_writes_or_logs_tells_a_name(tmp_path, cases, made_store, caplog, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(made_store, out / "mlruns.db")
    made, _ = pseudonyms(cases)
    monkeypatch.setattr(sys, "argv", ["monai-advdef", "audit", "m", "--dataset_dir", str(tmp_path / "hospital")])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "sex.csv").write_text("case,sex\n" + "".join(f"{name},f\n" for name in PLANTED), encoding="utf-8")
    caplog.set_level(logging.DEBUG)
    options = {"suite": "smoke", "eps": 5.0, "unit": "HU", "value_range": [-200, 400], "device": "cpu", "gates": ["dice@5HU >= .01"]}
    options |= {"groups": str(tmp_path / "sex.csv"), "dataset_dir": str(tmp_path / "hospital"), "junit": str(out / "junit.xml")}
    audit(Given(Bright(), ["organ"]), cases, output_dir=str(out), **options)
    planted = (*PLANTED, "hospital", os.fspath(tmp_path / "hospital"))
    hits = found_in(out, planted)
    assert [hit for hit in hits if not hit.startswith("private/")] == []
    assert any(hit.startswith("private/cases.csv") for hit in hits)
    assert not [word for word in planted if word in caplog.text]
    table = pd.read_parquet(out / "records")
    assert set(table["case"]) == {c["case"] for c in made} and set(table["patient"]) == {c["patient"] for c in made}
    assert [*out.glob("mlartifacts/**/*.parquet"), *out.glob("mlruns/**/*.parquet")], "runs are tracked below the folder"
    assert "by sex" in (out / "card.html").read_text(encoding="utf-8")


HEADERS = {
    "PatientName": "Roe^Richard",
    "PatientID": "MRN-445566",
    "PatientBirthDate": "19610203",
    "AccessionNumber": "ACC-778899",
    "InstitutionName": "St. Elsewhere",
    "ReferringPhysicianName": "Doe^Jane",
    "StudyDate": "20240518",
    "StudyDescription": "Whipple follow-up",
    "PatientComments": "lives in Springfield",
    "StationName": "CTROOM7",
    "DeviceSerialNumber": "SN-31415",
}


def test_nothing_that_a_dicom_header_says_leaves_an_audit(tmp_path, made_store, caplog, capfd, monkeypatch):
    """The series are read with all their headers, which MONAI keeps in the metadata of an image."""
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(made_store, out / "mlruns.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlruns.db'}")
    write_phantoms("abdomen", tmp_path / "phantoms", cases=1, seed=0, spacing=[12, 12, 12], dicom=True)
    source = next((tmp_path / "phantoms").rglob("*.dcm")).parent
    folder = tmp_path / "hospital" / "ROE_RICHARD"
    shutil.copytree(source, folder)

    def plant(header):
        for name, value in HEADERS.items():
            setattr(header, name, value)

    edit(folder, plant)
    chain = [LoadImaged(["image"], reader=PydicomReader(prune_metadata=False), ensure_channel_first=True)]
    assert "Roe" in str(chain[0]({"image": str(folder)})["image"].meta), "the header reaches the audit"
    caplog.set_level(logging.DEBUG)
    options = {
        "suite": "smoke",
        "unit": "HU",
        "eps": 8,
        "labels": "none",
        "device": "cpu",
        "dataset_dir": str(tmp_path / "hospital"),
    }
    audit(Given(Bright(), ["organ"], preprocessing=chain), [{"image": str(folder)}], output_dir=str(out), **options)
    uids = [str(pydicom.dcmread(p)[tag].value) for p in folder.glob("*.dcm") for tag in ("SOPInstanceUID", "SeriesInstanceUID")]
    planted = ("ROE_RICHARD", "Roe", *HEADERS.values(), *uids)
    assert [hit for hit in found_in(out, planted) if not hit.startswith("private/")] == []
    told = caplog.text + "".join(capfd.readouterr())
    assert not [word for word in planted if word in told]
    assert len(pd.read_parquet(out / "records")) and (out / "card.html").is_file()
