"""Figures 1 and 2 of paper 000: their numbers against independent computations, and the commands that draw them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import blobs
from engines import items, loader, network
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from PIL import Image
from scipy.fft import dctn, idctn

from monai_advdef.bundle import workflows
from monai_advdef.data import DataError
from monai_advdef.defenses import JPEG, Blur, FrequencyRefinement, fit_band_statistics, save_band_statistics
from monai_advdef.handlers import AdversarialCache, AttackHandler
from monai_advdef.papers.frequency_refinement.band_statistics import band_group, band_ranks
from monai_advdef.papers.frequency_refinement.figure1 import BandSums, PerturbationFigure
from monai_advdef.papers.frequency_refinement.figure2 import DefensePanels, pick
from monai_advdef.study import workflow

GROUPS = band_group(band_ranks(np.arange(64, 0, -1.0).reshape(8, 8)))


@given(st.integers(8, 30), st.integers(8, 30), st.sampled_from([1, 3]), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_moments_are_those_of_all_whole_blocks(height, width, channels, seed):
    change = torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 5
    sums = BandSums()
    for part in change.split([1, 2]):
        sums.add(part)
    h, w = height // 8, width // 8
    blocks = change.numpy()[..., : h * 8, : w * 8].reshape(3, channels, h, 8, w, 8).transpose(1, 0, 2, 4, 3, 5)
    coefficients = dctn(blocks.astype(np.float64), axes=(-2, -1), norm="ortho").reshape(channels, -1, 8, 8)
    pooled_mean, pooled_std, mean, std = (x.numpy() for x in sums.moments())
    np.testing.assert_allclose(mean, coefficients.mean(1), atol=1e-6)
    np.testing.assert_allclose(std, coefficients.std(1), atol=1e-6)
    np.testing.assert_allclose(pooled_mean, coefficients.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(pooled_std, coefficients.std((0, 1)), atol=1e-6)
    assert sums.images == 3 and sums.blocks == 3 * h * w


def test_energy_is_counted_where_it_is():
    band = np.zeros((8, 8))
    band[np.unravel_index(np.flatnonzero(GROUPS.ravel() == 2)[5], (8, 8))] = 40
    grey = torch.tensor(idctn(band, norm="ortho")).float().repeat(2, 3, 2, 2)
    sums = BandSums()
    sums.add(grey)
    shares = sums.shares(GROUPS)
    assert shares["band"] == pytest.approx({"PD": 0, "AC": 0, "GD": 1}, abs=1e-6)
    assert shares["colour"] == pytest.approx({"luma": 1, "Cb": 0, "Cr": 0}, abs=1e-6)
    pixels = torch.tensor([1.402, -0.714136, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8)  # JFIF's RGB of Y = Cb = 0, Cr = 1
    sums = BandSums()
    sums.add(pixels)
    assert sums.shares(GROUPS)["colour"] == pytest.approx({"luma": 0, "Cb": 0, "Cr": 1}, abs=1e-6)
    assert sums.shares(GROUPS)["band"]["PD"] == pytest.approx(1)
    sums = BandSums()
    sums.add(grey[:, :1])
    assert list(sums.shares(GROUPS)) == ["band"]
    with pytest.raises(ValueError, match="whole 8x8 block"):
        sums.add(torch.zeros(1, 3, 7, 20))


def engine(trained, update, attack, cases=4):
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader(items(cases or 1)[:cases], 2),
        network=network(trained),
        inferer=SimpleInferer(),
        iteration_update=update,
        val_handlers=[attack],
    )


def asma(folder, **options):
    told = {"steps": 8, "tau": 5e-5, "beta": 5e-3, "norm": "unbounded", "value_range": [0, 255], **options}
    return AttackHandler("ASMA", adaptive=False, cache_dir=folder / "adversarial", **told)


@pytest.fixture
def stored(monkeypatch):
    """Clean images of the cases in their order, and the adversarial ones that were stored of them."""
    kept, store = [], AdversarialCache.store

    def watched(cache, key, clean=None, **arrays):
        kept.append((clean, torch.as_tensor(arrays["adversarial"])))
        store(cache, key, clean, **arrays)

    def found():
        clean = blobs(4, seed=2)[0]
        return clean, torch.stack([next(a for base, a in kept if np.array_equal(base, c.numpy())) for c in clean])

    monkeypatch.setattr(AdversarialCache, "store", watched)
    return found


@pytest.fixture
def band_std(tmp_path):
    path = tmp_path / "band_std.json"
    save_band_statistics(fit_band_statistics(blobs(8, seed=1)[0]), path)
    return path


def test_figure_1_shows_the_named_case_and_the_bands_of_all(trained, tmp_path, band_std, stored):
    attack = asma(tmp_path)
    figure = PerturbationFigure(attack=attack, output_dir=tmp_path, band_std=band_std, case="case_2")
    path = figure.run(engine(trained, figure, attack))
    with Image.open(path) as shown:
        assert min(shown.size) > 600
    about = json.loads(path.with_suffix(".json").read_text())
    clean, adversarial = stored()
    change = (adversarial - clean).double()
    assert about["n"] == 4 and about["blocks"] == 4 * 36 and about["case"]["name"] == "case_2"
    assert about["case"]["rms"] == pytest.approx(float(change[2].square().mean().sqrt()), rel=1e-5)
    assert [sum(part.values()) for part in about["energy_share"].values()] == pytest.approx([1, 1])
    table = pd.read_csv(path.with_suffix(".csv"))
    assert (
        len(table) == 64
        and sorted(table["rank"]) == list(range(1, 65))
        and dict(table["band"].value_counts())
        == {
            "GD": 49,
            "AC": 12,
            "PD": 3,
        }
    )
    dc = table[(table["across"] == 0) & (table["down"] == 0)].iloc[0]
    assert dc["mean"] == pytest.approx(8 * float(change.mean()), rel=1e-4, abs=1e-5)


def test_figure_1_says_what_it_cannot_show(trained, tmp_path, band_std):
    attack = asma(tmp_path)
    figure = PerturbationFigure(attack=attack, output_dir=tmp_path, band_std=band_std, case="case_22")
    with pytest.raises(DataError, match=r"no test case is called 'case_22'; did you mean 'case_"):
        figure.run(engine(trained, figure, attack))
    with pytest.raises(DataError, match="no test case"):
        figure.run(engine(trained, figure, attack, cases=0))
    still = AttackHandler("FGSM", eps=0.0)
    figure = PerturbationFigure(attack=still, output_dir=tmp_path, band_std=band_std)
    with pytest.raises(ValueError, match="changed no image"):
        figure.run(engine(trained, figure, still))


def test_figure_2_prints_the_iou_behind_each_defence(trained, tmp_path, band_std, stored):
    attack = asma(tmp_path)
    defenses = [JPEG(quality=50), FrequencyRefinement(steps=(30, 5, 80), band_std=str(band_std)), Blur()]
    figure = DefensePanels(attack=attack, defenses=defenses, output_dir=tmp_path, cases=["worst", "case_1"])
    path = figure.run(engine(trained, figure, attack))
    with Image.open(path) as shown:
        assert min(shown.size) > 600
    about = json.loads(path.with_suffix(".json").read_text())
    clean, adversarial = stored()
    label, net = blobs(4, seed=2)[1].bool(), network(trained).eval()
    assert [(p["case"], p["image"]) for p in about["panels"]][2:] == [("case_1", "source"), ("case_1", "attacked")]
    for panel, image in zip(about["panels"][2:], (clean[1:2], adversarial[1:2])):
        for defense in (None, *defenses):
            with torch.no_grad():
                prediction = net(image if defense is None else defense(image)).argmax(1).bool()
            iou = 100 * float((prediction & label[1]).sum() / (prediction | label[1]).sum())
            assert panel["no defence" if defense is None else defense.label] == pytest.approx(iou, abs=1e-3)
    losses = {name: h.benign - h.attacked for name, h in figure.held.items()}
    assert about["panels"][0]["case"] == max(losses, key=losses.get)
    assert figure.held["case_1"].target is not None and torch.equal(figure.held["case_1"].target.bool(), label[2])


def test_cases_are_picked_by_the_loss_or_by_name():
    held = {f"c{i}": attacked - 0.9 for i, attacked in enumerate((0.5, 0.1, 0.8, 0.3, 0.7))}
    assert pick(held, ["worst", "median", "best", "c3"]) == [
        ("c1", "largest loss"),
        ("c0", "median loss"),
        ("c2", "smallest loss"),
        ("c3", ""),
    ]
    with pytest.raises(DataError, match="no case is called 'wrost'; did you mean 'worst'"):
        pick(held, ["wrost"])


def test_figure_2_refuses_what_is_no_defence_or_no_case(tmp_path):
    with pytest.raises(ValueError, match=r"defenses must hold defences .*got str"):
        DefensePanels(attack=asma(tmp_path), defenses=["JPEG"], output_dir=tmp_path)
    for cases in ([], "worst"):
        with pytest.raises(ValueError, match="cases must be a list"):
            DefensePanels(attack=asma(tmp_path), defenses=[], output_dir=tmp_path, cases=cases)


def test_the_overlays_run_on_a_bundle_and_share_the_adversarial_images(phantom_bundle, tmp_path):
    models, made = phantom_bundle.root / "models" / "band_std.json", {}
    for name in ("search", "figure1", "figure2"):
        files = [phantom_bundle.root / "configs" / f"{n}.yaml" for n in ("train", "evaluate")]
        overrides = {**phantom_bundle.settings(tmp_path), "attack_def::steps": 3}
        workflow(phantom_bundle.root, [*files, workflows()[f"papers/frequency_refinement/{name}"]], overrides).run()
        made[name] = len(list((tmp_path / "adversarial").glob("*.npz")))
    assert models.exists() and 0 < made["search"] < made["figure1"] == made["figure2"]
    files = {p.name for p in tmp_path.glob("frequency_refinement_*/*")}
    assert {
        "search.md",
        "search.csv",
        "heat_map.png",
        "bands.png",
        "bands.json",
        "figure1.png",
        "figure1.csv",
        "figure2.png",
    } <= files
    about = json.loads(next(tmp_path.glob("*/figure2.json")).read_text())
    assert list(about["panels"][0])[3:] == [
        "JPEG(85, 4:2:0)",
        "JPEG(50, 4:2:0)",
        "FR(20,10,60)",
        "FR(30,5,80)",
        "JPEG(85, 4:4:4)",
        "3x3 blur",
    ]
