"""Promise 30: suites are frozen and versioned; whoever changes one finds out, and is told what to do."""

from __future__ import annotations

import copy
import dataclasses
import random

import pytest
import yaml
from engines import evaluator, network
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from suites import BEHIND, MEMBERS, mapping

from monai_advdef.attacks import PGD
from monai_advdef.bundle import bundles, home, workflows
from monai_advdef.errors import DataError
from monai_advdef.handlers import RecordHandler, SuiteHandler, evaluate
from monai_advdef.records import read_provenance, read_records
from monai_advdef.suite import FROZEN, attack_with, digest_of, load_suite
from monai_advdef.suite.__main__ import main

NAMES = ("smoke", "standard", "full")
SKIN = bundles()["skin_lesion_dermoscopy_segmentation"] / "configs"
FILES = {name: workflows()[f"suites/{name}"] for name in NAMES}


def told(name: str) -> dict:
    return yaml.safe_load(FILES[name].read_text())["suite_def"]


# ------------------------------------------------------------------ what is shipped


@pytest.mark.parametrize("name", NAMES)
def test_the_published_suites_are_what_their_digests_say(name):
    suite = load_suite(name)
    assert suite == load_suite(FILES[name]) == load_suite(str(FILES[name])) == load_suite(told(name)) == load_suite(suite)
    assert FROZEN[name][suite.version] == suite.digest == digest_of(suite.members, suite.behind, suite.version, name)
    assert {p.stem for p in (home("workflows") / "suites").glob("*.yaml")} >= set(FROZEN) == set(NAMES)
    ways = {(way.surrogate, way.begin) for way in suite.ways}
    assert ("smooth", "own") in ways and ("smooth", "oblivious") in ways and len({way.smoothness for way in suite.ways}) > 1


def test_their_steps_are_bounded_as_they_say():
    from monai_advdef import ThreatModel

    steps = {name: load_suite(name).count(ThreatModel(eps=8.0)) for name in NAMES}
    assert steps["smoke"] <= 12 < steps["standard"] <= 100 < steps["full"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "edit",
    [
        {"members::0::steps": 5},
        {"members::0::objective": "cross_entropy"},
        {"behind::0::smoothness": 0.9},
        {"behind::0::begin": "oblivious"},
        {"version": 2},
        {"digest": "0123456789abcdef"},
    ],
    ids=str,
)
def test_one_that_is_edited_on_the_command_line_is_refused(name, edit):
    """As MONAI's command line puts it into the configuration: the overlay's own handler is never made."""
    parser = ConfigParser()
    parser.read_config([SKIN / "train.yaml", SKIN / "evaluate.yaml", FILES[name]])
    parser.update({f"suite_def::{key}": value for key, value in edit.items()})
    with pytest.raises((DataError, RuntimeError)) as error:
        parser.get_parsed_content("attack_def")
    causes, cause = [], error.value
    while cause is not None:
        causes, cause = [*causes, str(cause)], cause.__cause__
    words = " ".join(causes)
    assert "Restore it" in words and "name of its own" in words and name in words


@pytest.mark.parametrize("name", NAMES)
def test_one_that_is_edited_in_its_file_is_refused_even_with_the_digest_of_the_edit(name, tmp_path):
    edited = copy.deepcopy(told(name))
    edited["members"][0]["steps"] += 1
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite_def": edited}))
    frozen = FROZEN[name][edited["version"]]
    with pytest.raises(DataError, match=f"{name} version {edited['version']} has digest {frozen}, but what is given"):
        load_suite(path)
    edited["digest"] = digest_of(edited["members"], edited["behind"], edited["version"], name)
    with pytest.raises(DataError, match=f"{name} version {edited['version']} has digest {frozen}, but what is given as version"):
        load_suite(edited)


def test_what_the_error_says_helps():
    edited = {**copy.deepcopy(told("standard"))}
    edited["members"][0]["steps"] = 5
    with pytest.raises(DataError) as error:
        load_suite(edited)
    name, digest = str(error.value).split("such as name: ")[1].split(" ")[:2], str(error.value).split("digest: ")[1].split()[0]
    mine = load_suite({**edited, "name": name[0].rstrip(","), "digest": digest.rstrip(".'").lstrip("'")})
    assert mine.name == "own_standard" and mine.members[0]["steps"] == 5


# ------------------------------------------------------------------ what a digest sees


