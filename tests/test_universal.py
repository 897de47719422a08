"""One perturbation for all images: better than noise on images it was not fitted to, refused where it does not belong."""

from __future__ import annotations

import pytest
import torch
from conftest import blobs, small_unet
from torch import nn

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import Noise, UniversalPerturbation, fit_universal
from monai_advdef.attacks.universal import load_universal, save_universal, tiled
from monai_advdef.bundle import bundles, workflows
from monai_advdef.records import read_records
from monai_advdef.study import workflow


def batches(cases=16, size=48):
    image, label = blobs(cases, seed=9, size=size)
    return [{"image": image[i : i + 8], "label": label[i : i + 8]} for i in range(0, cases, 8)]


@pytest.mark.parametrize("tile", [None, (20, 20)])
@pytest.mark.parametrize("threat", [ThreatModel(eps=12), ThreatModel(norm="l2", eps=800)], ids=["linf", "l2"])
def test_it_carries_over_to_images_that_it_has_not_seen(victim, cases, tmp_path, threat, tile):
    path = tmp_path / "folder" / "u.pt"
    losses = fit_universal(victim, batches(), threat, path, epochs=4, tile=tile)
    outcome = run(UniversalPerturbation(weights=str(path)), victim, threat, *cases)
    assert len(losses) == 4 and losses[-1] > losses[0] + 0.05
    assert float(outcome.score.mean()) > float(run(Noise(), victim, threat, *cases).score.mean()) + 0.2
    assert bool((outcome.size <= threat.eps * (1 + 1e-6)).all()) and (outcome.forwards, outcome.backwards) == (1, 0)
    again = tmp_path / "again.pt"
    assert fit_universal(victim, batches(), threat, again, epochs=4, tile=tile) == losses
    assert torch.equal(load_universal(path)[0]["perturbation"], load_universal(again)[0]["perturbation"])


def test_the_optimum_on_a_linear_victim(tmp_path):
    """The sign of the weights, whichever images it is fitted to."""

    class Linear(nn.Module):
        weight = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))

        def forward(self, x):
            z = (x * self.weight).sum(1, keepdim=True) / 100
            return torch.cat([torch.zeros_like(z), z], 1)

    image = 100 + 50 * torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    data = [{"image": image[i : i + 4], "label": torch.ones(4, 1, 12, 12)} for i in (0, 4)]
    threat = ThreatModel(eps=6)
    fit_universal(Victim(Linear()), data, threat, tmp_path / "u.pt", epochs=4, objective="cross_entropy")
    found = load_universal(tmp_path / "u.pt")[0]["perturbation"]
    assert torch.equal(found, -6 * Linear.weight.sign())
    fit_universal(Victim(Linear()), data, threat, tmp_path / "t.pt", epochs=4, tile=[4, 6], objective="cross_entropy")
    folded = load_universal(tmp_path / "t.pt")[0]["perturbation"]
    assert folded.shape == (3, 4, 6) and float(folded.abs().min()) == 6


def test_a_tile_is_repeated_and_cut_off():
    tile = torch.arange(12.0).reshape(1, 3, 4)
    laid = tiled(tile, torch.zeros(2, 1, 7, 10), periodic=True)
    assert all(laid[0, i, j] == tile[0, i % 3, j % 4] for i in range(7) for j in range(10))


