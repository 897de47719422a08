"""A TorchScript file is audited with the configuration it brings, with that of the bundle around it, or with what the user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export
from torch import nn
from zoo import endoscopy, spleen
from zoo.write import network_of, volume

from monai_advdef.audit.isolation import isolated
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.torchscript import read_torchscript
from monai_advdef.errors import DataError


def read(path: Path, data: Path, **more: Any) -> Reading:
    return read_torchscript(path, AuditOptions(dataset_dir=str(data), output_dir=str(data.parent / "out"), device="cpu", **more))


def network(reading: Reading) -> nn.Module:
    return ConfigParser(isolated(reading)).get_parsed_content("deployed::network")


def exported(tmp_path: Path) -> tuple[Path, Path, Path]:
    bundle, data = endoscopy.build(tmp_path)
    path = tmp_path / "alone" / "tools.ts"
    path.parent.mkdir()
    configs = bundle / "configs"
    ckpt_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        key_in_ckpt="model",
    )
    return path, bundle, data


def test_as_ckpt_export_writes_it(tmp_path: Path) -> None:
    path, bundle, data = exported(tmp_path)
    reading = read(path, data)
    deployed = reading.overlay["deployed"]
    assert (reading.kind, reading.name, deployed["classes"], deployed["checkpoint"]) == ("TorchScript", "tools", ["tools"], None)
    assert len(deployed["cases"]) == 3
    assert all(Path(f).is_relative_to(tmp_path / "data" / "out") for f in reading.files)
    plain = network_of(endoscopy.NETWORK)
    plain.load_state_dict(torch.load(bundle / "models" / "model.pt")["model"])
    x = torch.rand(1, 3, 32, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(reading)(x), plain.eval()(x))


def test_in_the_models_of_its_bundle(tmp_path: Path) -> None:
    bundle, data = spleen.build(tmp_path)
    path = bundle / "models" / "model.ts"
    torch.jit.script(network_of(spleen.NETWORK)).save(path)
    (bundle / "models" / "model.pt").unlink()
    reading = read(path, data)
    assert (reading.name, reading.root) == ("spleen_ct_segmentation", bundle.resolve())
    assert [case["case"] for case in reading.overlay["deployed"]["cases"]] == ["spleen_3", "spleen_4"]


def plain(tmp_path: Path) -> tuple[Path, Path]:
    for i in range(2):
        image, label = spleen.case(i)
        volume(tmp_path / "data" / "ct" / f"c{i}.nii.gz", image)
        volume(tmp_path / "data" / "seg" / f"c{i}.nii.gz", label)
    path = tmp_path / "net.pt"
    torch.jit.script(network_of(spleen.NETWORK)).save(path)
    return path, tmp_path / "data"


def test_with_what_the_user_says(tmp_path: Path) -> None:
    path, data = plain(tmp_path)
    with pytest.raises(DataError, match="brings no configuration.*--classes and --activation"):
        read(path, data)
    files = {"images": ["ct/{case}.nii.gz"], "labels": ["seg/{case}.nii.gz"]}
    with pytest.raises(DataError, match="say --images and --labels"):
        read(path, data, classes=["spleen"], activation="softmax")
    deployed = read(path, data, classes=["spleen"], activation="softmax", **files).overlay["deployed"]
    assert [c["case"] for c in deployed["cases"]] == ["c0", "c1"]
    unlabelled = {"images": files["images"], "labels": "none"}
    deployed = read(path, data, classes=["spleen"], activation="softmax", **unlabelled).overlay["deployed"]
    assert [c.keys() for c in deployed["cases"]] == [{"case", "patient", "image"}] * 2


def test_what_is_no_torchscript_file(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    path.write_text("x")
    with pytest.raises(DataError, match="is no TorchScript file"):
        read(path, tmp_path)
    torch.save({"model": {}}, path)
    with pytest.raises(DataError, match="holds weights alone"):
        read(path, tmp_path)


class Writer(nn.Module):
    """A network that writes a file when it computes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "mark")
        return x


def test_a_network_that_touches_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    torch.jit.script(Writer()).save(path)
    with pytest.raises(DataError, match="aten::save.*--trust"):
        read(path, tmp_path)


def test_an_evil_configuration_within(tmp_path: Path) -> None:
    bundle, data = endoscopy.build(tmp_path)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["inferer"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'mark'}"}
    path = tmp_path / "net.ts"
    torch.jit.script(network_of(endoscopy.NETWORK)).save(path, _extra_files={"inference": json.dumps(config)})
    with pytest.raises(DataError, match="inferer in configs/inference.json.*--trust"):
        read(path, data)
    assert not (tmp_path / "mark").exists()
