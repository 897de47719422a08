"""From masks to diagnoses: disc, crop, CLAHE, classifiers, cup/disc ratio, thresholds, and the handler on tiny networks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from engines import evaluator
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Events
from monai.inferers import SimpleInferer
from PIL import Image
from scipy import ndimage
from scipy.stats import rankdata
from torch import nn

from monai_advdef.data import DataError
from monai_advdef.defenses import Blur, DefendedInferer
from monai_advdef.diagnosis import (
    CropAtDiscd,
    CropChannels,
    CropClassifier,
    CupDiscRatio,
    DiagnosisHandler,
    DiagnosisToLabeld,
    DiscAndCupd,
    DiscCropper,
    Ensemble,
    GlaucomaProbability,
    cases_of,
    clahe,
    find_disc,
    fit_threshold,
    square_crop,
)
from monai_advdef.handlers import AttackHandler

SIZE = 64


def ellipse(centre, radii, size=SIZE):
    """Mask (size, size) of an ellipse; axes (first, second)."""
    grid = np.indices((size, size)) - np.reshape(centre, (2, 1, 1))
    return torch.from_numpy(((grid / np.reshape(radii, (2, 1, 1))) ** 2).sum(0) <= 1)


def eye(centre, cup, disc=(10, 12)):
    """Image (3, SIZE, SIZE) of brightness classes (background 40, disc 120, cup 220) and its disc mask (1, SIZE, SIZE)."""
    disc_mask, cup_mask = ellipse(centre, disc), ellipse(centre, (cup, cup))
    grey = 40.0 + 80 * disc_mask + 100 * (cup_mask & disc_mask)
    return grey[None].repeat(3, 1, 1), disc_mask[None].float()


class Brightness(nn.Module):
    """Logits of brightness classes: the disc network (2 classes) and the cup network (3 classes) of :func:`eye` in one."""

    def __init__(self, classes):
        super().__init__()
        self.levels = nn.Parameter(torch.tensor([40.0, 120.0, 220.0][:classes]))

    def forward(self, x):
        if len(self.levels) == 2:
            return torch.cat([80 - x[:, :1], x[:, :1] - 80], 1)
        return -(x[:, :1] - self.levels.view(1, -1, 1, 1)).abs()


# -- where the disc is


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
@settings(max_examples=50, deadline=None)
def test_disc_is_scipys_largest_piece(seed, density):
    mask = np.random.default_rng(seed).random((13, 17)) < density
    disc = find_disc(torch.from_numpy(mask))
    pieces, n = ndimage.label(mask)
    if n == 0:
        assert disc == find_disc(torch.zeros(13, 17))
        return
    sizes = ndimage.sum_labels(mask, pieces, range(1, n + 1))
    centres = ndimage.center_of_mass(mask, pieces, range(1, n + 1))
    biggest = [i for i in range(n) if sizes[i] == sizes.max()]
    assert any(disc.centre == pytest.approx(centres[i]) for i in biggest)
    assert math.pi * (disc.diameter / 2) ** 2 == pytest.approx(sizes.max())


def test_disc_extent_is_per_axis_and_empty_masks_leave_the_centre():
    disc = find_disc(ellipse((20, 30), (8, 11)))
    assert disc.extent == (17, 23) and disc.centre == pytest.approx((20, 30)) and disc.found
    nothing = find_disc(torch.zeros(11, 20))
    assert not nothing.found and nothing.centre == (5.0, 9.5) and nothing.extent == (0, 0)
    assert disc.distance(find_disc(ellipse((23, 34), (3, 3)))) == pytest.approx(5.0)


@given(st.integers(-3, 15), st.integers(-3, 15), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_crop_is_numpys_edge_padding(first, second, side):
    image = torch.arange(3 * 12 * 13.0).reshape(3, 12, 13)
    wide = np.pad(image.numpy(), ((0, 0), (30, 30), (30, 30)), mode="edge")
    a, b = first + 30 - side // 2, second + 30 - side // 2
    np.testing.assert_array_equal(square_crop(image, (first + 0.2, second - 0.3), side), wide[:, a : a + side, b : b + side])


def test_crop_side_in_disc_diameters_makes_discs_equally_large():
    cropper = DiscCropper(side=32, disc_diameters=2.0)
    for radius in (6, 12):
        mask = ellipse((30, 33), (radius, radius))
        crop = cropper(mask[None].float(), find_disc(mask), mode="nearest")
        assert crop.shape == (1, 32, 32) and find_disc(crop[0]).diameter == pytest.approx(16, abs=1)
    assert cropper.cut(find_disc(torch.zeros(9, 9))) == 32
    with pytest.raises(ValueError, match="side and disc_diameters must be positive, got 0"):
        DiscCropper(side=0)


# -- what a classifier sees


def slow_clahe(grey, clip_limit, tiles):
    """The definition, pixel by pixel and without arrays of curves."""
    height, width = grey.shape
    th, tw = -(-height // tiles), -(-width // tiles)
    padded = np.pad(grey, ((0, th * tiles - height), (0, tw * tiles - width)), mode="symmetric")

    def curve(i, j, level):
        part = padded[i * th : (i + 1) * th, j * tw : (j + 1) * tw].ravel()
        counts = [int((part == v).sum()) for v in range(256)]
        limit = max(1.0, clip_limit * len(part) / 256)
        excess = sum(max(0.0, c - limit) for c in counts)
        return 255 / len(part) * sum(min(c, limit) + excess / 256 for c in counts[: level + 1])

    out = np.empty_like(grey)
    for y in range(height):
        for x in range(width):
            v, u = (y + 0.5) / th - 0.5, (x + 0.5) / tw - 0.5
            total = 0.0
            for i in (math.floor(v), math.floor(v) + 1):
                for j in (math.floor(u), math.floor(u) + 1):
                    weight = (1 - abs(v - i)) * (1 - abs(u - j))
                    total += weight * curve(min(max(i, 0), tiles - 1), min(max(j, 0), tiles - 1), grey[y, x])
            out[y, x] = round(total)
    return out


@pytest.mark.parametrize(("shape", "clip_limit", "tiles"), [((8, 8), 2.0, 2), ((7, 10), 6.0, 3)])
def test_clahe_is_its_definition(shape, clip_limit, tiles):
    grey = np.random.default_rng(0).integers(90, 120, shape, dtype=np.uint8)
    found = clahe(grey, clip_limit=clip_limit, tiles=tiles).astype(int)
    assert np.abs(found - slow_clahe(grey, clip_limit, tiles).astype(int)).max() <= 1  # a half rounds either way


def test_clahe_of_one_tile_without_limit_is_histogram_equalisation():
    grey = np.random.default_rng(1).normal(100, 8, (32, 32)).astype(np.uint8)
    ranks = rankdata(grey, method="max").reshape(grey.shape)
    np.testing.assert_allclose(clahe(grey, clip_limit=256, tiles=1), 255 * ranks / grey.size, atol=0.51)
    flat = np.full((16, 16), 77, np.uint8)
    assert len(np.unique(clahe(flat, clip_limit=2, tiles=4))) == 1
    with pytest.raises(ValueError, match="tiles must lie in 1..16 and clip_limit above 0, got 17"):
        clahe(flat, clip_limit=2, tiles=17)


def test_channels_are_colours_clahe_versions_and_positions():
    crop = torch.randint(60, 180, (2, 3, 16, 20)).float()
    channels = CropChannels(clahe=[[2, 4], [10, 2]])
    out = channels(crop)
    assert out.shape == (2, channels.channels, 16, 20) == (2, 11, 16, 20)
    torch.testing.assert_close(out[:, :3], (crop - 127.5) / 127.5)
    torch.testing.assert_close(out[0, 9, :, 3], torch.arange(16) / 16)
    torch.testing.assert_close(out[1, 10, 5], torch.arange(20) / 20)
    assert CropChannels(position_channels=False)(crop).shape[1] == 3
    grey = crop[:, :1].expand(-1, 3, -1, -1)
    version = 127.5 * (channels(grey)[0, 3:6] + 1)
    assert (version - version.mean(0)).abs().max() < 4  # of a grey crop the lightness only
    assert version.std() > grey[0].std()


def test_clahe_works_on_the_lightness_that_littlecms_finds():
    """With an identity in the place of CLAHE, the round trip through Lab keeps the colours."""
    crop = torch.from_numpy(np.array(Image.radial_gradient("L").resize((16, 16)))).float().expand(3, -1, -1)
    crop = crop * torch.tensor([0.9, 0.6, 0.4]).view(3, 1, 1)
    channels = CropChannels(clahe=[[2, 4]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_advdef.diagnosis.channels.clahe", lambda grey, **_: grey)
        assert (channels._versions(crop) - crop.round()).abs().max() <= 4


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("DenseNet", {"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}),
        ("ResNet", {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [2, 2, 2, 2]}),
    ],
)
def test_classifiers_take_crops(architecture, options):
    classifier = CropClassifier(architecture=architecture, options=options, clahe=[[2, 4]])
    assert classifier(127 + 20 * torch.randn(2, 3, 32, 32)).shape == (2, 2)
    with pytest.raises(ValueError, match="no architecture 'densenet121'; did you mean 'DenseNet121'"):
        CropClassifier(architecture="densenet121")


class Fixed(nn.Module):
    """The same logits for every crop."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, crop):
        return self.logits.expand(len(crop), -1)


