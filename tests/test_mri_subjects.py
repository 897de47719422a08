"""Subjects of several MRI series: found under every naming, refused with subject, file and remedy."""

from __future__ import annotations

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from mri_files import GLIOMA, LPS, SERIES, data_set, loading, save, subject, volumes

from monai_advdef.__main__ import main
from monai_advdef.data import (
    DataError,
    UnmapLabelsd,
    check_folder,
    dataset,
    subject_items,
)


@pytest.fixture
def root(tmp_path):
    return data_set(tmp_path / "set")


@pytest.mark.parametrize("name", ["{}.nii.gz", "{}.nii", "Brats18_2013_3_1_{}.nii.gz", "W39-1998.09.19_{}.nii"])
def test_files_of_a_subject_by_their_last_word(tmp_path, name):
    (item,) = subject_items(subject(tmp_path / "set" / "case", name).parent, GLIOMA)
    assert [path.split("/")[-1] for path in item["image"]] == [name.format(role) for role in SERIES]
    assert item["label"] == str(tmp_path / "set" / "case" / name.format("seg"))
    assert (item["case"], item["patient"], item["grade"], item["label_values"]) == ("case", "case", "", (0, 1, 2, 4))


def test_brats_2023_has_labels_and_visits_of_its_own(tmp_path):
    words = dict(zip((*SERIES, "seg"), ("t1n", "t1c", "t2w", "t2f", "seg")))
    for visit in ("000", "001"):
        name = f"BraTS-GLI-00005-{visit}"
        for role, voxels in volumes(values=(0, 1, 2, 3)).items():
            save(tmp_path / name / f"{name}-{words[role]}.nii.gz", voxels)
    items = subject_items(tmp_path, GLIOMA)
    assert [item["case"] for item in items] == ["BraTS-GLI-00005-000", "BraTS-GLI-00005-001"]
    assert {item["patient"] for item in items} == {"BraTS-GLI-00005"}
    assert [path[-10:-7] for path in items[0]["image"]] == ["t1n", "t1c", "t2w", "t2f"]
    assert items[0]["label_values"] == (0, 1, 2, 3)


