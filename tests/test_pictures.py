"""Picture and mask files: read as a viewer shows them, or refused in words whose remedy is right."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, LoadImaged, Resized, SaveImaged
from picture_files import png, tiff, upright
from PIL import Image, ImageCms

from monai_advdef.data import DataError, LoadPictured, check_pair, image_mask_pairs, read_mask, read_picture, to_eight_bits
from monai_advdef.data.image_files import image_size, inspect_pair
from monai_advdef.data.notes import noted

COLOURS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
MASK = np.where((np.arange(24) > 9) & (np.arange(16) > 4)[:, None], np.uint8(255), np.uint8(0))


def tagged(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def run_remedy(error):
    """Execute the Python that a message gives."""
    code = re.search(r"(from (?:PIL|monai_advdef\.data) import .*\))[;.]?(?: |$)", str(error)).group(1)
    code = re.split(r"; (?:then put|where the|if what)", code)[0]
    exec(code, {})


def pair(folder, image="images/a.png", mask="masks/a.png"):
    return {"image": str(folder / image), "label": str(folder / mask)}


@pytest.fixture
def root(tmp_path):
    for name, pixels in (("images", COLOURS), ("masks", MASK)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    return tmp_path


# -- as a viewer shows them


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_all_orientations_are_applied_to_image_and_mask(tmp_path, ending, orientation):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(COLOURS).save(path, exif=tagged(orientation), **({"lossless": True} if ending == "webp" else {"quality": 100}))
    with Image.open(path) as file:
        stored = COLOURS if ending != "jpg" else upright(np.asarray(file), 1)
    expected = upright(stored, orientation)
    np.testing.assert_array_equal(read_picture(path), expected)
    assert image_size(path) == expected.shape[1::-1]
    if ending in ("png", "tif"):
        Image.fromarray(MASK).save(tmp_path / f"m.{ending}", exif=tagged(orientation))
        np.testing.assert_array_equal(read_mask(tmp_path / f"m.{ending}"), upright(MASK, orientation))


def test_a_tag_behind_the_pixels_of_a_png_counts_and_a_wrong_one_does_not(tmp_path):
    behind = (b"eXIf", tagged(6).tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "a.png").write_bytes(png(GREY, extra=[behind]))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png")[..., 0], upright(GREY, 6))
    for n, broken in enumerate((tagged(0), tagged(9), b"Exif\0\0rubbish")):
        Image.fromarray(GREY).save(tmp_path / f"{n}.png", exif=broken)
        np.testing.assert_array_equal(read_picture(tmp_path / f"{n}.png")[..., 0], GREY)


@pytest.mark.parametrize(("turn", "size"), [(3, (96, 64)), (6, (64, 64)), (6, (96, 64)), (8, (64, 64)), (5, (64, 64))])
def test_a_mask_drawn_on_the_picture_as_shown_lies_on_the_lesion(tmp_path, turn, size):
    stored = np.full((size[1], size[0], 3), 200, np.uint8)
    stored[5:20, 5:30] = (90, 40, 30)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    Image.fromarray(stored).save(tmp_path / "images/a.jpg", exif=tagged(turn), quality=95)
    drawn = np.where(upright(stored, turn)[..., 0] < 150, np.uint8(255), np.uint8(0))
    Image.fromarray(drawn).save(tmp_path / "masks/a.png")
    with noted() as notes:
        (case,) = image_mask_pairs(tmp_path)
    assert any("1 of 1 images carry an orientation tag and are turned as a viewer shows them" in text for text in notes)
    image = LoadPictured("image", kind="rgb")(case)["image"]
    label = LoadPictured("label", kind="mask")(case)["label"]
    lesion, mask = image[0] < 150, label[0] > 0
    assert float(2 * (lesion & mask).sum() / (lesion.sum() + mask.sum())) > 0.99


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_drawn_on_the_stored_pixels_is_refused_and_the_remedy_turns_it(root, orientation):
    Image.fromarray(COLOURS).save(root / "images/a.png", exif=tagged(orientation))
    with pytest.raises(DataError, match=rf"is 16x24 pixels and its mask .* is 24x16: .* orientation tag {orientation}") as caught:
        check_pair(pair(root))
    run_remedy(caught.value)
    check_pair(pair(root))
    np.testing.assert_array_equal(read_mask(root / "masks/a.png"), upright(MASK, orientation))
    Image.fromarray(COLOURS).save(root / "images/a.png")
    Image.fromarray(MASK).save(root / "masks/a.png", exif=tagged(orientation))
    with pytest.raises(DataError, match=rf"the mask carries the orientation tag {orientation} and the image none; remove the tag"):
        check_pair(pair(root))


def test_palettes_print_colours_alpha_and_bits(tmp_path):
    def saved(image, name="a.png", **options):
        image.save(tmp_path / name, **options)
        return read_picture(tmp_path / name)

    colours = Image.fromarray(COLOURS)
    palette = colours.quantize(200)
    np.testing.assert_array_equal(saved(palette), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(saved(palette, "a.gif"), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(saved(palette, transparency=255), np.asarray(palette.convert("RGB")), "no pixel is transparent")
    np.testing.assert_array_equal(saved(Image.fromarray(GREY).convert("P"))[..., 0], GREY)
    for mode, expected in (("L", GREY[..., None]), ("LA", GREY[..., None]), ("RGBA", COLOURS), ("RGB", COLOURS)):
        np.testing.assert_array_equal(saved(Image.fromarray(expected.squeeze()).convert(mode)), expected)
    np.testing.assert_array_equal(saved(Image.fromarray(MASK).convert("1"))[..., 0], MASK)
    np.testing.assert_array_equal(saved(Image.fromarray(MASK).convert("1"), "a.tif")[..., 0], MASK)
    ink = (
        np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)
        .repeat(16, 0)
        .repeat(8, 1)
    )
    paper = [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]
    for name in ("a.tif", "a.jpg"):  # JPEG as Adobe writes it, inverted
        shown = saved(Image.fromarray(ink, "CMYK"), name, quality=100)
        assert np.abs(shown[8, 4::8].astype(int) - paper).max() <= (0 if name == "a.tif" else 6)
    ycc = colours.convert("YCbCr")
    np.testing.assert_array_equal(saved(ycc, "a.tif"), np.asarray(ycc.convert("RGB")))


def profile_with_gamma(gamma, *, grey=False):
    """An ICC profile made from sRGB's (or from nothing, if grey), whose tone curve is a power; bytes by hand."""
    import struct

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    if grey:
        white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
        tags, space = [(b"wtpt", white), (b"kTRC", curve)], b"GRAY"
    else:
        base, tags, space = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), [], b"RGB "
        for n in range(struct.unpack(">I", base[128:132])[0]):
            name, start, size = struct.unpack(">4sII", base[132 + 12 * n : 144 + 12 * n])
            tags.append((name, curve if name.endswith(b"TRC") else base[start : start + size]))
    start, table, data = 132 + 12 * len(tags), b"", b""
    for name, content in tags:
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ") + b"\0" * 12 + b"acsp"
    head = head.ljust(64, b"\0") + struct.pack(">I3i", 0, *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


@pytest.mark.parametrize("grey", [False, True])
def test_a_colour_profile_that_differs_from_srgb_is_applied(root, grey):
    """A power of 1.0: what is stored is linear light, and sRGB's curve (IEC 61966-2-1) says how a screen shows it."""
    stored = np.arange(240, dtype=np.uint8).reshape(15, 16)
    stored = stored if grey else stored[..., None].repeat(3, 2)
    linear = stored / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    Image.fromarray(stored).save(root / "p.png", icc_profile=profile_with_gamma(1.0, grey=grey))
    shown = read_picture(root / "p.png")
    assert shown.shape[-1] == (1 if grey else 3)
    assert np.abs(shown.squeeze() - expected).max() <= 2
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for harmless in (srgb, b"rubbish", profile_with_gamma(1.0, grey=not grey)):
        Image.fromarray(stored).save(root / "p.png", icc_profile=harmless)
        np.testing.assert_array_equal(read_picture(root / "p.png").squeeze(), stored)
    Image.fromarray(COLOURS).save(root / "images/a.png", icc_profile=profile_with_gamma(1.0))
    assert inspect_pair(pair(root)) == ["carry a colour profile other than sRGB and are shown by it"]


def test_what_the_content_is_decides_not_the_name(tmp_path):
    for kind in ("JPEG", "WEBP", "BMP", "TIFF", "PNG"):
        Image.fromarray(COLOURS).save(tmp_path / "a.png", kind)
        with Image.open(tmp_path / "a.png") as file:
            np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.asarray(file))


