"""The MONAI transforms equal the modules, alone and as dictionary twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Transform

import monai_advdef.transforms as transforms
from monai_advdef.defenses import JPEG, FrequencyRefinement
from monai_advdef.transforms import DCTFrequencyRefinement, DCTFrequencyRefinementd, JPEGCompression, JPEGCompressiond

PAIRS = [
    (JPEGCompression, JPEGCompressiond, JPEG, {"quality": 60, "subsampling": "4:4:4", "value_range": [0, 1]}),
    (JPEGCompression, JPEGCompressiond, JPEG, {"backend": "simplejpeg", "value_range": (0, 1)}),
    (DCTFrequencyRefinement, DCTFrequencyRefinementd, FrequencyRefinement, {"steps": [20, 10, 60], "value_range": [0, 1]}),
    (DCTFrequencyRefinement, DCTFrequencyRefinementd, FrequencyRefinement, {"table": "zones", "value_range": [0, 1]}),
]
pairs = pytest.mark.parametrize(("array", "dictionary", "module", "arguments"), PAIRS)


@pairs
@pytest.mark.parametrize("shape", [(3, 20, 17), (1, 16, 16), (2, 4, 9, 16)])
def test_equal_to_the_module(array, dictionary, module, arguments, shape):
    x = torch.rand(shape)
    expected = module(**arguments)(x[None])[0]
    assert torch.equal(array(**arguments)(x), expected)
    data = {"image": x, "label": x[:1], "name": "a"}
    out = dictionary(keys="image", **arguments)(data)
    assert torch.equal(out["image"], expected) and out["label"] is data["label"] and out["name"] == "a"
    assert data["image"] is x and isinstance(array(**arguments), Transform) and isinstance(dictionary(keys="image"), MapTransform)


@pairs
def test_type_and_meta_data_are_kept(array, dictionary, module, arguments):
    transform = array(**arguments)
    pixels = np.random.default_rng(0).random((3, 16, 24), dtype=np.float32)
    out = transform(pixels)
    assert isinstance(out, np.ndarray) and out.dtype == np.float32
    plain = transform(torch.from_numpy(pixels))
    assert type(plain) is torch.Tensor and np.array_equal(plain.numpy(), out)
    affine = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0]))
    image = MetaTensor(torch.from_numpy(pixels), affine=affine, meta={"filename_or_obj": "a.png"})
    kept = Compose([dictionary(keys=["image"], **arguments)])({"image": image})["image"]
    assert isinstance(kept, MetaTensor) and kept.meta["filename_or_obj"] == "a.png" and torch.equal(kept.affine, image.affine)
    assert np.array_equal(kept.as_tensor().numpy(), out)


@pairs
def test_missing_keys(array, dictionary, module, arguments):
    with pytest.raises(KeyError):
        dictionary(keys=["image", "prior"], **arguments)({"image": torch.rand(3, 8, 8)})
    out = dictionary(keys=["image", "prior"], allow_missing_keys=True, **arguments)({"image": torch.rand(3, 8, 8)})
    assert list(out) == ["image"]


def test_from_a_configuration():
    config = {"_target_": "monai_advdef.transforms.JPEGCompressiond", "keys": "image", "quality": 50}
    assert isinstance(ConfigParser({"t": config}).get_parsed_content("t"), JPEGCompressiond)


def test_the_dictionary_names_are_aliases():
    for name in ("JPEGCompression", "DCTFrequencyRefinement"):
        twin = getattr(transforms, f"{name}d")
        assert getattr(transforms, f"{name}D") is twin and getattr(transforms, f"{name}Dict") is twin
    assert set(transforms.__all__) <= set(dir(transforms))


def test_bad_arguments_reach_the_module():
    with pytest.raises(ValueError, match=r"quality must lie in 1\.\.100"):
        JPEGCompressiond(keys="image", quality=0)
