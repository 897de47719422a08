"""JPEG against Pillow's tables and pixels, and its surrogate gradient."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from monai_advdef.defenses import JPEG, quality_tables
from monai_advdef.defenses.jpeg_model import alternate, jpeg_round_trip

PHOTOS = sorted((Path(__file__).parents[2] / "shared" / "data" / "skin" / "images").glob("*.jpg"))[::56]
SUBSAMPLING = ("4:4:4", "4:2:2", "4:2:0")
REQUIRED = {50: 0.97, 85: 0.99}


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """``(H, W, 3)`` uint8 with smooth colours, edges and grain."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 24 + 2, width // 24 + 2, generator=g) * 200 + 20
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = ((rows - height / 2) ** 2 + (columns - width / 3) ** 2 < (height / 4) ** 2).float()
    grain = 3 * torch.randn(1, height, width, generator=g)
    return (smooth - 60 * disc + grain).clamp(0, 255).round().byte().permute(1, 2, 0).numpy().copy()


def pillow(pixels: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(file))


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float()


def close(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Share of the pixels all of whose channels are within two grey levels."""
    return float(((ours - tensor(theirs)).abs().amax(1) <= 2).float().mean())


@pytest.mark.parametrize("quality", [*range(1, 101, 7), 49, 50, 100])
def test_tables_are_those_pillow_writes(quality):
    file = io.BytesIO()
    Image.fromarray(photo_like(16, 16)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization
    luminance, chrominance = quality_tables(quality)
    assert luminance.flatten().tolist() == list(written[0]) and chrominance.flatten().tolist() == list(written[1])


@pytest.mark.parametrize("quality", [50, 85])
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("size", [(128, 160), (137, 109), (116, 90)])
def test_pixels_are_pillows_on_generated_images(size, subsampling, quality):
    shares = []
    for seed in range(3):
        pixels = photo_like(*size, seed=seed)
        shares.append(close(JPEG(quality=quality, subsampling=subsampling)(tensor(pixels)), pillow(pixels, quality, subsampling)))
    assert np.mean(shares) >= REQUIRED[quality]


@pytest.mark.realdata
@pytest.mark.skipif(not PHOTOS, reason="shared/data/skin is not beside this checkout")
@pytest.mark.parametrize("quality", [50, 85])
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("size", [None, (224, 224), (173, 201)])
def test_pixels_are_pillows_on_photographs(size, subsampling, quality):
    shares = []
    for path in PHOTOS:
        photo = Image.open(path).convert("RGB")
        pixels = np.array(photo.resize(size) if size else photo)
        ours = JPEG(quality=quality, subsampling=subsampling)(tensor(pixels))
        shares.append(close(ours, pillow(pixels, quality, subsampling)))
    assert np.mean(shares) >= REQUIRED[quality] and min(shares) >= REQUIRED[quality] - 0.01


def simplejpeg_bytes(pixels: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    if pixels.ndim == 2:
        return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels[..., None], quality, "GRAY", "Gray"), "GRAY")[..., 0]
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling.replace(":", "")))


CODECS = {"pillow": pillow, "simplejpeg": simplejpeg_bytes}


@pytest.mark.parametrize("backend", list(CODECS))
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
def test_real_codecs_return_what_the_codec_returns(backend, subsampling):
    pixels = photo_like(67, 90)
    out = JPEG(quality=75, subsampling=subsampling, backend=backend)(tensor(pixels))
    assert torch.equal(out, tensor(CODECS[backend](pixels, 75, subsampling)))


def test_simplejpeg_is_pillow_where_both_use_the_accurate_dct():
    x = tensor(photo_like(67, 90))
    assert torch.equal(JPEG(quality=97, backend="simplejpeg")(x), JPEG(quality=97, backend="pillow")(x))


@pytest.mark.parametrize("backend", ["pillow", "simplejpeg", "torch"])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_coded_alone_as_grey(backend, channels):
    planes = [photo_like(40, 52, seed=k)[..., 0].copy() for k in range(channels)]
    out = JPEG(quality=60, backend=backend)(torch.from_numpy(np.stack(planes))[None].float())
    expected = torch.from_numpy(np.stack([CODECS.get(backend, pillow)(plane, 60) for plane in planes]))[None].float()
    assert torch.equal(out, expected) if backend in CODECS else ((out - expected).abs() <= 2).float().mean() >= 0.97


@pytest.mark.parametrize("backend", ["torch", "simplejpeg"])
def test_volumes_are_coded_slice_by_slice(backend):
    volume = torch.stack([tensor(photo_like(24, 40, seed=k))[0, :2] for k in range(5)], dim=1)[None]
    defense = JPEG(backend=backend)
    out = defense(volume)
    for k in range(5):
        assert torch.equal(out[:, :, k], defense(volume[:, :, k]))


def test_values_outside_the_range_are_clamped_before_coding():
    x = tensor(photo_like(32, 32)) * 1.5 - 40
    for backend in ("torch", "pillow", "simplejpeg"):
        defense = JPEG(backend=backend)
        assert torch.equal(defense(x), defense(x.clamp(0, 255)))


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("size", [(16, 32), (19, 25)])
def test_surrogate_is_the_gradient_of_the_model_without_rounding(monkeypatch, subsampling, size):
    """With every rounding and clamping removed the model is linear: the straight-through gradient must be that linear map's."""
    x = torch.rand(1, 3, *size, dtype=torch.float64) * 255
    g = torch.randn_like(x)
    (ours,) = torch.autograd.grad(jpeg_round_trip(x.requires_grad_(), 75, subsampling), x, g)
    model = "monai_advdef.defenses.jpeg_model"
    monkeypatch.setattr(f"{model}.round_ste", lambda t: t)
    monkeypatch.setattr(f"{model}.clamp_ste", lambda t, low, high: t)
    monkeypatch.setattr(f"{model}.straight_through", lambda smooth, exact, slope: smooth)
    (smooth,) = torch.autograd.grad(jpeg_round_trip(x, 75, subsampling), x, g)
    torch.testing.assert_close(ours, smooth)
    step = 1e-3 * torch.randn_like(x)
    slope = ((jpeg_round_trip(x + step, 75, subsampling) - jpeg_round_trip(x - step, 75, subsampling)) * g).sum() / 2
    torch.testing.assert_close((ours * step).sum(), slope)


def test_surrogate_of_grey_images_is_the_identity():
    x = (torch.rand(1, 1, 16, 24) * 255).requires_grad_()
    g = torch.randn(1, 1, 16, 24)
    torch.testing.assert_close(torch.autograd.grad(JPEG(surrogate="straight_through")(x), x, g)[0], g, atol=1e-4, rtol=0)


@pytest.mark.parametrize("backend", ["pillow", "simplejpeg"])
def test_real_codecs_borrow_the_models_gradient(backend):
    x = tensor(photo_like(35, 41)).requires_grad_()
    g = torch.randn_like(x)
    (ours,) = torch.autograd.grad(JPEG(backend=backend)(x), x, g)
    (model,) = torch.autograd.grad(JPEG(backend="torch")(x), x, g)
    assert torch.equal(ours, model)


def test_ties_alternate():
    assert alternate(torch.zeros(2, 5), -0.125).tolist() == [-0.125, 0.125, -0.125, 0.125, -0.125]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": 0}, r"quality must lie in 1\.\.100, got 0; "),
        ({"quality": 101}, r"quality must lie in 1\.\.100"),
        ({"quality": 85.0}, r"quality must lie in 1\.\.100"),
        ({"subsampling": "420"}, "subsampling must be one of 4:4:4, 4:2:2, 4:2:0, got '420'"),
        ({"backend": "opencv"}, "backend must be one of torch, pillow, simplejpeg, got 'opencv'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        JPEG(**arguments)


@pytest.mark.parametrize(("shape", "quality"), [((2, 3, 19, 25), 85), ((1, 1, 16, 8), 40), ((1, 2, 3, 12, 9), 60)])
def test_image_of_inverts_levels(shape, quality):
    defense = JPEG(quality=quality, subsampling="4:4:4", value_range=(-1, 1))
    x = torch.rand(shape, dtype=torch.float64) * 2 - 1
    levels = defense.levels(x)
    assert levels.shape[-2:] == tuple(-(-n // 8) * 8 for n in shape[-2:])
    torch.testing.assert_close(defense.image_of(levels, shape[2:]), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_rounded_levels_are_the_image_the_codec_returns(channels):
    pixels = tensor(photo_like(64, 80))[:, :channels]
    defense = JPEG(quality=85, subsampling="4:4:4", backend="pillow")
    ours = defense.image_of(defense.levels(pixels).round(), (64, 80)).clamp(0, 255)
    assert ((ours - defense(pixels)).abs() <= (2 if channels == 1 else 4)).float().mean() > 0.97


def test_levels_need_full_chroma():
    with pytest.raises(ValueError, match="levels of a colour image need subsampling '4:4:4', got '4:2:0'"):
        JPEG().levels(torch.zeros(1, 3, 8, 8))
