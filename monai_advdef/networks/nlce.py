"""The non-local context encoder: attention over all positions, then a codebook summary that gates the channels."""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn
from torch.nn import functional

from monai_advdef.switches import as_written


class NLCE(nn.Module):
    """Non-local context encoder of He et al. (AAAI 2019): features ``(B, C, *S)`` to features of the same shape.

    Non-local part (Wang et al., CVPR 2018): ``z_i = x_i + W_z sum_j softmax_j(theta_i . phi_j) g_j`` over all positions j, without
    1/sqrt(d); the paper prints the normaliser as a sum over i. ``W_z`` starts at zero: this part starts as the identity.

    Encoder (EncNet, Zhang et al., CVPR 2018): ``z'`` a 1x1 convolution of ``z``; residuals ``r_ik = z'_i - d_k`` to K codewords;
    ``e_k = sum_i softmax_k(-s_k |r_ik|^2) r_ik``; ``e = sum_k ReLU(BN(e_k))``, one BN channel for each codeword; the output is
    ``z * sigmoid(W_gamma e + b)``. ``W_gamma`` starts K times smaller than torch would start it, because e is a sum over K where
    EncNet takes the mean: every channel is then multiplied by about 0.5 at the start, instead of by 0 or 1.

    Args:
        channels: C.
        inner_channels: width of theta, phi and g; C // 2 (at least 1) where not given. Not stated in the paper.
        code_channels: width of ``z'`` and the codewords; C // 2 (at least 1) where not given. Not stated in the paper.
        codewords: K; 32 as in EncNet, not stated in the paper.
        non_local, encoder: the two parts; without both the module is the identity and has no parameters.
        subsample: max-pool phi and g by this factor along each axis (Wang et al., section 3.3); 1 as published.
        proj_norm: BN and ReLU behind the convolution to ``z'``, as EncNet has it.
        fused: attention by ``scaled_dot_product_attention``, whose memory grows with N = prod(S) and not with N^2 where torch has
            such a kernel. Those kernels have no second derivative: for double backward set ``fused=False``, the plain softmax.
        spatial_dims: 1, 2 or 3.

    Raises:
        ValueError: a width, number of codewords or factor below 1.
    """

    @as_written
    def __init__(
        self,
        channels: int,
        *,
        inner_channels: int | None = None,
        code_channels: int | None = None,
        codewords: int = 32,
        non_local: bool = True,
        encoder: bool = True,
        subsample: int = 1,
        proj_norm: bool = False,
        fused: bool = True,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        inner = max(channels // 2, 1) if inner_channels is None else inner_channels
        codes = max(channels // 2, 1) if code_channels is None else code_channels
        sizes = {
            "channels": channels,
            "inner_channels": inner,
            "code_channels": codes,
            "codewords": codewords,
            "subsample": subsample,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}; give a positive whole number")
        self.non_local = NonLocal(channels, inner, subsample, fused, spatial_dims) if non_local else nn.Identity()
        self.gate = ContextGate(channels, codes, codewords, proj_norm, spatial_dims) if encoder else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, \\*S) to features of the same shape."""
        return self.gate(self.non_local(x))


class NonLocal(nn.Module):
    """The non-local part of :class:`NLCE`; all its parameters but ``W_z`` (``project``) start as torch starts a convolution's."""

    def __init__(self, channels: int, inner: int, subsample: int, fused: bool, spatial_dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.theta, self.phi, self.g = (conv(channels, inner, 1) for _ in range(3))
        self.pool = Pool[Pool.MAX, spatial_dims](subsample, ceil_mode=True) if subsample > 1 else nn.Identity()
        self.project = conv(inner, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, \\*S) plus what every position takes from all others."""
        theta, phi, g = _positions(self.theta(x)), _positions(self.pool(self.phi(x))), _positions(self.pool(self.g(x)))
        y = _fused_attention(theta, phi, g) if self.fused else (theta @ phi.mT).softmax(-1) @ g
        return x + self.project(y.mT.unflatten(2, x.shape[2:]))


class ContextGate(nn.Module):
    """The encoder part of :class:`NLCE`: each channel of ``(B, C, *S)`` times a number in (0, 1) found from all positions."""

    def __init__(self, channels: int, codes: int, codewords: int, proj_norm: bool, spatial_dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims](channels, codes, 1, bias=not proj_norm)
        self.project = nn.Sequential(conv, Norm[Norm.BATCH, spatial_dims](codes), nn.ReLU()) if proj_norm else conv
        bound = 1 / math.sqrt(codewords * codes)  # EncNet's initialisation
        self.codewords = nn.Parameter(torch.empty(codewords, codes).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.rand(codewords))
        self.norm = nn.BatchNorm1d(codewords)
        self.weigh = nn.Linear(codes, channels)
        with torch.no_grad():
            self.weigh.weight /= codewords

    def gamma(self, z: Tensor) -> Tensor:
        """The channels' factors ``(B, C)``."""
        residuals = _encode(_positions(self.project(z)), self.codewords, self.smoothing)
        return self.weigh(self.norm(residuals).relu().sum(1)).sigmoid()

    def forward(self, z: Tensor) -> Tensor:
        """Features (B, C, \\*S), every channel times its gate in (0, 1)."""
        return z * self.gamma(z).unflatten(1, [-1] + [1] * (z.dim() - 2))


def _positions(x: Tensor) -> Tensor:
    """``(B, C, *S)`` to ``(B, N, C)``, contiguous because fused kernels want the channels side by side."""
    return x.flatten(2).mT.contiguous()


def _fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query key^T) value`` of ``(B, N, D)``, as one head."""
    heads = (query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1))
    return functional.scaled_dot_product_attention(*heads, scale=1.0).squeeze(1)


def _encode(z: Tensor, codewords: Tensor, smoothing: Tensor) -> Tensor:
    """``sum_i a_ik (z_i - d_k)`` of ``z`` ``(B, N, D)`` and ``codewords`` ``(K, D)`` as ``(B, K, D)``; squares and sums are
    expanded, so that no tensor has N x K x D elements."""
    distances = z.square().sum(-1, keepdim=True) - 2 * z @ codewords.mT + codewords.square().sum(-1)
    assignment = (-smoothing * distances).softmax(-1)
    return assignment.mT @ z - assignment.sum(1).unsqueeze(-1) * codewords
