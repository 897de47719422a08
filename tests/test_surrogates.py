"""The smooth rounding: its gradient against autograd of the explicit formula, forward passes bit for bit as without it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from monai_advdef import Victim
from monai_advdef.dct import block_dct, block_idct, crop_to
from monai_advdef.defenses import (
    JPEG,
    Blur,
    EightBit,
    FrequencyRefinement,
    RandomizedFrequencyRefinement,
    quality_tables,
    round_smooth,
)
from monai_advdef.defenses.colour import chroma_in_rgb, double, halve, to_ycbcr
from monai_advdef.defenses.core import Defense
from monai_advdef.defenses.jpeg_model import code
from monai_advdef.defenses.quantiser import look_through
from monai_advdef.transforms import DCTFrequencyRefinement, JPEGCompression

SMOOTHNESS = pytest.mark.parametrize("a", [0.0, 0.5, 0.95, 1.0])


def soft(x: Tensor, a: float) -> Tensor:
    """The smooth rounding itself."""
    return x - a / (2 * math.pi) * torch.sin(2 * math.pi * x)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Whole grey levels away from black and white, float64."""
    return torch.randint(60, 190, shape, generator=torch.Generator().manual_seed(seed)).double()


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x), x, g)[0]


def soft_code(planes: Tensor, table: Tensor, a: float) -> Tensor:
    """Blocks with their coefficients rounded smoothly: padding, DCT, the formula, inverse, cropping."""
    size = planes.shape[-table.ndim :]
    flat = planes.reshape(-1, 1, *size)
    padded = functional.pad(flat, [side for n in reversed(size) for side in (0, -n % 8)], mode="replicate")
    step = table.to(planes).repeat(*(n // 8 for n in padded.shape[2:]))
    return crop_to(block_idct(soft(block_dct(padded) / step, a) * step), size).reshape(planes.shape)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8), st.floats(0, 1))
def test_rounding_has_the_value_of_the_rounding_and_the_gradient_of_the_formula(values, a):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    out = round_smooth(x, a)
    assert torch.equal(out, x.round())
    (ours,) = torch.autograd.grad(out.sum(), x)
    (expected,) = torch.autograd.grad(soft(x, a).sum(), x)
    torch.testing.assert_close(ours, expected, atol=1e-7, rtol=0)
    slope = (soft(x + 1e-4, a) - soft(x - 1e-4, a)).detach() / 2e-4
    torch.testing.assert_close(ours, slope, atol=1e-4, rtol=0)


@SMOOTHNESS
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (2, 3, 16, 24)),
        ({"table": "zones", "steps": (20, 10, 60)}, (1, 2, 13, 21)),
        ({"level_shift": 128}, (1, 1, 19, 8)),
        ({"table": np.full((8, 8), 7.0).tolist()}, (1, 3, 3, 9, 16)),
        ({"table": np.linspace(5, 90, 512).reshape(8, 8, 8).tolist()}, (1, 1, 9, 16, 11)),
    ],
    ids=["plain", "zones", "level shift", "slices", "cubes"],
)
def test_frequency_refinement(arguments, shape, a):
    x, g = images(*shape), torch.randn(shape, dtype=torch.float64)
    defense = FrequencyRefinement(smoothness=a, **arguments)
    shift = defense.level_shift

    def formula(y: Tensor) -> Tensor:
        return soft_code(y - shift, defense.quantisation, a) + shift

    torch.testing.assert_close(gradient(defense, x, g), gradient(formula, x, g))


@SMOOTHNESS
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_frequency_refinement_in_ycbcr(subsampling, a):
    x, g = images(2, 3, 22, 36), torch.randn(2, 3, 22, 36, dtype=torch.float64)
    defense = FrequencyRefinement(color="ycbcr", subsampling=subsampling, smoothness=a)

    def formula(y: Tensor) -> Tensor:
        planes = to_ycbcr(y)
        chroma = planes[:, 1:] if subsampling == "4:4:4" else halve(planes[:, 1:])
        chroma = soft_code(chroma, defense.quantisation, a)
        chroma = chroma if subsampling == "4:4:4" else double(chroma, y.shape[-2:])
        return soft_code(planes[:, :1], defense.quantisation, a) + chroma_in_rgb(chroma)

    torch.testing.assert_close(gradient(defense, x, g), gradient(formula, x, g))