def test_ensemble_averages_probabilities_and_trains_each_member_by_itself():
    members = [Fixed([0.0, 1.0]), Fixed([2.0, -1.0])]
    ensemble, crops, label = Ensemble(members), torch.zeros(3, 3, 8, 8), torch.tensor([1, 0, 1])
    sigmoid = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3))]
    assert GlaucomaProbability(ensemble)(crops, [0] * 3).tolist() == pytest.approx([sum(sigmoid) / 2] * 3)
    losses = [nn.functional.cross_entropy(m(crops), label, weight=torch.tensor([2.0, 1.0])) for m in members]
    torch.testing.assert_close(Ensemble.loss(ensemble(crops), label, [2.0, 1.0]), sum(losses) / 2)


# -- readings and thresholds


def test_cup_disc_ratio_is_vertical():
    """Images are (width, height): the disc is 21 wide and 25 high, the cup 13 either way."""
    image, mask = eye((32, 32), 6)
    reader = CupDiscRatio(Brightness(3))
    extent = find_disc(mask[0]).extent[1]
    assert extent == 25 and reader(image[None], [extent]).tolist() == pytest.approx([13 / 25])
    assert CupDiscRatio(Brightness(3), disc_from="crop")(image[None], [1]).tolist() == pytest.approx([13 / 25])
    assert CupDiscRatio(Brightness(3), vertical_axis=0, disc_from="crop")(image[None], [0]).tolist() == pytest.approx([13 / 21])


