"""The skin bundle through MONAI's own commands: checks, training, evaluation with every overlay, inference, and wrong words."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from generators import generator_file, universal_file
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out
from monai.losses import DiceCELoss
from phantom_bundle import NAME, command
from PIL import Image

from monai_advdef.attacks.named import attack_kinds
from monai_advdef.bundle import bundles, describe, home, workflows
from monai_advdef.handlers import AttackNotApplied
from monai_advdef.logits import NonFinite
from monai_advdef.records import read_records
from monai_advdef.study import Cell, evaluate, workflow

CONFIGS = bundles()[NAME] / "configs"
BUNDLES = sorted(bundles())
META = str(CONFIGS / "metadata.json")
SCHEMA = Path(__file__).with_name("metadata_schema.json")


def chain(error):
    """An error and all that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# -- what the model zoo checks


@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_follows_the_schema(tmp_path, bundle):
    schema, meta = shutil.copy(SCHEMA, tmp_path / "schema.json"), bundles()[bundle] / "configs" / "metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(schema))
    about = json.loads(meta.read_text())
    assert about["version"] in about["changelog"]
    spoils = [
        lambda m: m.pop("task"),
        lambda m: m["network_data_format"]["inputs"]["image"].pop("dtype"),
        lambda m: m.update(version=1),
    ]
    for spoil in spoils:
        wrong = copy.deepcopy(about)
        spoil(wrong)
        (tmp_path / "wrong.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="Failed validating"):
            verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=str(schema))


@pytest.mark.parametrize(
    ("bundle", "network"),
    [
        *((bundle, "unet") for bundle in BUNDLES if not bundle.startswith(("glioma", "abdominal"))),
        ("abdominal_organ_ct_segmentation", "unet2d"),
        ("abdominal_organ_ct_segmentation", "unet3d"),
        ("glioma_mri_segmentation", "unet2d"),
        ("glioma_mri_segmentation", "unet3d"),
        ("optic_disc_fundus_segmentation", "valid_unet"),
        (NAME, "resnet50fcn"),
        (NAME, "nlcen"),
        ("lung_xray_segmentation", "nlcen"),
    ],
)
@pytest.mark.parametrize("config", ["train", "inference"])
def test_network_takes_and_gives_what_the_metadata_says(bundle, config, network):
    configs = bundles()[bundle] / "configs"
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / f"{config}.yaml")}
    verify_net_in_out(net_id="network_def", device="cpu", network=network, **files)


def test_trained_network_exports_and_gives_the_same_logits(phantom_bundle, tmp_path):
    where = {"config_file": str(CONFIGS / "inference.yaml"), "ckpt_file": str(phantom_bundle.root / "models" / "model.pt")}
    ckpt_export(net_id="network_def", filepath=str(tmp_path / "model.ts"), meta_file=META, **where)
    exported = torch.jit.load(str(tmp_path / "model.ts")).eval()
    made = workflow(phantom_bundle.root, [CONFIGS / "inference.yaml"], {"device": "$torch.device('cpu')"}, "inference")
    net = made.parser.get_parsed_content("net").eval()
    net.load_state_dict(torch.load(where["ckpt_file"], weights_only=True))
    image = 255 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(image), net(image))


@pytest.mark.parametrize(("files", "kind"), [(["train"], "train"), (["train", "evaluate"], "train"), (["inference"], "inference")])
def test_workflow_has_all_properties(phantom_bundle, tmp_path, files, kind):
    made = workflow(phantom_bundle.root, [CONFIGS / f"{f}.yaml" for f in files], phantom_bundle.settings(tmp_path), kind)
    assert made.check_properties() == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_bundle_has_the_shape_of_the_model_zoo(bundle):
    root = bundles()[bundle]
    files = {"metadata.json", "train.yaml", "evaluate.yaml", "inference.yaml", "logging.conf"}
    assert files <= {p.name for p in (root / "configs").iterdir()}
    assert all((root / part).exists() for part in ("LICENSE", "models", "docs/README.md"))


