"""An nnU-Net folder is attacked and scored as it is deployed: against nnU-Net's own predictor, preprocessing and files."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image
from torch import Tensor, nn

from monai_advdef import PreparedInferer, ThreatModel, Victim, run
from monai_advdef.attacks import PGD
from monai_advdef.audit.nnunet import NnUNetInferer, Plan, Preprocessing, read_nnunet
from monai_advdef.audit.nnunet.library import own
from monai_advdef.audit.nnunet.resampling import LINEAR, SPLINE, resampling
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.run import audit
from monai_advdef.bundle import workflows
from monai_advdef.errors import DataError

pytest.importorskip("nnunetv2")
VARIANTS = ("ct", "mr", "colour")
Case = dict[str, Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of all variants; nnU-Net spawns workers, so that they are made by a process of its own."""
    out = tmp_path_factory.mktemp("nnunet")
    script = Path(__file__).with_name("nnunet_folder.py")
    done = subprocess.run(
        [sys.executable, str(script), str(out)], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return out


def options(folder: Path, **given: Any) -> AuditOptions:
    return AuditOptions(**{"dataset_dir": str(folder / "data"), "output_dir": str(folder / "out"), **given})


class Parts:
    """What a reading's configuration builds, as ``monai.bundle run`` would."""

    def __init__(self, reading: Reading) -> None:
        self.reading, parser = reading, ConfigParser(reading.overlay)
        names = ("network", "inferer", "preprocessing", "postprocessing")
        self.network, self.inferer, self.preprocessing, self.postprocessing = (
            parser.get_parsed_content(f"deployed::{name}") for name in names
        )
        self.cases: list[Case] = reading.overlay["deployed"]["cases"]

    @property
    def tail(self) -> Any:
        return self.preprocessing.tail


@pytest.fixture(scope="session")
def parts(made: Path) -> dict[str, Parts]:
    return {name: Parts(read_nnunet(made / name / "results", options(made / name))) for name in VARIANTS}


def predictor(folder: Path) -> Any:
    """nnU-Net's own, initialised by itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        made = own("nnunetv2.inference.predict_from_raw_data").nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        made.initialize_from_trained_model_folder(str(folder), None)
    return made


def written(folder: Path, case: Case, out: Path, ending: str) -> np.ndarray:
    """The label map that ``nnUNetv2_predict`` writes, read by nibabel or pillow in the order of the file's axes."""
    with contextlib.redirect_stdout(io.StringIO()):
        predictor(folder).predict_from_files_sequential([case["image"]], [str(out / "own")])
    file = out / f"own{ending}"
    return np.asarray(Image.open(file)).T if ending == ".png" else np.asarray(nib.load(file).dataobj)


@pytest.mark.parametrize(("name", "index"), itertools.product(VARIANTS, (0, 1)))
def test_logits_and_labels_are_those_of_nnunets_own_predictor(
    made: Path, parts: dict[str, Parts], tmp_path: Path, name: str, index: int
) -> None:
    part = parts[name]
    case = part.cases[index]
    fed, raw = part.preprocessing(case)["image"], part.preprocessing.head(case)["image"]
    part.tail.require_equal(raw[None], fed[None], case["case"])  # to 1e-5 of its range
    with torch.no_grad():
        mine = part.inferer.on_network_grid(fed[None], part.network)[0]
        logits = part.inferer(part.tail(raw[None]), part.network)
    theirs = predictor(made / name / "results").predict_logits_from_preprocessed_data(fed.as_tensor())
    assert float((mine - theirs.float()).abs().max()) <= 1e-4
    assert part.inferer.proof.difference <= 1e-4
    labels = part.postprocessing.label_map(logits[0])[0].numpy()
    ending = ".png" if name == "colour" else ".nii.gz"
    differ = (labels != written(made / name / "results", case, tmp_path, ending)).mean()
    assert differ <= (0.002 if name == "mr" else 0)  # half precision turns the last bit of a z-score into a label, here and there
    assert len(np.unique(labels)) == 3


@pytest.mark.parametrize("name", ["ct", "mr"])
def test_the_clean_record_is_what_nnunets_own_evaluation_gives(
    made: Path, parts: dict[str, Parts], tmp_path: Path, name: str
) -> None:
    audit(made / name / "results", made / name / "data", output_dir=tmp_path, suite="smoke", dry_run=True)
    files = [tmp_path / "model.yaml", workflows()["audit/evaluate"]]
    workflow = ConfigWorkflow([str(f) for f in files], meta_file=None, logging_file=False, workflow_type=None)
    workflow.initialize()
    workflow.run()
    records = pd.read_parquet(tmp_path / "records").query("metric == 'dice'")
    by_case = [rows.set_index("class")["value"] for _, rows in records.groupby("case", sort=False)]
    plan, own_of = parts[name].tail.plan, own("nnunetv2.evaluation.evaluate_predictions")
    reader = own("nnunetv2.imageio.nibabel_reader_writer").NibabelIO()
    for case, values in zip(parts[name].cases, by_case, strict=True):
        written(made / name / "results", case, tmp_path, ".nii.gz")
        found = own_of.compute_metrics(case["label"], str(tmp_path / "own.nii.gz"), reader, plan.regions or [1, 2])["metrics"]
        theirs = [found[part]["Dice"] for part in plan.regions or [1, 2]]
        mine = [values[label] for label in plan.classes]
        assert min(theirs) > 0
        np.testing.assert_allclose(mine, theirs, atol=0.005 if name == "mr" else 1e-6)


def test_half_precision_sums_are_what_is_scored(parts: dict[str, Parts]) -> None:
    part = parts["ct"]
    fed = part.preprocessing(part.cases[0])["image"].as_tensor()
    with torch.no_grad():
        half = part.inferer.stitched(fed, part.network)
    assert half.dtype == torch.half
    exact = brute_force(part, fed.double(), [fold.double() for fold in part.network.folds])
    part.network.float()
    off = (half.double() - exact.detach()).abs()
    assert 0.01 < float(off.max()) < 1 and float(off.mean()) < 0.05  # where the Gaussian of a corner is near the least half


def brute_force(part: Parts, fed: Tensor, folds: list[nn.Module]) -> Tensor:
    """The exact sums, all windows in one graph: the predictor's own windows and Gaussian, in the type of ``fed``."""
    maker = predictor(part.tail.plan.folder)
    patch = tuple(part.tail.plan.patch_size)
    pad = own("acvl_utils.cropping_and_padding.padding").pad_nd_image
    padded, inside = pad(fed, patch, "constant", {"value": 0}, True, None)
    weight = own("nnunetv2.inference.sliding_window_prediction").compute_gaussian(
        patch, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu")
    )
    axes = [2 + a for a in range(len(patch))]
    flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
    total, weights = 0.0, torch.zeros(padded.shape[1:], dtype=fed.dtype)
    for window in maker._internal_get_sliding_window_slicers(padded.shape[1:]):
        weights[window[1:]] += weight
        for fold in folds:
            out = sum(torch.flip(fold(torch.flip(padded[window][None], f)), f) for f in flips)[0] / len(flips) / len(folds)
            place = torch.zeros((len(out), *padded.shape[1:]), dtype=fed.dtype)
            place[window] = out * weight
            total = total + place
    return (total / weights)[(slice(None), *inside[1:])]


@pytest.mark.parametrize("name", ["ct", "mr"])
def test_the_gradient_is_that_of_the_exact_sums_to_the_last_window_mirror_and_fold(parts: dict[str, Parts], name: str) -> None:
    part = parts[name]
    folds = [fold.double() for fold in part.network.folds]
    fed = part.preprocessing(part.cases[1])["image"].as_tensor()[:, :9].double().requires_grad_()
    upstream = torch.randn((part.tail.plan.heads, *fed.shape[1:]), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (wanted,) = torch.autograd.grad(brute_force(part, fed, folds), fed, upstream)
    found = part.inferer.pulled_back(fed.detach(), upstream, part.network)
    part.network.float()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_tail_has_the_slope_that_finite_differences_see(parts: dict[str, Parts], name: str) -> None:
    part = parts[name]
    image = part.preprocessing.head(part.cases[0])["image"][None]
    part.tail.hold(image)
    generator = torch.Generator().manual_seed(1)
    x = 100 + 5 * torch.randn(image.shape, generator=generator)  # off the kinks: a clip to a window, one to the range of an image
    direction = torch.randn(x.shape, generator=generator)
    leaf = x.clone().requires_grad_()
    fed = part.tail(leaf)
    upstream = torch.randn(fed.shape, generator=generator)
    (gradient,) = torch.autograd.grad(fed, leaf, upstream)
    step = 2e-3 * float(x.std())
    ahead, behind = (part.tail(x + sign * step * direction) for sign in (1, -1))
    secant = float(((ahead - behind).double() * upstream).sum() / (2 * step))
    assert secant == pytest.approx(float((gradient.double() * direction).sum()), rel=0.05, abs=0.02 * float(gradient.norm()))


def test_an_attack_through_windows_mirrors_and_resampling_raises_the_loss(parts: dict[str, Parts]) -> None:
    part = parts["colour"]
    raw = part.preprocessing.head(part.cases[0])
    part.tail.hold(raw["image"][None])
    victim = Victim(part.network, inferer=PreparedInferer(part.inferer, part.tail))
    image, label = raw["image"][None].as_tensor(), raw["label"][None].as_tensor()
    threat = ThreatModel(**part.preprocessing.recovered().threat())
    outcome = run(PGD(steps=2, step_size=4.0, random_start=False), victim, threat, image, label)
    with victim.frozen():
        before, after = (float(victim.gradient(x, lambda z: cross_entropy(z, label))[1]) for x in (image, outcome.adversarial))
    assert after > before + 0.01
    assert 0 < float((outcome.adversarial - image).abs().max()) <= 8.0


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, label[:, 0].long(), reduction="none").flatten(1).mean(1)


def test_a_batch_holds_images_of_one_case(parts: dict[str, Parts]) -> None:
    part = parts["mr"]
    image = part.preprocessing.head(part.cases[0])["image"][None]
    part.tail.hold(image)
    pair = torch.cat([image.as_tensor(), image.as_tensor() * 1.01])
    with torch.no_grad():
        both = part.inferer(part.tail(pair), part.network)
        alone = [part.inferer(part.tail(x[None]), part.network) for x in pair]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=0)
    with pytest.raises(ValueError, match="one case at a time"):
        part.tail.hold(torch.cat([image, image]))


