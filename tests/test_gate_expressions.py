"""Gates as they are written: what is read, what is refused in words, and that no text at all breaks the reader."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_advdef.comparison.measures import DROP, HIGHER, INPUT, LOWER, NEARER, STABILITY, measure, same_unit, unit_of
from monai_advdef.errors import DataError
from monai_advdef.gates import Gate, check_plan, parse_gate, parse_gates
from monai_advdef.gates.expression import EXAMPLES

WORDS = st.text(st.sampled_from("abcXYZ09_-+. ()äß"), min_size=1, max_size=12).map(lambda t: " ".join(t.split())).filter(bool)
POSITIVE = st.floats(1e-6, 1e6)


@st.composite
def gates(draw) -> Gate:
    """Any gate that can be written."""
    name = draw(st.sampled_from([*HIGHER, DROP, *LOWER, *NEARER]))
    of = measure(name)
    low, high = max(of.low, -1.0), min(of.high, 1e6)
    bound = draw(st.floats(low, high).filter(lambda v: low < v < high))
    sign = draw(st.sampled_from([">=", ">"] if of.better == "higher" else ["<=", "<"]))
    clean = draw(st.booleans()) and name not in (DROP, STABILITY)
    return Gate(
        measure=name,
        sign=sign,
        bound=bound,
        eps=None if clean else draw(POSITIVE),
        unit=""
        if clean
        else draw(st.sampled_from(["", "HU", "grey level", "sigma", "%", "of the range", f"HU{INPUT}", f"%{INPUT}"])),
        structure=draw(st.just("") | WORDS),
        statistic=draw(st.sampled_from(["mean", "median", "min", "max", "p0", "p10", "p100"])),
        attack="" if clean else draw(st.just("") | WORDS),
    )


@given(gates())
def test_what_is_written_is_read_again(gate):
    assert parse_gate(str(gate), labels=gate.measure != STABILITY) == gate


@given(st.text(max_size=40) | st.text(st.sampled_from("dice@5HU>=<.6 p10()[]/%clean\n\x00"), max_size=30))
def test_no_text_breaks_the_reader(text):
    try:
        gate = parse_gate(text)
    except DataError as error:
        assert "gate " in str(error) and EXAMPLES[0] in str(error)
    else:
        assert math.isfinite(gate.bound) and parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("dice@5HU >= 0.6", Gate("dice", ">=", 0.6, 5.0, "HU")),
        (
            "  dice [ left  lung ] @ 8 grey levels/PGD-10>.5 ",
            Gate("dice", ">", 0.5, 8.0, "grey level", "left lung", attack="PGD-10"),
        ),
        ("p10(dice)@8 >= .4", Gate("dice", ">=", 0.4, 8.0, statistic="p10")),
        ("min(iou[spleen])@0.2σ ≥ 1e-1", Gate("iou", ">=", 0.1, 0.2, "sigma", "spleen", "min")),
        ("hd95_mm@2% of the range <= 10", Gate("hd95_mm", "<=", 10.0, 2.0, "%")),
        ("dice@clean >= .8", Gate("dice", ">=", 0.8)),
        ("drop@5hu/standard <= .2", Gate("drop", "<=", 0.2, 5.0, "HU", attack="standard")),
        ("dice@5 HU, at the network's input >= .5", Gate("dice", ">=", 0.5, 5.0, f"HU{INPUT}")),
        ("dice@5 hounsfield at the network’s input/PGD>=.5", Gate("dice", ">=", 0.5, 5.0, f"HU{INPUT}", attack="PGD")),
        ("dice@1 % of range, at input >= .5", Gate("dice", ">=", 0.5, 1.0, f"%{INPUT}")),
        ("volume_change_percent@5 < 20", Gate("volume_change_percent", "<", 20.0, 5.0)),
    ],
)
def test_what_is_read(text, gate):
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("dise@5 >= .5", 0, "did you mean 'dice'?"),
        ("dice@5HU => 0.6", 9, "one of >= <= > < is expected"),
        ("dice >= .6", 5, "the size of the attack: @5HU"),
        ("dice@5 >= 60", 10, "dice has values from 0 to 1; 0.6 is meant?"),
        ("dice@5 >= 0", 10, "every value keeps to this bound"),
        ("dice@5 > 1", 9, "no value keeps to this bound"),
        ("dice@5 <= .6", 7, "better when higher, and this gate is kept by the worse; write >="),
        ("hd95_mm@5 >= 10", 10, "better when lower, and this gate is kept by the worse; write <="),
        ("drop@5 >= .1", 7, "write <="),
        ("hd95_mm@5 <= -1", 13, "0 upwards"),
        ("p10(dice@8) >= .4", 8, "the size stands behind it, as in p10(dice)@5HU"),
        ("p101(dice)@8 >= .4", 0, "p0 to p100"),
        ("dice[spleen@8 >= .4", 4, "not closed"),
        ("dice[ ]@8 >= .4", 4, "no class is named"),
        ("dice@8/ >= .4", 6, "a suite or an attack is expected"),
        ("dice@-5HU >= .4", 5, "a size above 0, not -5"),
        ("dice@clean/pgd >= .4", 10, "a clean number has no attack"),
        ("drop@clean <= .4", 0, "under attack"),
        ("dice@5 >= .5 HU", 13, "a bound has no unit of its own"),
        ("dice@5 >= .5 and more", 13, "nothing more is expected"),
        ("dice@1e999 >= .5", 5, "too large"),
        ("stability@5 >= .5", 0, "with them the measure is dice"),
        ("", 0, "the name of a measure"),
    ],
)
def test_what_is_refused_points_at_the_place(text, place, told):
    with pytest.raises(DataError, match="examples: 'dice@5HU >= 0.6'") as caught:
        parse_gate(text)
    first, shown, mark, *_ = str(caught.value).splitlines()
    assert told in first and shown == f"    {text}" and mark == " " * (4 + place) + "^"


@pytest.mark.parametrize("text", ["dice@5 >= .5", "iou@clean >= .5", "drop@5 <= .5"])
def test_without_labels_there_is_stability_only(text):
    with pytest.raises(DataError, match="there are no labels.*use stability"):
        parse_gates([text], labels=False)
    assert parse_gate("stability@5HU >= .9", labels=False).measure == "stability"
    with pytest.raises(DataError, match="stability is 1 on clean images by definition"):
        parse_gates(["stability@clean >= .9"], labels=False)


def test_a_gate_given_twice_is_refused():
    with pytest.raises(DataError, match="is given twice"):
        parse_gates(["dice@5HU >= .5", "dice@5hu>=0.5"])
    assert parse_gates([]) == []


def test_units_in_all_their_spellings():
    assert {unit_of(t) for t in ("HU", "hu", " Hounsfield units ")} == {"HU"}
    assert {unit_of(t) for t in ("grey level", "Grey  Levels", "gray levels")} == {"grey level"}
    assert {unit_of(t) for t in ("sigma", "σ")} == {"sigma"} and {unit_of(t) for t in ("%", "% of the range")} == {"%"}
    assert same_unit("Network Input", "network input") and not same_unit("HU", "grey level")


PLAN = {
    "sizes": [5.0, 8 / 3],
    "unit": "HU",
    "classes": ["liver", "spleen"],
    "measures": ("dice", "iou"),
    "attacks": ("standard", "PGD-10"),
}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dice@3 >= .5", "3 HU will not be attacked \\(but 5, 2.66667\\)"),
        ("dice@5 grey levels >= .5", "in grey level, and the images are in HU"),
        ("dice[splen]@5 >= .5", "no class 'splen'; did you mean 'spleen'"),
        ("nsd@5 >= .5", "nsd will not be measured"),
        ("dice@5/full >= .5", "no suite or attack is called 'full'"),
    ],
)
def test_a_number_that_will_not_be_there_is_refused_before_the_work(text, told):
    with pytest.raises(DataError, match=told):
        check_plan(parse_gates([text]), **PLAN)


def test_a_number_that_will_be_there_is_not_refused():
    texts = ["dice@5HU >= .5", "dice[Spleen]@5/PGD >= .1", f"iou@{8 / 3!r}HU/Standard >= .1", "drop@5 <= .3", "dice@clean >= .8"]
    check_plan(parse_gates(texts), **PLAN)
    check_plan(parse_gates(["stability@5 >= .5"], labels=False), **PLAN, labels=False)
    with pytest.raises(DataError, match="the measure is stability"):
        check_plan(parse_gates(["dice@5 >= .5"]), **PLAN, labels=False)
