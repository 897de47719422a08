"""Promise 1: a threat model is mandatory, and eps is never without its unit."""

from __future__ import annotations

import pytest

from monai_advdef import ThreatModel, run
from monai_advdef.attacks import PGD


def test_no_attack_without_a_threat_model(victim, cases):
    with pytest.raises(TypeError, match="threat"):
        run(PGD(), victim, image=cases[0], label=cases[1])


def test_printed_with_its_unit():
    assert "eps=8.0" in repr(ThreatModel()) and "unit='grey level'" in repr(ThreatModel())
    assert "unit='HU'" in repr(ThreatModel(eps=20, value_range=(-1000, 1000), unit="HU"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": -3}, "eps must be ≥ 0 in grey levels, got -3"),
        ({"eps": float("nan")}, "eps must be ≥ 0"),
        ({"eps": 8, "value_range": (0, 1)}, "eps = 8/255"),
        ({"eps": [1, 2, 3], "norm": "l2"}, "per channel is defined for norm 'linf' only"),
        ({"norm": "l3"}, "norm must be one of linf, l2, unbounded, got 'l3'"),
        ({"value_range": (255, 0)}, "lo < hi"),
        ({"value_range": "images"}, "'image'"),
        ({"region": "brain"}, "'nonzero'"),
    ],
)
def test_wrong_fields_name_value_and_remedy(options, words):
    with pytest.raises(ValueError, match=".*") as error:
        ThreatModel(**options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x / 255, "wrong unit"),
        (lambda x: x + 10, "outside value_range"),
        (lambda x: x.masked_fill(x > 250, float("nan")), "NaN"),
    ],
)
def test_images_in_another_unit_do_not_pass(victim, cases, change, words):
    image = cases[0].clone()
    image[:, :, 0, 0] = 254
    with pytest.raises(ValueError, match=words):
        run(PGD(), victim, ThreatModel(eps=8), change(image), cases[1])


def test_budgets_and_ranges_must_match_the_channels(cases):
    with pytest.raises(ValueError, match="2 numbers for 3 channels"):
        ThreatModel(eps=[1, 2]).around(cases[0])
    with pytest.raises(ValueError, match="2 pairs for 3 channels"):
        ThreatModel(eps=1, value_range=[[0, 255], [0, 255]]).around(cases[0])
    with pytest.raises(ValueError, match="region has shape"):
        ThreatModel(region=cases[1][:, :, :5]).around(cases[0])
