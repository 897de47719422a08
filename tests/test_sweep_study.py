"""The file of a study is read strictly, shards are counted as schedulers do, a cell has a digest of what decides its numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from phantom_bundle import NAME

from monai_advdef.bundle import bundles, home
from monai_advdef.errors import DataError
from monai_advdef.sweep import cells_of, read_study
from monai_advdef.sweep.shards import part_of, shard_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle whose weights are any file, for nothing is run here."""
    root = tmp_path_factory.mktemp("study") / "skin"
    shutil.copytree(bundles()[NAME] / "configs", root / "configs")
    (root / "models").mkdir()
    (root / "models" / "model.pt").write_bytes(b"weights")
    (root.parent / "data").mkdir()
    return root


def study(bundle: Path, **changes):
    """A study in a file beside the bundle."""
    told = {"models": {"unet": "skin"}, "data": {"test": "data"}, "attacks": ["clean", {"overlay": "attacks/pgd", "eps": [2, 4]}]}
    told |= {"defenses": ["none", {"overlay": "defenses/jpeg", "options": {"quality": 50}}], **changes}
    file = bundle.parent / "study.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in told.items() if v is not None}), encoding="utf-8")
    return file


def cells(bundle: Path, **changes):
    return cells_of(read_study(study(bundle, **changes)), bundle.parent / "out")[0]


def test_cells_are_the_product(bundle):
    found = cells(bundle)
    names = ["clean", "clean, jpeg", "pgd eps 2", "pgd eps 2, jpeg", "pgd eps 4", "pgd eps 4, jpeg"]
    assert [cell.name for cell in found] == [f"unet, test, {name}" for name in names]
    assert len({cell.id for cell in found}) == 6 and found[3].elder == found[2].id
    assert found[3].overlays == ("defenses/jpeg", "attacks/pgd", "checks/checks") and found[0].overlays == ()
    assert found[3].overrides == {"record_def::model": "unet", "attack_def::eps": 2, "defense_def::quality": 50}
    assert found[0].settings["dataset_dir"] == str(bundle.parent / "data") and found[0].root == str(bundle)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attack": ["clean"]}, "the study has no key 'attack'; did you mean 'attacks'"),
        ({"models": {"unet": {"modle": "skin"}}}, "models: unet has no key 'modle'; did you mean 'model'"),
        ({"models": {"unet": "skn"}}, "models: unet .*there is no such file or folder"),
        ({"models": None}, "models is missing or empty"),
        ({"models": {"unet": {"model": "skin", "registered": "skin"}}}, "registered must be NAME/VERSION"),
        ({"models": {"unet": {"model": "skin", "settings": {"netwrok": "unet"}}}}, "no item 'netwrok'; did you mean 'network'"),
        ({"models": {"unet": {"model": "skin", "checkpoint": "gone.pt"}}}, "checkpoint .*gone.pt is not there"),
        ({"data": {"test": {"dataset_dir": "gone"}}}, "data: test: dataset_dir .*gone is not there"),
        ({"data": {"test": {"dataset_dir": "data", "sektion": "test"}}}, "data: test has no key 'sektion'; did you mean 'section'"),
        ({"attacks": ["attacks/pdg"]}, "no overlay 'attacks/pdg'.*did you mean 'attacks/pgd'"),
        ({"attacks": [{"overlay": "attacks/pgd", "eps": -1}]}, "eps must be above 0"),
        ({"attacks": ["attacks/pgd", "attacks/pgd"]}, "attacks has two of the name 'pgd'"),
        (
            {"attacks": ["attacks/pgd", {"overlay": "attacks/pgd", "name": "other"}]},
            "'unet, test, pgd' and .*other' are one and the same",
        ),
        ({"defenses": [{"options": {}}]}, "an entry of defenses has no overlay"),
        ({"threads": 0}, "threads must be a whole number from 1 up, got 0"),
        ({"checks": "perhaps"}, "checks must be true or false, got 'perhaps'"),
    ],
)
def test_what_is_wrong_is_told_with_file_field_and_remedy(bundle, changes, words):
    with pytest.raises(DataError, match=words):
        cells(bundle, **changes)