# -- refused, with a remedy that is right


def test_transparent_pixels_are_refused_and_the_remedy_lays_them_on_white(root):
    alpha = np.dstack([COLOURS, np.where(MASK > 0, np.uint8(255), np.uint8(0))])
    Image.fromarray(alpha).save(root / "images/a.png", exif=tagged(3))
    with pytest.raises(DataError, match=r"a\.png has transparent pixels, .* here white") as caught:
        check_pair(pair(root))
    run_remedy(caught.value)
    white = np.where((MASK > 0)[..., None], COLOURS, 255)
    np.testing.assert_array_equal(read_picture(root / "images/a.png"), upright(white, 3))
    for mode, options in (("P", {"transparency": 0}), ("L", {"transparency": int(GREY[0, 0])}), ("LA", {})):
        image = Image.fromarray(GREY).convert(mode)
        if mode == "LA":
            image.putalpha(100)
        image.save(root / "images/a.png", **options)
        with pytest.raises(DataError, match="transparent"):
            read_picture(root / "images/a.png")


SIXTEEN = (np.arange(16 * 24).reshape(16, 24) * 10 + 200).astype(np.uint16)  # 200 .. 4030: 12 bits used
DEEP = {
    "grey png": (lambda p: Image.fromarray(SIXTEEN).save(p), 0, 4095, SIXTEEN),
    "colour png": (lambda p: p.write_bytes(png(SIXTEEN[..., None].repeat(3, 2), bits=16)), 0, 4095, SIXTEEN[..., None].repeat(3, 2)),
    "colour and alpha png": (
        lambda p: p.write_bytes(png(np.dstack([*[SIXTEEN] * 3, SIXTEEN * 0 + 65535]), bits=16)),
        0,
        4095,
        SIXTEEN[..., None].repeat(3, 2),
    ),
    "turned colour png": (
        lambda p: p.write_bytes(
            png(np.dstack([SIXTEEN] * 3), bits=16, extra=[(b"eXIf", tagged(6).tobytes().removeprefix(b"Exif\0\0"))])
        ),
        0,
        4095,
        upright(np.dstack([SIXTEEN] * 3), 6),
    ),
    "colour tiff": (lambda p: p.write_bytes(tiff(np.dstack([SIXTEEN] * 3), photometric=2)), 0, 4095, np.dstack([SIXTEEN] * 3)),
    "grey tiff": (lambda p: p.write_bytes(tiff(SIXTEEN)), 0, 4095, SIXTEEN),
    "tiff that counts from white": (lambda p: p.write_bytes(tiff(65535 - SIXTEEN, photometric=0)), 0, 4095, SIXTEEN),
    "integers tiff": (
        lambda p: Image.fromarray(SIXTEEN.astype(np.int32) - 1024).save(p, "TIFF"),
        -824,
        3006,
        SIXTEEN.astype(int) - 1024,
    ),
    "grey levels as floating point": (
        lambda p: Image.fromarray(GREY.clip(14, 244).astype(np.float32)).save(p, "TIFF"),
        0,
        255,
        GREY.clip(14, 244).astype(np.float32),
    ),
    "fractions tiff": (lambda p: Image.fromarray(SIXTEEN / np.float32(4095)).save(p, "TIFF"), 0, 1, SIXTEEN / np.float32(4095)),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_eight_bits_are_refused_and_the_remedy_rescales_by_the_window(tmp_path, name):
    write, low, high, expected = DEEP[name]
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / "a.png")
    Image.fromarray(COLOURS).save(folder / "b.jpg")
    with pytest.raises(DataError, match=rf"a\.png has .* pixels .*low={low}, high={high}\)") as caught:
        read_picture(folder / "a.png")
    with pytest.raises(DataError):
        image_size(folder / "a.png")
    run_remedy(caught.value)
    levels = read_picture(tmp_path / "images_8bit" / "a.png").squeeze()
    np.testing.assert_array_equal(levels, np.rint((expected.astype(float) - low) * 255 / (high - low)))
    assert (tmp_path / "images_8bit" / "b.jpg").read_bytes() == (folder / "b.jpg").read_bytes()