def test_cup_disc_ratio_without_a_disc_or_with_a_small_one():
    image, _ = eye((32, 32), 6)
    reader = CupDiscRatio(Brightness(3))
    nothing = torch.full_like(image, 40.0)
    assert reader(torch.stack([image, nothing, image]), [0, 0, 10]).tolist() == pytest.approx([13 / 25, 0.0, 1.3])
    for wrong in ({"disc_from": "masks"}, {"vertical_axis": 2}):
        with pytest.raises(ValueError, match="must be"):
            CupDiscRatio(Brightness(3), **wrong)


def cases(cups=(3, 4, 8, 9), found=True):
    """Cases whose cups of radius 8 and more mean glaucoma."""
    made = []
    for i, cup in enumerate(cups):
        image, mask = eye((30 + 2 * i, 34 - 3 * i), cup)
        word = "glaucoma" if cup >= 8 else "normal"
        made.append({"image": image if found else 0 * image, "label": mask, "case": f"eye_{i}", "diagnosis": word})
    return made


def test_threshold_is_written_and_read_back(tmp_path):
    path = tmp_path / "models" / "cup.json"
    threshold = fit_threshold(CupDiscRatio(Brightness(3)), cases(), path, side=48)
    assert threshold == pytest.approx((9 + 17) / 2 / 25)  # between the ratios 9/25 and 17/25
    content = json.loads(path.read_text())
    assert content["threshold"] == threshold and content["auc_on_these_cases"] == 1.0 and content["cases"] == 4
    torch.save({"model": Brightness(3).state_dict()}, tmp_path / "cup.pt")
    reader = CupDiscRatio(Brightness(3), weights=[tmp_path / "cup.pt"], threshold=path)
    assert [reader.decide(v) for v in (threshold - 1e-6, threshold)] == [0.0, 1.0]


