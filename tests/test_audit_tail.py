"""The tail of a preprocessing: spatial transforms behind intensities are differentiated, boxes held, unknown transforms proved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.inferers import SimpleInferer
from monai.transforms import (
    Affine,
    AsChannelLast,
    BorderPad,
    CenterScaleCrop,
    CenterSpatialCrop,
    Compose,
    ConcatItemsd,
    CopyItemsd,
    CropForeground,
    CropForegroundd,
    DivisiblePad,
    DivisiblePadd,
    EnsureChannelFirstd,
    EnsureTyped,
    Flip,
    GaussianSharpen,
    GaussianSmooth,
    HistogramNormalized,
    Lambda,
    Lambdad,
    LoadImaged,
    MaskIntensity,
    MedianSmooth,
    NormalizeIntensity,
    NormalizeIntensityd,
    OneOf,
    Orientation,
    Orientationd,
    RandFlipd,
    RepeatChannel,
    Resize,
    Resized,
    ResizeWithPadOrCrop,
    Rotate,
    Rotate90,
    SavitzkyGolaySmooth,
    ScaleIntensity,
    ScaleIntensityd,
    ScaleIntensityFixedMean,
    ScaleIntensityRanged,
    SelectItemsd,
    SignalFillEmpty,
    Spacing,
    Spacingd,
    SpatialCrop,
    SpatialPad,
    SpatialPadd,
    Transpose,
    Zoom,
)
from PIL import Image

from monai_advdef import PreparedInferer
from monai_advdef.audit import NotDifferentiable, Tail, divided
from monai_advdef.audit.tail.proof import gradient_error
from monai_advdef.errors import DataError
from monai_advdef.handlers.cell import inferer_identity

SIZES = {2: (9, 11), 3: (6, 7, 8)}


def image(dims=3, channels=2, seed=0):
    x = torch.rand(channels, *SIZES[dims], generator=torch.Generator().manual_seed(seed)) * 300 - 20
    x[:, :2] = 0
    affine = torch.tensor([[0, -0.8, 0, 3], [1.1, 0, 0, 5], [0, 0, 2.0, 7], [0, 0, 0, 1]], dtype=torch.float64)
    return MetaTensor(x, affine=affine)


SHAPES = {
    "Spacing": lambda d: Spacing((1.0,) * d),
    "Spacing nearest": lambda d: Spacing((1.5,) * d, mode="nearest"),
    "Orientation": lambda d: Orientation("LPS"[:d]),
    "Resize": lambda d: Resize((6,) * d),
    "Resize smooth": lambda d: Resize((4,) * d, mode=("bilinear", "trilinear")[d - 2], anti_aliasing=True),
    "Resize longest": lambda d: Resize(6, size_mode="longest", mode="nearest"),
    "SpatialPad": lambda d: SpatialPad((12,) * d, value=-1),
    "SpatialPad reflect": lambda d: SpatialPad((10,) * d, mode="reflect"),
    "SpatialPad edge": lambda d: SpatialPad((12,) * d, mode="edge"),
    "BorderPad": lambda d: BorderPad(1),
    "DivisiblePad": lambda d: DivisiblePad(4),
    "ResizeWithPadOrCrop": lambda d: ResizeWithPadOrCrop((12, 4, 7)[:d]),
    "CenterSpatialCrop": lambda d: CenterSpatialCrop((4,) * d),
    "CenterScaleCrop": lambda d: CenterScaleCrop(0.6),
    "SpatialCrop": lambda d: SpatialCrop(roi_start=[1] * d, roi_end=[5] * d),
    "Rotate90": lambda d: Rotate90(),
    "Flip": lambda d: Flip(0),
    "Rotate": lambda d: Rotate((0.1, 0.2, 0.3)[: 2 * d - 3]),
    "Zoom": lambda d: Zoom(1.3, mode=("bilinear", "trilinear")[d - 2]),
    "Zoom out": lambda d: Zoom(0.7, mode="area"),
    "Affine": lambda d: Affine(rotate_params=(0.1, 0.2, 0.3)[: 2 * d - 3], image_only=True),
    "Transpose": lambda d: Transpose((0, 2, 1, 3)[: d + 1]),
    "RepeatChannel": lambda d: RepeatChannel(2),
    "AsChannelLast": lambda d: AsChannelLast(),
    "CropForeground": lambda d: CropForeground(lambda x: x > 0.5, margin=1, k_divisible=2),
    "GaussianSmooth": lambda d: GaussianSmooth(1.0),
    "GaussianSharpen": lambda d: GaussianSharpen(),
    "MedianSmooth": lambda d: MedianSmooth(1),
    "SavitzkyGolaySmooth": lambda d: SavitzkyGolaySmooth(5, 2),
    "MaskIntensity": lambda d: MaskIntensity(torch.arange(SIZES[d][-1]).expand(1, *SIZES[d]) % 2),
    "SignalFillEmpty": lambda d: SignalFillEmpty(),
    "FixedMean": lambda d: ScaleIntensityFixedMean(0.3, preserve_range=True, channel_wise=True),
    "FixedMean whole": lambda d: ScaleIntensityFixedMean(-0.3, fixed_mean=True),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_what_stands_behind_an_intensity_transform_is_monais_and_its_gradient_that_of_finite_differences(name, dims):
    x = image(dims)
    transforms = [ScaleIntensity(), SHAPES[name](dims)]
    tail = Tail(transforms)
    fed = Compose(transforms)(x)
    tail.require_equal(x[None], fed[None])
    assert torch.allclose(tail(x[None])[0], fed.as_tensor().float(), atol=1e-5)
    slack = 0.4 if name == "MedianSmooth" else 0.02  # the voxels that trade places within the step
    assert gradient_error(lambda part: tail(part[None])[0], x.as_tensor()) < slack


def case(dims=3, seed=0):
    x = image(dims, 1, seed)
    return {"image": x, "label": MetaTensor((x.as_tensor() > 150).float(), affine=x.affine)}


CHAIN = [
    Orientationd(["image", "label"], "RAS"),
    ScaleIntensityRanged("image", 0, 250, 0, 1, clip=True),
    CropForegroundd(["image", "label"], "image", lambda x: x > 0.3, margin=(1, 0, 2)),
    Spacingd(["image", "label"], (1, 1, 1), mode=("bilinear", "nearest")),
    SpatialPadd(["image", "label"], (12, 12, 12)),
    NormalizeIntensityd("image", nonzero=True),
    DivisiblePadd(["image", "label"], 8),
    EnsureTyped(["image", "label"], dtype=[torch.float32, torch.uint8]),
]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_chain_of_images_and_labels_is_divided_and_the_label_goes_its_own_way(lazy):
    whole = Compose(CHAIN, lazy=lazy)
    parts = divided(whole)
    for seed in range(3):
        made, x = whole(case(seed=seed)), parts.head(case(seed=seed))["image"]
        assert x.shape == (1, 7, 6, 8) and made["label"].shape == made["image"].shape
        batch, fed = list_data_collate([x]), list_data_collate([made["image"]])
        parts.tail.require_equal(batch, fed, [f"case {seed}"])
        given = x.as_tensor()[None].requires_grad_()
        assert parts.tail(given).requires_grad and parts.tail(batch).shape == fed.shape
        assert parts.tail.moved(batch) == []


def test_a_tail_must_know_the_grid_and_be_told_of_the_next_one():
    parts = divided(CHAIN)
    first, second = (parts.head(case(seed=s))["image"] for s in (0, 1))
    with pytest.raises(ValueError, match="must know their grid"):
        parts.tail(first.as_tensor()[None])
    parts.tail.hold(first[None])
    second.affine[0, 0] *= 2
    with pytest.raises(ValueError, match="not on the grid that is held"):
        parts.tail(second[None])
    with pytest.raises(ValueError, match="not on the grid that is held"):
        parts.tail(first.as_tensor()[None, ..., :-1])
    with pytest.raises(ValueError, match="batch_size 1"):
        parts.tail.hold(list_data_collate([first, second]))


def test_a_box_is_held_as_it_was_cut_and_told_where_the_attack_moves_it():
    x = torch.zeros(1, 10, 10)
    x[:, 3:7, 2:8] = 100
    x[:, 3, 2:8] = 29  # just below what counts as foreground
    parts = divided(
        [ScaleIntensityRanged("image", 0, 100, 0, 1), CropForegroundd("image", "image", lambda v: v > 0.3, allow_smaller=True)]
    )
    x = MetaTensor(x)
    parts.tail.require_equal(x[None], names="a")
    assert parts.tail(x[None]).shape == (1, 1, 3, 6)
    changed = x.as_tensor()[None].clone()
    changed[:, :, 3, 2] = 31
    assert torch.allclose(parts.tail(changed)[0], x.as_tensor()[:, 4:7, 2:8] / 100)
    assert parts.tail.moved(changed) == [
        "CropForegroundd would cut [3:7, 2:8] of this image, where it cuts [4:7, 2:8] of the clean one"
    ]
    assert parts.tail.moved(x[None]) == []


def test_a_box_cut_by_another_item_is_read_from_what_the_network_was_fed():
    chain = Compose([ScaleIntensityd("image"), CropForegroundd(["image", "label"], "label", margin=1)])
    parts, given = divided(chain), case()
    made, x = chain(case()), parts.head(given)["image"]
    assert made["image"].shape[1:] != x.shape[1:]
    parts.tail.require_equal(x[None], made["image"][None])
    assert parts.tail(x.as_tensor()[None]).shape[1:] == made["image"].shape
    with pytest.raises(NotDifferentiable, match="CropForegroundd cuts by 'label'"):
        parts.tail.require_equal(x[None])


def test_channels_scaled_apart_before_they_are_joined():
    def given():
        return {k: image(2, 1, s) for s, k in enumerate("ab")}

    chain = Compose(
        [
            NormalizeIntensityd("b"),
            ScaleIntensityd("a"),
            Resized(["a", "b"], (6, 6)),
            ConcatItemsd(["b", "a"], "both"),
            CopyItemsd("both", 1, "image"),
            SelectItemsd(["image"]),
        ]
    )
    parts = divided(chain)
    x = parts.head(given())["image"]
    assert torch.equal(x.as_tensor(), torch.cat([given()["b"], given()["a"]]).as_tensor())
    parts.tail.require_equal(x[None], chain(given())["image"][None])
    assert gradient_error(lambda part: parts.tail(part[None])[0], x.as_tensor()) < 0.02


class Halved:
    """Someone's own array transform."""

    def __call__(self, img):
        return img / 2 - 3