def respelt(value, draw: random.Random):
    """The same, written otherwise: keys in another order, whole numbers as floats or the other way round."""
    if isinstance(value, dict):
        pairs = [(k, respelt(v, draw)) for k, v in value.items()]
        draw.shuffle(pairs)
        return dict(pairs)
    if isinstance(value, list):
        return [respelt(v, draw) for v in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer():
        return draw.choice([int, float])(value)
    return value


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(NAMES))
def test_spelling_and_formatting_decide_nothing(seed, flow, name):
    draw = random.Random(seed)
    text = yaml.safe_dump(respelt(told(name), draw), default_flow_style=flow, sort_keys=False, indent=draw.choice([2, 4]))
    assert load_suite(yaml.safe_load(text)).digest == load_suite(name).digest


def test_defaults_may_be_written_out_or_left_away():
    short = [{"attack": "PGD", "steps": 6}]
    long = [{"attack": "PGD", "transfer": False, **{f.name: getattr(PGD(steps=6), f.name) for f in dataclasses.fields(PGD)}}]
    ways = [{}], [{"surrogate": None, "smoothness": None, "begin": "own"}], []
    assert len({digest_of(m, w, 1, "mine") for m in (short, long) for w in ways}) == 1


def test_all_that_decides_numbers_decides_the_digest():
    of = {digest_of(MEMBERS, BEHIND, 1, "mine")}

    def other(members=MEMBERS, behind=BEHIND, version=1, name="mine"):
        of.add(digest_of(members, behind, version, name))
        return len(of)

    values = {"steps": 7, "objective": "margin", "step_size": 0.5, "schedule": "cosine", "random_start": False, "momentum": 0.5}
    values |= {"restarts": 2, "keep": "last", "target": "inverted", "transfer": True}
    assert {f.name for f in dataclasses.fields(PGD)} <= values.keys(), "an option of PGD that this test does not know"
    for count, (option, value) in enumerate(values.items(), start=2):
        assert other([{**MEMBERS[0], option: value}, *MEMBERS[1:]]) == count, option
    count = len(of)
    assert other([{**MEMBERS[0], "attack": "SegPGD", "objective": "cross_entropy"}, *MEMBERS[1:]]) == count + 1
    assert other(MEMBERS[::-1]) == count + 2 and other(MEMBERS[:2]) == count + 3 and other([*MEMBERS, MEMBERS[0]]) == count + 4
    assert other(behind=BEHIND[::-1]) == count + 5 and other(behind=BEHIND[:1]) == count + 6
    assert other(behind=[{"surrogate": "smooth"}]) == count + 7 and other(behind=[{"smoothness": 0.5}]) == count + 8
    assert other(version=2) == count + 9 and other(name="yours") == count + 10


def test_another_default_of_an_attack_is_another_suite(monkeypatch):
    """What a file leaves out is frozen with it: a package that attacks otherwise cannot pass for the one that froze the suite."""
    mine = mapping([{"attack": "PGD"}])
    assert load_suite(mine).name == "mine"
    later = dataclasses.make_dataclass("PGD", [("steps", int, 11)], bases=(PGD,), frozen=True, kw_only=True)
    monkeypatch.setattr("monai_advdef.attacks.PGD", later)
    with pytest.raises(DataError, match="suite mine says digest .* its contents have .* other defaults"):
        load_suite(mine)


# ------------------------------------------------------------------ words for everything else