def test_missing_weights_name_the_command_that_makes_them(tmp_path):
    command = r"train it first.*monai.bundle run.*'configs/train.yaml','configs/train_cup.yaml'"
    with pytest.raises(DataError, match=rf"cup.pt of cup_disc_ratio do not exist; {command}"):
        CupDiscRatio(Brightness(3), weights=[tmp_path / "cup.pt"])
    with pytest.raises(DataError, match=rf"threshold file .*cup.json of cup_disc_ratio does not exist; {command}"):
        CupDiscRatio(Brightness(3), threshold=tmp_path / "cup.json")
    with pytest.raises(DataError, match="has no threshold; train it first.*train_diagnosis.yaml"):
        GlaucomaProbability(Ensemble([])).decide(0.5)
    torch.save(Brightness(2).state_dict(), tmp_path / "cup.pt")
    with pytest.raises(DataError, match="do not fit the network of cup_disc_ratio"):
        CupDiscRatio(Brightness(3), weights=[tmp_path / "cup.pt"])
    (tmp_path / "cup.json").write_text("{}")
    with pytest.raises(DataError, match="holds no number under 'threshold'"):
        CupDiscRatio(Brightness(3), threshold=tmp_path / "cup.json")


# -- training crops


def test_training_crops_are_about_the_disc():
    item = cases()[2]
    item["cup"] = ellipse((34, 28), (8, 8))[None].float()
    labelled = DiscAndCupd()(item)
    assert labelled["label"].unique().tolist() == [0, 1, 2] and int((labelled["label"] == 2).sum()) == int(item["cup"].sum())
    cropped = CropAtDiscd(["image", "label"], side=40, mode=["bilinear", "nearest"])(labelled)
    assert cropped["image"].shape == (3, 40, 40) and find_disc(cropped["label"][0]).centre == pytest.approx((20, 20))
    torch.testing.assert_close(cropped["image"][0] > 60, cropped["label"][0] > 0)
    assert [int(DiagnosisToLabeld()(case)["label"]) for case in cases()] == [0, 0, 1, 1]


def test_cases_without_diagnosis_or_cup_are_told():
    data = {"train": [{"case": "a", "diagnosis": "normal"}, {"case": "b", "diagnosis": "glaucoma"}], "test": [{"case": "c"}]}
    assert [case["case"] for case in cases_of(data, ["train"])] == ["a", "b"]
    with pytest.raises(DataError, match="no cup mask .a, b.; put them into masks_cup/"):
        cases_of(data, ["train"], cups=True)
    with pytest.raises(DataError, match=r"section 'train \+ test' have no diagnosis .c."):
        cases_of(data, ["train", "test"])


# -- the handler


def diagnose(data, *, inferer=None, attack=None, **options):
    """The readings per case of an evaluation with networks that know :func:`eye` by heart."""
    readers = [CupDiscRatio(Brightness(3), threshold=0.6), GlaucomaProbability(Ensemble([Fixed([0.0, 1.0])]), threshold=0.5)]
    handler = DiagnosisHandler(readers, side=48, **options)
    engine = evaluator(Brightness(2), [handler], data=data, inferer=inferer)
    if attack:
        engine.add_event_handler(Events.ITERATION_STARTED, attack)
    found = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: found.extend(e.state.readings))
    engine.run()
    return found


