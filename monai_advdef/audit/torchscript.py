"""A TorchScript file as a reading: with the configuration it brings, with that of its bundle, or with what the user says."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_advdef.audit.bundles.cases import named, scans
from monai_advdef.audit.bundles.choose import choices
from monai_advdef.audit.bundles.folder import Bundle, open_bundle
from monai_advdef.audit.bundles.head import classes as class_names
from monai_advdef.audit.bundles.labels import listed_pairs
from monai_advdef.audit.bundles.read import read_workflow
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.errors import DataError, reading

KIND = "TorchScript"
EXTRA = "/extra/"
WRITES = re.compile(r"aten::(save|from_file)\b")  # operators of TorchScript that touch files
IMAGE, LABEL = "image", "label"


def read_torchscript(path: Path, options: AuditOptions) -> Reading:
    """Read a TorchScript file.

    The configurations that ``monai.bundle ckpt_export`` puts into it say how it is deployed, else those of the bundle whose
    ``models/`` it lies in; where there are neither, images go into it as they are stored, whole, and ``images``, ``labels``,
    ``classes`` and ``activation`` of the options say the rest.

    Raises:
        DataError: no TorchScript file, one that touches files while it computes (without ``trust``), or what is not said.
    """
    path = Path(path).expanduser().resolve()
    network = {"_target_": "monai_advdef.audit.torchscript.scripted", "path": str(path), "trust": options.trust}
    scripted(str(path), trust=options.trust)
    bundle = _within(path, options) or _around(path)
    if bundle is None:
        return _plain(path, network, _metadata(_extras(path)), options)
    made = read_workflow(bundle, options, network, KIND)
    made.name = made.overlay["deployed"]["name"] = path.stem if bundle.root != path.parent.parent else bundle.name
    return made


def scripted(path: str, trust: bool = False) -> nn.Module:
    """The network of a TorchScript file, on the CPU, in evaluation mode.

    Args:
        path: the file.
        trust: allow operators that read and write files.

    Raises:
        DataError: no such file, or one that touches files.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no TorchScript file; give a file of torch.jit.save or ckpt_export, or the folder of a bundle")
    try:
        network = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        told = "it holds weights alone: give the folder of its bundle" if "constants.pkl" in str(error) else "export it again"
        raise DataError(f"{path} is no TorchScript file that can be loaded here; {told}") from error
    found = WRITES.search(str(network.inlined_graph)) if not trust else None
    if found:
        raise DataError(f"{path} calls {found[0]}, which touches files; if you trust who made this model, audit it with --trust")
    return network


def _extras(path: Path) -> dict[str, Any]:
    """What was packed beside the network, by name: the JSON texts among it."""
    held: dict[str, Any] = {}
    with reading(path, "is a damaged archive"), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if EXTRA in name:
                try:
                    held[name.split(EXTRA, 1)[1]] = json.loads(archive.read(name))
                except ValueError:
                    continue
    return held


def _metadata(extras: dict[str, Any]) -> dict[str, Any]:
    told = extras.get("metadata.json")
    return told if isinstance(told, dict) else {}


def _within(path: Path, options: AuditOptions) -> Bundle | None:
    """The configurations in the file as a bundle below ``output_dir``."""
    extras = _extras(path)
    configs = {Path(n).stem: v for n, v in extras.items() if n != "metadata.json" and isinstance(v, dict) and "/" not in n}
    if not configs:
        return None
    root = Path(options.output_dir).expanduser().resolve() / "unpacked" / path.stem
    (root / "configs").mkdir(parents=True, exist_ok=True)
    for name, content in {**configs, "metadata": _metadata(extras)}.items():
        (root / "configs" / f"{name}.json").write_text(json.dumps(content, indent=2))
    bundle = open_bundle(root, root)
    return bundle if _has_evaluator(bundle) else None


def _around(path: Path) -> Bundle | None:
    """The bundle in whose ``models/`` the file lies."""
    root = path.parent.parent
    if not (root / "configs").is_dir():
        return None
    bundle = open_bundle(root, root)
    return bundle if _has_evaluator(bundle) else None


def _has_evaluator(bundle: Bundle) -> bool:
    try:
        return bool(choices(bundle))
    except DataError:
        return False


def _plain(path: Path, network: dict[str, Any], metadata: dict[str, Any], options: AuditOptions) -> Reading:
    """A network of which nothing is said but what the options say."""
    bundle = Bundle(path.parent, {}, metadata)
    told = bundle.outputs().get("num_channels")
    if not options.activation or not (options.classes or isinstance(told, int)):
        raise DataError(
            f"{path} brings no configuration, and lies in no bundle: how images are fed and what it puts out is not told; say "
            "--classes and --activation (images go into it as they are stored), or put it into models/ of its bundle"
        )
    channels = told if isinstance(told, int) else len(options.classes) + (options.activation == "softmax")
    names, source, notes = class_names(bundle, channels, options.activation, options)
    cases, listed = _cases(options)
    loaded = [IMAGE] if options.unlabelled else [IMAGE, LABEL]
    made = Reading(name=path.stem, kind=KIND, root=path.parent, notes=notes)
    made.notes.append("nothing tells how images are prepared: they go into the network as they are stored, whole")
    made.overlay["deployed"] = {
        "name": made.name,
        "kind": KIND,
        "network": network,
        "checkpoint": None,
        "inferer": {"_target_": "SimpleInferer"},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": loaded, "ensure_channel_first": True},
                {"_target_": "EnsureTyped", "keys": loaded, "dtype": "$torch.float32"},
            ],
        },
        "postprocessing": None,
        "activation": options.activation,
        "classes": names,
        "cases": named(cases, IMAGE),
    }
    made.tell("network", path.name, "the file")
    made.tell("classes", ", ".join(names), source)
    made.tell("cases", len(cases), listed)
    return made


def _cases(options: AuditOptions) -> tuple[list[dict[str, Any]], str]:
    if options.unlabelled and options.dataset_dir:
        found = scans(options, IMAGE)
        return found.items, found.source
    pairs = listed_pairs(options) if options.dataset_dir else None
    if pairs is None:
        raise DataError(
            f"dataset_dir {options.dataset_dir!r}: which files are images and which labels is not told; say --images and --labels "
            "('imagesTr/{case}.nii.gz' and 'labelsTr/{case}.nii.gz')"
        )
    return pairs.items(IMAGE, LABEL), pairs.name