def test_volumes_and_masks_of_several_classes(tmp_path):
    g = torch.Generator().manual_seed(0)
    image, label = torch.randn(2, 2, 16, 16, 16, generator=g), torch.randint(0, 2, (2, 3, 16, 16, 16), generator=g).float()
    threat = ThreatModel(eps=0.1, value_range="image", unit="sigma")
    victim = Victim(small_unet(3, 2, 3).eval(), activation="sigmoid")
    fit_universal(victim, [{"image": image, "label": label}], threat, tmp_path / "u.pt", epochs=2, tile=[8, 8, 8])
    outcome = run(UniversalPerturbation(weights=str(tmp_path / "u.pt")), victim, threat, image, label)
    assert 0 < float(outcome.size.max()) <= 0.1 * (1 + 1e-6)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "u.pt"
    save_universal(path, torch.ones(3, 48, 48), ThreatModel(eps=8), periodic=False)
    return str(path)


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (ThreatModel(eps=4), r"were fitted for eps \[8.0\] \(here \[4.0\]\)"),
        (ThreatModel(norm="l2", eps=8), r"were fitted for norm linf \(here l2\)"),
        (ThreatModel(eps=8, unit="HU"), "were fitted for unit grey level"),
        (ThreatModel(norm="unbounded"), "has one size, in image units"),
        (ThreatModel(eps=8, relative=True), "has one size, in image units"),
    ],
)
def test_another_threat_is_refused(victim, cases, saved, threat, words):
    with pytest.raises(ValueError, match=words):
        run(UniversalPerturbation(weights=saved), victim, threat, *cases)


@pytest.mark.parametrize("shape", [(3, 48, 64), (1, 48, 48), (3, 8, 48, 48)])
def test_another_size_is_refused(saved, shape):
    network = nn.Conv3d(3, 2, 1) if len(shape) == 4 else nn.Conv2d(shape[0], 2, 1)
    image = 100 + torch.zeros(2, *shape)
    with pytest.raises(ValueError, match=r"is made for images \(3, 48, 48\) .*fit one with a tile"):
        run(UniversalPerturbation(weights=saved), Victim(network), ThreatModel(eps=8), image, image[:, :1] * 0)


def test_files_that_are_none_and_batches_that_cannot_be_fitted(victim, saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; fit one with workflows/training/universal"):
        UniversalPerturbation(weights=str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match=r"text.pt' cannot be read .*fit one"):
        UniversalPerturbation(weights=str(tmp_path / "text.pt"))
    torch.save({"model": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="hold no universal perturbation"):
        UniversalPerturbation(weights=str(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="have SHA-256 .*not abc"):
        UniversalPerturbation(weights=saved, sha256="abc")
    assert UniversalPerturbation(weights=saved).sha256 == load_universal(saved)[1]
    for data, options, words in (
        ([], {}, "needs batches and epochs ≥ 1, got 0 and 10"),
        (batches(), {"epochs": 0}, "needs batches and epochs ≥ 1, got 2 and 0"),
        (batches(), {"tile": [8]}, "tile must give a size ≥ 1 for each of 2 axes"),
        (batches(8) + batches(8, size=40), {}, "is made for images .*fit one with a tile"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_universal(victim, data, ThreatModel(), tmp_path / "v.pt", **options)
    assert not (tmp_path / "v.pt").exists()


@pytest.mark.parametrize("told", [{}, {"universal_tile": "[24, 24]", "universal_epochs": 2}])
def test_a_bundle_fits_one_and_is_evaluated_under_it(phantom_bundle, tmp_path, told):
    settings = {**phantom_bundle.settings(tmp_path / "fit"), **told, "ckpt_dir": str(tmp_path / "weights")}
    settings["undefended"] = str(phantom_bundle.root / "models" / "model.pt")
    train = bundles()["skin_lesion_dermoscopy_segmentation"] / "configs" / "train.yaml"
    workflow(phantom_bundle.root, [train, workflows()["training/universal"]], settings).run()
    path = str(tmp_path / "weights" / "universal.pt")
    tables = []
    for i in range(2):
        phantom_bundle.evaluate(tmp_path / str(i), "attacks/universal", attack__weights=path, record__card=False)
        tables.append(read_records(tmp_path / str(i) / "records").drop(columns="seconds"))
    assert tables[0].equals(tables[1]) and (tables[0]["backwards"] == 0).all() and (tables[0]["linf"] > 7.9).all()
    assert not tables[0]["adaptive"].any()
