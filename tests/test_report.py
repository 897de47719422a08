from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_records import DEFENSES, cells, frame, row, rows_of, study, write_gallery, write_study

from monai_advdef import stats
from monai_advdef.records import RecordError, RecordWriter
from monai_advdef.report import build, gallery, markdown_table, words
from monai_advdef.report.figures import nice_step, spread
from monai_advdef.report.scope import read_scope
from monai_advdef.report.verdicts import verdicts

VOID = {"meta", "br", "img", "link"}


class Page(HTMLParser):
    """Balanced tags, attributes of every tag, and the text of table cells row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.cell = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The first table row that starts with this name, white space collapsed."""
        tidy = [[" ".join(cell.split()) for cell in cells_] for cells_ in self.rows]
        return next(cells_ for cells_ in tidy if cells_ and cells_[0] == name)


def write(folder: Path, chosen: list[dict], **options) -> Path:
    for cell in chosen:
        rows = rows_of(cell, **options)
        with RecordWriter(folder / "records", rows[0]["fingerprint"], {}) as writer:
            writer.add(rows)
    return folder


def write_frames(folder: Path, *frames: pd.DataFrame) -> Path:
    for index, table in enumerate(frames):
        with RecordWriter(folder / "records", f"{index:04x}", {}) as writer:
            writer.add(table.assign(fingerprint=f"{index:04x}").to_dict("records"))
    return folder


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> tuple[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("study")
    table = write_study(folder)
    path = build(folder)
    assert path == folder / "card.html"
    return path.read_text(encoding="utf-8"), table


@pytest.fixture(scope="module")
def page(card) -> Page:
    return Page(card[0])


def test_the_page_stands_alone(card, page):
    text = card[0]
    assert not re.search(r"https?://|@import|url\(", text)
    assert not [tag for tag, attrs in page.tags if tag in ("link", "iframe") or "src" in attrs]
    assert all(re.match("data:image/(png|webp);base64,", attrs["href"]) for tag, attrs in page.tags if "href" in attrs)
    assert len(text) < 2_000_000


def test_every_picture_says_what_it_shows_and_every_heading_cell_its_scope(page):
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(figures) == 2 + 4 * 3
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in figures)
    assert len({attrs["aria-label"] for attrs in figures[:2]}) == 2
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")
    assert not [tag for tag, attrs in page.tags if tag == "img" and not attrs.get("alt")]


@pytest.mark.parametrize("defense", DEFENSES)
def test_the_headline_row_is_what_the_statistics_say(card, page, defense):
    table = card[1]
    dice = table[(table["metric"] == "dice") & (table["defense"] == defense)].assign(defense=defense)

    def shown(rows: pd.DataFrame) -> str:
        worst = rows.pivot_table(index="case", columns=["attack", "adaptive"], values="value").min(axis=1)
        low, high = stats.bootstrap_interval(worst.to_numpy(), worst.index.to_numpy())
        return f"{worst.mean():.3f} {low:.2f}–{high:.2f}".replace("0.", ".")

    strong = dice[dice["attack"].isin(["FGSM", "PGD"]) & (dice["eps"] == 8)]
    sides = [strong if defense == "none" else strong[strong["adaptive"] == flag] for flag in (False, True)]
    noise = dice[(dice["attack"] == "noise-uniform") & (dice["eps"] == 8)]
    found = page.row(words.defence(defense))
    assert found[1:5] == [shown(dice[dice["attack"] == "none"]), shown(noise), shown(sides[0]), shown(sides[1])]
    lower = min(sides, key=lambda rows: stats.worst_case(rows)["value"].mean())
    assert found[5] == f"{np.percentile(stats.worst_case(lower)['value'], 5):.2f}".removeprefix("0")


def test_the_words_around_the_numbers(card):
    text = " ".join(re.sub(r"<[^>]+>", " ", card[0]).split())
    assert "Skin lesion dermoscopy segmentation, UNet" in text
    assert "weights 4f1c…9a · 12 images of 12 patients · suite standard-v1" in text
    assert "knows the weights and the defence and may change every pixel by at most 8 of 255 grey levels" in text
    assert "JPEG(85), 4:2:0 has .625 against an attacker who does not know it, but .289 against one who does" in text
    assert "monai-advdef demo --output_dir demo" in text and "monai 1.6.1" in text
    assert "12 patients only" in text
    assert "worst · Dice .91 → .00" in text and "×16, −8 … +8 grey levels" in text