def test_converting_by_a_window_clips_and_guards(tmp_path):
    Image.fromarray(SIXTEEN).save(tmp_path / "a.png")
    assert to_eight_bits(tmp_path / "a.png", tmp_path / "out" / "a.png", low=1000, high=2000) == 1
    levels = read_picture(tmp_path / "out" / "a.png").squeeze()
    assert levels[SIXTEEN <= 1000].max() == 0 and levels[SIXTEEN >= 2000].min() == 255
    assert levels[SIXTEEN == 1500][0] == 128, "127.5 is rounded to even"
    with pytest.raises(ValueError, match="low must be below high, got low=3, high=3"):
        to_eight_bits(tmp_path / "a.png", tmp_path / "b.png", low=3, high=3)
    with pytest.raises(DataError, match="holds no image of more than 8 bits"):
        to_eight_bits(tmp_path / "out", tmp_path / "b", low=0, high=1)
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        to_eight_bits(tmp_path, tmp_path / "out", low=0, high=1)
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "n.tif")
    with pytest.raises(DataError, match=r"n\.tif holds 16 NaN or infinite pixels"):
        read_picture(tmp_path / "n.tif")


def frames(path, **options):
    pages = [Image.fromarray(np.full((8, 8), 40 * n, np.uint8)) for n in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)


