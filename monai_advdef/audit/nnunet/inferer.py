"""nnU-Net's prediction of a whole image, with a gradient: windows, mirrored runs, Gaussian weights, half-precision sums, folds.

What is scored is what is deployed: the same windows in the same order, summed in half precision, at whose corners the Gaussian is so
small that the rounding changes labels. The gradient is that of the exact sums. The forward pass keeps no graph; the backward pass
sends the gradient through one window of one fold and one mirroring at a time, so that the memory is that of one pass.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from monai_advdef.audit.nnunet.library import own
from monai_advdef.audit.nnunet.network import only
from monai_advdef.audit.nnunet.preprocessing import Preprocessing
from monai_advdef.audit.nnunet.proof import Proof
from monai_advdef.audit.nnunet.tail import Tail, cropped

Predict = Callable[[Tensor], Tensor]
Window = tuple[Any, ...]
STEP, SCALING = 0.5, 10  # nnUNetv2_predict's own: windows move by half their size, the Gaussian's peak is 10


class NnUNetInferer(Inferer):
    """What the network is fed (B, C, \\*N) -> logits (B, K, \\*S) on the grid of the image, as ``nnUNetv2_predict`` makes them.

    Args:
        preprocessing: of the same folder; it has made what the network is fed, and brings the logits back to the image's grid.
        folds: how many networks the ensemble has.
        mirror_axes: along which the windows are mirrored; none: no mirroring.
        proof: is shown the first logits, and raises where they are not the predictor's own.

    Raises:
        ValueError: when called, logits that overflow half precision.
    """

    def __init__(
        self, preprocessing: Preprocessing, *, folds: int = 1, mirror_axes: Sequence[int] = (), proof: Proof | None = None
    ) -> None:
        super().__init__()
        self.tail: Tail = preprocessing.tail
        self.folds, self.proof = int(folds), proof
        self.patch = tuple(int(p) for p in self.tail.plan.patch_size)
        axes = [int(a) + 2 for a in mirror_axes]
        self.flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Logits in float32, with a gradient to ``inputs`` where one is recorded."""
        return self.tail.back(self.on_network_grid(inputs, lambda x: network(x, *args, **kwargs)))

    def on_network_grid(self, inputs: Tensor, predict: Predict) -> Tensor:
        """The logits before they are resampled, (B, K, \\*N): what ``predict_logits_from_preprocessed_data`` returns."""
        x = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        if x.ndim != 5:
            raise ValueError(f"nnU-Net's network is fed (B, C, a, b, c), also of pictures, got {tuple(x.shape)}")
        logits = torch.stack([_Stitched.apply(case, self, predict) for case in x])
        if self.proof is not None:
            self.proof(x[0], logits[0])
        return logits

    def stitched(self, x: Tensor, predict: Predict) -> Tensor:
        """The deployed logits (K, \\*N) of an image (C, \\*N), in half precision."""
        padded, inside = self._padded(x)
        gaussian, windows = self._gaussian(x.device), self._windows(padded.shape[1:])
        weight = torch.zeros(padded.shape[1:], dtype=torch.half, device=x.device)
        for window in windows:
            weight[window[1:]] += gaussian
        result: Tensor | None = None
        for fold in range(self.folds):
            with only(fold), _as_on(x.device):
                total = self._summed(padded, windows, gaussian, predict)
            part = torch.div(total, weight)
            result = part if result is None else result.add_(part)
        assert result is not None
        if self.folds > 1:
            result /= self.folds
        if bool(torch.isinf(result).any()):
            raise ValueError("the network's logits overflow half precision, in which nnU-Net sums them; it stops here, too")
        return cropped(result, inside)

    def pulled_back(self, x: Tensor, upstream: Tensor, predict: Predict) -> Tensor:
        """The gradient with respect to an image (C, \\*N) of ``(upstream * logits).sum()``, summed exactly."""
        padded, inside = self._padded(x)
        gaussian, windows = self._gaussian(x.device).to(x.dtype), self._windows(padded.shape[1:])
        total = torch.zeros(padded.shape[1:], dtype=x.dtype, device=x.device)
        for window in windows:
            total[window[1:]] += gaussian
        share = torch.zeros((len(upstream), *padded.shape[1:]), dtype=x.dtype, device=x.device)
        cropped(share, inside).copy_(upstream)
        share /= total * (self.folds * len(self.flips))
        gradient = torch.zeros_like(padded)
        for fold, window, axes in itertools.product(range(self.folds), windows, self.flips):
            leaf = torch.flip(padded[window][None], axes).requires_grad_()
            with only(fold), torch.enable_grad():
                out = predict(leaf)
            (back,) = torch.autograd.grad(out, leaf, torch.flip(share[window][None] * gaussian, axes).to(out))
            gradient[window] += torch.flip(back, axes)[0]
        return cropped(gradient, inside)

    def _summed(self, x: Tensor, windows: Sequence[Window], gaussian: Tensor, predict: Predict) -> Tensor:
        total = torch.zeros((self.tail.plan.heads, *x.shape[1:]), dtype=torch.half, device=x.device)
        for window in windows:
            out = self._mirrored(x[window][None].contiguous(), predict)[0]
            total[window] += out.mul_(gaussian)
        return total

    def _mirrored(self, x: Tensor, predict: Predict) -> Tensor:
        """The mean over the mirrored runs, in the precision in which the network answers there."""
        kind = torch.half if x.device.type == "cuda" else torch.float32
        out = predict(x).to(kind, copy=True)
        for axes in self.flips[1:]:
            out += torch.flip(predict(torch.flip(x, axes)).to(kind), axes)
        return out.div_(len(self.flips)) if len(self.flips) > 1 else out

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
        pad = own("acvl_utils.cropping_and_padding.padding").pad_nd_image
        padded, slicer = pad(x, self.patch, "constant", {"value": 0}, True, None)
        return padded, tuple(slicer[1:])

    def _gaussian(self, device: torch.device) -> Tensor:
        make = own("nnunetv2.inference.sliding_window_prediction").compute_gaussian
        return make(self.patch, sigma_scale=1.0 / 8, value_scaling_factor=SCALING, device=device)

    def _windows(self, size: Sequence[int]) -> list[Window]:
        """Where the windows lie, in nnU-Net's order; of a 2D network slice by slice."""
        steps_of = own("nnunetv2.inference.sliding_window_prediction").compute_steps_for_sliding_window
        flat = len(self.patch) < len(size)
        steps = steps_of(tuple(size[1:] if flat else size), self.patch, STEP)
        corners = itertools.product(range(size[0]), *steps) if flat else itertools.product(*steps)
        return [tuple(self._window(corner, flat)) for corner in corners]

    def _window(self, corner: Sequence[int], flat: bool) -> Iterator[Any]:
        yield slice(None)
        if flat:
            yield corner[0]
        for start, length in zip(corner[flat:], self.patch):
            yield slice(start, start + length)


class _Stitched(torch.autograd.Function):
    """Deployed logits forward, the gradient of the exact sums backward, window by window."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inferer: NnUNetInferer, predict: Predict) -> Tensor:
        ctx.save_for_backward(x)
        ctx.inferer, ctx.predict = inferer, predict
        with torch.no_grad():
            return inferer.stitched(x, predict).float()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.inferer.pulled_back(x, upstream[0], ctx.predict), None, None


def _as_on(device: torch.device) -> Any:
    """nnU-Net predicts under autocast on CUDA, and in float32 elsewhere."""
    return torch.autocast("cuda") if device.type == "cuda" else contextlib.nullcontext()