def test_grades_by_folder_and_by_table(tmp_path):
    for place in ("HGG/a", "HGG/b", "LGG/c"):
        subject(tmp_path / place)
    (tmp_path / "labels.csv").write_text("case,grade,patient\nb,LGG,\nc,,P7\n", encoding="utf-8")
    found = {item["case"]: (item["grade"], item["patient"]) for item in subject_items(tmp_path, GLIOMA)}
    assert found == {"a": ("high", "a"), "b": ("low", "b"), "c": ("low", "P7")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,grade\na,high\n", "it needs case"),
        ("case,grade\ne,high\n", "line 2: no subject is called 'e'"),
        ("case,grade\na,high\na,low\n", "line 3: the subject 'a' stands there twice"),
        ("case,grade\na,hihg\n", "line 2: no grade 'hihg'; did you mean 'high'"),
    ],
)
def test_tables_that_do_not_fit(root, text, told):
    (root / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        subject_items(root, GLIOMA)


# What is done to the subject "b", which file is at fault, and what the error says besides.
def rewrite(role, change, affine=LPS):
    def do(folder):
        path = folder / f"{role}.nii.gz"
        save(path, change(np.asarray(nib.load(path).dataobj)), affine)

    return do


def set_first(value, dtype):
    def change(voxels):
        voxels = voxels.astype(dtype)
        voxels[5, 5, 5] = value
        return voxels

    return change


def flatten_affine(folder):
    """A header no library writes: the third axis has no length in the sform."""
    path = folder / "t2.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = np.array([[-2, 0, 0, 30], [0, -2, 0, 40], [0, 0, 0, -50]], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def cut(folder):
    path = folder / "t1.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


NARROW = LPS @ np.diag([0.5, 1, 1, 1])
MOVED = LPS + 5 * np.eye(4)[:1].T @ np.eye(4)[3:]
TURNED = LPS @ np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
BAD = {
    "missing series": (lambda f: (f / "t2.nii.gz").unlink(), "", ["no t2", "add t2.nii.gz"]),
    "missing label": (lambda f: (f / "seg.nii.gz").unlink(), "", ["no seg", "add seg.nii.gz"]),
    "series twice": (lambda f: shutil.copy(f / "t1.nii.gz", f / "x_t1.nii.gz"), "", ["more than one t1", "keep one"]),
    "other shape": (rewrite("flair", lambda v: v[:-1]), "flair", ["shape (11, 14, 10) against (12, 14, 10)", "resample"]),
    "other spacing": (
        rewrite("t1ce", lambda v: v, NARROW),
        "t1ce",
        ["voxel size [1.0, 2.0, 3.0]", "resample"],
    ),
    "other orientation": (rewrite("seg", lambda v: v, TURNED), "seg", ["90.0 degrees", "resample"]),
    "moved": (
        rewrite("t1ce", lambda v: v, MOVED),
        "t1ce",
        ["5.00 mm"],
    ),
    "flat affine": (flatten_affine, "t2", ["cannot be inverted", "sform"]),
    "NaN": (rewrite("t2", set_first(np.nan, np.float32)), "t2", ["1 NaN or infinite voxels", "leave it out"]),
    "infinite": (rewrite("t1", set_first(np.inf, np.float64)), "t1", ["1 NaN or infinite voxels"]),
    "zeros": (rewrite("flair", np.zeros_like), "flair", ["nothing but zeros", "leave the subject out"]),
    "one value": (rewrite("flair", lambda v: (v > 0).astype(np.int16) * 7), "flair", ["the one value 7"]),
    "label 3": (rewrite("seg", set_first(3, np.uint8)), "seg", ["the label 3; known are 0, 1, 2, 4", "nearest neighbour"]),
    "blended label": (rewrite("seg", set_first(1.5, np.float32)), "seg", ["the label 1.5", "nearest neighbour"]),
    "colour": (rewrite("t1", lambda v: v.astype(np.complex64)), "t1", ["type complex64", "save it as"]),
    "four axes": (rewrite("t1", lambda v: np.stack([v, v], -1)), "t1", ["shape (12, 14, 10, 2)", "take it apart"]),
    "cut short": (cut, "t1", ["cut short or corrupt", "fetch it again"]),
    "empty file": (lambda f: (f / "t1.nii.gz").write_bytes(b""), "t1", ["0 bytes", "fetch it again"]),
    "no NIfTI": (lambda f: (f / "t1.nii.gz").write_bytes(b"P5 3 3 255"), "t1", ["cannot be read as a NIfTI file", "fetch it again"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_subjects_are_named_with_file_and_remedy_and_can_be_left_out(root, name):
    spoil, role, told = BAD[name]
    spoil(root / "b")
    with pytest.raises(DataError) as caught:
        dataset("glioma", root, test_only=True)
    said = str(caught.value)
    assert "subject b" in said and all(words in said for words in told)
    assert str(root / "b" / f"{role}.nii.gz" if role else root / "b") in said
    with pytest.warns(UserWarning, match="left out: 1 of 4 subjects") as warned:
        found = dataset("glioma", root, test_only=True, skip_bad=True)
    assert [item["case"] for item in found["test"]] == ["a", "c", "d"] and any(said in str(w.message) for w in warned)
    assert check_folder(root).problems == [said]


def test_headers_alone_do_not_tell_of_voxels(root):
    BAD["NaN"][0](root / "b")
    BAD["other shape"][0](root / "c")
    with pytest.warns(UserWarning, match="subject c"):
        assert [item["case"] for item in subject_items(root, GLIOMA, voxels=False, skip_bad=True)] == ["a", "b", "d"]


def test_all_bad_subjects_are_listed_and_none_left_is_an_error(root):
    for name in "abcd":
        (root / name / "t2.nii.gz").unlink()
    for skip in (False, True):
        with pytest.raises(DataError, match="4 of 4 subjects") as caught:
            subject_items(root, GLIOMA, skip_bad=skip)
        assert all(f"subject {name} has no t2" in str(caught.value) for name in "abcd")


def test_two_subjects_of_one_name(tmp_path):
    for place in ("HGG/a", "HGG/b", "LGG/A"):
        subject(tmp_path / place)
    with pytest.raises(DataError, match="two subjects are called 'a'") as caught:
        subject_items(tmp_path, GLIOMA)
    assert str(tmp_path / "HGG" / "a") in str(caught.value) and str(tmp_path / "LGG" / "A") in str(caught.value)


def test_a_series_of_part_of_the_head_is_a_warning(root):
    def half(voxels):
        voxels[:, :, 5:] = 0
        return voxels

    rewrite("flair", half)(root / "c")
    with pytest.warns(UserWarning, match="subject c: .*flair.nii.gz .* covers 50 % of the head"):
        assert len(subject_items(root, GLIOMA)) == 4
    report = check_folder(root)
    assert not report.problems and len(report.notes) == 1 and "flair" in report.notes[0]


def test_folders_without_subjects(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        subject_items(tmp_path / "none", GLIOMA)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="no subject in .*it holds: notes.txt"):
        subject_items(tmp_path, GLIOMA)


# The Medical Segmentation Decathlon: one file a subject, with an order and label values of its own.
MODALITY = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
LABELS = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}


def decathlon(root, cases=5, **changes):
    listed = []
    for number in range(cases):
        made, name = volumes(number, values=(0, 1, 2, 3)), f"BRATS_{number:03d}.nii.gz"
        save(root / "imagesTr" / name, np.stack([made[role] for role in ("flair", "t1", "t1ce", "t2")], -1), np.eye(4))
        save(root / "labelsTr" / name, made["seg"], np.eye(4))
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    about = {"modality": MODALITY, "labels": LABELS, "training": listed} | changes
    (root / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return root


def test_decathlon(tmp_path):
    items = subject_items(decathlon(tmp_path), GLIOMA)
    assert [item["case"] for item in items] == [f"BRATS_{number:03d}" for number in range(5)]
    data = loading()(items[3])
    made = {role: voxels[::-1, ::-1] for role, voxels in volumes(3, values=(0, 1, 2, 3)).items()}  # stored RAS, loaded LPS
    for series, name in zip(data["image"].numpy(), SERIES):
        inside = made[name][made[name] != 0]
        assert np.allclose(series[made[name] != 0], (inside - inside.mean()) / inside.std(), atol=1e-5), name
    meant = {0: 0, 1: 2, 2: 1, 3: 3}  # Decathlon value to class
    assert np.array_equal(data["label"][0].numpy(), np.vectorize(meant.get)(made["seg"]))
    assert np.array_equal(UnmapLabelsd(keys="label")(data)["label"][0].numpy(), made["seg"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w", "2": "T1w", "3": "T2w"}}, "names no t1ce"),
        ({"labels": {"0": "background", "1": "edema", "2": "core"}}, "names no necrotic"),
        ({"training": [{"image": "x"}]}, "KeyError: 'label'"),
        (
            {"training": [{"image": "imagesTr/x.nii.gz", "label": "labelsTr/x.nii.gz"}]},
            "subject x of .* has no file .*imagesTr/x.nii.gz",
        ),
    ],
)
def test_decathlon_lists_that_do_not_fit(tmp_path, changes, told):
    with pytest.raises(DataError, match=told):
        subject_items(decathlon(tmp_path, 1, **changes), GLIOMA)


def test_check_on_the_command_line(root, capsys):
    assert main(["check", str(root)]) == 0
    out = capsys.readouterr().out
    assert "subjects, task glioma" in out and "voxels: 12x14x10" in out
    BAD["NaN"][0](root / "b")
    assert main(["check", str(root)]) == 2 and "1 that cannot be used" in capsys.readouterr().out
    for name in "bcd":
        shutil.rmtree(root / name)
    assert main(["check", str(root)]) == 0 and "1 too few to split" in capsys.readouterr().out