def text(words):
    return lambda path: path.write_bytes(words)


REFUSED = {
    "pages.tif": (frames, "holds 3 pages or frames, of which viewers show the first; save each"),
    "film.gif": (frames, "holds 3 pages or frames"),
    "film.png": (frames, "holds 3 pages or frames"),
    "lab.tif": (lambda p: Image.new("LAB", (4, 4)).save(p), "'LAB', which viewers show in different colours"),
    "empty.png": (text(b""), r"is empty \(0 bytes\); fetch it again"),
    "page.jpg": (text(b"\n<!DOCTYPE html><html>404</html>"), "it is a web page"),
    "text.jpg": (text(b"hello"), "cannot be read as an image"),
    "scan.png": (text(b"\0" * 128 + b"DICM" + b"\0" * 50), "it is a DICOM file.*save it as 8-bit PNG"),
    "phone.jpg": (text(b"\0\0\0\x20ftypheic" + b"\0" * 50), "it is a HEIC photograph"),
    "odd.tif": (text(b"II*\0" + b"\x08\0\0\0" + b"\0" * 50), "TIFF file that is damaged, or of a kind that is not read"),
    "lfs.png": (text(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "Git LFS pointer.*git lfs pull"),
    "annex.png": (text(b"/annex/objects/SHA256E-s9--00.png\n"), "git-annex pointer.*git annex get"),
    "paint.png": (lambda p: Image.fromarray(COLOURS).save(p, "PPM"), "is a PPM file, whatever its name says; save it as PNG"),
    "gone.png": (lambda p: None, r"gone\.png cannot be opened \(No such file or directory\)"),
    "link.png": (lambda p: p.symlink_to("annex/x"), r"link to annex/x, which is not there; .*git annex get"),
    "folder.png": (lambda p: p.mkdir(), "cannot be opened"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_words(tmp_path, name):
    write, message = REFUSED[name]
    write(tmp_path / name)
    for read in (read_picture, read_mask, image_size):
        if not (read is read_mask and name == "lab.tif"):
            with pytest.raises(DataError, match=rf"(?s){re.escape(name)}.*{message}|{message}"):
                read(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"])
def test_cut_short_at_any_place_is_an_error_or_the_whole_picture(tmp_path, kind):
    Image.fromarray(COLOURS).save(tmp_path / "whole", kind)
    whole, pixels = (tmp_path / "whole").read_bytes(), read_picture(tmp_path / "whole")
    for cut in np.linspace(1, len(whole) - 1, 25).astype(int):
        (tmp_path / "cut").write_bytes(whole[:cut])
        try:
            np.testing.assert_array_equal(read_picture(tmp_path / "cut"), pixels)
        except DataError as error:
            assert str(tmp_path / "cut") in str(error)


def test_reduced_copies_in_a_tiff_are_no_pages(tmp_path):
    small = Image.fromarray(GREY[::2, ::2])
    for subfile, pages in ((0, 2), (1, 1)):
        small.encoderinfo = {"tiffinfo": {254: subfile}}
        Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[small])
        if pages == 1:
            np.testing.assert_array_equal(read_picture(tmp_path / "a.tif")[..., 0], GREY)
        else:
            with pytest.raises(DataError, match="holds 2 pages"):
                read_picture(tmp_path / "a.tif")


# -- masks


def palette(indices, colours):
    image = Image.fromarray(indices, "P")
    image.putpalette([level for colour in colours for level in colour])
    return image


BLACK, WHITE, MAROON, GREEN = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 128, 0)
BINARY = (MASK > 0).astype(np.uint8)
MASKS = {
    "grey": (Image.fromarray(MASK), MASK),
    "class numbers": (Image.fromarray(BINARY), BINARY),
    "one bit": (Image.fromarray(MASK).convert("1"), MASK),
    "grey with alpha": (Image.fromarray(MASK).convert("LA"), MASK),
    "colour": (Image.fromarray(MASK).convert("RGB"), MASK),
    "colour with alpha": (Image.fromarray(MASK).convert("RGBA"), MASK),
    "class numbers in colour": (Image.fromarray(BINARY).convert("RGB"), BINARY),
    "16 bits, 0 and 1": (Image.fromarray(BINARY.astype(np.uint16)), BINARY),
    "16 bits, 0 and 255": (Image.fromarray(MASK.astype(np.uint16)), MASK),
    "16 bits, 0 and 65535": (Image.fromarray(MASK.astype(np.uint16) * 257), MASK),
    "palette of VOC": (palette(BINARY, [BLACK, MAROON]), BINARY),
    "palette of black and white": (palette(BINARY, [BLACK, WHITE]), BINARY),
    "palette of grey": (Image.fromarray(MASK).convert("P"), MASK),
    "palette, other numbers": (palette(BINARY * 4 + 3, [GREEN] * 3 + [BLACK] + [GREEN] * 3 + [WHITE]), MASK),
    "palette, other numbers, white first": (palette(7 - BINARY * 4, [GREEN] * 3 + [WHITE] + [GREEN] * 3 + [BLACK]), MASK),
    "palette of three classes": (palette(BINARY + BINARY.T[:16, :1] * 0 + BINARY, [BLACK, GREEN, MAROON]), BINARY * 2),
    "empty": (Image.fromarray(MASK * 0), MASK * 0),
    "full": (Image.fromarray(MASK * 0 + 255), MASK * 0 + 255),
    "empty palette": (palette(BINARY * 0, [BLACK, WHITE]), MASK * 0),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_class_numbers_whatever_they_are_stored_in(tmp_path, name):
    image, expected = MASKS[name]
    for ending in ("png", "tif") if image.mode != "LA" else ("png",):
        image.save(tmp_path / f"m.{ending}")
        found = read_mask(tmp_path / f"m.{ending}")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


def test_float_masks_of_whole_numbers(tmp_path):
    Image.fromarray(BINARY.astype(np.float32)).save(tmp_path / "m.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), BINARY)


@pytest.mark.parametrize("colours", [[WHITE, BLACK], [WHITE, WHITE], [BLACK, BLACK]])
def test_a_palette_that_says_the_opposite_of_its_numbers_is_refused(tmp_path, colours):
    palette(BINARY, colours).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="its numbers say the opposite of what is seen") as caught:
        read_mask(tmp_path / "m.png")
    run_remedy(caught.value)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), np.array(colours, np.uint8)[BINARY][..., 0])


BAD_MASKS = {
    "colours": (lambda p: Image.fromarray(COLOURS).save(p), "'RGB' in colours, not one 8-bit channel.*save it as 8-bit grey"),
    "16-bit values": (
        lambda p: Image.fromarray(SIXTEEN).save(p),
        r"more than 8 bits a pixel and holds the values 200, 210, .*, \.\.\.",
    ),
    "16-bit colours": (
        lambda p: p.write_bytes(png(np.dstack([SIXTEEN] * 3), bits=16)),
        "more than 8 bits a pixel and holds colours",
    ),
    "fractions": (lambda p: Image.fromarray(MASK / np.float32(510)).save(p, "TIFF"), r"holds the values 0, 0\.5;"),
    "see-through": (lambda p: Image.fromarray(np.dstack([MASK, MASK])).save(p), "transparent pixels"),
    "0 and 254": (lambda p: Image.fromarray(MASK - (MASK > 0)).save(p), r"holds the values \[0, 254\]; a mask holds 0 and 255"),
    "JPEG": (lambda p: Image.fromarray(MASK).save(p, "JPEG", quality=60), "holds the values .* JPEG or a smooth resize.*0-127=0"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_masks_that_are_none(root, name):
    write, message = BAD_MASKS[name]
    write(root / "masks/a.png")
    with pytest.raises(DataError, match=message):
        check_pair(pair(root))


@pytest.mark.parametrize("colour", [WHITE, MAROON, BLACK])
def test_the_remedy_for_a_mask_on_nothing_is_what_was_drawn(root, colour):
    drawn = np.dstack([np.full((16, 24, 3), colour, np.uint8) * BINARY[..., None], MASK])
    Image.fromarray(drawn).save(root / "masks/a.png", exif=tagged(3))
    with pytest.raises(DataError, match="transparent pixels, of which nothing says whether they belong to the structure") as caught:
        read_mask(root / "masks/a.png")
    run_remedy(caught.value)
    np.testing.assert_array_equal(read_mask(root / "masks/a.png"), upright(MASK, 3))
    check_pair(pair(root))


@pytest.mark.parametrize("levels", [(0, 128), (1, 2), (0, 15), (0, 128, 255)])
def test_few_other_values_are_a_matter_of_meaning(root, levels):
    Image.fromarray(np.resize(np.array(levels, np.uint8), MASK.shape)).save(root / "masks/a.png")
    with pytest.raises(DataError, match=f"say by --values what each of {', '.join(map(str, levels))} means"):
        check_pair(pair(root))


@pytest.mark.parametrize(
    ("size", "told"), [((16, 24), "turned or mirrored"), ((12, 8), "resize the mask"), ((20, 16), "another shape: one is cut")]
)
def test_masks_of_another_size_get_the_remedy_that_fits(root, size, told):
    Image.fromarray(MASK).resize(size, Image.Resampling.NEAREST).save(root / "masks/a.png")
    with pytest.raises(DataError, match=told):
        check_pair(pair(root))


def test_masks_that_are_drawn_around_a_hole_are_told(root):
    for mask, around in ((MASK, False), (255 - MASK, False), (np.pad(MASK[1:-1, 1:-1] * 0, 1, constant_values=255), True)):
        Image.fromarray(mask).save(root / "masks/a.png")
        assert any("the background" in told and "--values 0=1,255=0" in told for told in inspect_pair(pair(root))) == around
    for full in (MASK * 0, MASK * 0 + 255):
        Image.fromarray(full).save(root / "masks/a.png")
        assert not inspect_pair(pair(root))


def test_a_gamma_value_is_told_where_viewers_would_heed_it(root):
    def gamma(value, *more):
        text = png(COLOURS)
        chunks = [(b"gAMA", struct.pack(">I", value)), *more]
        made = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
        (root / "images/a.png").write_bytes(text[:33] + made + text[33:])
        np.testing.assert_array_equal(read_picture(root / "images/a.png"), COLOURS)
        return inspect_pair(pair(root))

    assert "another gamma value" in gamma(100000)[0]
    assert not gamma(45455) and not gamma(100000, (b"sRGB", b"\0"))


# -- the transform


def test_loading_gives_what_monai_gives_for_plain_files(tmp_path):
    for pixels, kind in ((COLOURS, "rgb"), (GREY, "grey"), (MASK, "mask")):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        data = {"x": str(tmp_path / "a.png")}
        theirs = LoadImaged("x", reader="PILReader", ensure_channel_first=True, image_only=True)(data)["x"]
        ours = LoadPictured("x", kind=kind)(data)["x"]
        assert ours.dtype == theirs.dtype == torch.float32 and torch.equal(ours.as_tensor(), theirs.as_tensor())
        assert ours.meta["filename_or_obj"] == theirs.meta["filename_or_obj"] and torch.equal(ours.affine, theirs.affine)
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    luma = np.asarray(Image.fromarray(COLOURS).convert("L"), int)
    assert np.abs(LoadPictured("x", kind="grey")(data)["x"][0].T.numpy() - luma).max() <= 1
    with pytest.raises(ValueError, match="no kind 'gray' of picture; did you mean 'grey'"):
        LoadPictured("x", kind="gray")


def test_a_prediction_is_written_on_the_grid_that_a_viewer_shows(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "1.2.840.0.png", exif=tagged(6))
    before = Compose([LoadPictured("image", kind="rgb"), Resized("image", (48, 48))])
    data = before({"image": str(tmp_path / "1.2.840.0.png")})
    data["pred"] = data["image"][:1].clone()
    after = Compose(
        [
            Invertd("pred", before, orig_keys="image", nearest_interp=True),
            SaveImaged(
                "pred", output_dir=tmp_path / "out", output_ext=".png", resample=False, separate_folder=False, print_log=False,
                output_postfix="p",
            ),
        ]
    )  # fmt: skip
    after(data)
    with Image.open(tmp_path / "out" / "1.2.840.0_p.png") as file:
        assert file.size == (16, 24) and file.getexif().get(0x112) is None
