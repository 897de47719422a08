from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DeepSupervisionLoss
from torch import nn
from torch.nn import functional

from monai_advdef.networks.nlcen import NLCEN
from monai_advdef.networks.trunk import ResNetTrunk, monai_resnet

THIN = {"width": 8, "codewords": 4}
STAGES = (64, 128, 256, 512)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return NLCEN(**THIN).eval()


def conv_norm(a, b, size=1):
    return a * b * size**2 + 2 * b


def bottleneck(a, w):
    return conv_norm(a, w // 2) + conv_norm(w // 2, w // 2, 3) + conv_norm(w // 2, w) + conv_norm(a, w)


def nlce_count(c, k):
    return 3 * (c + 1) * (c // 2) + (c // 2 + 1) * c + (c + 1) * (c // 2) + k * (c // 2) + 3 * k + (c // 2 + 1) * c


def test_number_of_parameters_is_that_of_the_stated_layers():
    w, k, classes = 256, 32, 2
    trunk = parameters(monai_resnet("resnet18", in_channels=1))
    assert trunk == 11_689_512 - (512 * 1000 + 1000) - 64 * 49 * 2  # torchvision's, less classifier and two of three colours
    topdown = sum(conv_norm(c, w) for c in STAGES) + 3 * conv_norm(w, w)
    heads = 4 * (w * 9 + 1) * classes
    refine = 6 * bottleneck(w, w) + (4 * w * 9 + 1) * classes
    blocks = sum(nlce_count(c, k) for c in STAGES)
    twin = NLCEN(nlce=False)
    assert parameters(twin) == trunk + topdown + heads + refine
    assert parameters(NLCEN()) == parameters(twin) + blocks
    literal = sum((a + 1) * b for a, b in zip(STAGES[1:], STAGES)) + (512 + 1) * 512
    literal += sum((c * 9 + 1) * classes for c in STAGES) + ((64 + 3 * 8) * 9 + 1) * classes
    literal += sum(bottleneck(c, 8) + level * bottleneck(8, 8) for level, c in enumerate(STAGES[1:]))
    assert parameters(NLCEN(topdown="literal", nlce=False, width=8)) == trunk + literal
    extra = bottleneck(32, 8) + (8 - 32) * 9 * classes
    assert parameters(NLCEN(refine_head="cpn", **THIN)) == parameters(NLCEN(**THIN)) + extra


@pytest.mark.parametrize(
    "options", [{}, {"topdown": "literal"}, {"topdown": "fpn"}, {"refine_head": "cpn"}, {"trunk": "resnet50"}, {"trunk": "resnet34"}]
)
def test_five_predictions_of_the_image_size_when_training_one_otherwise(options):
    network = NLCEN(in_channels=3, out_channels=4, subsample=2, **THIN, **options)
    x = torch.rand(2, 3, 32, 64)
    predictions = network(x)
    assert [tuple(p.shape) for p in predictions] == [(2, 4, 32, 64)] * 5
    sum(p.sum() for p in predictions).backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None}
    assert not idle
    assert network.eval()(x).shape == (2, 4, 32, 64)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=6, deadline=None)
def test_every_multiple_of_32(network, height, width, batch):
    with torch.no_grad():
        assert network(torch.rand(batch, 1, 32 * height, 32 * width)).shape == (batch, 2, 32 * height, 32 * width)


def test_eval_mode_gives_the_refined_head_and_computes_no_other(network):
    x, called = torch.rand(1, 1, 64, 32), []
    hooks = [head.register_forward_hook(lambda *_: called.append(1)) for head in network.coarse]
    with torch.no_grad():
        refined = network(x)
        assert not called
        heads = network.forward_heads(x)
    for hook in hooks:
        hook.remove()
    assert len(called) == 4 and len(heads) == 5 and torch.equal(heads[0], refined)


@pytest.mark.parametrize("topdown", ["cpn", "literal", "fpn"])
def test_the_pyramid_is_the_stated_formula(topdown):
    torch.manual_seed(0)
    network = NLCEN(topdown=topdown, **THIN).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        enhanced = [nlce(c) for nlce, c in zip(network.nlce, network.trunk(x))]
        assert [tuple(e.shape[1:]) for e in enhanced] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
        pyramid = network._pyramid(x)
        torch.testing.assert_close(pyramid[3], network.lateral[3](enhanced[3]))
        for i in range(3):
            above = functional.interpolate(pyramid[i + 1], scale_factor=2, mode="bilinear")
            own = enhanced[i] if topdown == "literal" else network.lateral[i](enhanced[i])
            torch.testing.assert_close(pyramid[i], own + network.path[i](above))
        if topdown == "literal":  # as printed: the convolution first
            before = functional.interpolate(network.path[0](pyramid[1]), scale_factor=2, mode="bilinear")
            torch.testing.assert_close(pyramid[0], enhanced[0] + before, rtol=1e-4, atol=1e-4)