@pytest.mark.parametrize(
    "own",
    [
        Lambda(lambda x: (x - x.mean()) / x.std()),
        Lambda(lambda x: torch.log1p(x - x.min())),
        Lambda(lambda x: x[..., :5]),
        Halved(),
        lambda x: x.sqrt() if (x > 0).all() else x / 255,
    ],
)
def test_a_transform_that_is_not_known_is_believed_where_its_gradient_is_its_slope(own):
    x = image(2)
    tail = divided([own, ScaleIntensity()]).tail
    assert len(tail.transforms) == 2
    tail.require_equal(x[None], Compose([own, ScaleIntensity()])(x)[None])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (Lambda(lambda x: x - float(x.mean())), "Lambda is not known, and passes a gradient that is off its slope"),
        (Lambda(lambda x: x / float(x.max())), "off its slope"),
        (Lambda(lambda x: x / x.std().item()), "off its slope"),
        (Lambda(lambda x: torch.as_tensor(np.asarray(x.detach()) / 255)), "passes no gradient"),
        (Lambda(lambda x: x.round()), "passes no gradient"),
        (Lambda(lambda x: x["label"]), "Lambda cannot be run on the image alone"),
        (Spacing((1, 1), mode=3), "Spacing as it is set up passes no gradient"),
        (SpatialPad((20, 20), mode="minimum"), "SpatialPad as it is set up passes no gradient"),
    ],
)
def test_a_gradient_that_is_none_is_told(own, words):
    tail = Tail([NormalizeIntensity(subtrahend=3, divisor=2), own])
    with pytest.raises(NotDifferentiable, match=words):
        tail.require_equal(image(2)[None])


