"""What every image defence promises: exact forward pass, dtype, shape, range, MetaTensor, configuration, place before an inferer."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_advdef import ThreatModel, Victim, run
from monai_advdef.attacks import FGSM, PGD
from monai_advdef.defenses import (
    JPEG,
    Blur,
    DefendedInferer,
    EightBit,
    FrequencyRefinement,
    RandomizedFrequencyRefinement,
    clamp_ste,
    round_ste,
)
from monai_advdef.defenses.core import Defense
from monai_advdef.transforms.array import DefenseTransform

DEFENSES = [
    JPEG(),
    JPEG(quality=50, subsampling="4:2:2", backend="pillow"),
    JPEG(backend="simplejpeg", subsampling="4:4:4"),
    FrequencyRefinement(),
    FrequencyRefinement(steps=(20, 10, 60), table="zones", surrogate="straight_through"),
    FrequencyRefinement(surrogate=None, level_shift=128),
    FrequencyRefinement(color="ycbcr"),
    FrequencyRefinement(color="ycbcr", subsampling="4:2:0", steps=(20, 10, 60), level_shift=128),
    RandomizedFrequencyRefinement(),
    RandomizedFrequencyRefinement(color="ycbcr", subsampling="4:2:0", table="zones", grid_shift=False),
    Blur(),
    EightBit(),
]
each = pytest.mark.parametrize("defense", DEFENSES, ids=lambda d: f"{d.label}-{getattr(d, 'backend', d.surrogate)}")


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 255


@each
@pytest.mark.parametrize("shape", [(2, 3, 19, 26), (1, 1, 8, 8), (1, 4, 9, 33), (2, 1, 3, 10, 17), (1, 3, 2, 16, 16), (1, 3, 1, 1)])
def test_shape_range_and_input_untouched(defense, shape):
    colour = getattr(defense, "color", "rgb") == "ycbcr"
    x = images(shape[0], 3, *shape[2:]) if colour else images(*shape)
    before = x.clone()
    out = defense(x)
    assert out.shape == x.shape and out.dtype == x.dtype and type(out) is torch.Tensor
    assert torch.equal(x, before) and out.data_ptr() != x.data_ptr()
    assert out.min() >= 0 and out.max() <= 255
    assert torch.equal(defense(x), out)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_dtype(defense, dtype):
    x = images(1, 3, 17, 16).to(dtype)
    out = defense(x)
    assert out.dtype == dtype
    agree = (out.float() - defense(x.float())).abs() <= 1  # a rounding tie may fall either way in another precision
    assert agree.float().mean() > (0.8 if dtype == torch.float64 else 0.999)


@each
def test_forward_is_the_same_with_and_without_gradients(defense):
    x = images(2, 3, 21, 16)
    with torch.no_grad():
        plain = defense(x)
    assert torch.equal(defense(x.clone().requires_grad_()).detach(), plain)


@each
def test_surrogate_gives_a_gradient_unless_there_is_none(defense):
    x = images(1, 3, 16, 20).requires_grad_()
    out = defense(x)
    assert out.requires_grad == (defense.surrogate is not None)
    if out.requires_grad:
        (g,) = torch.autograd.grad(out.square().sum(), x)
        assert g.shape == x.shape and bool(g.isfinite().all()) and bool(g.any())


@each
def test_nan_is_not_hidden(defense):
    x = images(2, 3, 16, 16)
    x[1, 2, 3, 4] = torch.nan
    out = defense(x)
    assert bool(out[1].isnan().any()) and bool(out[0].isfinite().all())


@each
def test_value_range_only_renames_the_grey_levels(defense):
    x = images(1, 3, 24, 17).round()
    config = defense.to_config()
    for low, high in ((0, 1), (-1000.0, 1000.0), (-0.5, 0.5)):
        scaled = ConfigParser({"d": {**config, "value_range": [low, high]}}).get_parsed_content("d")
        out = scaled(x / 255 * (high - low) + low)
        torch.testing.assert_close((out - low) / (high - low) * 255, defense(x), atol=1e-2, rtol=0)


@each
def test_configuration_is_plain_json_and_builds_an_equal_object(defense):
    config = json.loads(json.dumps(defense.to_config()))
    assert config == defense.to_config()
    twin = ConfigParser({"d": config}).get_parsed_content("d")
    x = images(1, 3, 16, 16)
    assert twin.label == defense.label and twin.to_config() == config and torch.equal(twin(x), defense(x))
    assert not defense.state_dict() and not list(defense.parameters())


@each
def test_generators_are_only_for_the_stochastic(defense):
    x, streams = images(2, 3, 24, 16), [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    states = [g.get_state() for g in streams]
    out = defense(x, streams)
    drawn = [not torch.equal(g.get_state(), state) for g, state in zip(streams, states)]
    assert drawn == [defense.stochastic] * 2 and torch.equal(out, defense(x)) != defense.stochastic
    with pytest.raises(ValueError, match="generators must be one per case, got 1 for 2 cases"):
        defense(x, streams[:1])


@each
def test_metatensor_keeps_its_meta_data(defense):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    x = MetaTensor(images(1, 3, 16, 16), affine=affine, meta={"filename_or_obj": "case.png"})
    out = defense(x)
    assert isinstance(out, MetaTensor) and out.meta["filename_or_obj"] == "case.png" and torch.equal(out.affine, affine.double())
    assert torch.equal(out.as_tensor(), defense(x.as_tensor()))


@each
def test_cases_are_independent(defense):
    x = images(3, 3, 17, 24)
    torch.testing.assert_close(defense(x)[1:2], defense(x[1:2]), atol=0, rtol=0)


def test_labels():
    assert [d.label for d in DEFENSES] == [
        "JPEG(85, 4:2:0)",
        "JPEG(50, 4:2:2)",
        "JPEG(85, 4:4:4)",
        "FR(30,5,80)",
        "FR(20,10,60, zones)",
        "FR(30,5,80)",
        "FR(30,5,80) YCbCr 4:4:4",
        "FR(20,10,60) YCbCr 4:2:0",
        "FR(30,5,80) randomized",
        "FR(30,5,80, zones) YCbCr 4:2:0 randomized",
        "3x3 blur",
        "8-bit",
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-400, 400, width=32), min_size=1, max_size=8))
def test_straight_through(values):
    x = torch.tensor(values, requires_grad=True)
    assert torch.equal(round_ste(x), x.round()) and torch.equal(clamp_ste(x, 0, 255), x.clamp(0, 255))
    g = torch.arange(1.0, len(values) + 1)
    for function in (round_ste(x), clamp_ste(x, 0, 255)):
        assert torch.equal(torch.autograd.grad(function, x, g)[0], g)


def test_blur_is_the_box_mean():
    x = images(1, 2, 5, 6)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    mean = sum(padded[..., i : i + 5, j : j + 6] for i in range(3) for j in range(3)) / 9
    torch.testing.assert_close(Blur()(x), mean)
    assert torch.autograd.gradcheck(Blur(), (x.double().requires_grad_(),), fast_mode=True)


def test_eight_bit_rounds_and_clamps():
    x = torch.tensor([-3.0, 0.4, 0.6, 254.6, 270.0]).view(1, 1, 1, 5)
    assert EightBit()(x).flatten().tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("value_range", [(255, 0), (1, 1), "image", (0,), 255, ((0, 1), (0, 1))])
def test_bad_value_range(value_range):
    with pytest.raises(ValueError, match="value_range must be a pair"):
        EightBit(value_range=value_range)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8), (1, 1, 1, 8, 8, 8)])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match=r"image must be \(B, C, H, W\) or"):
        EightBit()(torch.zeros(shape))


def test_defended_inferer_defends_the_whole_image_once():
    seen: list[torch.Size] = []

    class Counting(Defense):
        def refine(self, grey: torch.Tensor) -> torch.Tensor:
            seen.append(grey.shape)
            return grey.round()

    x, network = images(1, 1, 32, 32), torch.nn.Conv2d(1, 2, 3, padding=1)
    window = SlidingWindowInferer(roi_size=(16, 16), overlap=0.5)
    inferer = DefendedInferer(window, Counting())
    torch.testing.assert_close(inferer(x, network), window(x.round(), network))
    assert seen == [x.shape] and inferer.inferer is window and isinstance(inferer.defense, Counting)


def test_defended_inferer_passes_arguments_and_meta_on():
    x = MetaTensor(images(1, 1, 8, 8), meta={"name": "a"})
    out = DefendedInferer(SimpleInferer(), EightBit())(x, lambda inputs, add, factor=1: inputs * factor + add, 3, factor=2)
    assert isinstance(out, MetaTensor) and out.meta["name"] == "a"
    assert torch.equal(out.as_tensor(), x.as_tensor().round() * 2 + 3)


# ------------------------------------------------------------------ images of another range


RANGED = [JPEG, FrequencyRefinement, EightBit]


def _refuse(kind, image, words, **options):
    """Everywhere a defence meets images as they are loaded: deployed, attacked, as a transform."""
    defense = kind(**options)
    victim = Victim(torch.nn.Conv2d(3, 2, 1), defense=defense)
    threat = ThreatModel(norm="unbounded", value_range="image", unit="any")
    for use in (
        lambda: DefendedInferer(SimpleInferer(), defense)(image, lambda x: x),
        lambda: DefenseTransform(defense)(image[0]),
        lambda: run(FGSM(), victim, threat, image, torch.zeros(len(image), 1, *image.shape[2:])),
    ):
        with pytest.raises(ValueError, match=rf"{kind.__name__} has value_range {words}.* give value_range"):
            use()
    assert defense.checked, "the check stays off after an attack"


@pytest.mark.parametrize("kind", RANGED)
def test_images_of_another_range_are_refused_with_both_ranges(kind):
    grey = torch.randint(0, 256, (2, 3, 16, 16)).float()
    grey[:, :, 0, 0], grey[:, :, 0, 1] = 0, 255
    _refuse(kind, grey / 255, r"\(0, 255\), but is given images in \[0, 1\]")
    _refuse(kind, (grey - 127.5) / 60, r"\(0, 255\), but the images span \[-2\.1")
    _refuse(kind, grey * 3 - 300, r"\(0, 255\), but the images span \[-300, 465\]")
    _refuse(kind, grey, r"\(0, 1\), but the images span \[0, 255\]", value_range=(0, 1))
    _refuse(kind, grey * 16, r"\(-160, 240\)", value_range=(-160, 240))
    with pytest.raises(ValueError, match=r"value_range \(0, 255\), but is given images in \[0, 1\]"):
        kind()(grey / 255)


@pytest.mark.parametrize("kind", RANGED)
def test_images_of_the_right_range_pass_give_or_take_a_rounding(kind):
    grey = torch.randint(0, 256, (2, 3, 16, 16)).float()
    for image, options in (
        (grey, {}),
        (grey * 1.02 - 2.5, {}),
        (grey / 255, {"value_range": (0, 1)}),
        (grey / 255 * 400 - 160, {"value_range": (-160, 240)}),
        (torch.zeros_like(grey), {}),
        (grey.round() % 2, {}),
        (grey.to(torch.uint8), {}),
    ):
        assert DefendedInferer(SimpleInferer(), kind(**options))(image, lambda x: x).shape == image.shape


def test_a_defence_without_a_range_of_its_own_takes_any():
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(DefendedInferer(SimpleInferer(), Blur())(image, lambda x: x), Blur()(image))


def test_a_dark_image_can_be_attacked_by_a_single_grey_level():
    dark, label = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    torch.manual_seed(0)
    victim = Victim(torch.nn.Conv2d(3, 2, 3, padding=1), defense=EightBit())
    assert float(run(PGD(steps=3, step_size=0.3), victim, ThreatModel(eps=0.9), dark, label).size) <= 0.9
