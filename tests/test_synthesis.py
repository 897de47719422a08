"""Fields, losses, generator and critic of the synthesis attack against closed forms, scipy and MONAI."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from generators import SMALL, random_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.blocks import Warp
from scipy.interpolate import BSpline

from monai_advdef.synthesis import (
    Critic,
    FieldPenalty,
    FieldStore,
    PerturbationGenerator,
    check_displacement,
    control_shape,
    field_readings,
    fields_from,
    gradient_penalty,
    hinge,
    jacobian_determinant,
    load_generator,
    organ_cross_entropy,
    perceptibility,
    save_generator,
    spline_field,
    ssim,
    warp,
    warped_label,
)
from monai_advdef.synthesis.splines import INJECTIVITY

SIZES = {2: (33, 26), 3: (17, 14, 12)}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def affine_field(matrix: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """D(p) = matrix p, (1, d, *size)."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij"))
    return torch.einsum("ij,j...->i...", matrix, grid)[None]


# -- fields


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_integer_translation_is_a_roll_inside(dims, mode):
    image, shift = noise(2, 2, *SIZES[dims]), (2, -3, 1)[:dims]
    displacement = torch.tensor(shift).float().reshape(1, dims, *[1] * dims).expand(2, -1, *SIZES[dims])
    moved = warp(image, displacement, mode)
    inside = (..., *(slice(4, -4) for _ in range(dims)))
    rolled = image.roll([-s for s in shift], list(range(2, 2 + dims)))
    torch.testing.assert_close(moved[inside], rolled[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_warp_agrees_with_monai(dims):
    image, displacement = noise(2, 3, *SIZES[dims]), 6 * noise(2, dims, *SIZES[dims], seed=1) - 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Warp("bilinear", "border")(image, displacement)
    torch.testing.assert_close(warp(image, displacement), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "spacing"), [((33, 26), 8), ((17, 5), (4, 3)), ((9, 8, 7), (5, 4, 1))])
def test_spline_field_agrees_with_scipy(size, spacing):
    points = noise(1, 2, *control_shape(size, spacing))
    expected = points.double().numpy()
    for axis, (n, h) in enumerate(zip(size, [spacing] * len(size) if isinstance(spacing, int) else spacing), start=2):
        count = expected.shape[axis]
        spline = BSpline(np.arange(-3.0, count + 1), np.moveaxis(expected, axis, 0), 3)
        expected = np.moveaxis(spline(np.arange(n) / h), 0, axis)
    np.testing.assert_allclose(spline_field(points, size, spacing).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_jacobian_of_an_affine_field(dims):
    matrix = 0.3 * noise(dims, dims) - 0.1
    found = jacobian_determinant(affine_field(matrix, SIZES[dims]))
    assert found.shape == (1, *(n - 1 for n in SIZES[dims]))
    torch.testing.assert_close(found, torch.full_like(found, float(torch.det(torch.eye(dims) + matrix))), atol=1e-4, rtol=0)
    folded = affine_field(-2 * torch.eye(dims)[:1].T @ torch.eye(dims)[:1], SIZES[dims])
    torch.testing.assert_close(jacobian_determinant(folded), torch.full_like(found, -1.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), spacing=st.sampled_from([3, 5, 8]))
def test_control_points_at_their_bound_never_fold(dims, seed, spacing):
    """Corners of the box of control displacements, where the map is nearest to folding."""
    size, limit = SIZES[dims], spacing / INJECTIVITY[dims]
    check_displacement(0.999 * limit, spacing, dims)
    points = limit * noise(1, dims, *control_shape(size, spacing), seed=seed).sub(0.5).sign()
    field = spline_field(points, size, spacing)
    assert float(jacobian_determinant(field).min()) > 0 and float(field.abs().max()) <= limit * (1 + 1e-5)


def test_more_than_the_bound_is_refused():
    with pytest.raises(ValueError, match=r"max_displacement must lie in 0..3.91 voxels for control points 8 voxels apart, got 4"):
        check_displacement(4, 8, 2)
    with pytest.raises(ValueError, match="lower it, or raise spacing"):
        PerturbationGenerator(spatial_dims=3, max_displacement=3.5)
    with pytest.raises(ValueError, match="one for each of the 3 axes, got"):
        control_shape((8, 8, 8), (4, 4))


def test_intensity_is_added_in_sigma_of_each_channel():
    image = torch.stack([noise(12, 12), 100 * noise(12, 12, seed=1)])[None]
    fields = fields_from({"intensity": torch.full((1, 1, *control_shape((12, 12), 4)), 0.5)}, image, 4)
    expected = 0.5 * image.flatten(2).std(2, correction=0).reshape(1, 2, 1, 1).expand_as(image)
    torch.testing.assert_close(fields.apply(image) - image, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(perceptibility(fields.apply(image), image), torch.tensor([0.5]), atol=1e-3, rtol=0)


def test_no_points_leave_the_image_alone():
    image = 255 * noise(2, 3, 40, 33)
    torch.testing.assert_close(fields_from({}, image, 8).apply(image), image, atol=1e-2, rtol=0)


def test_store_gives_the_fields_back_for_the_image_they_made(tmp_path):
    image = noise(2, 1, 20, 24)
    points = {
        "displacement": noise(2, 2, *control_shape((20, 24), (4, 6))),
        "intensity": noise(2, 1, *control_shape((20, 24), (4, 6))),
    }
    fields = fields_from(points, image, (4, 6))
    made, store = fields.apply(image), FieldStore(tmp_path)
    store.save(fields, made)
    torch.testing.assert_close(store.load(made[1]).apply(image[1:]), made[1:])
    with pytest.raises(FileNotFoundError, match="give attack and handler the same fields_dir"):
        store.load(image[0])


# -- losses


def test_organ_cross_entropy_by_counting():
    logits, label = noise(2, 3, 6, 5), torch.randint(0, 3, (2, 1, 6, 5), generator=torch.Generator().manual_seed(1))
    label[1][label[1] == 2] = 0
    found, present = organ_cross_entropy(logits, label)
    pooled, some = organ_cross_entropy(logits, label, per_organ=False)
    surprise = -logits.softmax(1).log()
    for i in range(2):
        values = {k: surprise[i, k][label[i, 0] == k] for k in (1, 2)}
        for k in (1, 2):
            assert bool(present[i, k - 1]) is (len(values[k]) > 0)
            assert float(found[i, k - 1]) == pytest.approx(float(values[k].mean()) if len(values[k]) else 0, abs=1e-5)
        assert float(pooled[i, 0]) == pytest.approx(float(torch.cat(list(values.values())).mean()), abs=1e-5)
    assert bool(some.all())
    at_most, _ = organ_cross_entropy(logits, label, limit=1.0)
    by_voxel = (1 - surprise[0, 2][label[0, 0] == 2]).clamp_min(0).mean()
    assert 0 < by_voxel < 1
    torch.testing.assert_close(hinge(at_most[:1, 1:], present[:1, 1:], 1.0)[0], by_voxel)
    masks = torch.cat([label == k for k in range(3)], 1).float()
    binary, _ = organ_cross_entropy(logits, masks, head="sigmoid")
    assert float(binary[0, 1]) == pytest.approx(float(-logits[0, 1].sigmoid().log()[label[0, 0] == 1].mean()), abs=1e-5)


def test_hinge_closed_form():
    entropy, present = torch.tensor([[0.5, 3.0], [0.25, 9.0], [1.0, 1.0]]), torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()
    torch.testing.assert_close(hinge(entropy, present, 2.0), torch.tensor([0.75, 1.75, 0.0]))
    assert float(hinge(entropy, present, 0.0).sum()) == 0


def test_penalty_of_a_linear_field_and_a_constant_one():
    matrix = torch.tensor([[0.1, -0.2], [0.05, 0.3]])
    image = torch.zeros(1, 1, 17, 13)
    grid = affine_field(matrix, control_shape((17, 13), 4)) * 4  # a spline whose points are linear is linear
    fields = fields_from({"displacement": grid, "intensity": torch.full((1, 1, *grid.shape[2:]), 0.3)}, image, 4)
    weights = dict(smooth_displacement=0.0, smooth_intensity=0.0, norm_displacement=0.0, norm_intensity=0.0)
    slope = float(matrix.square().sum() / 2)  # mean over the components
    assert float(FieldPenalty(**{**weights, "smooth_displacement": 2.0})(fields)) == pytest.approx(2 * slope, rel=1e-4)
    assert float(FieldPenalty(**{**weights, "norm_intensity": 5.0})(fields)) == pytest.approx(5 * 0.09, rel=1e-4)
    assert float(FieldPenalty(**{**weights, "smooth_intensity": 1.0})(fields)) == pytest.approx(0, abs=1e-6)
    size = float(fields.displacement.square().mean())
    assert float(FieldPenalty(**{**weights, "norm_displacement": 0.1})(fields)) == pytest.approx(0.1 * size, rel=1e-4)
    with pytest.raises(ValueError, match="norm_intensity must be ≥ 0, got -1"):
        FieldPenalty(norm_intensity=-1)


@pytest.mark.parametrize("shape", [(1, 6, 5), (2, 4, 3, 3)])
def test_gradient_penalty_of_a_linear_critic(shape):
    weight = noise(*shape) - 0.3
    found = gradient_penalty(lambda x: (x * weight).flatten(1).sum(1), noise(3, *shape), noise(3, *shape, seed=1), torch.Generator())
    assert float(found) == pytest.approx((float(weight.norm()) * math.sqrt(weight.numel()) - 1) ** 2, rel=1e-4)


# -- networks


@pytest.mark.parametrize("dims", [2, 3])
def test_untrained_generator_leaves_the_image_alone(dims):
    image = 100 * noise(2, 1, *SIZES[dims])
    fields, divergence = PerturbationGenerator(spatial_dims=dims, **SMALL)(image, [torch.Generator()] * 2)
    torch.testing.assert_close(fields.apply(image), image, atol=1e-2, rtol=0)
    assert divergence.shape == (2,) and bool((divergence >= 0).all())


@pytest.mark.parametrize("dims", [2, 3])
def test_fields_of_the_generator_stay_in_their_bounds_whatever_its_weights(dims):
    image = noise(2, 1, *SIZES[dims])
    generator = random_generator(scale=30.0, spatial_dims=dims, in_channels=1, max_displacement=3.0, max_intensity=0.4)
    fields, _ = generator(image, [torch.Generator().manual_seed(1)] * 2)
    assert 1 < float(fields.displacement.detach().abs().max()) <= 3.0001
    assert 0.1 < float(fields.intensity.detach().abs().max()) <= 0.4001
    assert float(jacobian_determinant(fields.displacement.detach()).min()) > 0
    roughness = float(fields.displacement.detach().diff(dim=2).abs().max())
    assert roughness <= 2 * 3.0 / 8 + 1e-4  # the steepest that a cubic B-spline with points in [-3, 3] can be


def test_a_case_depends_on_its_own_stream_alone():
    generator, image = random_generator(), 255 * noise(3, 3, 32, 32)
    together, _ = generator(image, [torch.Generator().manual_seed(s) for s in range(3)])
    alone, _ = generator(image[1:2], [torch.Generator().manual_seed(1)])
    torch.testing.assert_close(together.displacement[1:2], alone.displacement, atol=1e-5, rtol=0)
    means, _ = generator(image)
    assert not torch.allclose(means.displacement, together.displacement, atol=1e-3)


@pytest.mark.parametrize(("parts", "zero"), [("deformation", "intensity"), ("intensity", "displacement")])
def test_variants_have_one_field(parts, zero):
    fields, _ = random_generator(parts=parts)(noise(1, 3, 32, 32))
    moved = {name: float(getattr(fields, name).detach().abs().max()) for name in ("displacement", "intensity")}
    assert moved.pop(zero) == 0 and next(iter(moved.values())) > 0.01


def test_generator_is_saved_with_its_configuration(tmp_path):
    generator, image = random_generator(parts="intensity", spacing=[6, 8], max_displacement=2), noise(1, 3, 32, 32)
    save_generator(generator, tmp_path / "g.pt")
    again, digest = load_generator(tmp_path / "g.pt")
    torch.testing.assert_close(again(image)[0].intensity, generator(image)[0].intensity)
    assert again.config == generator.config and len(digest) == 64 and not again.training
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="hold no generator"):
        load_generator(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match="train it with workflows/training/synthesis"):
        load_generator(tmp_path / "none.pt")


def test_unknown_parts_are_told():
    with pytest.raises(ValueError, match="parts must be one of both, deformation, intensity, got 'all'"):
        PerturbationGenerator(parts="all")


@pytest.mark.parametrize("dims", [2, 3])
def test_critic_gives_a_number_per_case_that_is_its_own(dims):
    critic, image = Critic(spatial_dims=dims, channels=(8, 16)), noise(3, 1, *SIZES[dims])
    values = critic(image)
    assert values.shape == (3,)
    torch.testing.assert_close(critic(image[1:2]), values[1:2], atol=1e-5, rtol=1e-5)


# -- measures


def test_readings_in_millimetres_and_image_units():
    clean = 100 * noise(1, 1, 32, 32)
    shape = control_shape((32, 32), 8)
    points = {
        "displacement": torch.tensor([3.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, *shape),
        "intensity": torch.full((1, 1, *shape), 0.2),
    }
    fields = fields_from(points, clean, 8)
    found = {name: float(v) for name, v in field_readings(fields, clean + 7, clean, [2.0, 0.5]).items()}
    sigma = float(clean.std(correction=0))
    assert found["displacement_max_mm"] == pytest.approx(math.hypot(6, 0.5), rel=1e-4)
    assert found["displacement_mean_mm"] == pytest.approx(math.hypot(6, 0.5), rel=1e-4)
    assert [found["intensity_max"], found["intensity_rms"]] == pytest.approx([0.2 * sigma] * 2, rel=1e-4)
    assert found["change_rms"] == pytest.approx(7, rel=1e-4) and found["perceptibility"] == pytest.approx(7 / sigma, rel=1e-4)
    assert found["min_jacobian"] == pytest.approx(1, abs=1e-5) and 0 < found["ssim"] < 1


@pytest.mark.parametrize("size", [(20, 24), (7, 20), (9, 12, 8)])
def test_ssim_of_equal_images_is_1_and_falls_with_noise(size):
    image = noise(2, 1, *size)
    torch.testing.assert_close(ssim(image, image), torch.ones(2))
    assert bool((ssim(image + 0.5 * noise(2, 1, *size, seed=1), image) < 0.95).all())


def test_labels_move_with_the_image():
    label = torch.zeros(1, 1, 24, 24)
    label[..., 8:16, 8:16] = 3
    points = torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1).expand(1, 2, *control_shape((24, 24), 8))
    moved = warped_label(label, fields_from({"displacement": points}, label, 8))
    assert torch.equal(moved, label.roll((-2, 1), (2, 3)))