WRONG = {
    "no digest": ({"digest": None}, "suite mine has no digest"),
    "a wrong digest": ({"digest": "abc"}, "suite mine says digest abc, but its contents have"),
    "no name": ({"name": ""}, "name must be a word"),
    "version 0": ({"version": 0}, "version must be a whole number ≥ 1, got 0"),
    "version 1.5": ({"version": 1.5}, "version must be a whole number ≥ 1, got 1.5"),
    "endless version": ({"version": float("inf")}, "version must be a whole number"),
    "no members": ({"members": []}, "has no members"),
    "members that are none": ({"members": "PGD"}, "members must be a list of mappings"),
    "an unknown attack": ({"members": [{"attack": "PDG"}]}, r"members\[0\]: unknown attack 'PDG'; did you mean 'PGD'"),
    "no attack": ({"members": [{"steps": 3}]}, r"members\[0\]: no attack is named"),
    "an unknown option": ({"members": [{"attack": "PGD", "step": 3}]}, "PGD has no option 'step'; did you mean 'steps'"),
    "a wrong value": ({"members": [{"attack": "PGD", "steps": 0}]}, "steps must be a whole number ≥ 1"),
    "a wrong switch": ({"members": [{"attack": "PGD", "transfer": "perhaps"}]}, "transfer must be true or false"),
    "another case": ({"members": [{"attack": "ASMA", "target": "other_case"}]}, "target 'other_case' depends on what other cases"),
    "an unknown field": ({"member": []}, "a suite has no field 'member'; did you mean 'members'"),
    "an unknown way": ({"behind": [{"surogate": "smooth"}]}, r"behind\[0\] has no field 'surogate'; did you mean 'surrogate'"),
    "a wrong surrogate": ({"behind": [{"surrogate": "smoth"}]}, r"behind\[0\]: surrogate must be .* got 'smoth'"),
    "a wrong smoothness": ({"behind": [{"smoothness": 2}]}, r"behind\[0\]: smoothness must lie in \[0, 1\]"),
    "a wrong start": ({"behind": [{"begin": "anywhere"}]}, "begin must be one of own, oblivious, got 'anywhere'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_suites_are_told_in_words(name):
    change, words = WRONG[name]
    with pytest.raises(DataError, match=words):
        load_suite({**mapping(), **change})


def test_files_and_names_that_are_none(tmp_path):
    with pytest.raises(DataError, match="suite 'standart' is neither a suite of this package nor a file; did you mean 'standard'"):
        load_suite("standart")
    path = tmp_path / "suite.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="holds no mapping"):
        load_suite(path)
    path.write_text("a: [")
    with pytest.raises(DataError, match="is no suite"):
        load_suite(path)


def test_the_members_of_a_suite_cannot_be_told_beside_it():
    with pytest.raises(ValueError, match="SuiteHandler has no option 'steps'"):
        SuiteHandler(mapping(), eps=8.0, steps=3)
    with pytest.raises(ValueError, match="SuiteHandler has no option 'sweep'"):
        SuiteHandler(mapping(), eps=8.0, sweep=[1])


# ------------------------------------------------------------------ freezing one


def test_one_command_freezes(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("suite_def:\n  name: mine\n  version: 1\n  digest: ''  # to come\n  members:\n  - {attack: PGD, steps: 2}\n")
    assert main([str(path)]) == 0
    digest = digest_of([{"attack": "PGD", "steps": 2}], [], 1, "mine")
    assert capsys.readouterr().out == f"mine version 1 digest: {digest}\n" and "''" in path.read_text()
    with pytest.raises(DataError, match=digest):
        load_suite(path)
    assert main(["--write", str(path)]) == 0 and "# to come" in path.read_text()
    assert load_suite(path).digest == digest
    assert main([str(tmp_path / "none.yaml")]) == 2 and "neither a suite" in capsys.readouterr().err
    path.write_text("suite_def:\n  name: mine\n  version: 1\n  members:\n  - {attack: PGD, steps: 2}\n")
    assert main(["--write", str(path)]) == 2 and "has 0 lines digest:" in capsys.readouterr().err


# ------------------------------------------------------------------ the records say which one it was


def test_records_say_which_version_they_are_of(trained, tmp_path):
    attack = SuiteHandler(mapping(MEMBERS[:1]), eps=4.0)
    records = RecordHandler(tmp_path, ["lesion"], attack=attack, card=False, gallery=False)
    evaluate(evaluator(network(trained), [records, attack]), attack, records)
    table = read_records(tmp_path / "records")
    assert set(table["suite"]) == {"mine"} and set(table["attack"]) == {"worst", "PGD dice"}
    (facts,) = read_provenance(tmp_path / "records").values()
    suite = facts["config"]["attack"]["attack"]
    assert (suite["name"], suite["version"], suite["digest"]) == ("mine", 1, mapping(MEMBERS[:1])["digest"])
    other = SuiteHandler(mapping(MEMBERS[1:2]), eps=4.0)
    assert other.identity() != attack.identity() == SuiteHandler(mapping(MEMBERS[:1]), eps=4.0).identity()
    assert attack.identity() != SuiteHandler(mapping(MEMBERS[:1]), eps=4.0, adaptive=False).identity()


def test_a_suite_does_what_it_is_told_whatever_is_done_to_it_later(victim, cases):
    suite = load_suite(mapping())
    with pytest.raises(dataclasses.FrozenInstanceError):
        suite.members = ()
    assert len(attack_with(suite, victim, load_threat(), cases[0][:1], cases[1][:1]).members) == 3


def load_threat():
    from monai_advdef import ThreatModel

    return ThreatModel(eps=2.0)