# -- training and evaluation


@pytest.mark.slow
def test_stock_command_trains(phantom_bundle):
    saved = torch.load(phantom_bundle.root / "models" / "model.pt", weights_only=True)
    assert saved["mean"].item() == 127.5 and "Epoch[10]" in phantom_bundle.log
    assert (phantom_bundle.root / "output" / "mlruns.db").exists()


def test_stock_command_evaluates_attacked_and_defended_as_the_study_does(phantom_bundle, tmp_path):
    overlays = ("attacks/fgsm", "defenses/jpeg")
    told = {"attack_def::eps": 4, "defense_def::quality": 50, "adaptive": "false"}
    done = phantom_bundle.command(*phantom_bundle.words(tmp_path / "a", *(workflows()[o] for o in overlays), **told))
    assert done.returncode == 0, done.stderr
    phantom_bundle.evaluate(tmp_path / "b", *overlays, attack__eps=4, defense__quality=50, adaptive=False)
    ours, theirs = (read_records(tmp_path / n / "records").drop(columns="seconds") for n in "ab")
    assert ours.equals(theirs)
    assert (ours["eps"] == 4).all() and (ours["defense"] == "JPEG(50, 4:2:0)").all() and not ours["adaptive"].any()
    assert (tmp_path / "a" / "card.html").exists()


QUICK = {
    "attacks/asma": {"attack__steps": 3, "attack__tau": 1e-5},
    "attacks/ifgsm": {"attack__eps": 2, "attack__rule": "grey_level"},
    "attacks/tifgsm": {"attack__steps": 2, "attack__target": "other_case"},
    "attacks/pgd": {"attack__steps": 2, "attack__norm": "l2", "attack__eps": 500, "attack__random_start": False},
    "attacks/auto_pgd": {"attack__steps": 3, "attack__objective": "jensen_shannon"},
    "attacks/segpgd": {"attack__steps": 2, "attack__schedule": "cosine"},
    "attacks/cospgd": {"attack__steps": 2, "attack__step_size": 2.0},
    "attacks/transfer": {"attack__steps": 2, "attack__source_name": "itself"},
    "attacks/lattice": {"attack__steps": 2, "attack__eps": 4},
    "attacks/noise": {"attack__kind": "gaussian", "attack__eps": 4},
    "attacks/minimal_norm": {"attack__steps": 3, "attack__eps": 4},
    "attacks/square": {"attack__queries": 5, "attack__norm": "l2", "attack__eps": 500},
    "attacks/targeted": {"attack__steps": 2, "attack__target": "grow 0.5", "attack__eps": 4},
    "attacks/vafa": {"attack__steps": 2, "attack__norm": "unbounded", "attack__eps": np.inf},
    "attacks/universal": {"attack__weights": universal_file(), "attack__eps": 8},
    "attacks/fgsm": {"attack__objective": "dice", "attack__eps": 2},
    "attacks/synthesis": {
        "attack__weights": generator_file(),
        "attack__restarts": 2,
        "attack__norm": "unbounded",
        "attack__eps": np.inf,
    },
    "attacks/field_attack": {"attack__steps": 2, "attack__norm": "unbounded", "attack__eps": np.inf},
    "defenses/jpeg": {"defense__quality": 50, "defense__subsampling": "4:4:4"},
    "defenses/frequency_refinement": {"defense__steps": [20, 10, 60]},
    "defenses/frequency_refinement_ycbcr": {"defense__steps": [20, 10, 60]},
    "defenses/randomized_frequency_refinement": {"defense__jitter": 0.1},
    "defenses/eight_bit": {"defense__value_range": [0, 255]},
    "defenses/blur": {"defense__value_range": [0, 255]},
}