def test_quantities_have_the_words_of_the_field(card, page):
    assert re.findall("<h2>(.*?)</h2>", card[0])[:4] == [
        *("Dice under attack", "Attacks without a bound", "Dice under attack over ε", "Defence gain, paired")
    ]
    heads = [" ".join(cell.split()) for cell in page.rows[0]]
    assert heads[0].startswith("Dice, mean") and heads[1] == "clean" and heads[-1].replace(" ", "") == "costoncleanimages"
    assert [head.replace(" ", "") for head in heads[3:5]] == ["underattack,oblivious", "underattack,adaptive"]
    assert "Dice under attack (robust Dice) is the worst case" in card[0] and "ε, grey levels (L∞)" in card[0]


def test_the_verdicts_of_a_sound_study(tmp_path):
    write(tmp_path, [cell for cell in cells((4, 8)) if cell["defense"] in ("none", "FR(30,5,80)")])
    found = verdicts(read_scope(tmp_path / "records"))
    assert {v.name: v.status for v in found} == dict.fromkeys(("Adaptive", "Size", "Noise", "Order", "Curve", "Recorded"), "ok")


def test_the_verdicts_see_what_is_wrong(tmp_path):
    good, n = [0.9, 0.92, 0.88], {"norm": "linf", "unit": "grey level"}
    folder = write_frames(
        tmp_path,
        frame(good),
        frame(good, defense="FR"),
        frame([0.8] * 3, attack="noise-uniform", eps=8.0, linf=8.0, **n),
        frame([0.5] * 3, attack="PGD", eps=8.0, steps=10, linf=8.0, **n),
        frame([0.6] * 3, attack="PGD", eps=16.0, steps=10, linf=16.0, **n),
        frame([0.7] * 3, attack="PGD", eps=8.0, steps=10, linf=8.0, defense="FR", **n),
        frame([0.7] * 2, attack="FGSM", eps=8.0, steps=1, linf=8.0, defense="FR", **n),
    )
    beyond = frame([0.3] * 3, attack="FGSM", eps=8.0, steps=1, linf=8.5, fingerprint="eeee", **n)
    beyond.to_parquet(folder / "records" / "eeee.parquet")  # as it was recorded before such rows were refused
    RecordWriter(folder / "records", "ffff", {}).add([row(fingerprint="ffff")])
    scope = read_scope(folder / "records")
    found = {v.name: v for v in verdicts(scope)}
    assert {name: v.status for name, v in found.items()} == {
        "Adaptive": "suspect", "Size": "suspect", "Noise": "note", "Order": "suspect", "Curve": "suspect", "Recorded": "suspect"
    }  # fmt: skip
    assert found["Adaptive"].text.endswith("attacked FR")
    assert found["Size"].text == "case c000 was changed by 8.5, allowed 8"
    assert found["Order"].text == "score .500 under PGD-10, higher than under FGSM (.300)"
    assert scope.left_out == ("FGSM, 8 grey levels, FR",) and scope.unfinished == ("ffff",)
    text = build(folder).read_text(encoding="utf-8")
    assert "not run" in text and "adaptive not run" in text and "not the defence" in text


def test_an_adaptive_attack_that_is_weaker_than_the_oblivious_one_is_suspect(tmp_path):
    n = {"attack": "PGD", "eps": 8.0, "norm": "linf", "unit": "grey level", "linf": 8.0}
    weak = frame([0.6] * 3, defense="FR", adaptive=True, **n)
    write_frames(tmp_path, frame([0.9] * 3), frame([0.2] * 3, **n), frame([0.5] * 3, defense="FR", **n), weak)
    found = {v.name: v for v in verdicts(read_scope(tmp_path / "records"))}
    assert (found["Adaptive"].status, found["Adaptive"].text) == ("suspect", "knowing the defence makes the attack weaker: FR")
    assert "<b>.500</b>" in build(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda c: c["attack"] == "none" and c["defense"] == "none", "No attack of bounded size is recorded"),
        (lambda c: c["attack"] in ("none", "noise-uniform"), "No attack of bounded size is recorded"),
        (lambda c: c["attack"] in ("none", "ASMA"), "ASMA-100"),
        (lambda c: c["attack"] == "PGD" and c["eps"] == 4, "Fewer than two sizes were attacked"),
        (lambda c: c["defense"] == "none", "There is no defence beside an undefended network"),
    ],
)
def test_what_was_not_run_is_said_and_does_not_break_the_card(tmp_path, keep, said):
    text = build(write(tmp_path, [cell for cell in cells((4, 8)) if keep(cell)], cases=6)).read_text(encoding="utf-8")
    Page(text)
    assert said in text
    assert "No pictures were kept with these records." in text and "do not say which command" in text


