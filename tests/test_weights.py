"""Networks that start from a checkpoint, whole or as a part."""

from __future__ import annotations

import pytest
import torch

from monai_advdef.networks import inherit, segmentation_network, trained

SMALL = {"name": "nlcen", "in_channels": 1, "width": 16}
TWIN = {**SMALL, "name": "nlcen_no_nlce"}


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A checkpoint of the network without NLCE, with running statistics that are not the initial ones."""
    torch.manual_seed(1)
    network = segmentation_network(**TWIN).train()
    network(torch.rand(2, 1, 64, 64) * 255)
    path = tmp_path_factory.mktemp("twin") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


def test_trained_gives_the_saved_network_in_evaluation_mode(twin):
    network = trained(twin, **TWIN)
    assert not any(m.training for m in network.modules())
    for name, tensor in torch.load(twin, weights_only=True).items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_only_what_is_new_learns(twin):
    stored = torch.load(twin, weights_only=True)
    network = segmentation_network(**SMALL)
    new = inherit(network, twin)
    assert new and all(".nlce." in name for name in new)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(2):
        outputs = network.train()(torch.rand(2, 1, 64, 64) * 255)
        optimizer.zero_grad()
        torch.stack([out.square().mean() for out in outputs]).sum().backward()
        optimizer.step()
    for name, tensor in stored.items():
        assert torch.equal(network.state_dict()[name], tensor), name
    fresh = segmentation_network(**SMALL)
    inherit(fresh, twin)
    moved = [n for n in new if not torch.equal(network.state_dict()[n], fresh.state_dict()[n])]
    assert moved


def test_all_goes_on_where_nothing_is_frozen(twin):
    network = segmentation_network(**SMALL)
    inherit(network, twin, freeze=False)
    assert all(p.requires_grad for p in network.parameters())
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    network.train()(torch.rand(2, 1, 64, 64) * 255)
    assert not torch.equal(norm.running_mean, before)


def test_wrong_checkpoints_are_named(twin, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt' does not exist; train the network first"):
        trained(tmp_path / "absent.pt", **TWIN)
    with pytest.raises(ValueError, match="are not those of .*'width': 24"):
        trained(twin, **{**TWIN, "width": 24})
    with pytest.raises(ValueError, match="are no part of this network"):
        inherit(segmentation_network(name="unet", in_channels=1), twin)
    with pytest.raises(ValueError, match="leaves nothing to train"):
        inherit(segmentation_network(**TWIN), twin)
