"""A network with several maps is audited on the one that its key metric reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from zoo import nuclei

from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.bundles.one_head import SURE, OneHead
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.errors import DataError


class Maps(nn.Module):
    """Two maps of the middle of an image."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        middle = x[..., 1:-2, 2:-2]
        return {"a": torch.cat([-middle, middle], 1), "b": middle}


def test_one_map_is_taken_and_what_lies_around_it_is_background() -> None:
    x = torch.randn(1, 1, 8, 9)
    plain = OneHead(Maps(), "a")(x)
    torch.testing.assert_close(plain, Maps()(x)["a"])
    whole = OneHead(Maps(), "a", whole=True)(x)
    assert whole.shape[2:] == x.shape[2:]
    torch.testing.assert_close(whole[..., 1:-2, 2:-2], plain)
    assert bool((whole[:, 0, 0] == SURE).all())
    assert bool((whole[:, 1, -2:] == 0).all())
    apart = OneHead(Maps(), "b", activation="sigmoid", whole=True)(x)
    assert bool((apart[:, 0, :, :2] == -SURE).all())


def test_a_map_that_is_not_there() -> None:
    with pytest.raises(DataError, match="puts out a, b, and no 'c'"):
        OneHead(Maps(), "c")(torch.zeros(1, 1, 8, 8))


def test_maps_of_nuclei(tmp_path: Path) -> None:
    bundle, data = nuclei.build(tmp_path)
    options = AuditOptions(dataset_dir=str(data), output_dir=str(tmp_path / "out"), device="cpu")
    try:
        import skimage  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="wants the package skimage, which is not installed; run: pip install scikit-image"):
            read_bundle(bundle, options)
        return
    deployed = read_bundle(bundle, options).overlay["deployed"]
    assert (deployed["classes"], deployed["activation"], deployed["postprocessing"]) == (["nuclei"], "softmax", None)
    assert (deployed["network"]["key"], deployed["network"]["whole"], deployed["checkpoint"]) == ("nucleus_prediction", True, None)
