"""The card in a real browser: slices in three planes, the keyboard, sorting, narrow screens, and labels as they are drawn."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import needs_chromium, opened
from monai.data import MetaTensor
from synthetic_records import frame, write_study

from monai_advdef.handlers.gallery import Gallery
from monai_advdef.records import RecordWriter
from monai_advdef.report import build

pytestmark = needs_chromium
SHAPE = (20, 26, 14)
BLOCK = (slice(3, 6), slice(18, 22), slice(9, 12))
"""Of an array whose axes run to the patient's right, front and head: a block on the left, in front, above the middle."""


def volume_card(folder: Path) -> Path:
    """A card of one attacked volume, bright in one block; the attack brightens all of it by 10, the prediction is the whole back."""
    image = torch.full((1, *SHAPE), 20.0)
    image[(0, *BLOCK)] = 200.0
    label, found = torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE)
    label[(0, *BLOCK)] = 1
    found[:, :, :13] = 1
    affine = torch.diag(torch.tensor([1.5, 1.0, 3.0, 1.0]))  # RAS
    gallery = Gallery(folder / "gallery")
    told = {"attack": "PGD", "eps": 10.0, "unit": "grey level", "defense": "none", "adaptive": False}
    gallery.start({"fingerprint": "bb", "suite": "", **told})
    clean, attacked, label, found = (MetaTensor(x, affine=affine) for x in (image, image + 10, label, found))
    gallery.offer("c000", 0.1, clean, attacked, label, found)
    gallery.finish()
    for name, value, about in (("aa", 0.9, {}), ("bb", 0.1, {**told, "norm": "linf", "linf": 10.0, "steps": 10})):
        with RecordWriter(folder / "records", name, {}) as writer:
            writer.add(frame([value], fingerprint=name, **about).to_dict("records"))
    return build(folder)


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    return volume_card(tmp_path_factory.mktemp("volume"))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return build(folder)


def shares(page, panel: int, condition: str) -> list[float]:
    """Where in a drawn panel the pixels are that fulfil a condition on r, g, b: their mean place across and down, in 0..1."""
    script = """([panel, condition]) => {
      const canvas = document.querySelectorAll('canvas')[panel], f = new Function('r', 'g', 'b', 'return ' + condition);
      const p = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      let n = 0, x = 0, y = 0;
      for (let i = 0; i < p.length; i += 4) if (f(p[i], p[i + 1], p[i + 2])) {
        n++; x += (i / 4) % canvas.width; y += Math.floor(i / 4 / canvas.width); }
      return n ? [x / n / canvas.width, y / n / canvas.height, n / canvas.width / canvas.height] : null; }"""
    return page.evaluate(script, [panel, condition])


def middle(axis: int, flipped: bool) -> float:
    """The middle of the block along an axis, as a share of its length."""
    share = (BLOCK[axis].start + BLOCK[axis].stop) / 2 / SHAPE[axis]
    return 1 - share if flipped else share


BRIGHT = "r > 150 && g > 150 && b > 150"


def test_the_planes_show_the_patient_as_radiologists_do(volume):
    """The block in each plane where a drawing by hand has it: right is left, the front is up, the head is up."""
    expected = {
        "axial": (middle(0, True), middle(1, True)),
        "coronal": (middle(0, True), middle(2, True)),
        "sagittal": (middle(1, True), middle(2, True)),
    }
    with opened(volume) as page:
        for plane, (across, down) in expected.items():
            page.locator(f"input[value={plane}]").check()
            found = shares(page, 0, BRIGHT)
            assert found[:2] == pytest.approx([across, down], abs=0.03), plane


def test_the_slider_moves_the_slice_in_three_planes(volume):
    slices = {"axial": (2, False), "coronal": (1, True), "sagittal": (0, True)}
    with opened(volume) as page:
        slider = page.locator("input[type=range]")
        for plane, (axis, flipped) in slices.items():
            page.locator(f"input[value={plane}]").check()
            assert slider.get_attribute("max") == str(SHAPE[axis]) and slider.get_attribute("min") == "1"
            shown = []
            for number in range(1, SHAPE[axis] + 1):
                slider.fill(str(number))
                assert slider.get_attribute("aria-valuetext") == f"{plane} slice {number} of {SHAPE[axis]}"
                assert page.locator("output").inner_text() == f"{plane} slice {number} of {SHAPE[axis]}"
                shown.append((shares(page, 0, BRIGHT) or [0, 0, 0])[2] > 0.005)
            there = np.zeros(SHAPE[axis], dtype=bool)
            there[BLOCK[axis]] = True
            assert shown == (there[::-1] if flipped else there).tolist(), plane


