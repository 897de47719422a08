from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from monai_advdef.networks import ResNet50FCN, Standardized, ValidUNet, available_networks, segmentation_network

THIN = [2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def fcn():
    torch.manual_seed(0)
    return ResNet50FCN().eval()


def trunk_parameters(network):
    return {name: p for name, p in network.named_parameters() if not name.startswith("up")}


@given(st.lists(st.tuples(st.floats(-50, 250), st.floats(0.5, 300)), min_size=1, max_size=4), st.sampled_from([2, 3]))
@settings(max_examples=30, deadline=None)
def test_standardized_is_the_formula(statistics, dims):
    mean, std = zip(*statistics)
    x = 255 * torch.rand(2, len(statistics), *(5,) * dims)
    out = Standardized(nn.Identity(), mean=list(mean), std=list(std))(x)
    for channel, (m, s) in enumerate(statistics):
        torch.testing.assert_close(out[:, channel], (x[:, channel] - m) / s)


def test_standardized_scalar_equals_per_channel_and_travels_in_a_checkpoint():
    x = 255 * torch.rand(2, 3, 8, 8)
    inner = nn.Conv2d(3, 2, 3)
    scalar = Standardized(inner, mean=127.5, std=60.0)
    torch.testing.assert_close(scalar(x), Standardized(inner, mean=[127.5] * 3, std=[60.0] * 3)(x))
    torch.testing.assert_close(scalar(x), inner((x - 127.5) / 60))
    other = Standardized(nn.Conv2d(3, 2, 3), mean=0.0, std=1.0)
    other.load_state_dict(scalar.state_dict())
    torch.testing.assert_close(other(x), scalar(x))


def test_standardized_refuses_bad_statistics():
    with pytest.raises(ValueError, match="std must be positive"):
        Standardized(nn.Identity(), mean=0.0, std=0.0)
    with pytest.raises(ValueError, match="equally many, got 3 and 1"):
        Standardized(nn.Identity(), mean=[1.0, 2.0, 3.0], std=1.0)


def test_resnet50_trunk_is_torchvisions(fcn):
    assert sum(p.numel() for p in trunk_parameters(fcn).values()) == 23_508_032
    shapes = {name: tuple(p.shape) for name, p in trunk_parameters(fcn).items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)
    assert "layer1.0.downsample.0.bias" not in shapes
    assert fcn.layer2[0].conv2.stride == (2, 2) and fcn.layer2[0].conv1.stride == (1, 1)
    decoder = 16 * (2048 * 256 + 1280 * 128 + 640 * 64 + 320 * 1) + 256 + 128 + 64 + 1
    assert sum(p.numel() for p in fcn.parameters()) == 23_508_032 + decoder


def test_resnet50_feature_sizes(fcn):
    seen = {}
    hooks = [
        getattr(fcn, name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: tuple(out.shape[1:])}))
        for name in ("layer1", "layer2", "layer3", "layer4", "up4", "up3", "up2", "up1")
    ]
    with torch.no_grad():
        fcn(torch.zeros(1, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    assert seen == {
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
        "up4": (256, 14, 14),
        "up3": (128, 28, 28),
        "up2": (64, 56, 56),
        "up1": (1, 224, 224),
    }


def test_resnet50_decoder_is_linear_in_the_features(fcn):
    """No activation or norm between the decoder's layers: scaling every feature scales the (bias-free) answer."""
    features = [torch.rand(1, c, s, s) for c, s in ((256, 8), (512, 4), (1024, 2), (2048, 1))]

    def decode(layer1, layer2, layer3, layer4):
        stubs = (layer1, layer2, layer3, layer4)
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            for name, value in zip(("layer1", "layer2", "layer3", "layer4"), stubs):
                patch.setattr(getattr(fcn, name), "forward", lambda _x, value=value: value)
            return fcn(torch.zeros(1, 3, 32, 32))

    offset = decode(*(0 * f for f in features))
    torch.testing.assert_close(decode(*(3 * f for f in features)) - offset, 3 * (decode(*features) - offset), rtol=1e-4, atol=1e-5)


def test_resnet50_needs_multiples_of_32(fcn):
    with torch.no_grad():
        assert fcn(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)
    with pytest.raises(ValueError, match="multiples of 32, got 50x64"):
        fcn(torch.zeros(1, 3, 50, 64))


def test_resnet50_weights_from_a_file(fcn, tmp_path):
    stored = {name: t for name, t in fcn.state_dict().items() if not name.startswith("up") and "num_batches" not in name}
    stored |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = str(tmp_path / "resnet50.pth")
    torch.save(stored, path)
    loaded = ResNet50FCN(out_channels=3, weights=path)
    assert all(torch.equal(p, fcn.state_dict()[name]) for name, p in trunk_parameters(loaded).items())
    with pytest.raises(ValueError, match="no ResNet-50 for this network: 1 tensors differ, first 'conv1.weight'"):
        ResNet50FCN(in_channels=1, weights=path)
    del stored["layer3.5.bn3.running_var"]
    torch.save(stored, path)
    with pytest.raises(ValueError, match="layer3.5.bn3.running_var"):
        ResNet50FCN(weights=path)
    with pytest.raises(FileNotFoundError, match="does not exist; give a local file"):
        ResNet50FCN(weights=str(tmp_path / "absent.pth"))


SMALL = {
    "unet": {"channels": THIN},
    "valid_unet": {"channels": THIN},
    "resnet50fcn": {},
    **{name: {"width": 8, "codewords": 4} for name in available_networks() if name.startswith("nlcen")},
    **{name: {"channels": (4, 8), "residual": False} for name in ("unet2d", "unet3d")},
    **{name: {"width": 0.05} for name in ("cdnn", "invertednet", "nwcn", "slsdeep")},
}


@pytest.mark.parametrize("name", available_networks())
def test_networks_take_grey_levels_and_script(name):
    torch.manual_seed(0)
    network = segmentation_network(name, out_channels=3, **SMALL[name]).eval()
    size = (16, 24, 8) if name == "unet3d" else (32, 64)
    x = 255 * torch.rand(2, 3, *size)
    with torch.no_grad():
        logits = network(x)
        assert logits.shape == (2, 3, *size)
        torch.testing.assert_close(logits, network.network((x - 127.5) / 127.5))
        torch.testing.assert_close(torch.jit.script(network)(x), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("residual", [True, False])
def test_slices_of_a_volume_are_segmented_one_by_one(residual):
    torch.manual_seed(0)
    network = segmentation_network("unet2d", in_channels=4, out_channels=4, mean=0, std=1, channels=(4, 8), residual=residual).eval()
    volume = torch.randn(2, 4, 16, 24, 5, requires_grad=True)
    logits = network(volume)
    assert logits.shape == volume.shape
    for k in range(5):
        torch.testing.assert_close(logits[..., k], network(volume[..., k]))
    (gradient,) = torch.autograd.grad(logits[..., 2].sum(), volume)
    assert gradient[..., 2].abs().sum() > 0 and gradient[..., [0, 1, 3, 4]].abs().sum() == 0


@pytest.mark.parametrize("name", ["cdnn", "invertednet", "nwcn", "slsdeep", "unet"])
def test_rivals_script_with_nlce(name):
    network = segmentation_network(name, nlce=True, **SMALL[name]).eval()
    x = 255 * torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"topdown": "literal", "fused": False}, {"topdown": "fpn", "refine_head": "cpn"}])
