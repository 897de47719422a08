"""Odd data, options and networks given to an audit from Python: the right number, or words."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from audit_records import scores, write_audit
from monai.data import DataLoader as MonaiLoader
from monai.data import Dataset, MetaTensor
from monai.transforms import AsDiscreted, MapLabelValued
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import monai_advdef
from monai_advdef.audit import AsDeployed, AuditOptions, Given, loaded_network
from monai_advdef.audit.module import as_cases
from monai_advdef.audit.pairing import require_own_labels
from monai_advdef.audit.plan import device_of
from monai_advdef.audit.privacy import content
from monai_advdef.audit.wording import own_options
from monai_advdef.errors import DataError
from monai_advdef.records import read_records

pytestmark = pytest.mark.usefixtures("store")
GIVEN = {"classes": ["disc"], "unit": "grey level", "value_range": (0, 255), "eps": 8, "dry_run": True}


def network(channels: int = 2) -> nn.Module:
    """Finds what is brighter than 107."""
    net = nn.Conv2d(1, channels, 1)
    with torch.no_grad():
        net.weight[:] = torch.tensor([-0.1, 0.1])[-channels:].reshape(channels, 1, 1, 1)
        net.bias[:] = torch.tensor([10.7, -10.7])[-channels:]
    return net


def discs(cases: int = 2) -> list[dict]:
    grid = np.mgrid[:16, :16]
    masks = [((grid - np.array([7 + i, 8])[:, None, None]) ** 2).sum(0) < 30 for i in range(cases)]
    return [
        {"case": f"disc {i}", "image": (100.0 + 14 * m)[None].astype(np.float32), "label": m[None].astype(np.uint8)}
        for i, m in enumerate(masks)
    ]


def dry(folder, model=None, cases=None, **options):
    return monai_advdef.audit(model or network(), cases or discs(), output_dir=folder, **{**GIVEN, **options})


# ------------------------------------------------------------------ data


@pytest.mark.parametrize(
    "form",
    [
        list,
        iter,
        Dataset,
        lambda d: DataLoader(d, batch_size=2),
        lambda d: MonaiLoader(Dataset(d), batch_size=2),
        lambda d: [(c["image"], c["label"]) for c in d],
        lambda d: TensorDataset(*(torch.stack([torch.as_tensor(c[k]) for c in d]) for k in ("image", "label"))),
        lambda d: DataLoader([(c["image"], c["label"]) for c in d], batch_size=2),
    ],
    ids=["list", "generator", "data set", "loader", "MONAI loader", "pairs", "tensors", "loader of pairs"],
)
def test_cases_come_in_any_usual_form(form):
    made = as_cases(form(discs()))
    assert len(made) == 2
    for one, other in zip(made, discs()):
        for key in ("image", "label"):
            np.testing.assert_array_equal(np.asarray(one[key]), other[key])


@pytest.mark.parametrize("data", [5, {"image": 1, "label": 2}, np.zeros((2, 1, 8, 8)), torch.zeros(2, 1, 8, 8)])
def test_what_is_no_list_of_cases_is_refused(data):
    with pytest.raises(DataError, match="give a list of mappings with 'image' and 'label'"):
        as_cases(data)


def test_what_is_no_case_is_refused():
    with pytest.raises(DataError, match="entry 1 is a tuple of 3"):
        as_cases([(1, 2), (1, 2, 3)])
    with pytest.raises(DataError, match="entry 0 is a str"):
        as_cases(["a.nii.gz"])


def changed(**how):
    return [{**case, **{key: make(case) for key, make in how.items()}} for case in discs()]


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([{k: v for k, v in c.items() if k != "label"} for c in discs()], "case 'disc 0' has no 'label'.*labels='none'"),
        (changed(label=lambda c: c["label"][:, :12]), r"case 'disc 0'.*\(1, 16, 16\), its label \(1, 12, 16\)"),
        (changed(label=lambda c: c["label"][0]), r"its label \(16, 16\); both need their channels in front"),
        (changed(image=lambda c: c["image"][0], label=lambda c: c["label"][0]), r"image has the shape \(16, 16\)"),
        (changed(image=lambda c: np.moveaxis(c["image"], 0, -1), label=lambda c: np.moveaxis(c["label"], 0, -1)), "in front of"),
        (changed(image=lambda c: c["image"][None], label=lambda c: c["label"][None]), "nothing before them"),
        (changed(image=lambda c: np.where(c["label"], np.nan, c["image"])), "of the 256 values of its image are NaN"),
    ],
)
def test_a_case_that_cannot_be_audited_is_refused_in_words(tmp_path, cases, words):
    with pytest.raises(ValueError, match=words):
        dry(tmp_path, cases=cases)


def test_a_label_beyond_the_head_is_refused_with_its_case(tmp_path):
    with pytest.raises(ValueError, match=r"the label of case 'case-[0-9a-f]+': the label holds class 3, known are 0\.\.1"):
        dry(tmp_path, cases=changed(label=lambda c: 3 * c["label"]), dry_run=False, suite="smoke", checks=False)


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("eps", "sizes"),
    [
        (8, [8]),
        (np.float32(8), [8]),
        (torch.tensor(8.0), [8]),
        (np.array([8.0, 4.0]), [4, 8]),
        ((4, 8, 4), [4, 8]),
        (None, []),
        ("8", [8]),
    ],
)
def test_budgets_may_be_written_in_any_way(eps, sizes):
    assert AuditOptions(output_dir="out", eps=eps).sizes == sizes


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"eps": 0}, "eps must be above 0"),
        ({"eps": [8, -1]}, "eps must be above 0"),
        ({"eps": math.nan}, "eps must be above 0"),
        ({"eps": True}, "eps must be a number"),
        ({"eps": "eight"}, "eps must be a number"),
        ({"value_range": (0,)}, "range must be the lowest and the highest"),
        ({"value_range": (255, 0)}, "range must be the lowest and the highest"),
        ({"value_range": (0, math.nan)}, "range must be the lowest and the highest"),
        ({"limit": 2.5}, "limit must be a number of cases"),
        ({"limit": True}, "limit must be a number of cases"),
        ({"classes": ["disc", "disc"]}, "classes: 'disc' is given twice"),
        ({"classes": [""]}, "classes: '' is no name"),
        ({"output_dir": ""}, "output_dir is empty"),
    ],
)
def test_options_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        AuditOptions(**{"output_dir": "out", **given})


def test_classes_and_devices_are_looked_at():
    assert AuditOptions(output_dir="out", classes=[1, " disc "]).classes == ["1", "disc"]
    with pytest.raises(DataError, match="'a' is given twice"):
        Given(network(), ["a", "a"])
    assert device_of("cpu") == "cpu"
    for name in ("gpu", "cuda:97"):
        with pytest.raises(DataError, match=f"device '{name}' cannot be used here"):
            device_of(name)


# ------------------------------------------------------------------ networks


class Reshaped(nn.Module):
    """What a network gives, in another form."""

    def __init__(self, form, channels=2):
        super().__init__()
        self.net, self.form = network(channels), form

    def forward(self, x):
        return self.form(self.net(x))


def test_a_scripted_network_is_audited(tmp_path):
    assert dry(tmp_path, torch.jit.script(network())).plan.cases == 2
    copied = loaded_network(torch.jit.trace(network(), torch.zeros(1, 1, 8, 8)))
    assert all(p.is_leaf for p in copied.parameters())


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda y: [y, y[..., ::2, ::2]], "returned a list|2 outputs"),
        (lambda y: {"out": y, "aux": y}, "dictionary with out, aux"),
        (lambda y: torch.stack([y, y], 1), "deep supervision"),
        (lambda y: y.argmax(1, keepdim=True).float(), "without a gradient"),
        (lambda y: y.detach(), "without a gradient"),
    ],
)
def test_what_are_no_logits_is_refused(tmp_path, form, words):
    with pytest.raises(ValueError, match=words):
        dry(tmp_path, Reshaped(form), dry_run=False, suite="smoke", checks=False)


def test_probabilities_are_refused_of_a_sigmoid_head_and_told_of_a_softmax_head(tmp_path):
    """Of a sigmoid head's probabilities every voxel would be found."""
    with pytest.raises(
        DataError, match=r"all outputs of Reshaped lie in \[.*\]: probabilities.*return the values before the sigmoid"
    ):
        dry(tmp_path, Reshaped(torch.sigmoid, 1), activation="sigmoid")
    made = dry(tmp_path, Reshaped(lambda y: y.softmax(1)))
    assert any("sum to 1: probabilities" in note for note in made.notes)
    assert dry(tmp_path, network(1), activation="sigmoid").notes == []