@pytest.mark.parametrize("name", [n for n in workflows() if n.split("/")[0] in ("attacks", "defenses")])
def test_every_overlay_works_with_overrides(phantom_bundle, tmp_path, name):
    names = (name, "defenses/frequency_refinement") if name == "attacks/lattice" else (name,)
    metrics = phantom_bundle.evaluate(tmp_path, *names, record__gallery=False, record__card=False, **QUICK[name])
    table = read_records(tmp_path / "records")
    assert 0 <= metrics["val_dice"] <= 1 and table["value"].notna().all()
    assert metrics["val_dice"] == pytest.approx(table.query("metric == 'dice'")["value"].mean(), abs=1e-5)
    if name.startswith("attacks"):
        unbounded = name == "attacks/asma"
        assert (table["linf"] > 0).all()
        assert (table["norm"] == QUICK[name].get("attack__norm", "unbounded" if unbounded else "linf")).all()
        assert (table["eps"] == (np.inf if unbounded else QUICK[name].get("attack__eps", 8))).all()
    else:
        assert (table["attack"] == "none").all() and (table["defense"] != "none").all()


def test_defence_overlay_may_stand_before_or_after_the_attack(phantom_bundle, tmp_path):
    for i, order in enumerate((("attacks/fgsm", "defenses/jpeg"), ("defenses/jpeg", "attacks/fgsm"))):
        phantom_bundle.evaluate(tmp_path / str(i), *order)
    one, two = (read_records(tmp_path / str(i) / "records").drop(columns="seconds") for i in range(2))
    assert one.equals(two) and one["adaptive"].all()


def test_a_suite_is_an_overlay_like_an_attack(phantom_bundle, tmp_path):
    metrics = phantom_bundle.evaluate(tmp_path, "defenses/jpeg", "suites/smoke", attack__eps=2, record__gallery=False)
    table = read_records(tmp_path / "records")
    worst = table[(table["attack"] == "worst") & table["adaptive"] & (table["metric"] == "dice")]
    assert metrics["val_dice"] == pytest.approx(worst["value"].mean(), abs=1e-5) and set(table["suite"]) == {"smoke"}
    assert set(table["eps"]) == {2.0} and (table["linf"] <= 2).all() and "smoke (worst case)" in (tmp_path / "card.html").read_text()


@pytest.mark.parametrize("suite", ["smoke", "standard", "full"])
@pytest.mark.parametrize("bundle", bundles())
def test_suites_fit_every_bundle(bundle, suite):
    """Two and three dimensions, either head, every unit: the handler is made with the bundle's own threat model."""
    parser = ConfigParser()
    configs = bundles()[bundle] / "configs"
    parser.read_config([configs / "train.yaml", configs / "evaluate.yaml", workflows()[f"suites/{suite}"]])
    handler = parser.get_parsed_content("attack_def")
    told = parser.get_parsed_content("threat_def")
    assert handler.suite == suite and handler.threat == told and handler.adaptive is True


def test_band_statistics_are_fitted_and_used(phantom_bundle, tmp_path):
    settings = {**phantom_bundle.settings(tmp_path), "ckpt_dir": str(tmp_path)}
    workflow(phantom_bundle.root, [CONFIGS / "train.yaml", workflows()["training/band_statistics"]], settings).run()
    phantom_bundle.evaluate(tmp_path, "defenses/frequency_refinement", defense__band_std=str(tmp_path / "band_std.json"))
    assert len(read_records(tmp_path / "records"))


def test_overlays_say_what_they_are_and_cover_every_attack():
    assert all(describe(p) for p in workflows().values())
    named = {yaml.safe_load(p.read_text())["attack_def"]["attack"] for n, p in workflows().items() if n.startswith("attacks/")}
    assert named == set(attack_kinds())


