from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_advdef.networks import (
    CDNN,
    NLCE,
    NWCN,
    ContextUNet,
    InvertedNet,
    SLSDeep,
    Standardized,
    ValidUNet,
    segmentation_network,
    training_loss,
)
from monai_advdef.networks.sizes import scaled

RIVALS = {"cdnn": CDNN, "invertednet": InvertedNet, "nwcn": NWCN, "slsdeep": SLSDeep}
THIN = 0.05


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def on_paper(network, **options) -> nn.Module:
    """Built without memory for its weights."""
    with torch.device("meta"):
        return network(**options)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_inverted_net_has_the_published_count():
    assert count(on_paper(InvertedNet, out_channels=3)) == 3_140_771
    assert count(on_paper(InvertedNet, out_channels=1)) == 3_140_257


def test_cdnn_convolutions_have_the_stated_count():
    network = on_paper(CDNN, out_channels=1)
    assert sum(count(m) for m in network.modules() if isinstance(m, nn.Conv2d)) == 5_034_529
    assert count(network) == 5_034_529 + 2 * 2464  # scale and shift of the 2464 normalised channels


def test_slsdeep_trunk_is_resnet50_but_for_its_stem():
    network = on_paper(SLSDeep)
    resnet50, stem, published_stem = 23_508_032, 3 * 64 * 9 + 2 * 64 * 64 * 9 + 6 * 64, 3 * 64 * 49 + 2 * 64
    trunk = sum(count(getattr(network, name)) for name in ("stem", "layer1", "layer2", "layer3", "layer4"))
    assert trunk == resnet50 - published_stem + stem
    dilations = {name: {b.conv2.dilation for b in getattr(network, name)} for name in ("layer2", "layer3", "layer4")}
    assert dilations == {"layer2": {(1, 1)}, "layer3": {(2, 2)}, "layer4": {(4, 4)}}
    assert "layer4.0.downsample.0.weight" in network.state_dict() and network.layer4[0].downsample[0].stride == (1, 1)


def test_ronnebergers_unet_has_its_count():
    network = on_paper(ValidUNet, in_channels=1, out_channels=2, channels=[64, 128, 256, 512, 1024])
    assert count(network) == 31_030_658


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("nlce", [False, True])
def test_shapes_and_input_gradients(name, nlce):
    network = RIVALS[name](in_channels=2, out_channels=3, width=0.25, nlce=nlce).eval()
    assert sum(isinstance(m, NLCE) for m in network.modules()) == nlce * (2 if name == "nwcn" else 1)
    x = torch.rand(2, 2, 32, 48, requires_grad=True)
    logits = network(x)
    assert logits.shape == (2, 3, 32, 48)
    (logits * torch.randn_like(logits)).sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad.abs().sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", RIVALS)
def test_nlce_adds_its_own_parameters_only(name):
    without, within = (on_paper(RIVALS[name], nlce=nlce) for nlce in (False, True))
    added = within.state_dict().keys() - without.state_dict().keys()
    assert without.state_dict().keys() < within.state_dict().keys()
    assert {key.split(".")[0] for key in added} == ({"first", "second"} if name == "nwcn" else {"nlce"})


DEEPEST = {"cdnn": (512, 16), "invertednet": (16, 8), "nwcn": (128, 4), "slsdeep": (2048, 8)}