# ------------------------------------------------------------------ labels and files


def three() -> tuple[nn.Module, list[dict]]:
    """A network of two foreground classes by brightness, 5 grey levels from its borders, and a case that has them the other way."""
    net = nn.Conv2d(1, 3, 1)
    with torch.no_grad():
        net.weight[:] = torch.tensor([0.0, 0.1, 0.2]).reshape(3, 1, 1, 1)
        net.bias[:] = torch.tensor([0.0, -10.5, -22.0])
    grid = np.mgrid[:16, :16]
    one, two = (((grid - np.array([8, at])[:, None, None]) ** 2).sum(0) < 9 for at in (4, 11))
    label = (2 * one + two)[None].astype(np.uint8)
    return net, [{"case": "a", "image": (100.0 + 10 * one + 20 * two)[None].astype(np.float32), "label": label}]


def test_the_label_that_is_attacked_is_the_one_that_is_scored(tmp_path):
    """Also where only the postprocessing maps its values: against the wrong classes an attack leaves everything."""
    post = [AsDiscreted("pred", argmax=True), MapLabelValued("label", [0, 1, 2], [0, 2, 1])]
    net, cases = three()
    options = {"unit": "grey level", "value_range": (0, 255), "eps": 6, "suite": "smoke", "checks": False}
    monai_advdef.audit(Given(net, ["a", "b"], postprocessing=post), cases, output_dir=tmp_path, **options)
    found = read_records(tmp_path / "records")
    dice = found[found["metric"] == "dice"].groupby("attack")["value"].mean()
    assert dice["none"] == 1 and dice["worst"] == 0 < dice["noise-uniform"]