def test_outlines_and_difference_are_those_of_the_slice(volume):
    with opened(volume) as page:
        cyan = "b > 180 && g > 150 && r < 120"
        page.locator("input[value=axial]").check()
        assert shares(page, 0, cyan) is None, "the clean image has no prediction"
        assert shares(page, 1, cyan)[1] == pytest.approx(0.75, abs=0.08), "the prediction is the back half"
        assert shares(page, 2, "r > 180 && g < 120 && b < 60")[2] > 0.9, "all of it is brighter by the whole bound"
        page.locator("input[type=range]").fill("1")
        assert shares(page, 0, BRIGHT) is None and shares(page, 1, cyan) is not None


def test_the_keyboard_does_all_that_the_pointer_does(volume):
    with opened(volume) as page:
        slider = page.locator("input[type=range]")
        page.locator("input[value=axial]").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("input[value=coronal]").is_checked() and slider.get_attribute("max") == str(SHAPE[1])
        page.keyboard.press("ArrowRight")
        assert page.locator("input[value=sagittal]").is_checked()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.type") == "range"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline not in ("none", ""), "the focus is seen"
        before = int(slider.input_value())
        page.keyboard.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == f"axial slice {before + 1} of {SHAPE[2]}"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert slider.input_value() == str(before - 1)
        page.keyboard.press("End")
        assert slider.input_value() == str(SHAPE[2])
        page.keyboard.press("Home")
        assert slider.get_attribute("aria-valuetext") == f"axial slice 1 of {SHAPE[2]}"
        label = page.locator("canvas").first.get_attribute("aria-label")
        assert label == f"case c000, clean image, axial slice 1 of {SHAPE[2]}"
        assert slider.get_attribute("aria-label") == "case c000: axial slice"


def test_tables_are_sorted_by_click_and_by_keyboard(study):
    with opened(study) as page:
        page.locator("summary").last.click()
        table = page.locator("details table").last
        head = table.locator("th", has_text="median")
        column = "t => [...t.tBodies[0].rows].map(r => r.cells[6].textContent)"
        head.locator("button").click()
        up = [float(v) for v in table.evaluate(column)]
        assert up == sorted(up) and head.get_attribute("aria-sort") == "ascending"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        down = [float(v) for v in table.evaluate(column)]
        assert down == sorted(up, reverse=True) and head.get_attribute("aria-sort") == "descending"
        tests = table.locator("th", has_text="no defence").last
        table.locator("thead th").last.locator("button").focus()
        page.keyboard.press("Space")
        last = table.evaluate("t => [...t.tBodies[0].rows].map(r => r.cells[9].textContent)")
        numbers = [text for text in last if text != "–"]
        assert numbers and last[len(numbers) :] == ["–"] * (len(last) - len(numbers)), "what has no number comes last"
        assert table.locator("[aria-sort]").count() == 1 and tests is not None


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(study, volume, width):
    for path in (study, volume):
        with opened(path, width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_labels_as_the_browser_draws_them_stay_apart(study):
    with opened(study) as page:
        pictures = page.evaluate(
            "() => [...document.querySelectorAll('svg')].map(s => [...s.querySelectorAll('text')].map(t => "
            "{ const b = t.getBBox(); return [t.textContent, b.x, b.y, b.x + b.width, b.y + b.height]; })).filter(t => t.length)"
        )
        assert len(pictures) == 2
        for (a, *one), (b, *two) in itertools.chain(*(itertools.combinations(texts, 2) for texts in pictures)):
            shrunk = [max(one[0], two[0]) + 1 < min(one[2], two[2]), max(one[1], two[1]) + 2.5 < min(one[3], two[3])]
            assert not all(shrunk), f"{a!r} lies on {b!r}"


def test_the_page_is_read_without_its_script(volume):
    """One slice of a volume, with its outlines, stands there as a picture."""
    text = volume.read_text(encoding="utf-8")
    assert text.count('role="img"') >= 3 and 'class="slices" data-row="0" hidden' in text
