"""The bundle says what its images are, the attack says how it attacks: what overlays make of the two, without training anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from monai_advdef import ThreatModel
from monai_advdef.bundle import bundles, workflows
from monai_advdef.handlers import AttackHandler
from monai_advdef.threat import as_threat
from monai_advdef.training import FreeAdversarialTraining

GREY = ThreatModel(norm="linf", eps=8.0, value_range=[0, 255], unit="grey level")
MRI = ThreatModel(norm="linf", eps=0.1, value_range="image", unit="σ", region="nonzero")
CT = ThreatModel(norm="linf", eps=8.0, value_range=[-160, 240], unit="HU")
OF_BUNDLE = {
    "skin_lesion_dermoscopy_segmentation": GREY,
    "optic_disc_fundus_segmentation": GREY,
    "lung_xray_segmentation": GREY,
    "glioma_mri_segmentation": MRI,
    "abdominal_organ_ct_segmentation": CT,
}
ABDOMEN = "abdominal_organ_ct_segmentation"
BOUNDED = ["fgsm", "ifgsm", "lattice", "minimal_norm", "noise", "pgd", "square", "targeted", "tifgsm"]


def configured(files, **overrides):
    """The parser of files listed one after the other, with overrides such as ``attack_def__eps=4``."""
    parser = ConfigParser()
    parser.read_config([str(f) for f in files])
    for name, value in overrides.items():
        parser.set(value, name.replace("__", "::"))
    return parser


def handler(bundle, *overlays, **overrides):
    folder = bundles()[bundle] / "configs"
    files = [folder / "train.yaml", folder / "evaluate.yaml", *(workflows().get(o, folder / o) for o in overlays)]
    return configured(files, **overrides).get_parsed_content("attack_def")


@pytest.mark.parametrize("attack", BOUNDED)
@pytest.mark.parametrize("bundle", OF_BUNDLE)
def test_an_attack_alone_is_right_on_every_bundle(bundle, attack):
    assert set(OF_BUNDLE) == set(bundles())
    assert handler(bundle, f"attacks/{attack}").threat == OF_BUNDLE[bundle]


@pytest.mark.parametrize("bundle", OF_BUNDLE)
def test_an_attack_without_a_bound_says_so_itself_and_takes_the_rest(bundle):
    for attack in ("asma", "field_attack", "vafa"):
        of, threat = OF_BUNDLE[bundle], handler(bundle, f"attacks/{attack}").threat
        assert (threat.norm, threat.eps) == ("unbounded", math.inf)
        assert (threat.value_range, threat.unit, threat.region) == (of.value_range, of.unit, of.region)


def test_slices_and_z_scores_of_the_abdomen_are_told_apart(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / part / "p1_s1.png")
    assert handler(ABDOMEN, "attacks/pgd", dataset_dir=str(tmp_path)).threat == GREY
    assert handler(ABDOMEN, "attacks/pgd", window=[-100, 300]).threat.value_range == [-100, 300]
    assert handler(ABDOMEN, "attacks/pgd", zscore=True).threat.value_range == "image"


def test_options_of_the_attack_go_before_the_bundles():
    assert handler(ABDOMEN, "attacks/pgd", attack_def__eps=4).threat == ThreatModel(eps=4, value_range=[-160, 240], unit="HU")
    l2 = handler("skin_lesion_dermoscopy_segmentation", "attacks/pgd", attack_def__norm="l2", attack_def__eps=500).threat
    assert (l2.norm, l2.eps, l2.unit) == ("l2", 500, "grey level")
    own = handler("skin_lesion_dermoscopy_segmentation", "attacks/fgsm", attack_def__value_range=[0, 1], attack_def__eps=0.03)
    assert (own.threat.value_range, own.threat.eps) == ([0, 1], 0.03)
    one = handler("glioma_mri_segmentation", "attacks/ifgsm", attack_def__eps=[0.2, 0, 0, 0], attack_def__region=None).threat
    assert (one.eps, one.region, one.value_range) == ([0.2, 0, 0, 0], None, "image")
    share = handler("glioma_mri_segmentation", "attacks/ifgsm", attack_def__relative="true", attack_def__eps=2).threat
    assert share.relative is True and share.eps == 2
    assert handler(ABDOMEN, "attacks/pgd", threat_def__eps=4, threat_def__norm="l2").threat.norm == "l2"


@pytest.mark.parametrize("overlays", [("attacks/pgd", "threats/mri"), ("threats/mri", "attacks/pgd")])
def test_documented_command_lines_of_before_are_still_right(overlays):
    assert handler("glioma_mri_segmentation", *overlays).threat == MRI
    assert handler("glioma_mri_segmentation", *overlays, attack_def__eps=0.2).threat.eps == 0.2
    assert handler(ABDOMEN, "attacks/pgd", "threat.yaml").threat == CT
    assert handler(ABDOMEN, "attacks/pgd", "threat.yaml", attack_def__eps=4).threat.eps == 4


FOREIGN = "output_dir: out\nadaptive: true\nattack_def: null\nvalidate: {handlers: []}\n"
READY = {"grey_level": ([0, 255], 8.0, "grey level"), "scaled": ([0, 1], 8 / 255, "of the range")}
READY |= {"mri": ("image", 0.1, "σ"), "ct": ([-1024, 3071], 8.0, "HU")}


@pytest.mark.filterwarnings("ignore:Can't merge entry")
@pytest.mark.parametrize("first", [True, False], ids=["threat first", "attack first"])
@pytest.mark.parametrize("name", READY)
def test_ready_threat_models_serve_bundles_without_one(tmp_path, name, first):
    (tmp_path / "train.yaml").write_text(FOREIGN)
    overlays = [workflows()[f"threats/{name}"], workflows()["attacks/pgd"]]
    made = configured([tmp_path / "train.yaml", *(overlays if first else overlays[::-1])]).get_parsed_content("attack_def").threat
    assert (made.value_range, made.eps, made.unit) == READY[name] and made.norm == "linf"


@pytest.mark.filterwarnings("ignore:Can't merge entry")
def test_a_bundle_that_does_not_say_what_its_images_are_is_told(tmp_path):
    (tmp_path / "train.yaml").write_text(FOREIGN)
    files = [tmp_path / "train.yaml", workflows()["attacks/pgd"]]

    def told(**overrides):
        with pytest.raises(RuntimeError) as raised:
            configured(files, **overrides).get_parsed_content("attack_def")
        return str(raised.value.__cause__)

    assert "threat_def does not state eps, value_range, unit" in told() and "workflows/threats (grey_level" in told()
    assert "threat_def does not state value_range, unit" in told(attack_def__eps=4)
    assert "threat_def has no field 'epss'; did you mean 'eps'?" in told(threat_def__epss=4)
    stated = configured(files, attack_def__eps=0.1, attack_def__value_range=[0, 1], attack_def__unit="share")
    assert stated.get_parsed_content("attack_def").threat == ThreatModel(eps=0.1, value_range=[0, 1], unit="share")
    plain = configured(files, threat_def={"norm": "l2", "eps": 3, "value_range": [0, 255], "unit": "grey level"})
    assert plain.get_parsed_content("attack_def").threat == ThreatModel(norm="l2", eps=3, value_range=[0, 255])


def test_training_takes_the_bundles_too(tmp_path):
    of = configured(
        [bundles()["glioma_mri_segmentation"] / "configs/train.yaml", workflows()["training/trades"]], threat_def__eps=0.2
    )
    assert of.get_parsed_content("attack_def").threat == ThreatModel(eps=0.2, value_range="image", unit="σ", region="nonzero")
    for name in ("synthesis", "synthesis_augmentation"):
        files = [bundles()[ABDOMEN] / "configs/train.yaml", workflows()[f"training/{name}"]]
        threat = configured(files).get_parsed_content("threat_def")
        assert (threat.norm, threat.value_range, threat.unit) == ("unbounded", [-160, 240], "HU")
    with pytest.raises(ValueError, match="threat_def does not state eps, value_range, unit"):
        FreeAdversarialTraining({})


def test_no_overlay_of_an_attack_or_a_training_assumes_a_unit():
    for name, path in workflows().items():
        if name.split("/")[0] in ("attacks", "training"):
            text = yaml.safe_load(path.read_text())
            assert "unit" not in text.get("attack_def", {}) and "value_range" not in text.get("attack_def", {})
            assert set(text.get("+threat_def", {})) <= {"norm"} and "threat_def" not in text


def test_ready_made_objects_and_switches_as_text():
    assert AttackHandler("PGD", ThreatModel(unit="HU", value_range=(-160, 240)), eps=4).threat.unit == "HU"
    assert AttackHandler("PGD", eps=8.0, relative="false").threat.relative is False
    x = torch.full((1, 3, 8, 8), 100.0)
    assert float((AttackHandler("PGD", eps=8.0, relative="False").threat.around(x).upper - x).max()) == 8
    with pytest.raises(ValueError, match="relative must be true or false, got 'flase'"):
        AttackHandler("PGD", eps=8.0, relative="flase")
    with pytest.raises(ValueError, match="has no field 'rage'; did you mean 'value_range'|did you mean"):
        as_threat({"rage": 1})