def test_what_has_no_gradient_by_its_nature_is_refused_in_words():
    with pytest.raises(NotDifferentiable, match="HistogramNormalized is not known, and passes no gradient"):
        Tail([HistogramNormalized("image")]).require_equal(image(2)[None])
    with pytest.raises(NotDifferentiable, match="EnsureTyped to torch.uint8 behind ScaleIntensityd rounds to whole numbers"):
        divided([ScaleIntensityd("image"), EnsureTyped(["image", "label"], dtype=[np.uint8, np.int32])])
    for random in (RandFlipd("label"), OneOf([ScaleIntensityd("image")])):
        with pytest.raises(DataError, match="draws at random"):
            divided([ScaleIntensityd("image"), Compose([random])])
    with pytest.raises(NotDifferentiable, match="EnsureChannelFirstd stands behind NormalizeIntensityd"):
        divided([NormalizeIntensityd("image", channel_wise=True), EnsureChannelFirstd("image")])


def test_half_precision_is_what_the_network_is_fed():
    tail, x = Tail([ScaleIntensity(), EnsureTyped("image", dtype=torch.float16)]), image(2)
    assert torch.equal(tail(x[None])[0], ScaleIntensity()(x).as_tensor().half().float())
    given = x.as_tensor()[None].requires_grad_()
    assert torch.autograd.grad(tail(given).square().sum(), given)[0].abs().sum() > 0