def test_the_whole_map_has_the_slope_of_its_exact_sums(parts: dict[str, Parts]) -> None:
    """From the image through crop, windows, mirrors and the way back, against one graph of all of it."""
    part = parts["mr"]
    image = part.preprocessing.head(part.cases[0])["image"][None]
    part.tail.hold(image)
    leaf = image.as_tensor().clone().requires_grad_()
    logits = part.inferer(part.tail(leaf), part.network)
    upstream = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (found,) = torch.autograd.grad(logits, leaf, upstream)
    whole = brute_force(part, part.tail(leaf)[0], list(part.network.folds))
    (wanted,) = torch.autograd.grad(part.tail.back(whole[None]), leaf, upstream)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_units_are_those_of_the_channels(parts: dict[str, Parts]) -> None:
    threats = {name: part.preprocessing.recovered().threat() for name, part in parts.items()}
    assert [threats[name]["unit"] for name in VARIANTS] == ["HU", "σ", "grey level"]
    assert [threats[name]["region"] for name in VARIANTS] == [None, "nonzero", None]
    assert parts["ct"].preprocessing.recovered(unit="%", eps=2).threat()["relative"]
    for wrong in ({"unit": "σ"}, {"eps": -1.0}, {"unit": "%", "value_range": (0, 1)}):
        with pytest.raises(DataError):
            parts["ct"].preprocessing.recovered(**wrong)
    part = parts["mr"]
    image = part.preprocessing.head(part.cases[0])["image"]
    stored = np.stack([np.asarray(nib.load(f).dataobj) for f in part.cases[0]["image"]]).astype(float)
    masked, bare = image[0].numpy(), image[1].numpy()  # nnU-Net normalises the first channel within the mask, the second in the box
    assert masked[stored[0] != 0].std() == pytest.approx(1, rel=5e-3)  # holes are filled
    box = stored[1, 3:, :-2]
    np.testing.assert_allclose(bare * box.std(), stored[1], rtol=1e-4)
    assert ((image.numpy() == 0) == (stored == 0)).all()