def test_handler_reads_every_case():
    found = diagnose(cases())
    assert [r["glaucoma", "cup_disc_ratio"] for r in found] == pytest.approx([7 / 25, 9 / 25, 17 / 25, 19 / 25])
    assert [r["glaucoma", "positive_cup_disc_ratio"] for r in found] == [r["glaucoma", "truth"] for r in found] == [0, 0, 1, 1]
    for reading in found:
        assert reading["glaucoma", "probability"] == pytest.approx(1 / (1 + math.exp(-1)))
        assert reading["glaucoma", "positive_probability"] == 1.0
        assert (reading["optic disc", "crop_shift_px"], reading["optic disc", "disc_found"]) == (0.0, 1.0)
        assert all(isinstance(value, float) for value in reading.values())


def test_empty_mask_falls_back_to_the_middle_and_says_so():
    for reading in diagnose(cases(found=False)):
        assert reading["optic disc", "disc_found"] == 0.0 and reading["glaucoma", "cup_disc_ratio"] == 0.0


class Displace:
    """An attack that paints the disc over and a smaller one elsewhere; it leaves the state as an ``AttackHandler`` does."""

    def __init__(self, painted):
        self.painted = painted

    def __call__(self, engine):
        clean = torch.as_tensor(engine.state.batch["image"]).clone()
        engine.state.attack = type("Attacked", (), {"iteration": engine.state.iteration, "clean": clean})
        attacked, _ = eye(self.painted, 3, (5, 5))
        engine.state.batch["image"] = attacked.expand_as(clean).clone()


def test_crop_shift_is_the_distance_to_the_benign_crop():
    attacked = diagnose(cases(), attack=Displace((20, 20)))
    expected = [math.dist((30 + 2 * i, 34 - 3 * i), (20, 20)) for i in range(4)]
    assert [r["optic disc", "crop_shift_px"] for r in attacked] == pytest.approx(expected)
    assert [r["glaucoma", "cup_disc_ratio"] for r in attacked] == pytest.approx([7 / 11] * 4)


def test_crop_from_benign_or_truth_takes_the_shift_away():
    for source in ("benign", "truth"):
        found = diagnose(cases(), attack=Displace((45, 20)), crop_from=source)
        assert [r["optic disc", "crop_shift_px"] for r in found] == pytest.approx([0.0] * 4)
    with pytest.raises(ValueError, match="no crop_from 'bening'; did you mean 'benign'"):
        DiagnosisHandler([], crop_from="bening")


def test_defence_stands_before_the_crop_and_not_before_the_benign_prediction():
    """A wide blur makes the rim of the cup grey: the reading is of the blurred crop, the shift from the sharp clean image."""
    seen = []

    class Remember(Brightness):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    blur = Blur()
    inferer = DefendedInferer(SimpleInferer(), blur)
    handler = DiagnosisHandler([CupDiscRatio(Remember(3), threshold=0.6)], side=48)
    data = cases()[:2]
    evaluator(Brightness(2), [handler], data=data, inferer=inferer).run()
    whole = blur(torch.stack([case["image"] for case in data]))
    place = find_disc(whole[0, 0] > 80)
    torch.testing.assert_close(seen[0][0], square_crop(whole[0], place.centre, 48))


def test_real_attacks_leave_what_the_handler_needs():
    attack = AttackHandler("PGD", steps=1, eps=0.0)
    readers = [CupDiscRatio(Brightness(3), threshold=0.6)]
    engine = evaluator(Brightness(2), [attack, DiagnosisHandler(readers, side=48)], data=cases())
    engine.run()
    assert [r["optic disc", "crop_shift_px"] for r in engine.state.readings] == [0.0]


def test_case_without_diagnosis_is_named():
    data = cases()
    for case in data:
        del case["diagnosis"]
    with pytest.raises(DataError, match="'eye_0' has no 'diagnosis'; write a labels.csv"):
        diagnose(data)