def test_every_nlcen_scripts_and_answers_the_refined_logits_in_either_mode(options):
    network = segmentation_network("nlcen", **SMALL["nlcen"], **options)
    scripted = torch.jit.script(network)
    x = 255 * torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        assert scripted.train()(x).shape == (2, 2, 32, 64) and len(network.train()(x)) == 5
        torch.testing.assert_close(scripted.eval()(x), network.eval()(x), rtol=1e-4, atol=1e-4)


def test_valid_unet_is_the_published_one():
    network = ValidUNet(pad=False).eval()
    assert sum(p.numel() for p in network.parameters()) == 7_760_130
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        assert ValidUNet(channels=THIN, pad=False)(torch.zeros(1, 3, 572, 572)).shape == (1, 2, 388, 388)
        assert network(torch.zeros(1, 3, 188, 204)).shape == (1, 2, 4, 20)


@given(st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=20, deadline=None)
def test_padded_valid_unet_answers_every_size(height, width):
    with torch.no_grad():
        assert ValidUNet(channels=THIN)(torch.zeros(1, 3, height, width)).shape == (1, 2, height, width)


def test_padding_repeats_the_edge_and_moves_nothing():
    torch.manual_seed(0)
    network = ValidUNet(channels=THIN).eval()
    x = torch.rand(1, 3, 52, 36)  # 16 n + 4: the answer of a valid network without remainder
    edges = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (92, 92), (92, 92)), mode="edge"))
    with torch.no_grad():
        padded = network(x)
        network.pad = False
        torch.testing.assert_close(padded, network(edges))