def test_a_key_that_stands_twice_and_a_file_that_is_none(tmp_path):
    (tmp_path / "twice.yaml").write_text("models: {a: b}\nmodels: {c: d}\n")
    with pytest.raises(DataError, match="twice.yaml cannot be read as YAML .*'models' stands twice, in line 2"):
        read_study(tmp_path / "twice.yaml")
    with pytest.raises(DataError, match="gone.yaml: there is no such study"):
        read_study(tmp_path / "gone.yaml")


def test_a_digest_is_of_what_decides_the_numbers(bundle):
    """Weights, data and options change it; places and the names of attacks do not."""
    before = cells(bundle)[2].id
    assert cells(bundle, attacks=[{"name": "mine", "overlay": "attacks/pgd", "options": {"eps": 2}}], name="other")[0].id == before
    weights, image = bundle / "models" / "model.pt", bundle.parent / "data" / "image.png"
    weights.write_bytes(b"others")
    assert cells(bundle)[2].id != before
    weights.write_bytes(b"weights")
    image.write_bytes(b"image")
    assert cells(bundle)[2].id != before
    image.unlink()
    (bundle / "output").mkdir(exist_ok=True)
    (bundle / "output" / "results.txt").write_text("of an evaluation")
    assert cells(bundle)[2].id == before
    (bundle.parent / "data" / "out").mkdir()
    (bundle.parent / "data" / "out" / "study.csv").write_text("where the output folder lies among the data")
    assert cells_of(read_study(study(bundle)), bundle.parent / "data" / "out")[0][2].id == before
    shutil.rmtree(bundle.parent / "data" / "out")
    table = bundle.parent / "table.json"
    given = []
    for text in ("[1]", "[2]"):
        table.write_text(text)
        given.append(cells(bundle, defenses=[{"overlay": "defenses/jpeg", "options": {"table": str(table)}}])[0].id)
    assert given[0] != given[1], "a file among the options counts by what it holds"
    moved = shutil.copytree(bundle, bundle.parent / "moved", dirs_exist_ok=True)
    assert cells(bundle, models={"unet": str(moved)})[2].id == before
    assert cells(bundle, threads=2)[2].id != before


def test_an_overlay_of_ones_own_is_a_file_beside_the_study(bundle):
    (bundle.parent / "mine.yaml").write_text((home("workflows") / "attacks" / "pgd.yaml").read_text())
    assert cells(bundle, attacks=["mine.yaml"])[0].overlays[0] == str(bundle.parent / "mine.yaml")


SLURM = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("given", "told", "found"),
    [
        ("", {}, None),
        ("3/8", SLURM, (3, 8)),
        ("", SLURM, (3, 4)),
        ("", {**SLURM, "SLURM_ARRAY_TASK_STEP": "2"}, (2, 4)),
        ("", {"LSB_JOBINDEX": "0"}, None),
        ("", {"LSB_JOBINDEX": "2", "LSB_JOBINDEX_END": "4"}, (2, 4)),
        ("", {"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "7", "LSB_JOBINDEX_STEP": "2"}, (2, 4)),
    ],
)
def test_which_shard(given, told, found):
    which = shard_of(given, told)
    assert (which and which[:2]) == found


@pytest.mark.parametrize("given", ["9/8", "0/8", "3", "a/b", "3/"])
def test_a_shard_out_of_range_is_refused(given):
    with pytest.raises(ValueError, match="out of range|must be which/how many"):
        shard_of(given, {})


def test_shards_of_a_scheduler_that_is_counted_otherwise_are_refused():
    with pytest.raises(ValueError, match="SLURM_ARRAY_TASK_ID.*out of range.*--shard"):
        shard_of("", {**SLURM, "SLURM_ARRAY_TASK_ID": "20"})
    with pytest.raises(ValueError, match="LSB_JOBINDEX must be a whole number"):
        shard_of("", {"LSB_JOBINDEX": "x"})


def test_shards_part_the_cells():
    parts = [part_of(range(10), (n, 3)) for n in (1, 2, 3)]
    assert sorted(sum(parts, [])) == list(range(10)) and max(map(len, parts)) - min(map(len, parts)) <= 1