def test_randomised_draws_have_the_slopes_of_their_own_steps():
    defense = RandomizedFrequencyRefinement(smoothness=0.8, grid_shift=False, jitter=0.5)
    x, g = images(1, 3, 16, 24), torch.randn(1, 3, 16, 24, dtype=torch.float64)
    _, table = defense.draw(torch.Generator().manual_seed(3))
    ours = gradient(lambda y: defense(y, [torch.Generator().manual_seed(3)]), x, g)
    torch.testing.assert_close(ours, gradient(lambda y: soft_code(y, table, 0.8), x, g))


@SMOOTHNESS
@pytest.mark.parametrize("quality", [50, 85])
def test_one_component_of_jpeg(quality, a):
    """Grey levels are whole, so that what is rounded are the coefficients and the eighths before them."""
    x, g = images(2, 1, 16, 24), torch.randn(2, 1, 16, 24, dtype=torch.float64)
    table = quality_tables(quality)[0].double()
    ours = gradient(lambda y: code(y, table, a), x, g)
    expected = gradient(lambda y: soft_code(y - 128, table, a), x, g)
    assert float((ours - expected).abs().max()) <= 0.2 * a * float(expected.abs().max()) + 1e-8, "eighths move a phase by less"
    assert float(functional.cosine_similarity(ours.flatten(), expected.flatten(), 0)) > 0.995


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_the_chain_of_its_parts(subsampling, channels, monkeypatch):
    """Against the model whose coefficients go through the formula by themselves, everything else as it is."""
    x, g = images(2, channels, 19, 33), torch.randn(2, channels, 19, 33, dtype=torch.float64)
    ours = gradient(JPEG(quality=70, subsampling=subsampling, smoothness=0.7), x, g)
    model = "monai_advdef.defenses.jpeg_model.straight_through"

    def by_autograd(eighth: Tensor, exact: Tensor, slope: Tensor | None = None) -> Tensor:
        step = steps[exact.shape[1] if channels == 1 else (1 if exact.shape[1] == 1 else 2)]
        tiles = step.repeat(exact.shape[-2] // 8, exact.shape[-1] // 8)
        smooth = soft(eighth / tiles, 0.7) * tiles
        return smooth + (exact - smooth).detach()

    luminance, chrominance = (t.double() for t in quality_tables(70))
    steps = {1: luminance, 2: chrominance}
    monkeypatch.setattr(model, by_autograd)
    torch.testing.assert_close(ours, gradient(JPEG(quality=70, subsampling=subsampling, surrogate="straight_through"), x, g))


@pytest.mark.parametrize("backend", ["pillow", "simplejpeg"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_real_codec_has_the_slopes_of_its_model(backend, subsampling):
    x, g = images(1, 3, 2, 24, 17).float(), torch.randn(1, 3, 2, 24, 17)
    for a in (0.0, 0.9):
        ours, model = (gradient(JPEG(backend=b, subsampling=subsampling, smoothness=a), x, g) for b in (backend, "torch"))
        assert torch.equal(ours, model)


@SMOOTHNESS
@pytest.mark.parametrize("shape", [(1, 2, 7, 9), (1, 1, 3, 7, 9)])
def test_eight_bit(shape, a):
    x, g = images(*shape) + torch.rand(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(gradient(EightBit(smoothness=a), x, g), gradient(lambda y: soft(y, a), x, g))


MAKERS = {
    "FR": FrequencyRefinement,
    "FR YCbCr": lambda **k: FrequencyRefinement(color="ycbcr", subsampling="4:2:0", **k),
    "FR cubes": lambda **k: FrequencyRefinement(table=np.full((8, 8, 8), 30.0).tolist(), **k),
    "randomised": RandomizedFrequencyRefinement,
    "JPEG": JPEG,
    "JPEG pillow": lambda **k: JPEG(backend="pillow", subsampling="4:4:4", **k),
    "8-bit": EightBit,
}
each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
SHAPE = (2, 3, 9, 17, 16)


@each
def test_no_surrogate_touches_the_forward_pass(make):
    x = images(*SHAPE).float() + torch.rand(SHAPE)
    with torch.no_grad():
        exact = make(surrogate="straight_through")(x)
    for options in ({}, {"smoothness": 1}, {"smoothness": 0.5}, {"surrogate": "identity"}):
        assert torch.equal(make(**options)(x.clone().requires_grad_()).detach(), exact)


@each
def test_identity_passes_the_gradient_past_the_whole_defence(make):
    x, g = images(*SHAPE).float(), torch.randn(SHAPE)
    assert torch.equal(gradient(make(surrogate="identity"), x, g), g)


@each
def test_smoothness_zero_is_straight_through(make):
    x, g = images(*SHAPE).float(), torch.randn(SHAPE)
    assert torch.equal(gradient(make(smoothness=0), x, g), gradient(make(surrogate="straight_through"), x, g))


@each
def test_smooth_is_the_default_and_is_kept_in_the_configuration(make):
    config = make().to_config()
    assert (config["surrogate"], config["smoothness"]) == ("smooth", 0.95)
    assert make(surrogate="identity", smoothness=0.5).to_config()["surrogate"] == "identity"


@each
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"surrogate": "smoth"}, "surrogate must be 'smooth', .* got 'smoth'; did you mean 'smooth'"),
        ({"smoothness": -0.1}, r"smoothness must lie in \[0, 1\], got -0.1"),
        ({"smoothness": float("nan")}, r"smoothness must lie in \[0, 1\], got nan"),
        ({"smoothness": True}, r"smoothness must lie in \[0, 1\], got True"),
    ],
)
def test_wrong_surrogates_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_transforms_know_nothing_of_it():
    x = images(3, 17, 24).float()
    assert torch.equal(JPEGCompression()(x), JPEG(surrogate="straight_through")(x[None])[0])
    assert torch.equal(DCTFrequencyRefinement(smoothness=0.2)(x), FrequencyRefinement()(x[None])[0])


