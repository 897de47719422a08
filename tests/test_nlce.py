from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from monai_advdef.networks.nlce import NLCE


def stirred(channels=6, seed=0, **options):
    """An NLCE in eval mode with every parameter and statistic away from its start."""
    torch.manual_seed(seed)
    block = NLCE(channels, **options).double().eval()
    for tensor in block.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0).mul_(torch.where(torch.rand_like(tensor) < 0.5, -1, 1))
    for name, tensor in block.state_dict().items():
        if "smoothing" in name or "running_var" in name:
            tensor.abs_()
    return block


def by_loops(block, x):
    """Steps 2 to 7 for each position and codeword, residuals written out; from the block only its parameters."""
    p = {name: t for name, t in block.state_dict().items()}
    out = []
    for image in x.flatten(2):
        columns = [image[:, i] for i in range(image.shape[1])]

        def conv(name, v):
            return p[f"{name}.weight"].flatten(1) @ v + p[f"{name}.bias"]

        z = []
        for xi in columns:
            score = torch.stack([conv("non_local.theta", xi) @ conv("non_local.phi", xj) for xj in columns]).exp()
            y = sum(a * conv("non_local.g", xj) for a, xj in zip(score / score.sum(), columns))
            z.append(conv("non_local.project", y) + xi)
        words, s = p["gate.codewords"], p["gate.smoothing"]
        residual = torch.stack([conv("gate.project", zi) for zi in z])[:, None] - words  # N x K x C'
        weight = (-s * (residual**2).sum(-1)).exp()
        e = (weight / weight.sum(1, keepdim=True))[..., None] * residual
        mean, var = p["gate.norm.running_mean"][:, None], p["gate.norm.running_var"][:, None]
        e = (e.sum(0) - mean) / (var + 1e-5).sqrt() * p["gate.norm.weight"][:, None] + p["gate.norm.bias"][:, None]
        gamma = 1 / (1 + (-conv("gate.weigh", e.clamp(min=0).sum(0))).exp())
        out.append(torch.stack([zi * gamma for zi in z], dim=1))
    return torch.stack(out).reshape(x.shape)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 2)])
def test_it_is_the_equations_in_one_two_and_three_dimensions(fused, spatial):
    block = stirred(codewords=5, fused=fused, spatial_dims=len(spatial))
    x = torch.randn(2, 6, *spatial, dtype=torch.double)
    torch.testing.assert_close(block(x), by_loops(block, x))