def test_several_classes_are_averaged_per_case_and_shown_apart(tmp_path):
    chosen = [cell for cell in cells((4, 8)) if cell["defense"] == "none"]
    folder = write(tmp_path, chosen, classes=("liver", "spleen <left>"))
    write_gallery(folder / "gallery", channels=1)
    page = Page(build(folder, folder / "deep" / "er.html").read_text(encoding="utf-8"))
    table = study(classes=("liver", "spleen <left>"))
    table = table[(table["metric"] == "dice") & (table["defense"] == "none")]
    pgd = table[(table["attack"] == "PGD") & (table["eps"] == 8)]
    assert page.row("no defence")[4].split()[0] == words.fraction(pgd.groupby("case")["value"].mean().mean())
    liver = pgd[pgd["class"] == "liver"]["value"].mean()
    assert f"→ {words.fraction(liver)}" in page.row("liver")[1]
    assert page.row("spleen <left>")


def test_the_headline_size_can_be_chosen_and_is_checked(tmp_path):
    folder = write(tmp_path, [cell for cell in cells((1, 2)) if cell["defense"] == "none"])
    assert read_scope(folder / "records").eps == 2
    assert "1 of 255 grey levels" in build(folder, eps=1).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="eps=3 was not attacked; choose one of 1, 2 grey level"):
        build(folder, eps=3)
    with pytest.raises(ValueError, match="choose `model` out of"):
        build(folder, model="nnU-Net")
    with pytest.raises(RecordError, match="no finished records"):
        build(folder / "nowhere")


def test_two_models_need_a_choice(tmp_path):
    write_frames(tmp_path, frame([0.9, 0.8]), frame([0.5, 0.6], model="SegResNet"))
    with pytest.raises(ValueError, match="SegResNet.*UNet"):
        build(tmp_path)
    assert ".550" in build(tmp_path, model="SegResNet").read_text(encoding="utf-8")


def test_names_are_escaped_everywhere(tmp_path):
    nasty = "<b>&\"'"
    n = {"attack": "PGD", "norm": "linf", "unit": "grey level", "linf": 4.0}
    tables = [frame([0.9, 0.8, 0.85], defense=d) for d in ("none", nasty)]
    tables += [frame([0.5, 0.4, 0.45], defense=d, eps=e, adaptive=d == nasty, **n) for d in ("none", nasty) for e in (4.0, 8.0)]
    text = build(write_frames(tmp_path, *tables)).read_text(encoding="utf-8")
    assert nasty not in text and nasty in Page(text).row(nasty)


def test_outline_against_the_area_it_encloses():
    y, x = np.mgrid[:40, :60]
    label = ((x - 20) ** 2 + (y - 18) ** 2 < 120).astype(np.uint8)
    label[30:, 50:] = 2
    paths = re.findall(r' d="([^"]+)"', gallery.outline(label, "#fff"))[::2]
    for value, path in zip((1, 2), paths):
        corners = np.array([[float(v) for v in point.split()] for point in path[1:].split("L")])
        enclosed = 0.5 * abs(np.sum(corners[:-1, 0] * corners[1:, 1] - corners[1:, 0] * corners[:-1, 1]))
        np.testing.assert_allclose(corners[0], corners[-1])
        assert enclosed == pytest.approx((label == value).sum(), rel=0.03)
        inside = np.argwhere(label == value)[:, ::-1] + 0.5
        np.testing.assert_allclose(corners[:-1].mean(0), inside.mean(0), atol=1.5)


