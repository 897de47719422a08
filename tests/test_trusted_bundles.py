"""A bundle, an archive or a pickle that would act is refused, and does not; what an audit does not need may be anything."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo import spleen

from monai_advdef.audit.bundles import read_bundle
from monai_advdef.audit.bundles.folder import find_scripts
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.socket import plugged
from monai_advdef.errors import DataError


def changed(tmp_path: Path, file: str, change: dict[str, Any]) -> tuple[Path, Path]:
    """The spleen bundle with other entries at the top of one of its files."""
    bundle, data = spleen.build(tmp_path)
    path = bundle / "configs" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return bundle, data


def read(bundle: Path, data: Path, out: Path, **more: Any) -> Reading:
    return read_bundle(bundle, AuditOptions(dataset_dir=str(data), output_dir=str(out / "out"), device="cpu", **more))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": "$[__import__('os').system('touch MARK')]"}, "images in configs/train.json"),
        ({"device": "$__import__('os').system('touch MARK')"}, ""),
        ({"network_def": {"_target_": "os.system", "command": "touch MARK"}}, "network_def in configs/train.json"),
        ({"network_def": {"_target_": "$os.system", "command": "touch MARK"}}, "network_def in configs/train.json"),
        (
            {"network_def": {"_target_": "UNet", "_requires_": "$os.system('touch MARK')"}},
            "network_def#_requires_ in configs/train.json",
        ),
        ({"network_def": {"_target_": "UNet", "_mode_": "debug"}}, "network_def in configs/train.json"),
        ({"network": "$os.system('touch MARK') or @network_def"}, "network in configs/train.json"),
        ({"ckpt_dir": "$os.system('touch MARK')"}, "ckpt_dir in configs/train.json"),
        (
            {"validate#preprocessing": {"_target_": "LoadImaged", "keys": ["image", "label"], "reader": "os.system"}},
            "validate#preprocessing",
        ),
        ({"network_def": "%../../../etc/network.json#x"}, "%../../../etc/network.json"),
    ],
)
def test_a_configuration_that_acts_is_refused_and_does_not(
    change: dict[str, Any], named: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    bundle, data = changed(tmp_path, "train.json", json.loads(json.dumps(change).replace("MARK", str(mark))))
    if named:
        with pytest.raises(DataError, match=named.split("#")[0]) as told:
            read(bundle, data, tmp_path)
        assert "--trust" in str(told.value) or "outside" in str(told.value)
    else:  # replaced by the device of the audit
        read(bundle, data, tmp_path)
    assert not mark.exists()


def test_a_bare_name_is_not_looked_for_among_the_files_beside(tmp_path: Path, monkeypatch: Any) -> None:
    bundle, data = changed(tmp_path, "train.json", {"network_def": {"_target_": "evil_module"}})
    (bundle / "evil_module.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').write('x')")
    monkeypatch.chdir(bundle)
    monkeypatch.syspath_prepend(str(bundle))
    with pytest.raises(DataError, match="MONAI .* has no 'evil_module'"):
        read(bundle, data, tmp_path)
    assert not (tmp_path / "mark").exists()


def test_what_an_audit_does_not_need_may_be_anything(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bundle, data = changed(
        tmp_path,
        "train.json",
        {
            "initialize": [f"$__import__('os').system('touch {mark}')"],
            "train#extra": {"_target_": "os.system", "command": f"touch {mark}"},
            "more": ["$import antigravity", "$import scripts.no_such_thing"],
            "loss": {"_target_": "scripts.loss.Loss"},
        },
    )
    reading = read(bundle, data, tmp_path)
    assert not mark.exists()
    assert reading.overlay["imports"] == []


def test_own_code_runs_when_it_is_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bundle, data = changed(tmp_path, "train.json", {"ckpt_dir": f"$open('{mark}', 'w').write('x') and @bundle_root + '/models'"})
    with pytest.raises(DataError, match="--trust"):
        read(bundle, data, tmp_path)
    assert not mark.exists()
    read(bundle, data, tmp_path, trust=True)
    assert mark.exists()


class Touch:
    """An object whose pickle runs a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_that_acts_is_refused_and_does_not(whole: bool, tmp_path: Path) -> None:
    bundle, data = spleen.build(tmp_path)
    path, mark = bundle / "models" / "model.pt", tmp_path / "mark"
    if whole:
        path.write_bytes(pickle.dumps(Touch(mark)))
    else:
        torch.save({**torch.load(path), "note": Touch(mark)}, path)
    with pytest.raises(DataError, match=r"model\.pt.*(posix\.system|--trust)") as told:
        read(bundle, data, tmp_path)
    assert not mark.exists()
    assert "--trust" in str(told.value)


def test_a_bundle_in_a_zip_file_is_unpacked_below_the_output(tmp_path: Path) -> None:
    bundle, data = spleen.build(tmp_path)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", bundle.parent, bundle.name))
    reading = read(packed, data, tmp_path)
    assert reading.root.is_relative_to(tmp_path / "out")
    assert reading.name == "spleen_ct_segmentation"


@pytest.mark.parametrize(
    "name", ["../../escaped.txt", "/tmp/escaped_from_a_bundle.txt", "a/../../../escaped.txt", "..\\..\\escaped.txt"]
)
def test_no_file_of_an_archive_lands_elsewhere(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "in" / "evil.zip"
    packed.parent.mkdir()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("configs/train.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="outside"):
        read(packed, tmp_path, tmp_path)
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/escaped_from_a_bundle.txt").exists()


def test_an_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "link.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("configs")
        entry.external_attr = (0o120777 & 0xFFFF) << 16
        archive.writestr(entry, "/etc")
    with pytest.raises(DataError, match="is a link"):
        read(packed, tmp_path, tmp_path)


@pytest.mark.parametrize("trust", [False, True])
def test_modules_are_looked_for_in_a_bundle_that_is_trusted_alone(trust: bool, tmp_path: Path) -> None:
    bundle, data = spleen.build(tmp_path)
    config = plugged(read(bundle, data, tmp_path, trust=trust), str(tmp_path / "out"), "cpu")
    assert (config["bundle_root"] == str(bundle.resolve())) is trust


def test_scripts_of_one_bundle_are_not_those_of_another(tmp_path: Path, monkeypatch: Any) -> None:
    """Folders without ``__init__.py``, whose path Python works out anew from their parent's."""
    for name in ("one", "two"):
        place = tmp_path / name / "scripts" / "networks"
        place.mkdir(parents=True)
        (place / "net.py").write_text(f"NAME = {name!r}\n")
    (tmp_path / "other" / "scripts").mkdir(parents=True)
    (tmp_path / "other" / "scripts" / "__init__.py").write_text("")  # of a bundle that was read before: it would go before them
    monkeypatch.setattr(sys, "path", [str(tmp_path / "other"), *sys.path])
    for name in ("one", "two", "two", "one"):
        find_scripts(tmp_path / name)
        assert importlib.import_module("scripts.networks.net").NAME == name
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
