"""The public names, arguments, verbs and overlays are those of ``api_surface.json``; a change of them is deliberate."""

from __future__ import annotations

import json

import pytest

from tools import api_surface


@pytest.fixture(scope="module")
def surface():
    return api_surface.surface()


def test_it_is_what_the_file_says(surface):
    kept = json.loads(api_surface.FILE.read_text(encoding="utf-8"))
    assert api_surface.differences(kept, json.loads(json.dumps(surface))) == [], api_surface.REMEDY


def test_what_the_readme_names_is_public(surface):
    names = surface["names"]
    assert {"ThreatModel", "Victim", "run", "audit", "Outcome"} <= set(names["monai_advdef"])
    assert names["monai_advdef"]["run"].startswith("function(attack, victim, threat, image, label, *, target=None, seed=0")
    assert (
        "steps=10" in names["monai_advdef.attacks"]["PGD"]["class"]
        and "quality=85" in names["monai_advdef.defenses"]["JPEG"]["class"]
    )
    assert "MODEL" not in surface["verbs"]["audit"] and {"model", "--eps", "--gate"} <= set(surface["verbs"]["audit"])
    assert "attacks/pgd" in surface["overlays"] and len(surface["bundles"]) >= 5


def test_each_kind_of_change_is_told():
    old = {"names": {"m": {"f": "function(a)", "g": "function()", "C": {"class": "(x)", "go": "()"}}}, "overlays": ["a", "b"]}
    new = {"names": {"m": {"f": "function(a, b)", "C": {"class": "(x)", "stay": "()"}}}, "overlays": ["b", "c"]}
    assert api_surface.differences(old, new) == [
        "gone: names/m/g",
        "gone: names/m/C/go",
        "gone: overlays/a",
        "new: names/m/C/stay ()",
        "new: overlays/c there",
        "changed: names/m/f function(a) -> function(a, b)",
    ]
    assert api_surface.differences(new, new) == []


def test_nothing_in_it_depends_on_the_machine(surface):
    text = json.dumps(surface)
    assert " at 0x" not in text and str(api_surface.FILE.parent) not in text


def test_arguments_are_told_as_python_takes_them():
    def made(a, b=1.0, *rest, c="x", **others): ...

    def only(*, c=None): ...

    assert api_surface.arguments(made) == "(a, b=1.0, *rest, c='x', **others)" and api_surface.arguments(only) == "(*, c=None)"
    assert api_surface.default(object()) == "object" and api_surface.default(len) == "len"