def test_a_box_that_an_attack_moves_is_followed_and_told(parts: dict[str, Parts]) -> None:
    part = parts["ct"]
    image = part.preprocessing.head(part.cases[0])["image"][None]
    part.tail.hold(image)
    assert part.tail.moved(image) == []
    changed = image.as_tensor().clone()
    changed[0, 0, 0, 5, 5] = 1.0
    assert "nnU-Net crops" in part.tail.moved(changed)[0]
    held, told = changed[0, 0].numpy().transpose(2, 1, 0)[None], {"spacing": list(part.tail.axes.spacing)}
    plan = part.tail.plan
    make = own("nnunetv2.preprocessing.preprocessors.default_preprocessor").DefaultPreprocessor(verbose=False)
    fed, _, _ = make.run_case_npy(held, None, told, plan.manager, plan.settings, plan.dataset)
    np.testing.assert_allclose(part.tail(changed)[0].numpy(), fed, atol=1e-5)


def test_regions_go_through_the_label_map_in_their_order(parts: dict[str, Parts]) -> None:
    logits = torch.tensor([[5.0, -5.0, 5.0, -5.0], [-5.0, 5.0, 5.0, -5.0]]).reshape(2, 4, 1)  # lesion, organ
    found = parts["mr"].postprocessing({"pred": logits})["pred"][:, :, 0]
    # labels 2 (lesion alone), 1 (organ), 1 (organ is drawn over the lesion), 0; a lesion is an organ, too
    assert found.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]
    label = parts["mr"].preprocessing.head(parts["mr"].cases[0])["label"]
    stored = np.asarray(nib.load(parts["mr"].cases[0]["label"]).dataobj)
    np.testing.assert_array_equal(label.numpy(), np.stack([stored == 2, stored > 0]))