# ------------------------------------------------------------------ on a victim


class Failing(FrequencyRefinement):
    def refine(self, grey: Tensor) -> Tensor:
        raise RuntimeError("in the middle")


def loss(logits: Tensor) -> Tensor:
    return logits[:, 1].flatten(1).square().mean(1)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 2, 3, padding=1)


@pytest.mark.parametrize("name", ["FR", "FR YCbCr", "JPEG", "8-bit"])
@pytest.mark.parametrize("way", [{"surrogate": "identity"}, {"smoothness": 0.4}, {"surrogate": "straight_through"}], ids=str)
def test_a_victim_looks_through_its_defence_as_it_is_told_and_leaves_it_as_it_was(name, way):
    x, defense = images(2, 3, 16, 24).float(), MAKERS[name]()
    told = Victim(network(), (127.5, 127.5), defense, **way)
    logits, _, ours = told.gradient(x, loss)
    plain = Victim(network(), (127.5, 127.5), MAKERS[name](**way))
    torch.testing.assert_close(ours, plain.gradient(x, loss)[2])
    assert (defense.surrogate, defense.smoothness) == ("smooth", 0.95)
    assert torch.equal(told(x), Victim(network(), (127.5, 127.5), MAKERS[name]())(x)) and torch.equal(logits, told(x).detach())


def test_what_was_told_is_taken_back_when_it_fails():
    defense = Failing()
    with pytest.raises(RuntimeError, match="in the middle"):
        Victim(network(), (127.5, 127.5), defense, smoothness=0.4).gradient(images(1, 3, 8, 8).float(), loss)
    assert (defense.surrogate, defense.smoothness) == ("smooth", 0.95)


def test_identity_suits_any_defence_even_one_without_a_gradient():
    class Cut(Defense):
        surrogate = None

        def refine(self, grey: Tensor) -> Tensor:
            return (grey / 12).round() * 12

    x = images(2, 3, 16, 24).float()
    for defense in (Cut(), Blur(), lambda image: image.detach().round()):
        assert bool(Victim(network(), (127.5, 127.5), defense, surrogate="identity").gradient(x, loss)[2].any())
    with pytest.raises(ValueError, match="Cut offers no surrogate to choose from, got 'smooth'; .* 'identity'"):
        Victim(network(), (127.5, 127.5), Cut(), surrogate="smooth")
    with pytest.raises(ValueError, match="keeps the shape of the image"):
        look_through(Cut(), x, lambda: x[..., ::2], "identity")


@pytest.mark.parametrize(
    ("defense", "way", "message"),
    [
        (JPEG(), {"surrogate": "band"}, "JPEG has no surrogate 'band'; choose one of smooth, straight_through, identity"),
        (JPEG(surrogate="identity"), {"smoothness": 0.5}, "that of JPEG is 'identity'; name both"),
        (None, {"surrogate": "soft"}, "surrogate must be .* got 'soft'"),
        (None, {"smoothness": 2}, r"smoothness must lie in \[0, 1\], got 2"),
    ],
)
def test_a_victim_refuses_what_its_defence_does_not_know(defense, way, message):
    with pytest.raises(ValueError, match=message):
        Victim(network(), (127.5, 127.5), defense, **way)