@pytest.mark.parametrize("name", RIVALS)
def test_nlce_sees_the_coarsest_features(name):
    channels, stride = DEEPEST[name]
    network = on_paper(RIVALS[name], in_channels=1, nlce=True).eval()
    seen = []
    for module in network.modules():
        if isinstance(module, NLCE):
            module.register_forward_hook(lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape)))
    network(torch.zeros(1, 1, 64, 96, device="meta"))
    assert seen == [(1, channels, 64 // stride, 96 // stride)] * len(seen) and len(seen) == (2 if name == "nwcn" else 1)


@pytest.mark.parametrize("name", RIVALS)
def test_width_scales_every_inner_channel(name):
    whole, half = (on_paper(RIVALS[name], in_channels=3, width=width).state_dict() for width in (1.0, 0.5))
    ends = {5, 3, 2, 1}  # channels of images, of classes, and of both in NWCN's second stage
    for key, tensor in whole.items():
        if key.endswith("weight") and tensor.ndim == 4:
            inner = [(a, b) for a, b in zip(tensor.shape[:2], half[key].shape[:2]) if a not in ends]
            assert all(a == 2 * b for a, b in inner), key


def test_width_is_rounded_and_never_below_four():
    assert [scaled(w, 30) for w in (1.0, 0.5, 0.25, 0.01)] == [30, 15, 8, 4]
    with pytest.raises(ValueError, match="width must be positive, got 0.*1.0 is the published size"):
        InvertedNet(width=0)


@pytest.mark.parametrize(("name", "divisor"), [("cdnn", 16), ("invertednet", 8), ("nwcn", 4)])
def test_sides_that_cannot_be_halved_are_named(name, divisor):
    network = RIVALS[name](in_channels=1, width=THIN).eval()
    side = 32 + divisor // 2
    with pytest.raises(ValueError, match=rf"multiples of {divisor}, got 32x{side}; resize or pad"):
        network(torch.zeros(1, 1, 32, side))


def test_slsdeep_takes_any_size_and_gives_no_negative_logit():
    network = SLSDeep(in_channels=1, width=THIN).eval()
    logits = network(torch.rand(1, 1, 37, 50))
    assert logits.shape == (1, 2, 37, 50) and (logits >= 0).all()


def test_cdnn_softmax_is_its_sigmoid():
    network = CDNN(in_channels=1, width=THIN).eval()
    single = CDNN(in_channels=1, out_channels=1, width=THIN).eval()
    single.load_state_dict(network.state_dict())
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(network(x).softmax(1)[:, 1:], single(x).sigmoid())


def test_cdnn_is_centred():
    """Made linear (mean pooling, positive weights), what its middle answers depend on has its centre of mass in the middle: the half
    pixels that the 4x4 kernels shift by cancel."""
    network = CDNN(in_channels=1, width=THIN).double().eval()
    for index, module in enumerate(network.down):
        if isinstance(module, nn.MaxPool2d):
            network.down[index] = nn.AvgPool2d(2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.05)
            nn.init.zeros_(module.bias)
    x = torch.ones(1, 1, 288, 288, dtype=torch.double, requires_grad=True)
    network(x)[0, 1, 128:160, 128:160].sum().backward()
    for axis in (0, 1):
        mass = x.grad[0, 0].sum(axis)
        assert (mass * torch.arange(288)).sum() / mass.sum() == pytest.approx(143.5)


def test_inverted_net_downsamples_three_times_and_drops_out_after_each_convolution():
    network = InvertedNet(width=THIN, dropout=0.3)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 18 + 1
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3] * 18
    sizes = []
    for block in network.down:
        block.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    network(torch.zeros(1, 1, 32, 32))
    assert sizes == [32, 32, 16, 8, 4]


def gradient_share(network: NWCN, loss) -> dict[str, bool]:
    network.zero_grad()
    loss.backward()
    return {
        name: any(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(network, name).parameters())
        for name in ("first", "second")
    }


def test_nwcn_stages_learn_from_their_own_loss():
    network = NWCN(width=THIN).train()
    x = torch.rand(2, 1, 16, 16)
    assert gradient_share(network, network(x)[0].square().sum()) == {"first": False, "second": True}
    assert gradient_share(network, network(x)[1].square().sum()) == {"first": True, "second": False}
    label = torch.randint(0, 2, (2, 1, 16, 16))
    assert gradient_share(network, training_loss("nwcn")(network(x), label)) == {"first": True, "second": True}


def test_nwcn_is_attacked_through_the_whole_cascade():
    network = NWCN(width=THIN).eval()
    x = torch.rand(2, 1, 16, 16)
    second, first = network.forward_heads(x)
    torch.testing.assert_close(network(x), second)
    torch.testing.assert_close(network.second(torch.cat([x, first.softmax(1)], 1)), second)
    assert gradient_share(network, network(x).square().sum()) == {"first": True, "second": True}


def test_standardized_passes_the_heads_on():
    network = segmentation_network("nwcn", in_channels=1, width=THIN, mean=100.0, std=50.0).eval()
    x = 255 * torch.rand(1, 1, 16, 16)
    heads = network.forward_heads(x)
    torch.testing.assert_close(heads, network.network.forward_heads((x - 100) / 50))
    torch.testing.assert_close(heads[0], network(x))
    with pytest.raises(ValueError, match="SLSDeep has a single head; call the network itself"):
        Standardized(SLSDeep(width=THIN), mean=0.0, std=1.0).forward_heads(x)


def test_unet_gains_one_nlce_and_keeps_its_names():
    plain, context = (segmentation_network("unet", channels=[4, 8, 8], nlce=nlce).network for nlce in (None, True))
    assert type(plain).__name__ == "UNet" and isinstance(context, ContextUNet)
    assert sum(isinstance(m, NLCE) for m in context.modules()) == 1
    assert sum(isinstance(m, NLCE) for m in plain.modules()) == 0
    gained = sum(count(m) for m in context.modules() if isinstance(m, NLCE))
    assert count(context) == count(plain) + gained
    assert context.eval()(torch.rand(1, 3, 16, 24)).shape == (1, 2, 16, 24)


@pytest.mark.parametrize("nlce", [False, True])
def test_unet_takes_volumes(nlce):
    volume = segmentation_network("unet", in_channels=1, spatial_dims=3, channels=[4, 8, 8], nlce=nlce).eval()
    assert volume(torch.rand(1, 1, 8, 8, 16)).shape == (1, 2, 8, 8, 16)


def test_an_option_of_another_network_is_named_with_those_known():
    with pytest.raises(ValueError, match="network 'resnet50fcn' takes no option 'nlce'; it knows weights"):
        segmentation_network("resnet50fcn", nlce=True)
    with pytest.raises(ValueError, match="network 'cdnn' takes no option 'widht'; it knows nlce, width"):
        segmentation_network("cdnn", widht=0.5)
    with pytest.raises(ValueError, match="network 'nlcen_no_nlce' takes no option 'nlce'"):
        segmentation_network("nlcen_no_nlce", nlce=True)


def test_options_that_are_none_are_left_out():
    network = segmentation_network("valid_unet", in_channels=1, nlce=None, width=None, channels=[4] * 5)
    assert isinstance(network.network, ValidUNet)


def test_nlcen_ablations_lack_what_they_are_named_after():
    def parts(name: str) -> set[str]:
        with torch.device("meta"):
            network = segmentation_network(name, in_channels=1).network
        return {key.split(".")[2] for key in network.state_dict() if key.startswith("nlce.")}

    assert parts("nlcen") == {"non_local", "gate"}
    assert parts("nlcen_no_nl") == {"gate"} and parts("nlcen_no_ce") == {"non_local"} and parts("nlcen_no_nlce") == set()
