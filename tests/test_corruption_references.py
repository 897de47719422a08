"""Every corruption against an independent reference: scipy, scikit-image, Pillow, torch, or what a closed form says."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import skimage.color
import skimage.filters
import skimage.transform
import torch
from corruption_images import SPACING, image
from PIL import Image
from scipy import ndimage, signal, stats
from torch.nn import functional

from monai_advdef.corruptions import KINDS, SEVERITIES
from monai_advdef.corruptions.core import Setting
from monai_advdef.corruptions.ct import noise_gain
from monai_advdef.corruptions.mri import posed
from monai_advdef.corruptions.photo import XYZ_TO_SRGB, disc, from_light, hair, to_light, white


def value(name: str, severity: float, parameter: int = 0) -> float:
    return SEVERITIES[name].parameters[parameter].at(severity)


def made(name: str, given: np.ndarray, severity: float = 3, **options) -> np.ndarray:
    return KINDS[name](severity=severity, spacing=SPACING, **options)(given)


def drawn(name: str, given: np.ndarray, severity: float = 3, seed: int = 0) -> Setting:
    """What the transform draws from for this image."""
    return KINDS[name](severity=severity, seed=seed)._setting(given, (SPACING,) * (given.ndim - 1))


# ------------------------------------------------------------------ MRI


def test_a_pose_is_a_shift_and_a_turn_of_scipy():
    series = image("MRI")[0]
    moved = posed(series, (1.5, 2, 3), np.array([3.0, -4, 6]), np.zeros(3))
    np.testing.assert_allclose(moved, ndimage.shift(series, (2, -2, 2), order=1), atol=1e-3)
    square = ndimage.gaussian_filter(np.pad(series[10:30, 20:40, 10], 6), 1)
    turned = posed(square, (1.0, 1.0), np.zeros(2), np.array([math.radians(20)]))
    np.testing.assert_allclose(turned, ndimage.rotate(square, 20, reshape=False, order=1), atol=1e-2)
    about = posed(np.moveaxis(np.stack([square] * 3), 0, 2), (1.0,) * 3, np.zeros(3), np.array([0, 0, math.radians(20)]))
    np.testing.assert_allclose(about[..., 1], turned, atol=1e-2)
    wide = posed(np.repeat(square, 2, axis=0), (0.5, 1.0), np.zeros(2), np.array([math.radians(90)]))
    assert ndimage.center_of_mass(wide)[1] == pytest.approx((square.shape[1] - 1) / 2, abs=0.7)


def test_motion_is_put_together_line_by_line_of_k_space():
    """The same poses by rotations of scipy about the middle and full two-dimensional spectra with their centre in the middle."""
    given = np.pad(image("MRI")[:1, 8:32, 12:48, 10], ((0, 0), (8, 8), (8, 8)))
    at = drawn("RigidMotion", given)
    rng, series = at.rng(), given[0]
    lines = series.shape[1]
    cuts = (lines * rng.uniform((0.05, 0.25, 0.55, 0.75), (0.25, 0.45, 0.75, 0.95))).astype(int)
    bounds = [0, *cuts, lines]
    spectrum = np.fft.fftshift(np.fft.fft2(series))
    for pose in (0, 1, 3, 4):
        offset, angle = value("RigidMotion", 3) * rng.uniform(-1, 1, 2), value("RigidMotion", 3, 1) * rng.uniform(-1, 1)
        turned = posed(series, at.spacing, offset, np.deg2rad([angle]))
        part = slice(bounds[pose], bounds[pose + 1])
        spectrum[:, part] = np.fft.fftshift(np.fft.fft2(turned))[:, part]
    assert bounds[2] <= lines // 2 < bounds[3], "the centre is of the pose of the image"
    np.testing.assert_allclose(made("RigidMotion", given)[0], np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum))), atol=1e-2)


def test_ghosts_are_shifted_copies():
    given = image("MRI")[:1, :, :, 10]  # 60 lines: every period divides them
    for seed in range(4):
        period = int(drawn("Ghosting", given, seed=seed).rng().integers(2, 6))
        copies = np.mean([np.roll(given, j * 60 // period, axis=2) for j in range(period)], axis=0)
        weak = value("Ghosting", 4) / 100 * (copies - given.mean(2, keepdims=True))
        np.testing.assert_allclose(made("Ghosting", given, 4, seed=seed), np.abs(given - weak), atol=1e-2)


def test_a_spike_is_one_point_of_the_spectrum():
    given = image("MRI")[:1]
    found = [np.fft.fftn(np.asarray(made("Spikes", given, s)[0], float) ** 2 - given[0].astype(float) ** 2) for s in (2, 4)]
    rng = drawn("Spikes", given).rng()
    place = rng.uniform(0.05, 0.2, 3) * rng.choice((-1, 1), 3)
    spectrum = np.fft.fftn(given[0].astype(float))
    at = tuple(round(p * n) for p, n in zip(place, given.shape[1:]))
    spectrum[at] += 0.7 * abs(spectrum[0, 0, 0]) * np.exp(2j * np.pi * rng.random())
    np.testing.assert_allclose(made("Spikes", given, 4)[0], np.abs(np.fft.ifftn(spectrum)), rtol=1e-3, atol=1e-2)
    assert all(np.isfinite(f).all() for f in found)


def test_a_bias_field_is_a_polynomial_of_the_stated_depth():
    given = np.full((1, 20, 24, 12), 50.5)
    field = made("BiasField", given)[0] / 50.5
    assert (field.min(), field.max()) == pytest.approx((0.7, 1.3))
    y, x, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in field.shape), indexing="ij")
    terms = [y**i * x**j * z**k for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    columns = np.stack([np.broadcast_to(t, field.shape).ravel() for t in terms], 1)
    fit = columns @ np.linalg.lstsq(columns, field.ravel(), rcond=None)[0]
    np.testing.assert_allclose(fit, field.ravel(), atol=1e-9)


def test_noise_is_rician():
    given = np.full((1, 200, 200), 100.25)
    given[0, :, 100:] = 0
    found, sigma = made("RicianNoise", given, 5)[0], 100.25 * 10 ** (-value("RicianNoise", 5) / 20)
    assert sigma == pytest.approx(9.02, abs=0.01)
    assert stats.kstest(found[:, :100].ravel(), stats.rice(100.25 / sigma, scale=sigma).cdf).pvalue > 0.01
    assert stats.kstest(found[:, 100:].ravel(), stats.rayleigh(scale=sigma).cdf).pvalue > 0.01


def test_ringing_is_a_resampling_to_the_acquired_matrix():
    given = image("MRI")[:1, :, :, 10].astype(float)
    kept = {n: 2 * int(value("GibbsRinging", 3) / 100 * n / 2) + 1 for n in (40, 60)}  # odd: as many lines on both sides
    reference = given
    for axis, n in ((1, 40), (2, 60)):
        reference = signal.resample(signal.resample(reference, kept[n], axis=axis), n, axis=axis)
    np.testing.assert_allclose(made("GibbsRinging", given), np.abs(reference), atol=1e-9)


@pytest.mark.parametrize(("name", "modality"), [("SliceThickness", "MRI"), ("CTSliceThickness", "CT")])
def test_thick_slices_are_means_between_which_is_interpolated(name, modality):
    given = image(modality)[..., :21]
    spacing = value(name, 3) / 3  # three slices in one
    found = KINDS[name](severity=3, spacing=spacing)(given)
    means, centres = ndimage.uniform_filter1d(given.astype(float), 3, axis=-1), np.arange(1, 21, 3)
    reference = np.apply_along_axis(lambda v: np.interp(np.arange(21), centres, v[centres]), -1, means)
    np.testing.assert_allclose(found, reference, atol=1e-2)
    thicker = KINDS[name](severity=3, spacing=value(name, 3) + 0.1)(np.pad(given, ((0, 0),) * 3 + ((2, 2),)))
    np.testing.assert_array_equal(thicker[..., 2:-2], given)


def test_a_missing_series_lacks_the_stated_slices():
    given = image("MRI") + 1
    lost = (made("MissingSeries", given, 2) == 0).all((1, 2))
    assert sorted(lost.sum(1)) == [0, round(0.4 * 21)] and (made("MissingSeries", given, 5) == 0).all((1, 2)).sum() == 21


def test_a_misregistered_series_lies_the_stated_way_off():
    given = np.zeros((3, 40, 40, 40))
    given[:, 15:25, 15:25, 15:25] = 100.25
    found = KINDS["MisregisteredSeries"](severity=4, spacing=(1, 2, 1.5))(given)
    off = [np.subtract(ndimage.center_of_mass(s), 19.5) * (1, 2, 1.5) for s in found]
    assert sorted(np.linalg.norm(off, axis=1)) == pytest.approx([0, 0, value("MisregisteredSeries", 4)], abs=1e-3)


# ------------------------------------------------------------------ CT


def test_noise_of_a_dose_has_its_variance_and_spectrum():
    given = np.zeros((1, 96, 101, 12))
    noise = made("Dose", given, 3)[0]
    assert noise.std() == pytest.approx(10 * math.sqrt(1 / 0.1 - 1), rel=0.02)
    power = (np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2).mean(2)
    radius = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(101)[None])
    expected = radius * np.where(radius < 0.5, np.cos(np.pi * radius) ** 2, 0) ** 2
    rings = [(radius >= r) & (radius < r + 0.05) for r in np.arange(0.025, 0.5, 0.05)]
    found, wanted = ([p[ring].mean() for ring in rings] for p in (power, expected))
    np.testing.assert_allclose(np.divide(found, sum(found)), np.divide(wanted, sum(wanted)), atol=0.02)
    for shape in ((8, 9), (16, 6)):
        full = np.fft.irfft2(noise_gain(shape), s=shape)  # the response to a point: its squares are the variance
        assert (full**2).sum() == pytest.approx(1)


def test_a_kernel_has_its_width_even_below_a_voxel():
    given = np.zeros((1, 41, 41))
    given[0, 20, 20] = 1000.5
    for severity, spacing in ((1, 1.5), (5, 0.5)):
        found = KINDS["Kernel"](severity=severity, spacing=spacing)(given)[0]
        variance = (found.sum(1) / 1000.5 * (np.arange(41) - 20) ** 2).sum() * spacing**2
        assert math.sqrt(8 * math.log(2) * variance) == pytest.approx(value("Kernel", severity), rel=1e-3)
    smooth = ndimage.gaussian_filter(image("CT")[0, :, :, 5], 2)[None]
    found = KINDS["Kernel"](severity=5, spacing=0.5)(smooth)
    sigma = value("Kernel", 5) / 0.5 / math.sqrt(8 * math.log(2))
    np.testing.assert_allclose(found[0], ndimage.gaussian_filter(smooth[0], sigma, mode="nearest"), atol=2)


def test_a_calibration_is_off_by_its_shift():
    given = image("CT")
    found = {tuple(np.unique(np.round(made("CalibrationShift", given, s, seed=k) - given, 3))) for s in (4,) for k in range(8)}
    assert found == {(40.0,), (-24.0, -40.0)[::-1]}  # air is 24 HU above the lowest value


def test_streaks_are_as_high_as_stated_at_10_mm():
    given = np.full((1, 80, 80, 9), 40.0)
    added = made("MetalStreaks", given, 2)[0] - 40
    middle = np.argwhere(added > 2000).mean(0)
    y, x = np.indices((80, 80))
    radius = np.hypot(y - middle[0], x - middle[1]) * SPACING
    slab = added[..., int(round(middle[2]))]
    ring, far = np.abs(slab[np.abs(radius - 10) < 0.8]), np.abs(slab[np.abs(radius - 40) < 0.8])
    assert ring.max() == pytest.approx(100, rel=0.1) and far.max() == pytest.approx(25, rel=0.1)
    angle = np.unwrap(np.sort(np.arctan2(y - middle[0], x - middle[1])[np.abs(radius - 30) < 0.8]))
    assert len(angle) and (slab[radius < 3] > 2000).any()


def test_breathing_is_an_interpolation_of_scipy_along_the_body():
    given = image("CT")
    at = drawn("Breathing", given, 2)
    z = np.arange(31) * SPACING
    places = (z + 4 * np.sin(2 * np.pi * z / 120 + at.rng().uniform(0, 2 * np.pi))) / SPACING
    where = np.stack(np.broadcast_arrays(*np.ogrid[:40, :60], np.zeros((40, 60))))[..., None].repeat(31, -1)
    where[2] = places
    reference = ndimage.map_coordinates(given[0], where, order=1, mode="nearest")
    label = (np.indices(given.shape[1:])[2] % 5)[None]
    found, moved = KINDS["Breathing"](severity=2, spacing=SPACING).both(given, label)
    np.testing.assert_allclose(found[0], reference, atol=1e-2)
    np.testing.assert_array_equal(moved[0], ndimage.map_coordinates(label[0], where, order=0, mode="nearest"))


# ------------------------------------------------------------------ radiographs


def test_quantum_noise_has_the_variance_of_fewer_photons():
    for grey in (60.5, 150.5):
        noise = made("XRayExposure", np.full((1, 200, 200), grey), 2) - grey
        photons = 2000 * 50 ** (-grey / 255)
        expected = 255 / math.log(50) * math.sqrt(1 / (0.25 * photons) - 1 / photons)
        assert noise.std() == pytest.approx(expected, rel=0.02) and abs(noise.mean()) < 0.05 * expected


def test_scatter_is_a_share_of_blurred_radiation():
    given = image("x-ray") + 0.25
    beam = np.exp(-math.log(50) * given[0].astype(float) / 255)
    mixed = 0.5 * beam + 0.5 * skimage.filters.gaussian(beam, 6, mode="nearest")
    np.testing.assert_allclose(made("Scatter", given)[0], -np.log(mixed) / math.log(50) * 255, atol=1e-2)


def test_grid_lines_are_a_wave_of_their_depth():
    given = np.full((1, 200, 200), 100.25)
    ratio = np.exp(-math.log(50) * (made("GridLines", given, 4)[0] - given[0]) / 255)
    profile = ratio[0] if ratio[0].std() > ratio[:, 0].std() else ratio[:, 0]
    assert (profile.max() - 1, 1 - profile.min()) == pytest.approx((0.12, 0.12), rel=0.1)
    peak = np.abs(np.fft.rfft(profile - profile.mean())).argmax()
    assert 4 <= 200 / peak <= 8.2


def test_a_turned_film_is_that_of_scikit_image():
    given = image("x-ray") + 0.25
    for seed in range(3):
        found = made("XRayRotation", given, 4, seed=seed)[0]
        both = [skimage.transform.rotate(given[0], a, order=1, preserve_range=True) for a in (12, -12)]
        inner = np.s_[12:-12, 12:-12]
        assert min(np.abs(found[inner] - b[inner]).max() for b in both) < 0.01


def test_a_collimated_film_is_black_outside_and_untouched_inside():
    given = image("x-ray").clip(1)
    found, label = KINDS["Collimation"](severity=5).both(given, np.ones((1, 60, 48)))
    outside = found == 0
    assert np.array_equal(found[~outside], given[~outside]) and np.array_equal(label == 0, outside)
    for axis, count in ((1, 48), (0, 60)):
        dark = outside[0].all(1 - axis)
        before, after = int((~dark).argmax()), int((~dark[::-1]).argmax())
        assert all(round(0.1 * count) <= n <= round(0.2 * count) for n in (before, after))


# ------------------------------------------------------------------ photographs


def test_light_is_that_of_scikit_image():
    grey = np.linspace(0, 1, 256)
    luminance = skimage.color.rgb2xyz(np.stack([grey] * 3, -1))[..., 1]
    np.testing.assert_allclose(to_light(grey), luminance, atol=1e-6)
    np.testing.assert_allclose(from_light(to_light(grey)), grey, atol=1e-6)


def test_out_of_focus_is_a_convolution_with_a_disc():
    given = image("photo") + 0.25
    for radius in (2.0, 3.0, 5.5):
        weights = disc(radius)
        assert weights.sum() == pytest.approx(1) and 1 / weights.max() == pytest.approx(math.pi * radius**2, rel=0.02)
    light = to_light(given.astype(float) / 255)
    reference = np.stack([ndimage.convolve(c, disc(3.0), mode="mirror") for c in light])
    np.testing.assert_allclose(made("Defocus", given), from_light(reference) * 255, atol=0.02)


def test_a_stop_is_twice_the_light():
    given = image("photo") * 0.5 + 0.25
    found = [made("Exposure", given, 2, seed=s) for s in range(6)]
    ratios = [to_light(f / 255) / to_light(given / 255) for f in found]
    assert {round(float(np.median(r)), 2) for r in ratios} == {0.5, 2.0}
    assert all(np.allclose(r[f < 255], np.median(r), rtol=1e-3) for r, f in zip(ratios, found))


def test_light_of_a_black_body_is_where_the_cie_has_it():
    for kelvin, xy in ((2856, (0.4476, 0.4074)), (6504, (0.3135, 0.3237)), (4000, (0.3805, 0.3768)), (2000, (0.5267, 0.4133))):
        xyz = np.linalg.inv(XYZ_TO_SRGB) @ white(kelvin)
        np.testing.assert_allclose(xyz[:2] / xyz.sum(), xy, atol=2e-3)
    given = np.full((3, 8, 8), 100.25)
    given[2] = 90.25
    light, before = (to_light(x[:, 0, 0] / 255) for x in (made("ColourCast", given, 5), given))
    gain = white(2856) / white(6504)
    np.testing.assert_allclose(light / before, np.minimum(gain / gain[1], 1 / before), rtol=1e-3)


def test_corners_lose_the_stated_stops():
    given = np.full((3, 61, 41), 200.25)
    given[2] = 180.25
    ratio = to_light(made("Vignette", given, 4) / 255) / to_light(given / 255)
    assert (
        ratio[0, 30, 20] == pytest.approx(1) and ratio[0, 0, 0] == pytest.approx(2.0**-2) and ratio[0, 0, 20] == pytest.approx(0.5)
    )


def test_hairs_are_as_many_and_as_wide_as_stated():
    straight = np.array([[0.5, 0.1], [0.5, 0.5], [0.5, 0.9]])
    assert hair((100, 100), straight, 0.01).sum() == pytest.approx(80, rel=0.1)  # 1 px wide, 80 long
    given = np.full((3, 120, 120), 200.0)
    given[2] = 180
    few, more = (made("Hairs", given, s) for s in (1, 5))
    assert (more <= few).all() and (few < given).any() and few.min() >= round(0.08 * 255) - 1
    share = [(x[0] < 200).mean() for x in (few, more)]
    assert share[1] > 4 * share[0]


def test_a_ruler_covers_its_share():
    given = image("photo").clip(0, 230)
    changed = (made("Ruler", given, 5) != given).any(0)
    assert max(changed.mean(0).max(), changed.mean(1).max()) > 0.95
    assert changed.mean() == pytest.approx(0.2, abs=0.01)


def test_a_jpeg_file_is_that_of_pillow():
    given = image("photo")[:, :48, :48]
    file = io.BytesIO()
    Image.fromarray(given.astype(np.uint8).transpose(1, 2, 0)).save(file, "JPEG", quality=15, subsampling="4:2:0")
    reference = np.asarray(Image.open(file)).transpose(2, 0, 1).astype(float)
    assert np.abs(made("JPEGArtefacts", given) - reference).mean() < 1


def test_fewer_pixels_are_means_enlarged():
    given = (image("photo") + 0.25)[:, :, :48]
    small = functional.interpolate(torch.from_numpy(given)[None], size=(30, 24), mode="area")
    large = functional.interpolate(small, size=(60, 48), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(made("LowResolution", given, 2), large, atol=1e-2)


def test_another_camera_is_a_matrix_and_three_exponents():
    rng = np.random.default_rng(0)
    given = rng.uniform(1, 250, (3, 40, 40))
    given[:, 0] = np.linspace(1, 250, 40)  # greys, of which every mixture is the same grey
    found = made("OtherCamera", given)
    before, after = (to_light(x / 255) for x in (given, found))
    powers = np.log(after[:, 0]) / np.log(before[:, 0])
    np.testing.assert_allclose(powers, powers[:, :1] + 0 * powers, rtol=1e-3)
    assert (powers > 1 / 1.1501).all() and (powers < 1.1501).all()
    undone = after.reshape(3, -1) ** (1 / powers[:, :1])
    matrix = np.linalg.lstsq(before.reshape(3, -1).T, undone.T, rcond=None)[0].T
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-3)
    np.testing.assert_allclose(np.diag(matrix), 0.85, atol=1e-3)
    assert (matrix > -1e-3).all()