def test_inference_writes_masks_on_the_original_grid(phantom_bundle, tmp_path):
    phantom = phantom_bundle.root / "phantom"
    settings = {"dataset_dir": str(phantom / "images"), "output_dir": str(tmp_path), "ckpt_dir": str(phantom_bundle.root / "models")}
    workflow(phantom_bundle.root, [CONFIGS / "inference.yaml"], {**settings, "image_size": 64}, "inference").run()
    dice = []
    for picture in sorted((phantom / "images").iterdir()):
        files = (tmp_path / f"{picture.stem}_lesion.png", phantom / "masks" / f"{picture.stem}.png")
        mask, truth = (np.asarray(Image.open(f)) for f in files)
        assert mask.shape == truth.shape == Image.open(picture).size[::-1] and set(np.unique(mask)) <= {0, 255}
        dice.append(2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum()))
    assert len(dice) == 24 and np.mean(dice) > 0.7, "not turned or mirrored against the image"


def test_networks_and_protocol_of_the_nlcen_paper(phantom_bundle, tmp_path):
    small = {"width": 8, "trunk": "resnet18", "train::trainer::max_epochs": 1}
    settings = {**phantom_bundle.settings(tmp_path), "ckpt_dir": str(tmp_path), **small}
    made = workflow(phantom_bundle.root, [CONFIGS / "train.yaml", CONFIGS / "paper.yaml"], settings)
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        made.run()
    content = made.parser.get_parsed_content
    assert isinstance(content("train::optimizer"), torch.optim.Adam) and content("train::lr_scheduler").last_epoch == 1
    assert len(content("net").train()(torch.rand(1, 3, 64, 64))) == 5 and (tmp_path / "model.pt").exists()
    flips_and_turns = [type(t).__name__ for t in content("train::preprocessing").transforms[-3:]]
    assert flips_and_turns == ["RandFlipd", "RandFlipd", "RandRotated"]


def test_a_training_shorter_than_its_validation_interval_leaves_a_checkpoint(phantom_bundle, tmp_path):
    short = {"train::trainer::max_epochs": 1, "val_interval": 5, "ckpt_dir": str(tmp_path)}
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=phantom_bundle.store):
        workflow(phantom_bundle.root, [CONFIGS / "train.yaml"], {**phantom_bundle.settings(tmp_path), **short}).run()
    assert (tmp_path / "model.pt").exists()
    for folder in bundles().values():
        handlers = yaml.safe_load((folder / "configs" / "train.yaml").read_text())["train"]["handlers"]
        (interval,) = [h["interval"] for h in handlers if h["_target_"] == "ValidationHandler"]
        assert interval == "$min(@val_interval, @train::trainer::max_epochs)", folder


def test_predictions_of_weights_that_are_no_numbers_are_refused(phantom_bundle, tmp_path):
    weights = torch.load(phantom_bundle.root / "models" / "model.pt", weights_only=True)
    weights[next(iter(weights))].view(-1)[0] = torch.nan
    torch.save(weights, tmp_path / "model.pt")
    folders = {"dataset_dir": str(phantom_bundle.root / "phantom" / "images"), "output_dir": str(tmp_path / "out")}
    made = workflow(
        phantom_bundle.root, [CONFIGS / "inference.yaml"], {**folders, "ckpt_dir": str(tmp_path), "image_size": 64}, "inference"
    )
    with pytest.raises(RuntimeError) as caught:
        made.run()
    assert isinstance(caught.value.__cause__, NonFinite) and "holds NaN or infinity in its weight" in str(caught.value.__cause__)
    assert not list(tmp_path.rglob("*.png"))


def test_default_loss_is_dice_and_cross_entropy(phantom_bundle, tmp_path):
    made = workflow(phantom_bundle.root, [CONFIGS / "train.yaml"], phantom_bundle.settings(tmp_path))
    logits, label = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 1, 8, 8)).float()
    stated = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    assert made.parser.get_parsed_content("train::loss")(logits, label) == stated(logits, label)


# -- wrong words, wrong order


def run_files(bundle, output, files, **overrides):
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=bundle.store):
        workflow(bundle.root, files, {**bundle.settings(output), **overrides}).run()


