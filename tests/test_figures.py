"""The figures of the card: no label lies on another, and none leaves the picture, however many there are."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from synthetic_records import frame

from monai_advdef.records import RecordWriter
from monai_advdef.report.figures import curve, forest, gains
from monai_advdef.report.scope import read_scope
from monai_advdef.report.structures import structures

SIZES = {"tick": 11.0, "axis": 11.5, "lab": 11.5}
PER_LETTER = 0.6
"""Of the height: the width of a letter of DejaVu Sans, the widest font of the style sheet, on average."""


def boxes(picture: str) -> list[tuple[str, float, float, float, float]]:
    """Every text of a picture with its left, top, right and bottom."""
    found = []
    for node in ElementTree.fromstring(picture).iter():
        if node.tag != "text":
            continue
        size = SIZES[node.attrib["class"]]
        wide, x, y = PER_LETTER * size * len(node.text or ""), float(node.attrib["x"]), float(node.attrib["y"])
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[node.attrib["text-anchor"]] * wide
        found.append((node.text or "", left, y - 0.75 * size, left + wide, y + 0.2 * size))
    return found


def check(picture: str) -> None:
    wide, high = (float(v) for v in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture).groups())
    placed = boxes(picture)
    assert len(placed) > 4
    for name, left, top, right, bottom in placed:
        assert left >= 0 and top >= 0 and right <= wide and bottom <= high, f"{name!r} leaves the picture"
    for (a, *one), (b, *two) in itertools.combinations(placed, 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, f"{a!r} lies on {b!r}"


def study(folder, defences: list[str], sizes: list[float], value=0.5, **more):
    """Records of some defences, all of which end at the same score, so that their labels want the same place."""
    attack = {"attack": "PGD", "norm": "linf", "unit": "grey level"}
    tables = [frame([0.9, 0.8, 0.7], defense=d, **more) for d in ["none", *defences]]
    for eps in sizes:
        tables.append(frame([0.9, 0.8, 0.7], **{**attack, "attack": "noise-uniform"}, eps=eps, linf=eps, **more))
        for d in ["none", *defences]:
            for adaptive in (False, True) if d != "none" else (False,):
                tables.append(frame([value, value, value + 0.01], defense=d, eps=eps, linf=eps, adaptive=adaptive, **attack, **more))
    for index, table in enumerate(tables):
        with RecordWriter(folder, f"{index:04x}", {}) as writer:
            writer.add(table.assign(fingerprint=f"{index:04x}").to_dict("records"))
    return read_scope(folder)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 25])
@pytest.mark.parametrize("sizes", [[1, 2, 4, 8, 16], [0.0113, 0.0226, 0.0452, 0.0904], [0.001, 0.002, 40], [7, 8]])
def test_labels_of_the_curve_stay_apart(tmp_path, count, sizes):
    names = [f"JPEG(quality={k}), 4:2:0 and more words" for k in range(count)]
    check(str(curve(study(tmp_path, names, [float(s) for s in sizes]))))


@pytest.mark.parametrize("count", [1, 12])
def test_labels_of_the_forest_stay_apart(tmp_path, count):
    scope = study(tmp_path, [f"a defence with a very long name {k}" for k in range(count)], [8.0])
    check(str(forest(scope, gains(scope))))


def test_a_curve_that_ends_early_is_named_beside_the_others(tmp_path):
    scope = study(tmp_path, ["FR"], [2.0, 4.0])
    more = frame([0.4, 0.4, 0.4], attack="PGD", eps=32.0, linf=32.0, norm="linf", unit="grey level")
    with RecordWriter(tmp_path, "ffff", {}) as writer:
        writer.add(more.assign(fingerprint="ffff").to_dict("records"))
    picture = str(curve(read_scope(tmp_path)))
    check(picture)
    starts = {left for name, left, *_ in boxes(picture) if name in ("no defence", "FR", "FR, oblivious", "random noise")}
    assert len(starts) == 1 and scope.eps == 4


def structured(folder, sizes: dict[str, list[float]], dice=lambda ml: min(0.9, 0.2 + ml / 100)):
    """Records of classes whose structures have these volumes; the small ones suffer most."""
    tables = {"aa": [], "bb": []}
    for name, volumes in sizes.items():
        attack = {"attack": "PGD", "eps": 8.0, "linf": 8.0, "norm": "linf", "unit": "HU"}
        for key, scores, about in (("aa", [0.95 for _ in volumes], {}), ("bb", [dice(v) for v in volumes], attack)):
            told = {"class": name, "fingerprint": key, **about}
            tables[key] += [frame(scores, **told), frame(volumes, **{**told, "metric": "structure_ml"})]
    for key, found in tables.items():
        with RecordWriter(folder, key, {}) as writer:
            writer.add(pd.concat(found).to_dict("records"))
    return read_scope(folder)


def test_scores_stand_against_the_size_of_the_structure(tmp_path):
    """Thirds by size against a sort by hand; one mark for every structure that a case has."""
    sizes = {"liver": [1500.0, 1200.0, 1900.0], "gall bladder": [20.0, 0.0, 40.0], "kidney": [150.0, 130.0, 160.0]}
    part = structures(structured(tmp_path, sizes))
    check(str(part.figure))
    order = sorted(v for volumes in sizes.values() for v in volumes if v > 0)
    thirds = [order[:3], order[3:6], order[6:]]
    assert [row[0] for row in part.rows] == ["smallest third", "middle third", "largest third", "all"]
    for row, third in zip(part.rows, thirds):
        mean = sum(min(0.9, 0.2 + ml / 100) for ml in third) / len(third)
        assert row[2] == str(len(third)) and row[4].startswith(f"{mean:.3f}".lstrip("0")), row
    assert part.rows[0][1] == "20–130" and "Left out: 1 structure that the case lacks." in part.note
    assert str(part.figure).count("<title>") == 8
    horizontal = [float(v) for v in re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="3"', str(part.figure))]
    assert len(set(horizontal)) == 8, "each at its own size"


def test_large_structures_are_told_in_full_numbers(tmp_path):
    part = structures(structured(tmp_path, {"lesion": [1250.0, 250_000.0, 0.012]}))
    check(str(part.figure))
    assert part.rows[0][1] == "0.012–250000" and "e+" not in str(part)


def test_without_sizes_or_attacks_there_is_no_such_section(tmp_path):
    assert structures(study(tmp_path / "a", [], [8.0])) is None
    clean = frame([0.9, 0.8], fingerprint="aa")
    sizes = frame([10.0, 20.0], metric="structure_ml", fingerprint="aa")
    with RecordWriter(tmp_path / "b", "aa", {}) as writer:
        writer.add(pd.concat([clean, sizes]).to_dict("records"))
    assert structures(read_scope(tmp_path / "b")) is None
