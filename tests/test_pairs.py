from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Resized
from PIL import Image

from monai_advdef.data import (
    TASKS,
    DataError,
    LoadPictured,
    MaskToClassesd,
    ToGreyd,
    ToRGBd,
    find_task,
    image_mask_pairs,
    split_pairs,
)
from monai_advdef.data.transforms import CheckPixelsd

REAL = SHARED / "skin"
SECTIONS = ("train", "validation", "test")


def picture(path, mode="RGB", size=(24, 16), seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode.endswith("A"):
        pixels[..., -1] = 255
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode).save(path)


def drawing(path, values=(0, 255), size=(24, 16)):
    pixels = np.resize(np.array(values, dtype=np.uint8), (size[1], size[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.jpg")
        drawing(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def made_up(names):
    return [{"image": f"nowhere/images/{n}.png", "label": f"nowhere/masks/{n}.png", "case": n, "patient": n} for n in names]


# -- finding and checking


def test_pairs_by_name_and_by_the_isic_suffix(root):
    picture(root / "images" / "ISIC_7.PNG")
    drawing(root / "masks" / "ISIC_7_segmentation.png", (0, 1))
    (root / "images" / "license.txt").write_text("")
    (root / "images" / ".hidden.jpg").write_text("")
    pairs = image_mask_pairs(root)
    assert [pair["case"] for pair in pairs] == ["ISIC_7", "a", "b", "c"]
    assert pairs[0] == {
        "image": str(root / "images" / "ISIC_7.PNG"),
        "label": str(root / "masks" / "ISIC_7_segmentation.png"),
        "case": "ISIC_7",
        "patient": "ISIC_7",
    }


def test_other_folder_names_and_no_check(tmp_path):
    picture(tmp_path / "x" / "a.tif")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a.png").write_bytes(b"not looked at")
    assert len(image_mask_pairs(tmp_path, images="x", masks="y", check=False)) == 1


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


BAD = {
    "empty image": (lambda r: (r / "images/b.jpg").write_bytes(b""), r"b\.jpg is empty \(0 bytes\)"),
    "empty mask": (lambda r: (r / "masks/b.png").write_bytes(b""), r"b\.png is empty \(0 bytes\)"),
    "truncated image": (lambda r: truncate(r / "images/b.jpg"), r"b\.jpg cannot be read.*fetch it again"),
    "truncated mask": (lambda r: truncate(r / "masks/b.png"), r"b\.png cannot be read.*fetch it again"),
    "text as image": (lambda r: (r / "images/b.jpg").write_text("hello"), r"b\.jpg cannot be read"),
    "size": (lambda r: drawing(r / "masks/b.png", size=(16, 24)), r"b\.jpg is 24x16 pixels and its mask .*b\.png is 16x24"),
    "grey mask": (lambda r: drawing(r / "masks/b.png", range(250)), r"b\.png holds the values \[0, 1, 2, 3, 4, 5\]\.\.\."),
    "third class": (
        lambda r: drawing(r / "masks/b.png", (0, 1, 2)),
        r"b\.png holds the values \[0, 1, 2\]; .* 0 and 255, or 0 and 1",
    ),
    "colour mask": (lambda r: picture(r / "masks/b.png"), r"b\.png has pixels of kind 'RGB' in colours"),
    "see-through": (lambda r: Image.new("LA", (24, 16)).save(r / "images/b.jpg", "PNG"), r"b\.jpg has transparent pixels"),
    "no mask": (lambda r: (r / "masks/b.png").unlink(), r"1 of 3 images in .* have no mask in .*: b\.jpg; .*_segmentation"),
    "jpeg mask": (lambda r: (r / "masks/b.png").rename(r / "masks/b.jpg"), r"b\.jpg; .*JPEG does not keep labels"),
    "two of a name": (lambda r: picture(r / "images/b.png"), r"more than one image named 'b'"),
    "no images folder": (lambda r: (r / "images").rename(r / "pics"), r"has no folder 'images' \(it holds: masks, pics\)"),
    "no image": (lambda r: [p.rename(p.with_suffix(".dcm")) for p in (r / "images").iterdir()], r"\.jpg.* \(it holds: 3 \.dcm\)"),
    "nothing": (lambda r: shutil.rmtree(r), r"is not a folder; give the folder that holds images/ and masks/"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_its_remedy(root, name):
    spoil, message = BAD[name]
    spoil(root)
    with pytest.raises(DataError, match=message):
        image_mask_pairs(root)


def test_five_of_many_lonely_images_are_listed(root):
    for i in range(7):
        picture(root / "images" / f"x{i}.png")
    with pytest.raises(DataError, match=r"7 of 10 images .*: x0\.png, x1\.png, x2\.png, x3\.png, x4\.png, \.\.\.;"):
        image_mask_pairs(root)


def test_masks_of_more_classes(root):
    drawing(root / "masks" / "b.png", (0, 1, 2))
    drawing(root / "masks" / "a.png", (0, 1))
    drawing(root / "masks" / "c.png", (0, 2))
    assert len(image_mask_pairs(root, classes=3)) == 3
    drawing(root / "masks" / "c.png", (0, 255))
    with pytest.raises(DataError, match=r"\[0, 255\]; a mask holds class numbers 0\.\.2"):
        image_mask_pairs(root, classes=3)


# -- splitting

names = st.sets(st.text("abcdefghij0123456789_", min_size=1, max_size=12), min_size=1, max_size=60)


def sections(pairs, **options):
    found = {}
    for section in SECTIONS:
        try:
            found[section] = {pair["case"] for pair in split_pairs(pairs, section, **options)}
        except DataError:
            found[section] = set()
    return found


@given(names, names, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_split_is_a_partition_and_adding_cases_moves_none(some, more, seed):
    before, after = sections(made_up(some), seed=seed), sections(made_up(some | more), seed=seed)
    assert set.union(*before.values()) == some
    assert sum(map(len, before.values())) == len(some)
    assert all(before[section] == after[section] & some for section in SECTIONS)


def test_the_fractions_are_met_on_average():
    found = sections(made_up([f"case_{i}" for i in range(4000)]))
    shares = [len(found[section]) / 4000 for section in SECTIONS]
    np.testing.assert_allclose(shares, (0.6125, 0.0875, 0.30), atol=0.02)


def test_a_patient_stays_on_one_side():
    pairs = [{**pair, "patient": pair["case"][0]} for pair in made_up([f"{p}{i}" for p in "abcdefghijklmnop" for i in range(5)])]
    for section in SECTIONS:
        for pair in split_pairs(pairs, section):
            assert all(other in split_pairs(pairs, section) for other in pairs if other["patient"] == pair["patient"])


def test_split_file_beside_the_images_or_named(root, tmp_path):
    pairs = image_mask_pairs(root)
    (root / "split.csv").write_text("case,section,patient\na,train,p1\nb,test,p2\nc,validation,\n")
    assert [p["case"] for p in split_pairs(pairs, "train")] == ["a"]
    assert split_pairs(pairs, "test")[0]["patient"] == "p2"
    assert split_pairs(pairs, "validation")[0]["patient"] == "c"
    (tmp_path / "other.csv").write_text("section, case\ntest, a\ntest, b\ntrain, c\n")
    assert [p["case"] for p in split_pairs(pairs, "test", split_file=tmp_path / "other.csv")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,part\na,train\n", r"has the columns \['case', 'part'\]; it needs case,section"),
        ("case,section\na,train\nbb,test\nc,test\n", r"line 3: no image is called 'bb'"),
        ("case,section\na,train\nb,text\nc,test\n", r"line 3: no section 'text'; did you mean 'test'"),
        ("case,section\na,train\na,test\n", r"line 3: the case 'a' stands there twice"),
        ("case,section\na,train\n", r"leaves out 2 cases \(b, c\)"),
        ("case,section,patient\na,train,p\nb,test,p\nc,test,q\n", r"line 3: patient 'p' is in train and in test"),
        ("case,section\na,train\nb,train\nc,train\n", r"section 'test' of the 3 cases is empty; write a split.csv"),
    ],
)
def test_bad_split_files(root, text, message):
    (root / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        split_pairs(image_mask_pairs(root), "test")


def test_bad_split_arguments(tmp_path):
    with pytest.raises(ValueError, match="no section 'valid'; did you mean 'validation'"):
        split_pairs(made_up("a"), "valid")
    with pytest.raises(ValueError, match="sum 1, got"):
        split_pairs(made_up("a"), "train", fractions=(0.5, 0.5, 0.5))
    with pytest.raises(DataError, match="no pairs"):
        split_pairs([], "train")
    with pytest.raises(DataError, match="does not exist"):
        split_pairs(made_up("a"), "train", split_file=tmp_path / "no.csv")


# -- transforms


def test_to_rgb():
    image = MetaTensor(torch.rand(4, 5, 6), meta={"filename_or_obj": "x.png"})
    for channels in (1, 2, 3, 4):
        out = ToRGBd("image")({"image": image[:channels]})["image"]
        expected = image[[0, 0, 0]] if channels < 3 else image[:3]
        assert isinstance(out, MetaTensor) and out.meta["filename_or_obj"] == "x.png"
        assert torch.equal(out, expected)
    with pytest.raises(DataError, match=r"x\.png has 5 channels"):
        ToRGBd("image")({"image": MetaTensor(torch.rand(5, 5, 6), meta={"filename_or_obj": "x.png"})})


def test_to_grey():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    luma = np.asarray(Image.fromarray(pixels[..., :3]).convert("L"), dtype=np.float32)
    image = MetaTensor(torch.from_numpy(pixels).movedim(-1, 0).float(), meta={"filename_or_obj": "x.png"})
    for channels in (1, 2, 3, 4):
        out = ToGreyd("image")({"image": image[:channels]})["image"]
        assert isinstance(out, MetaTensor) and out.shape == (1, 5, 6) and out.meta["filename_or_obj"] == "x.png"
        if channels < 3:
            assert torch.equal(out, image[:1])
        else:
            assert np.abs(out[0].numpy() - luma).max() <= 1, "Pillow rounds"
    with pytest.raises(DataError, match=r"x\.png has 5 channels"):
        ToGreyd("image")({"image": MetaTensor(torch.rand(5, 5, 6), meta={"filename_or_obj": "x.png"})})


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "1 NaN or infinite"), (float("inf"), "1 NaN"), (-1.0, r"from -1 to .*outside \[0, 255\]"), (300.0, "to 300")],
)
def test_pixels_are_checked(value, message):
    image = MetaTensor(torch.full((3, 4, 4), 9.0), meta={"filename_or_obj": "x.png"})
    assert torch.equal(CheckPixelsd("image")({"image": image})["image"], image)
    image[1, 2, 3] = value
    with pytest.raises(DataError, match=rf"x\.png holds .*{message}"):
        CheckPixelsd("image")({"image": image})
    with pytest.raises(DataError, match="case 7 holds"):
        CheckPixelsd("image", name_key="case")({"image": image.as_tensor(), "case": "case 7"})


def test_pixel_check_settings():
    with pytest.raises(DataError, match="image has 1 channels where 3"):
        CheckPixelsd("image")({"image": torch.zeros(1, 4, 4)})
    CheckPixelsd("image", value_range=(-1024, 3000), channels=1)({"image": torch.full((1, 4, 4), -1000.0)})
    with pytest.raises(ValueError, match="low < high"):
        CheckPixelsd("image", value_range=(1, 0))


@given(st.lists(st.sampled_from([0, 1, 255]), min_size=4, max_size=4))
def test_mask_values_are_classes_or_an_error(values):
    mask = MetaTensor(torch.tensor(values, dtype=torch.float32).view(1, 2, 2), meta={"filename_or_obj": "m.png"})
    if {1, 255} <= set(values):
        with pytest.raises(DataError, match=r"m\.png holds the label 255, outside the classes 0\.\.1 \(or 0 and 255\)"):
            MaskToClassesd("label")({"label": mask})
    else:
        out = MaskToClassesd("label")({"label": mask})["label"]
        assert isinstance(out, MetaTensor) and out.dtype == mask.dtype
        assert out.flatten().tolist() == [float(value > 0) for value in values]


def test_mask_classes():
    assert MaskToClassesd("label", classes=4)({"label": torch.tensor([[[0, 3]]])})["label"].tolist() == [[[0, 3]]]
    with pytest.raises(DataError, match=r"label holds the label 0\.5, 4"):
        MaskToClassesd("label", classes=4)({"label": torch.tensor([[[0.5, 4.0]]])})
    with pytest.raises(DataError, match="label has 3 channels"):
        MaskToClassesd("label")({"label": torch.zeros(3, 2, 2)})
    with pytest.raises(ValueError, match="at least 2"):
        MaskToClassesd("label", classes=1)


def preprocessing():
    return Compose(
        [
            LoadPictured("image", kind="rgb"),
            LoadPictured("label", kind="mask"),
            CheckPixelsd("image"),
            MaskToClassesd("label"),
            Resized(["image", "label"], (64, 64), mode=["bilinear", "nearest"], anti_aliasing=[True, False]),
        ]
    )


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg", "alpha.png", "grey_alpha.png", "colour.bmp"])
def test_every_kind_of_image_file_becomes_rgb(tmp_path, name):
    mode = {"grey": "L", "alpha": "RGBA", "grey_alpha": "LA", "colour": "RGB"}[name.split(".")[0]]
    picture(tmp_path / "images" / name, mode)
    drawing(tmp_path / "masks" / name.replace(name.split(".")[1], "png"))
    (pair,) = image_mask_pairs(tmp_path)
    out = Compose(preprocessing().transforms[:4])(pair)
    with Image.open(pair["image"]) as file:
        expected = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(out["image"].numpy(), expected.transpose(2, 1, 0))


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="the real dermoscopy images are not beside the checkout")
def test_real_dermoscopy_goes_through():
    pairs = image_mask_pairs(REAL)
    assert len(pairs) > 100
    parts = sections(pairs)
    assert all(parts.values()) and len(set.union(*parts.values())) == len(pairs)
    for pair in pairs[:: len(pairs) // 6]:
        out = preprocessing()(pair)
        assert out["image"].shape == (3, 64, 64) and out["label"].shape == (1, 64, 64)
        assert 0 <= out["image"].min() and 1 < out["image"].max() <= 255
        assert set(out["label"].unique().tolist()) == {0.0, 1.0}
        with Image.open(pair["label"]) as file:
            assert float(out["label"].mean()) == pytest.approx(np.mean(np.asarray(file) > 0), abs=0.02)


def test_tasks():
    task = find_task("skin")
    assert TASKS["skin"] is task and task.classes[0] == "background" and task.value_range == (0.0, 255.0)
    with pytest.raises(ValueError, match="no task 'skn'; did you mean 'skin'"):
        find_task("skn")