@pytest.mark.parametrize("reader", ["SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
def test_readers_that_turn_an_image_are_turned_back(made: Path, tmp_path: Path, reader: str) -> None:
    folder = shutil.copytree(made / "ct/results", tmp_path / "results")
    edit(folder / "plans.json", image_reader_writer=reader)
    part = Parts(read_nnunet(folder, options(made / "ct")))
    for index, case in enumerate(part.cases):
        raw, fed = part.preprocessing.head(case)["image"][None], part.preprocessing(case)["image"][None]
        part.tail.require_equal(raw, fed)
        np.testing.assert_array_equal(raw[0, 0].numpy(), np.asarray(nib.load(case["image"][0]).dataobj))
        if index == 1:
            with torch.no_grad():
                labels = part.postprocessing.label_map(part.inferer(part.tail(raw), part.network)[0])[0].numpy()
            np.testing.assert_array_equal(labels, written(folder, case, tmp_path, ".nii.gz"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


SIZES = [
    ((2, 1.5, 1.5), (1.5, 1.2, 1.7), (10, 13, 18)),
    ((5, 0.8, 0.8), (3.0, 1.1, 0.9), (9, 20, 21)),
    ((0.8, 5, 0.8), (1.0, 4, 0.8), (16, 9, 11)),
    ((0.8, 0.8, 5), (1.0, 1.1, 5), (16, 17, 9)),
    ((999, 1, 1), (999, 0.7, 1.4), (1, 20, 30)),
    ((1, 1, 1), (1, 1, 1), (5, 6, 7)),
]


@pytest.mark.parametrize(("spacing", "new", "size"), SIZES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_splines_are_scikit_images(spacing: Any, new: Any, size: Any, order: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    shape = [round(s * n / t) for s, n, t in zip(spacing, size, new)]
    kwargs = {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}
    theirs = own("nnunetv2.preprocessing.resampling.default_resampling").resample_data_or_seg_to_shape(
        x, shape, spacing, new, **kwargs
    )
    np.testing.assert_allclose(resampling(SPLINE, kwargs, "f")(torch.from_numpy(x), shape, spacing, new), theirs, atol=1e-6)
    kwargs = {"is_seg": False, "force_separate_z": None}
    theirs = own("nnunetv2.preprocessing.resampling.resample_torch").resample_torch_fornnunet(x, shape, spacing, new, **kwargs)
    np.testing.assert_allclose(resampling(LINEAR, kwargs, "f")(torch.from_numpy(x), shape, spacing, new), theirs, atol=1e-6)


SCHEMES = ("CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("masked", [True, False])
def test_normalisation_is_nnunets_own(scheme: str, masked: bool) -> None:
    from monai_advdef.audit.nnunet.normalisation import SCHEMES as OURS

    x = np.random.default_rng(1).uniform(0, 255, (5, 6, 7)).astype(np.float32)
    x[:2] = 0
    told = {"mean": 90.0, "std": 20.0, "percentile_00_5": 30.0, "percentile_99_5": 200.0}
    kind = getattr(own("nnunetv2.preprocessing.normalization.default_normalization_schemes"), scheme)
    theirs = kind(use_mask_for_norm=masked, intensityproperties=told).run(x.copy(), np.where(x != 0, 0, -1))
    ours = OURS[scheme](torch.from_numpy(x), torch.from_numpy(x != 0) if masked else None, told)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_facts_and_notes_say_what_was_found(parts: dict[str, Parts]) -> None:
    reading = parts["ct"].reading
    told = {fact.field: fact.value for fact in reading.facts}
    assert (
        (reading.name, reading.kind) == ("Dataset001_Balls 3d_fullres", "nnU-Net")
        and told["configuration"] == "3d_fullres"
        and told["classes"] == "kidney, cyst"
    )
    assert told["mirroring"] == "axes [0, 1, 2]" and told["folds"].startswith("0, 1:")
    assert any("ensemble of the folds 0, 1" in note for note in reading.notes)
    json.dumps(reading.overlay)  # plain: it is written as a file


class Planted:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.system, ("touch planted",))


def test_a_checkpoint_is_loaded_without_running_what_it_brings(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(made / "colour/results", tmp_path / "results")
    file = folder / "fold_0/checkpoint_final.pth"
    held = torch.load(file, weights_only=False)
    torch.save({**held, "logging": Planted()}, file)
    with pytest.raises(DataError, match="cannot be loaded as plain weights"):
        read_nnunet(folder, options(made / "colour"))
    assert not (tmp_path / "planted").exists()


def plan_change(*path: str, value: Any) -> Any:
    def change(folder: Path) -> None:
        told = json.loads((folder / "plans.json").read_text())
        node = told
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        (folder / "plans.json").write_text(json.dumps(told))

    return change


CONFIGURATION = ("configurations", "3d_fullres")
ARCHITECTURE = (*CONFIGURATION, "architecture")
REFUSED = {
    "cascade": (plan_change(*CONFIGURATION, "previous_stage", value="3d_lowres"), "second stage of a cascade"),
    "foreign network": (plan_change(*ARCHITECTURE, "network_class_name", value="os.system"), "code of a package other than"),
    "no layer": (plan_change(*ARCHITECTURE, "arch_kwargs", "conv_op", value="torch.nn.functional.relu"), "no network layer"),
    "foreign layer": (plan_change(*ARCHITECTURE, "arch_kwargs", "nonlin", value="subprocess.Popen"), "code of a package other than"),
    "reader": (plan_change("image_reader_writer", value="Tiff3DIO"), "image_reader_writer is 'Tiff3DIO'"),
    "preprocessor": (plan_change(*CONFIGURATION, "preprocessor_name", value="Mine"), "preprocessor_name is 'Mine'"),
    "normalisation": (plan_change(*CONFIGURATION, "normalization_schemes", value=["Mine"]), "normalization_schemes is 'Mine'"),
    "resampling": (plan_change(*CONFIGURATION, "resampling_fn_data", value="os"), "resampling_fn_data is 'os'"),
    "no plans": (lambda folder: (folder / "plans.json").unlink(), "plans.json"),
    "no json": (lambda folder: (folder / "dataset.json").write_text("{"), "cannot be read as JSON"),
    "no architecture": (plan_change(*ARCHITECTURE, value={}), "an architecture that cannot be built"),
    "no weights": (lambda folder: [shutil.rmtree(p) for p in folder.glob("fold_*")], "there are no weights"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_audited_is_refused_in_words(made: Path, tmp_path: Path, what: str) -> None:
    change, words = REFUSED[what]
    folder = shutil.copytree(made / "ct/results", tmp_path / "results")
    change(folder)
    with pytest.raises(DataError, match=words):
        read_nnunet(folder, options(made / "ct"))


def test_without_nnunet_the_reader_says_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    with pytest.raises(DataError, match=re.escape("pip install 'monai_advdef[nnunet]'")):
        read_nnunet(made / "ct/results", options(made / "ct"))


def test_another_trainer_and_another_fold_are_refused(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "ct/results", tmp_path / "results")
    file = folder / "fold_1/checkpoint_final.pth"
    held = torch.load(file, weights_only=False)
    torch.save({**held, "trainer_name": "nnUNetTrainerMine"}, file)
    with pytest.raises(DataError, match="an ensemble needs folds of one configuration"):
        read_nnunet(folder, options(made / "ct"))
    shutil.rmtree(folder / "fold_0")
    with pytest.raises(DataError, match="trained by 'nnUNetTrainerMine'"):
        read_nnunet(folder, options(made / "ct"))


def test_logits_that_are_not_the_predictors_stop_the_audit(made: Path) -> None:
    part = Parts(read_nnunet(made / "colour/results", options(made / "colour")))
    part.inferer.flips = part.inferer.flips[:1]
    raw = part.preprocessing.head(part.cases[0])["image"]
    with pytest.raises(DataError, match="differ from nnUNetPredictor's"), torch.no_grad():
        part.inferer(part.tail(raw[None]), part.network)


def test_cases_are_found_by_folder_list_pattern_and_split(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made / "ct/data/imagesTs", data / "imagesTr")
    shutil.copytree(made / "ct/data/labelsTs", data / "labelsTr")

    def found(**given: Any) -> Reading:
        return read_nnunet(
            given.pop("folder", made / "ct/results"), AuditOptions(dataset_dir=str(data), output_dir=str(tmp_path), **given)
        )

    reading = found()
    assert [c["case"] for c in reading.overlay["deployed"]["cases"]] == ["b00", "b01"]
    assert any("its scores flatter" in note for note in reading.notes)
    (data / "splits_final.json").write_text(json.dumps([{"train": ["b00"], "val": ["b01"]}]))
    single = shutil.copytree(made / "ct/results", tmp_path / "single")
    shutil.rmtree(single / "fold_1")
    assert [c["case"] for c in found(folder=single).overlay["deployed"]["cases"]] == ["b01"]
    by_pattern = found(images=["imagesTr/{case}_0000.nii.gz"], labels=["labelsTr/{case}.nii.gz"]).overlay["deployed"]["cases"]
    assert [Path(c["label"]).name for c in by_pattern] == ["b00.nii.gz", "b01.nii.gz"]
    shutil.rmtree(data / "labelsTr")
    with pytest.raises(DataError, match="no images with labels as nnU-Net names them"):
        found()
    assert "label" not in found(labels="none").overlay["deployed"]["cases"][0]


def test_a_label_of_another_kind_is_refused(made: Path, parts: dict[str, Parts], tmp_path: Path) -> None:
    case, part = parts["ct"].cases[0], parts["ct"]
    held = nib.load(case["label"])
    nib.save(nib.Nifti1Image(np.asarray(held.dataobj) * 3, held.affine), tmp_path / "l.nii.gz")
    with pytest.raises(DataError, match="holds the values .3, 6., which dataset.json does not know"):
        part.preprocessing.head({**case, "label": str(tmp_path / "l.nii.gz")})
    with pytest.raises(DataError, match="1 channels, the network takes 2"):
        parts["mr"].preprocessing.head({"image": case["image"]})


def test_the_parts_are_plain_objects_for_python_users(made: Path) -> None:
    plan = Plan(str(made / "ct/results"), "3d_fullres")
    inferer = NnUNetInferer(Preprocessing(plan), folds=2, mirror_axes=[0])
    assert inferer.flips == [(), (2,)] and plan.classes == ["kidney", "cyst"]