def test_channels_come_to_the_front_before_the_image_is_attacked(tmp_path):
    Image.fromarray((np.arange(8 * 9 * 3).reshape(8, 9, 3) % 251).astype(np.uint8)).save(tmp_path / "a.png")
    chain = [
        LoadImaged("image"),
        ScaleIntensityRanged("image", 0, 255, 0, 1),
        EnsureChannelFirstd("image"),
        Resized("image", (4, 4)),
    ]
    parts = divided(chain)
    given = {"image": str(tmp_path / "a.png")}
    x, fed = parts.head(given)["image"], Compose(chain)(given)["image"]
    assert x.shape == (3, 9, 8) and x.max() > 200
    parts.tail.require_equal(x[None], fed[None])
    assert [type(t).__name__ for t in parts.tail.transforms] == ["ScaleIntensityRanged", "Resized"]


def test_a_reader_of_ones_own_stays_in_the_head():
    chain = [Lambdad("image", lambda path: image(2)), ScaleIntensityd("image")]
    parts = divided(chain)
    assert parts.head({"image": "a.raw"})["image"].shape == (2, 9, 11)
    assert len(parts.tail.transforms) == 1


def test_a_box_cut_before_the_intensities_is_told_where_the_attack_moves_it():
    x = torch.zeros(1, 10, 10)
    x[:, 3:7, 2:8] = 100
    x[:, 3, 2:8] = 2  # foreground is above 0
    parts = divided([CropForegroundd("image", "image", allow_smaller=True), NormalizeIntensityd("image")])
    clean = parts.head({"image": MetaTensor(x)})["image"][None]
    parts.tail.require_equal(clean)
    assert clean.shape == (1, 1, 4, 6) and parts.tail.moved(clean) == []
    (moved,) = parts.tail.moved(clean - 3)
    assert moved == "CropForegroundd in front of it would cut [1:4, 0:6] of this image, where it cuts [0:4, 0:6] of the clean one"


def test_what_a_tail_does_is_told_by_its_transforms_and_not_by_the_case_at_hand():
    def inferer(*transforms):
        return PreparedInferer(SimpleInferer(), Tail(transforms))

    one, two = inferer(ScaleIntensity(), Flip(0)), inferer(ScaleIntensity(), Flip(0))
    two.prepare.hold(image(2)[None])
    assert inferer_identity(one) == inferer_identity(two) != inferer_identity(inferer(ScaleIntensity(), Flip(1)))