def test_differences_are_drawn_to_the_stated_scale():
    rgb = gallery.amplify(np.array([[[-8.0, 0.0, 8.0], [4.0, -100.0, 100.0]]]), 8.0)
    assert rgb.tolist() == [[[0, 128, 255], [191, 0, 255]]]
    grey = gallery.amplify(np.array([[-8.0, 0.0, 8.0]]), 8.0)
    assert grey.tolist() == [[[11, 106, 168], [246, 246, 246], [196, 80, 10]]]


def test_a_damaged_picture_is_named(tmp_path):
    folder = write(tmp_path, [cell for cell in cells((8,)) if cell["defense"] == "none"])
    (folder / "gallery").mkdir()
    np.savez(folder / "gallery" / "odd.npz", image=np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="odd.npz is not a picture of the gallery.*remove that file"):
        build(folder)


def test_markdown_table_holds_the_means_and_population_deviations():
    lines = markdown_table(study()).splitlines()
    assert lines[0].split("|")[1:-1] == [" attack ", " ε ", " defence ", " attacker ", " n ", " IoU, % ", " Dice, % "]
    assert len(lines) == 2 + len(cells())
    table = study()
    chosen = table[(table["attack"] == "PGD") & (table["eps"] == 8) & (table["defense"] == "FR(30,5,80)") & table["adaptive"]]
    values = {name: 100 * chosen.loc[chosen["metric"] == name, "value"].to_numpy() for name in ("iou", "dice")}
    texts = [f"{v.mean():.1f} ± {v.std():.1f}" for v in values.values()]
    assert f"| PGD-10 | 8 grey levels | FR(30,5,80) | adaptive | 12 | {texts[0]} | {texts[1]} |" in lines
    assert lines[2].startswith("| no attack | – | no defence | – | 12 |")


@pytest.mark.parametrize(
    ("value", "text"), [(0.92, ".920"), (1.0, "1.000"), (-0.0191, "−.019"), (-0.0001, ".000"), (float("nan"), "–"), (None, "–")]
)
def test_fractions(value, text):
    assert words.fraction(value) == text


def test_small_words():
    assert (words.gain(0.0122), words.gain(-0.001), words.gain(0.0)) == ("+.012", "−.001", ".000")
    assert (words.p_value(0.0001), words.p_value(0.034), words.p_value(1.0), words.p_value(None)) == ("<.001", ".034", "1", "–")
    assert (words.size(8, "grey level"), words.size(1, "grey level"), words.size(0.2, "sigma")) == (
        "8 grey levels",
        "1 grey level",
        "0.2 σ",
    )
    assert words.size(float("inf"), "HU") == "no bound" and words.bound(20, "HU", "linf") == "20 HU"
    assert words.attack({"attack": "PGD", "steps": 40, "restarts": 5}) == "PGD-40 ×5"
    assert words.attack({"attack": "noise", "steps": 0, "restarts": 0}) == "random noise"
    assert (words.short_hash("4f1c77d2a3b09e5c1d9a"), words.listing(["a", "b", "c"])) == ("4f1c…9a", "a, b and c")


def test_labels_are_kept_apart_and_steps_are_round():
    placed = spread([100, 101, 102, 20, 235], 13, 20, 238)
    assert np.diff(sorted(placed)).min() >= 13
    assert min(placed) >= 20 and max(placed) <= 238
    assert [nice_step(span, 5) for span in (0.05, 0.31, 0.6, 1.0)] == pytest.approx([0.01, 0.1, 0.2, 0.2])


def test_only_the_weights_evaluated_last_are_shown(tmp_path):
    """A network that was trained anew does not mix with the old one."""
    for name, weights, value, day in (("a" * 16, "old", 0.9, "2026-01-01"), ("b" * 16, "new", 0.5, "2026-01-02")):
        with RecordWriter(tmp_path, name, {"weights": weights}) as writer:
            writer.add([row(fingerprint=name, value=value)])
        side = tmp_path / "_provenance" / f"{name}.json"
        side.write_text(json.dumps({**json.loads(side.read_text()), "recorded": day}))
    assert set(read_scope(tmp_path).every["value"]) == {0.5}