def test_a_model_of_another_name_may_have_been_audited_into_the_folder(tmp_path):
    write_audit(tmp_path, scores(0.9, 0.2), model="another")
    options = {**GIVEN, "dry_run": False, "suite": "smoke", "checks": False, "gates": ["dice@clean >= .99"]}
    made = dry(tmp_path, **options)
    assert made.code == 0 and made.gates[0].value == 1 and made.gates[0].n == 2
    page = (tmp_path / "evidence.md").read_text()
    assert "Conv2d" in page and "another" not in page


def test_groups_and_a_baseline_of_other_cases_are_refused_before_the_work(tmp_path):
    (tmp_path / "sex.csv").write_text("case,sex\nx,f\n")
    write_audit(tmp_path / "before", scores(0.9, 0.2))
    for option, given in (("groups", tmp_path / "sex.csv"), ("baseline", tmp_path / "before")):
        with pytest.raises(DataError, match="holds none of the 2"):
            dry(tmp_path / "out", **{option: str(given)})


@pytest.mark.parametrize(
    ("images", "labels", "wrong"),
    [
        (["a.nii.gz", "b.nii.gz"], ["a.nii.gz", "b.nii.gz"], ""),
        (["a_0000.nii.gz", "b_0000.nii.gz"], ["a.nii.gz", "b.nii.gz"], ""),
        (["scan_norm.nii.gz", "scan.nii.gz"], ["scan.nii.gz", "scan_seg.nii.gz"], ""),
        (["x1.png", "x2.png"], ["y7.png", "y9.png"], ""),
        (
            ["b.nii.gz", "c.nii.gz", "a.nii.gz"],
            ["a.nii.gz", "c.nii.gz"],
            "gives b.nii.gz the label a.nii.gz.* like the image a.nii.gz",
        ),
        (["case_10.nii.gz", "case_1.nii.gz"], ["case_1_seg.nii.gz"], "gives case_10.nii.gz the label case_1_seg.nii.gz"),
    ],
)
def test_a_label_that_is_called_like_another_image_is_refused(tmp_path, images, labels, wrong):
    for folder, names in (("images", images), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    cases = [{"image": str(tmp_path / "images" / i), "label": str(tmp_path / "labels" / s)} for i, s in zip(images, labels)]
    if not wrong:
        require_own_labels(cases, "image", "label")
        return
    with pytest.raises(DataError, match=wrong):
        require_own_labels(cases, "image", "label")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("say by --images and --masks which", "say by --images and --labels which"),
        ("such as --images 'a/{case}' --masks 'b/{case}'", "such as --images 'a/{case}' --labels 'b/{case}'"),
        ("say it by --images, --masks and --values", "say it by --images and --labels"),
        ("store by --values 0-127=0,128-255=1", "store by --set values=0-127=0,128-255=1"),
        ("say by --values what they are", "say by --set values=… what they are"),
    ],
)
def test_errors_name_the_options_of_an_audit(there, here):
    with pytest.raises(DataError, match=re.escape(here) + "$"), own_options():
        raise DataError(there)


def test_nothing_is_written_among_the_files_of_model_or_data(tmp_path):
    for what, model, data in (("model", tmp_path, tmp_path / "data"), ("dataset_dir", tmp_path / "bundle", tmp_path)):
        with pytest.raises(DataError, match=f"is the {what} itself; give a folder of its own"):
            monai_advdef.audit(str(model), str(data), output_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_the_models_own_postprocessing_stumbles_over_is_said_with_its_case():
    step, label = AsDeployed([AsDiscreted("label", to_onehot=2)]), torch.tensor([[[0, 1], [2, 0]]])
    with pytest.raises(DataError, match=r"case-7: the model's own postprocessing \(its label holds 0 to 2\) fails on it"):
        step({"case": "case-7", "fed": torch.zeros(1, 2, 2), "pred": torch.zeros(2, 2, 2), "label": label})


def test_the_same_voxels_of_another_size_are_another_image():
    x = torch.zeros(1, 4, 4, 4)
    assert content(MetaTensor(x, affine=torch.eye(4))) != content(MetaTensor(x, affine=torch.diag(torch.tensor([2.0, 1, 1, 1]))))