@pytest.mark.parametrize("pad", [False, True])
def test_valid_unet_is_centred(pad):
    """With mirrored kernels it answers the mirrored image with the mirrored answer: nothing is shifted (the published loader is, by
    10 rows)."""
    torch.manual_seed(0)
    network = ValidUNet(channels=THIN, pad=pad).eval()
    mirrored = copy.deepcopy(network)
    for p in mirrored.parameters():
        p.data = p.data.flip(-2, -1) if p.ndim == 4 else p.data
    x = torch.rand(1, 3, 220, 188)
    with torch.no_grad():
        torch.testing.assert_close(mirrored(x.flip(-2, -1)), network(x).flip(-2, -1), rtol=1e-4, atol=1e-5)


def test_valid_unet_sees_as_far_up_as_down():
    """The pixels that the middle answers depend on lie evenly about the pixels answered."""
    torch.manual_seed(0)
    network = ValidUNet(channels=THIN, pad=False).double().eval()
    x = torch.rand(1, 3, 332, 332, dtype=torch.double, requires_grad=True)
    network(x)[..., 66:82, 66:82].sum().backward()  # rows 158..173 of 332
    seen = x.grad.abs().sum((0, 1))
    for axis in (0, 1):
        rows = seen.sum(axis).nonzero().ravel()
        assert rows.min() + rows.max() == 331 and rows.max() < 331


def test_valid_unet_says_which_sizes_it_takes():
    for shape in ((172, 188), (188, 190)):
        with pytest.raises(
            ValueError, match=rf"at least 188 and of the form 16 n \+ 12.*got {shape[0]}x{shape[1]}; .*set pad to true"
        ):
            ValidUNet(channels=THIN, pad=False)(torch.zeros(1, 3, *shape))
    with pytest.raises(ValueError, match=r"widths of 5 levels, got \[8, 16\]"):
        ValidUNet(channels=[8, 16])


def test_unet_is_the_stated_one_and_takes_options():
    unet = segmentation_network("unet").network
    assert tuple(unet.channels) == (16, 32, 64, 128, 256) and tuple(unet.strides) == (2, 2, 2, 2) and unet.num_res_units == 2
    assert any(isinstance(module, nn.BatchNorm2d) for module in unet.modules())
    small = segmentation_network(channels=[4, 8], num_res_units=0, in_channels=1, mean=[10.0], std=[2.0])
    assert small(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)


def test_unknown_network_gets_the_nearest_name():
    with pytest.raises(ValueError, match="no network 'unett'; did you mean 'unet'"):
        segmentation_network("unett")
    with pytest.raises(ValueError, match="did you mean 'resnet50fcn'"):
        segmentation_network("ResNet50")