def test_refinement_has_zero_to_three_bottlenecks_and_joins_four_levels(network):
    assert [len(level) for level in network.refine] == [0, 1, 2, 3]
    joined = []
    hook = network.head.register_forward_hook(lambda _m, given, _out: joined.append(tuple(given[0].shape)))
    with torch.no_grad():
        network(torch.rand(1, 1, 96, 64))
    hook.remove()
    assert joined == [(1, 4 * 8, 24, 16)]


def test_the_twin_is_the_network_without_its_blocks():
    torch.manual_seed(3)
    full = NLCEN(**THIN).eval()
    torch.manual_seed(3)
    twin = NLCEN(nlce=False, **THIN).eval()
    own, others = full.state_dict(), twin.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in others.items())
    assert own.keys() - others.keys() == {name for name in own if name.startswith("nlce.")}
    assert not any(name.startswith("nlce.") for name in others)
    for module in full.nlce.modules():  # the gate fully open and W_z at zero
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, 1e3)
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(full(x), twin(x))
    loaded = full.load_state_dict(NLCEN(nlce=False, **THIN).state_dict(), strict=False)
    assert not loaded.unexpected_keys and all(name.startswith("nlce.") for name in loaded.missing_keys)


def test_each_part_can_be_left_out():
    names = {
        part: {n.split(".")[2] for n in NLCEN(**{part: False}, **THIN).state_dict() if n.startswith("nlce.")}
        for part in ("non_local", "encoder", "nlce")
    }
    assert names == {"non_local": {"gate"}, "encoder": {"non_local"}, "nlce": set()}


def test_deep_supervision_is_the_papers_loss(network):
    x, label = torch.rand(2, 1, 32, 32), torch.randint(0, 2, (2, 1, 32, 32))
    heads = [head.detach() for head in network.forward_heads(x)]

    def cross_entropy(logits):  # equation 4 with its minus sign, as a mean
        probability = logits.exp() / logits.exp().sum(1, keepdim=True)
        return -(probability.gather(1, label).log()).mean()

    paper = sum(cross_entropy(coarse) for coarse in heads[1:]) / 4 + 0.25 * cross_entropy(heads[0])
    loss = DeepSupervisionLoss(nn.CrossEntropyLoss(), weights=[0.25] * 5)
    one_hot = functional.one_hot(label[:, 0]).movedim(-1, 1).float()
    torch.testing.assert_close(loss(heads, one_hot), paper)


def test_input_gradient_is_the_same_with_either_attention():
    gradients = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = NLCEN(fused=fused, **THIN).eval()
        for block in network.nlce:
            nn.init.normal_(block.non_local.project.weight, std=0.1)
        leaf = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        gradients.append(torch.autograd.grad(network(leaf).square().mean(), leaf)[0])
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[1].abs().max()


def stored(tmp_path, name="resnet18"):
    state = {k: torch.randn_like(v) for k, v in monai_resnet(name, in_channels=3).state_dict().items() if v.is_floating_point()}
    state = {k: v.abs() if k.endswith("running_var") else v for k, v in state.items()}
    path = tmp_path / f"{name}.pth"
    torch.save(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, path)
    return str(path), state


def test_weights_from_a_file(tmp_path):
    path, state = stored(tmp_path)
    trunk = NLCEN(in_channels=3, weights=path, **THIN).trunk.state_dict()
    assert all(torch.equal(trunk[name], tensor) for name, tensor in state.items())


def test_weights_for_grey_images_answer_as_if_the_image_were_repeated(tmp_path):
    path, _ = stored(tmp_path)
    grey, colour = (ResNetTrunk(name="resnet18", in_channels=c, weights=path).eval() for c in (1, 3))
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for one, three in zip(grey(x), colour(x.expand(-1, 3, -1, -1))):
            assert (one - three).abs().max() <= 1e-4 * three.abs().max()


def test_weights_of_another_network(tmp_path):
    path, _ = stored(tmp_path)
    with pytest.raises(ValueError, match=r"is no ResNet-34 for this network: \d+ tensors differ"):
        NLCEN(trunk="resnet34", weights=path, **THIN)
    with pytest.raises(ValueError, match="1 tensors differ, first 'conv1.weight'"):
        NLCEN(in_channels=4, weights=path, **THIN)


@pytest.mark.parametrize("weights", ["imagenet", "https://example.org/resnet18.pth"])
def test_nothing_is_downloaded(weights, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))
    message = "does not exist; give a local file with torchvision's ResNet-18 state dict, such as resnet18-.*: nothing is downloaded"
    with pytest.raises(FileNotFoundError, match=message):
        NLCEN(weights=weights, **THIN)


def test_wrong_names_and_sizes(network):
    with pytest.raises(ValueError, match="multiples of 32, got 48x64; resize or pad"):
        network(torch.zeros(1, 1, 48, 64))
    for options in ({"trunk": "resnet19"}, {"topdown": "up"}, {"refine_head": "none"}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"no {name} '{value}'; known: "):
            NLCEN(**options)
