"""What folders of people look like: everything is used, told or refused, and check and loader agree."""

from __future__ import annotations

import os
import unicodedata

import pytest
from test_pairs import drawing, picture

from monai_advdef.__main__ import main
from monai_advdef.data import DataError, check_folder, dataset, image_mask_pairs, picture_items
from monai_advdef.data.datasets import data_set_pairs
from monai_advdef.data.listing import Entry, Listing, files_in, images_in
from monai_advdef.data.notes import note, noted


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.png")
        drawing(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def told(root, **options):
    with noted() as notes:
        pairs = image_mask_pairs(root, **options)
    return [pair["case"] for pair in pairs], notes


def test_everything_that_is_left_aside_is_counted_and_named(root):
    for name in (".DS_Store", "._a.png", "Thumbs.db", "readme.txt", "scan.webp", "scan.heic", "old.webp", "noend"):
        (root / "images" / name).write_bytes(b"x")
    (root / "images" / "more").mkdir()
    os.mkfifo(root / "images" / "pipe.png")
    drawing(root / "masks" / "z.png")
    cases, notes = told(root)
    assert cases == ["a", "b", "c"]
    assert notes == [
        f"left aside in {root / 'images'}: 1 .heic (scan.heic), 1 .txt (readme.txt), 2 .webp (old.webp, scan.webp), 1 folder "
        "(more), 3 hidden (.DS_Store, ._a.png, Thumbs.db), 1 no regular file (pipe.png), 1 without extension (noend)",
        f"1 of 4 masks in {root / 'masks'} have no image and are left aside: z.png",
    ]
    assert check_folder(root).notes == notes
    with pytest.warns(UserWarning, match="left aside in"):
        image_mask_pairs(root)


def lose(path):
    path.unlink()
    path.symlink_to("../.git/annex/objects/x/SHA256E-s1--00.png")


@pytest.mark.parametrize("lost", [["images/b.png", "masks/b.png"], ["masks/b.png"], ["images/b.png"]])
def test_links_to_nothing_are_named_with_the_remedy_by_check_and_loader(root, lost):
    for name in lost:
        lose(root / name)
    folders = "; ".join(f"1 in {root / name.split('/')[0]}: b.png" for name in lost)
    many = "1 file is a link" if len(lost) == 1 else "2 files are links"
    message = (
        f"{many} to content that is not there ({folders}); fetch its content (git annex get, or datalad get), or remove the link"
    )
    with pytest.raises(DataError) as caught:
        dataset("skin", root)
    assert str(caught.value) == message and check_folder(root).problems == [message]


def test_links_to_content_are_files(root):
    (root / "images" / "a.png").rename(root / "there.png")
    (root / "images" / "a.png").symlink_to("../there.png")
    (root / "images" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"1 in .*images: loop\.png"):
        image_mask_pairs(root)
    (root / "images" / "loop.png").unlink()
    assert told(root) == (["a", "b", "c"], [])


def test_cup_masks_that_link_to_nothing(root):
    for name in "abc":
        drawing(root / "masks_cup" / f"{name}.png")
    drawing(root / "masks_cup" / "z.png")
    with noted() as notes:
        data_set_pairs("fundus", root)
    assert notes == [f"1 of 4 cup masks in {root / 'masks_cup'} belong to no disc mask and are left aside: z.png"]
    lose(root / "masks_cup" / "b.png")
    with pytest.raises(DataError, match=r"1 file is a link .*masks_cup: b\.png"):
        data_set_pairs("fundus", root)


TWO = {
    "two masks by ending": (("masks", "a.tif"), r"a\.png has 2 masks in .*masks \(a\.png, a\.tif\); keep one mask per image"),
    "two masks by suffix": (("masks", "a_segmentation.png"), r"a\.png has 2 masks in .*masks \(a\.png, a_segmentation\.png\)"),
    "two images": (("images", "a.jpg"), r"more than one image named 'a' \(a\.jpg, a\.png\); keep one file per case"),
}


@pytest.mark.parametrize("name", TWO)
def test_two_files_for_one_are_refused_and_named(root, name):
    (folder, file), message = TWO[name]
    (drawing if folder == "masks" else picture)(root / folder / file)
    with pytest.raises(DataError, match=message):
        image_mask_pairs(root)


def test_a_mask_of_another_image_is_not_a_second_one(root):
    picture(root / "images" / "a_segmentation.png")
    drawing(root / "masks" / "a_segmentation.png")
    pairs = image_mask_pairs(root)
    assert [(p["case"], p["label"][-18:].split("masks/")[-1]) for p in pairs][:2] == [
        ("a", "a.png"),
        ("a_segmentation", "a_segmentation.png"),
    ]


def test_unicode_forms_of_one_name_are_equal(root):
    composed = "L\u00e4sion"
    picture(root / "images" / f"{unicodedata.normalize('NFD', composed)}.png")
    drawing(root / "masks" / f"{composed}.png")
    assert told(root) == (["L\u00e4sion", "a", "b", "c"], [])
    (root / "split.csv").write_text(
        "case,section\na,train\nb,validation\nc,test\n" + unicodedata.normalize("NFD", composed) + ",test\n", encoding="utf-8"
    )
    assert [pair["case"] for pair in dataset("skin", root)["test"]] == [composed, "c"]
    picture(root / "images" / f"{composed}.png")
    with pytest.raises(DataError, match="more than one image named 'L\u00e4sion'"):
        image_mask_pairs(root)


def test_names_that_differ_in_capitals_match_where_no_other_can_be_meant(root):
    picture(root / "images" / "Case1.JPG")
    drawing(root / "masks" / "case1.PNG")
    cases, notes = told(root)
    assert cases == ["Case1", "a", "b", "c"]
    assert notes == ["1 masks are taken although their names differ from their images' in capitals: Case1.JPG and case1.PNG"]
    picture(root / "images" / "CASE1.jpg")
    with pytest.raises(DataError, match=r"2 of 5 images .* have no mask"):
        image_mask_pairs(root)
    drawing(root / "masks" / "Case1.png")
    drawing(root / "masks" / "CASE1.png")
    cases, notes = told(root)
    assert cases == ["CASE1", "Case1", "a", "b", "c"] and "1 of 6 masks" in notes[0] and "case1.PNG" in notes[0]


@pytest.mark.parametrize("name", ["study[1]", "st*dy?", "{a,b}", "with space", "\u00fcml\u00e4ut #1 100%"])
def test_folders_whose_names_are_patterns_or_odd(root, tmp_path_factory, name):
    odd = tmp_path_factory.mktemp("odd") / name
    root.rename(odd)
    assert [pair["case"] for pair in image_mask_pairs(odd)] == ["a", "b", "c"]
    assert not check_folder(odd).problems[1:] and check_folder(odd).cases == 3
    assert [item["case"] for item in picture_items(odd / "images")] == ["a", "b", "c"]


FOLDERS = {
    "absent": (lambda r: r / "nowhere", r"dataset_dir '.*nowhere' is not a folder; give the folder that holds images/ and masks/"),
    "file": (lambda r: r / "images" / "a.png", r"dataset_dir '.*a\.png' is not a folder"),
    "no images": (lambda r: r / "masks", r"has no folder 'images' \(it holds: a\.png, b\.png, c\.png\)"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_are_none(root, name):
    place, message = FOLDERS[name]
    with pytest.raises(DataError, match=message):
        image_mask_pairs(place(root))


def test_folders_left_aside_tell_what_they_hold(root):
    for name in ("b", "c"):
        for part in ("images", "masks"):
            (root / part / "P1").mkdir(exist_ok=True)
            (root / part / f"{name}.png").rename(root / part / "P1" / f"{name}.png")
    cases, notes = told(root)
    assert cases == ["a"] and notes[0] == f"left aside in {root / 'images'}: 1 folder (P1) with 2 files of these types in them"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_under_two_names_is_told(root, link):
    for part in ("images", "masks"):
        link(root / part / "a.png", root / part / "z.png")
    cases, (note,) = told(root)
    assert cases == ["a", "b", "c", "z"] and "One file counts as several images" in note and "a.png and z.png" in note


def test_a_name_that_is_no_utf_8_is_refused_in_words(root):
    try:
        (root / "images" / "L\udce4sion.png").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system knows no such names")
    with pytest.raises(DataError, match=r"'L\\udce4sion.*' is not written in UTF-8; rename it"):
        image_mask_pairs(root)
    assert main(["check", str(root)]) == 2


def test_a_file_where_the_folder_of_images_is_expected(root):
    for path in (root / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no \.jpg, .* file in .*images \(it holds: nothing\)"):
        image_mask_pairs(root)
    (root / "images").rmdir()
    (root / "images").write_text("x")
    with pytest.raises(DataError, match="has no folder 'images'"):
        image_mask_pairs(root)
    with pytest.raises(DataError, match=r"images cannot be read as a folder \(Not a directory\)"):
        files_in(root / "images", (".png",))


# -- to predict on


def test_pictures_to_predict_on_are_the_same_listing(root):
    folder = root / "images"
    picture(folder / "z.tiff")
    (folder / "notes.txt").write_text("x")
    (folder / "sub").mkdir()
    with noted() as notes:
        items = picture_items(folder)
    assert items == [{"image": str(folder / name), "case": name[0]} for name in ("a.png", "b.png", "c.png", "z.tiff")]
    assert notes == [f"left aside in {folder}: 1 .txt (notes.txt), 1 folder (sub)"]
    with noted() as notes:
        assert picture_items(root) == items, "the folder that training was given"
    assert f"{root} holds no image itself: those of {folder} are taken" in notes
    assert picture_items(folder / "a.png") == [{"image": str(folder / "a.png"), "case": "a"}]


NOTHING = {
    "twins": (
        lambda r: picture(r / "images" / "b.jpg") or r / "images",
        r"more than one image named 'b' \(b\.jpg, b\.png\); rename one",
    ),
    "absent": (lambda r: r / "nowhere", r"dataset_dir '.*nowhere' is not there; give a folder with images, or an image file"),
    "parent": (
        lambda r: (r / "images").rename(r / "pics") and r,
        r"no image in .* \(it holds: 2 folder\); .* or give the folder with images below it: masks, pics",
    ),
    "empty": (lambda r: (r / "e").mkdir() or r / "e", r"no image in .*e \(it holds: nothing\); put \.jpg, .* files there"),
    "lost": (lambda r: lose(r / "images" / "b.png") or r / "images", "1 file is a link to content that is not there"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_predict_on_is_an_error(root, name):
    make, message = NOTHING[name]
    with pytest.raises(DataError, match=message):
        picture_items(make(root))


def test_pictures_to_predict_on_by_a_pattern_as_data_sets_are_told(root, monkeypatch):
    (root / "images" / "x.jpg").write_bytes(b"x")
    assert [item["case"] for item in picture_items(root, "images/{case}.png")] == ["a", "b", "c"]
    assert picture_items(root, images="null") == picture_items(root)
    for number in "12":
        picture(root / f"P{number}" / f"scan{number}.png")
    items = picture_items(root, images="{case}/scan*.png")
    assert [item["case"] for item in items] == ["scan1", "scan2"]
    picture(root / "P2" / "scan1.png")
    with pytest.raises(DataError, match=r"2 images of the case 'P2' fit .*scan1\.png, P2/scan2\.png\); keep one"):
        picture_items(root, images="{case}/scan*.png")
    with pytest.raises(DataError, match=r"more than one image named 'scan1' \(P1/scan1\.png, P2/scan1\.png\); rename one"):
        picture_items(root, images="*/{case}.png".replace("*", "{patient}"))
    with pytest.raises(DataError, match=r"no file in .* fits the images 'y/{case}\.png'"):
        picture_items(root, images="y/{case}.png")
    with pytest.raises(ValueError, match="images must be one pattern"):
        picture_items(root, images=["images/{case}.png", "P1/{case}.png"])
    (root / "list.csv").write_text("image,label\n")
    with pytest.raises(DataError, match=r"list\.csv is a table or list; to predict give a folder"):
        picture_items(root / "list.csv")
    monkeypatch.chdir(root)
    (root / "images").rename(root / "2018")
    assert len(picture_items(2018)) == 4


# -- notes, and the listing of a distributed data set


def test_notes_are_collected_once_by_the_innermost_or_are_warnings():
    with noted() as outer:
        note("a")
        note("a")
        with noted() as inner:
            note("b")
        note("c")
    assert (outer, inner) == (["a", "c"], ["b"])
    with pytest.warns(UserWarning, match="^d$"):
        note("d")


def test_a_distributed_data_set_tells_masks_that_link_to_nothing(root):
    lose(root / "masks" / "b.png")
    listing = Listing()
    for name in "abc":
        listing.add(Entry(name, name, root / "images" / f"{name}.png", root / "masks" / f"{name}.png"))
    assert [entry.case for entry in listing.entries] == ["a", "c"]
    assert "b.png has no mask" in listing.problems[0] and "git annex get" in listing.problems[0]
    lose(root / "images" / "c.png")
    with pytest.raises(DataError, match=r"1 file is a link .*c\.png"):
        images_in(root / "images")
    assert images_in(root / "nowhere") == []