def no_attacked_records(folder):
    return not (folder / "records").exists() or not list((folder / "records").glob("*.parquet"))


def fails(kind, message, bundle, output, files, **overrides):
    """The run raises ``kind`` (MONAI wraps what a step of ``run`` raises) and leaves no table that could pass for an attack's."""
    with pytest.raises(RuntimeError) as told:
        run_files(bundle, output, files, **overrides)
    raised = list(chain(told.value))
    assert any(type(e) is kind and re.search(message, str(e)) for e in raised), raised
    assert no_attacked_records(output)


def test_attack_listed_before_evaluate_yaml_fails(phantom_bundle, tmp_path):
    files = [CONFIGS / "train.yaml", workflows()["attacks/pgd"], CONFIGS / "evaluate.yaml"]
    message = "PGD dice is configured but did not touch batch 1.*after evaluate.yaml"
    fails(AttackNotApplied, message, phantom_bundle, tmp_path, files)


def test_misspelt_handlers_key_fails(phantom_bundle, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(workflows()["attacks/pgd"].read_text().replace("+validate::handlers", "+validate::handler"))
    files = [CONFIGS / "train.yaml", CONFIGS / "evaluate.yaml", wrong]
    fails(AttackNotApplied, "PGD dice is configured but did not touch batch 1", phantom_bundle, tmp_path, files)


@pytest.mark.parametrize(
    ("handlers", "kind", "message"),
    [
        ([{"_target_": "StatsHandler", "iteration_log": False}], AttackNotApplied, "FGSM is configured but touched 0 of"),
        (["@attack_def"], RuntimeError, "RecordHandler is configured but recorded nothing"),
    ],
    ids=["without attack", "without records"],
)
def test_handlers_replaced_on_the_command_line_fail(phantom_bundle, tmp_path, handlers, kind, message):
    files = [CONFIGS / "train.yaml", CONFIGS / "evaluate.yaml", workflows()["attacks/fgsm"]]
    fails(kind, message, phantom_bundle, tmp_path, files, **{"validate::handlers": handlers})


@pytest.mark.parametrize(
    ("overlays", "overrides", "message"),
    [
        (["attacks/pgd"], {"attack_def::eps": -3}, "eps must be ≥ 0 in grey levels, got -3"),
        (["attacks/pgd"], {"attack_def::value_range": [0, 1]}, "eps 8.0 is wider than value_range.*eps = 8/255"),
        (["attacks/pgd"], {"attack_def::eps": 0.03, "attack_def::value_range": [0, 1]}, "image spans .* outside value_range"),
        (["attacks/pgd"], {"attack_def::attack": "PGDD"}, "unknown attack 'PGDD'; did you mean 'PGD'"),
        (
            ["attacks/pgd"],
            {"attack_def::objective": "crossentropy"},
            "unknown objective 'crossentropy'; did you mean 'cross_entropy'",
        ),
        (["attacks/tifgsm"], {"attack_def::target": "invert"}, "unknown target 'invert'; did you mean 'inverted'"),
        (["attacks/fgsm", "defenses/jpeg"], {"defense_def::quality": 0}, "quality must lie in 1..100, got 0"),
        (["attacks/fgsm"], {"adaptive": "perhaps"}, "adaptive must be true or false, got 'perhaps'"),
        (["attacks/fgsm"], {"network": "unett"}, "no network 'unett'; did you mean 'unet'"),
        (["attacks/fgsm"], {"dataset_dir": "/no/such/folder"}, "dataset_dir '/no/such/folder' is not a folder"),
        (["attacks/fgsm"], {"ckpt_dir": "/no/such/folder"}, "/no/such/folder/model.pt"),
    ],
    ids=lambda v: " ".join(map(str, v.values())) if isinstance(v, dict) else "",
)
def test_message_reaches_the_user_through_monai(phantom_bundle, tmp_path, overlays, overrides, message):
    files = [CONFIGS / "train.yaml", CONFIGS / "evaluate.yaml", *(workflows()[o] for o in overlays)]
    with pytest.raises(Exception) as told:  # noqa: B017, PT011 (MONAI wraps what a component raises)
        run_files(phantom_bundle, tmp_path, files, **overrides)
    messages = [str(e) for e in chain(told.value)]
    assert any(re.search(message, m) for m in messages), messages
    assert no_attacked_records(tmp_path)


def test_unknown_overlay_gets_the_nearest(phantom_bundle):
    with pytest.raises(ValueError, match="unknown overlay 'attacks/pdg'; did you mean 'attacks/pgd'"):
        evaluate(phantom_bundle.root, Cell(("attacks/pdg",)), {})


def test_two_networks_may_share_an_output_folder(phantom_bundle, tmp_path):
    """The card of each evaluation is about its own model."""
    phantom_bundle.evaluate(tmp_path)
    phantom_bundle.evaluate(tmp_path, record__model="twin")
    assert set(read_records(tmp_path / "records")["model"]) == {"unet", "twin"}


def test_bundles_and_workflows_are_found():
    assert home("workflows").is_dir() and NAME in bundles()


# -- what is the same evaluation


def test_two_clinics_with_the_same_file_names_and_another_size_are_three_evaluations(phantom_bundle, tmp_path):
    for clinic, light in (("A", 1.0), ("B", 0.6)):
        shutil.copytree(phantom_bundle.root / "phantom", tmp_path / clinic)
        for file in (tmp_path / clinic / "images").iterdir():
            pixels = np.asarray(Image.open(file).convert("RGB"))
            Image.fromarray((pixels * light).astype(np.uint8)).save(file)
    told = {"record_def::gallery": False}
    for clinic, size in (("A", 64), ("B", 64), ("A", 96), ("A", 64)):
        files = [CONFIGS / "train.yaml", CONFIGS / "evaluate.yaml"]
        run_files(phantom_bundle, tmp_path / "out", files, dataset_dir=str(tmp_path / clinic), image_size=size, **told)
    table = read_records(tmp_path / "out" / "records")
    assert table["fingerprint"].nunique() == table["data"].nunique() == 3 and table["weights"].nunique() == 1
    assert table.groupby("fingerprint")["case"].agg(tuple).nunique() == 1
    assert "not shown here: 1 run on data" in (tmp_path / "out" / "card.html").read_text()
    done = command("monai_advdef", "report", "out", "--markdown", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("| unet, data ") == 3


def test_switches_given_as_text_mean_what_they_say_on_the_command_line(phantom_bundle, tmp_path):
    told = {"attack_def::relative": "false", "attack_def::compiled": "false", "attack_def::steps": 2, "record_def::card": "false"}
    told |= {"record_def::undefended": "false", "record_def::gradients": "false", "record_def::gallery": "false"}
    overlays = (workflows()["attacks/pgd"], workflows()["defenses/jpeg"])
    done = phantom_bundle.command(*phantom_bundle.words(tmp_path, *overlays, **told))
    assert done.returncode == 0, done.stderr
    table = read_records(tmp_path / "records")
    assert (table["linf"] <= 8).all() and (table["eps"] == 8).all() and set(table["metric"]) == {"dice", "iou"}
    assert not (tmp_path / "card.html").exists() and not (tmp_path / "gallery").exists()


def test_a_budget_for_each_channel_is_recorded_and_told(phantom_bundle, tmp_path):
    for eps in (8, [8, 0, 0]):
        phantom_bundle.evaluate(tmp_path, "attacks/fgsm", attack__eps=eps)
    table = read_records(tmp_path / "records")
    assert set(table["budget"]) == {"8", "[8, 0, 0]"} and (table["eps"] == 8).all()
    assert "[8, 0, 0] grey levels" in (tmp_path / "card.html").read_text()