@given(
    channels=st.integers(1, 9),
    inner=st.none() | st.integers(1, 5),
    code=st.none() | st.integers(1, 5),
    codewords=st.integers(1, 6),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    subsample=st.integers(1, 3),
    switches=st.tuples(*[st.booleans()] * 4),
)
@settings(max_examples=40, deadline=None)
def test_shape_and_number_of_parameters(channels, inner, code, codewords, height, width, subsample, switches):
    non_local, encoder, proj_norm, fused = switches
    block = NLCE(
        channels,
        inner_channels=inner,
        code_channels=code,
        codewords=codewords,
        subsample=subsample,
        non_local=non_local,
        encoder=encoder,
        proj_norm=proj_norm,
        fused=fused,
    )
    x = torch.randn(2, channels, height, width)
    assert block.eval()(x).shape == x.shape
    i, d, k = inner or max(channels // 2, 1), code or max(channels // 2, 1), codewords
    attention = 3 * (channels * i + i) + i * channels + channels
    projection = channels * d + (2 * d if proj_norm else d)
    gate = projection + k * d + k + 2 * k + d * channels + channels
    assert sum(p.numel() for p in block.parameters()) == non_local * attention + encoder * gate


def test_at_the_start_the_attention_adds_nothing_and_the_gate_is_about_a_half():
    torch.manual_seed(0)
    block, x = NLCE(16), torch.randn(4, 16, 5, 5)
    assert torch.equal(block.non_local(x), x)
    gamma = block.gate.gamma(x)
    torch.testing.assert_close(block(x), x * gamma[:, :, None, None])
    assert (gamma - 0.5).abs().mean() < 0.1 and 0.2 < gamma.min() and gamma.max() < 0.8
    assert block.gate.codewords.abs().max() <= (32 * 8) ** -0.5
    assert 0 <= block.gate.smoothing.min() and block.gate.smoothing.max() <= 1


def test_zero_projection_and_open_gate_are_the_identity():
    block = stirred()
    nn.init.zeros_(block.non_local.project.weight)
    nn.init.zeros_(block.non_local.project.bias)
    nn.init.zeros_(block.gate.weigh.weight)
    nn.init.constant_(block.gate.weigh.bias, 1e3)
    x = torch.randn(2, 6, 4, 4, dtype=torch.double)
    assert torch.equal(block(x), x)


def test_switches_leave_the_other_part_as_it_is():
    full, x = stirred(), torch.randn(2, 6, 4, 4, dtype=torch.double)
    no_encoder, no_attention = stirred(encoder=False), stirred(non_local=False)
    no_encoder.load_state_dict({k: v for k, v in full.state_dict().items() if k.startswith("non_local.")})
    no_attention.load_state_dict({k: v for k, v in full.state_dict().items() if k.startswith("gate.")})
    torch.testing.assert_close(no_encoder(x), full.non_local(x))
    torch.testing.assert_close(no_attention(no_encoder(x)), full(x))
    neither = NLCE(6, non_local=False, encoder=False)
    assert not neither.state_dict() and torch.equal(neither(x), x)


def test_attention_averages_over_all_positions_with_weights_that_sum_to_one():
    """With g constant over the positions the attention's answer is g, whatever theta and phi say."""
    block, x = stirred(encoder=False, fused=False), torch.randn(2, 6, 4, 4, dtype=torch.double)
    nn.init.zeros_(block.non_local.g.weight)
    constant = block.non_local.project(block.non_local.g.bias.reshape(1, -1, 1, 1))
    torch.testing.assert_close(block(x), x + constant.expand_as(x))


def test_without_subsampling_positions_may_be_permuted_and_with_it_the_maximum_counts():
    block, x = stirred(), torch.randn(1, 6, 4, 4, dtype=torch.double)
    order = torch.randperm(16)
    moved = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(block(moved), block(x).flatten(2)[..., order].reshape(x.shape))
    pooled, small = stirred(subsample=4, encoder=False), torch.randn(1, 6, 4, 4, dtype=torch.double)
    value = pooled.non_local.g(small).amax((2, 3), keepdim=True)  # one position left, of weight 1
    torch.testing.assert_close(pooled(small), small + pooled.non_local.project(value).expand_as(small))


@pytest.mark.parametrize("size", [(2, 16, 9, 11), (1, 8, 32, 32)])
def test_fused_and_plain_attention_agree(size):
    blocks = [stirred(size[1], fused=fused).float() for fused in (True, False)]
    x = torch.randn(size, generator=torch.Generator().manual_seed(1))
    answers, gradients = [], []
    for block in blocks:
        leaf = x.clone().requires_grad_()
        answers.append(block(leaf))
        gradients.append(torch.autograd.grad(answers[-1].square().mean(), [leaf, *block.parameters()]))
    scale = answers[1].abs().max()
    assert (answers[0] - answers[1]).abs().max() <= 1e-5 * scale
    largest = max(g.abs().max() for g in gradients[1])
    for fused, plain in zip(*gradients):
        assert (fused - plain).abs().max() <= 1e-4 * plain.abs().max() + 1e-6 * largest


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_input_and_parameters(fused, training):
    block = stirred(4, codewords=3, fused=fused).train(training)
    x = torch.randn(2, 4, 2, 3, dtype=torch.double, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters)), (x,))

    assert torch.autograd.gradcheck(call, (x, *block.parameters()))


@pytest.mark.parametrize("parts", [{}, {"encoder": False}, {"non_local": False}])
def test_double_backward_through_the_plain_attention(parts):
    block = stirred(4, codewords=3, fused=False, **parts)
    x = torch.randn(1, 4, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(block, (x,))


def test_large_features_stay_finite():
    block, x = stirred().float(), 1e4 * torch.randn(2, 6, 5, 5, requires_grad=True)
    out = block(x)
    assert out.isfinite().all() and torch.autograd.grad(out.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("name", ["inner_channels", "code_channels", "codewords", "subsample"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0; give"):
        NLCE(4, **{name: 0})
