"""Where a bundle is: a folder or an archive, its configuration files and what its metadata says."""

from __future__ import annotations

import json
import shutil
import stat
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path, PurePosixPath
from typing import Any

from monai_advdef.audit.tail.stated import Stated, of_dataset, of_metadata
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError, reading

FORMS = (".json", ".yaml", ".yml")  # of one name the first is read
NO_WORKFLOW = ("metadata", "logging")


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder, its configuration files by name (``"train"``), and its metadata."""

    root: Path
    configs: Mapping[str, Path]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the model: as its metadata says, else as its folder is called."""
        return self.root.name

    def outputs(self) -> dict[str, Any]:
        """What the metadata says of the network's prediction."""
        return _below(self.metadata, "network_data_format", "outputs", "pred")

    def inputs(self) -> dict[str, Any]:
        """What the metadata says of the network's image."""
        return _below(self.metadata, "network_data_format", "inputs", "image")


def _below(node: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def open_bundle(path: Path, unpack_to: Path) -> Bundle:
    """The bundle at ``path``.

    Args:
        path: its folder, one that holds it alone, or a zip file of it.
        unpack_to: where a zip file is unpacked.

    Raises:
        DataError: no bundle, with what is missing; an archive whose files would land elsewhere.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise DataError(
                f"{path} is no MONAI bundle: neither a folder nor a zip file; give the folder that holds configs/ and models/"
            )
        path = unpacked(path, unpack_to)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; give the folder of the bundle, which holds configs/ and models/")
    root = path if (path / "configs").is_dir() else next((p for p in sorted(path.iterdir()) if (p / "configs").is_dir()), path)
    found: dict[str, Path] = {}
    for form in reversed(FORMS):
        found |= {p.stem: p for p in sorted((root / "configs").glob(f"*{form}")) if p.stem not in NO_WORKFLOW}
    if not found:
        there = some(sorted(p.name for p in path.iterdir())) or "nothing"
        raise DataError(
            f"{path} is no MONAI bundle: it has no configs/ with train, evaluate or inference as JSON or YAML (it holds: {there}); "
            "give the folder of the bundle"
        )
    return Bundle(root.resolve(), dict(sorted(found.items())), _metadata(root / "configs" / "metadata.json"))


def _metadata(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with reading(path, "is no JSON", "correct it"):
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    return told if isinstance(told, dict) else {}


def units_stated(bundle: Bundle, dataset_dir: str) -> list[Stated]:
    """The unit by the ``dataset.json`` of the data folder, then by the bundle's ``metadata.json``; those that say one.

    A ``dataset.json`` that cannot be read says nothing: it need not be one of the Decathlon's.
    """
    try:
        dataset = json.loads((Path(dataset_dir).expanduser() / "dataset.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        dataset = None
    found = (of_dataset(dataset if isinstance(dataset, dict) else None), of_metadata(bundle.metadata, "configs/metadata.json"))
    return [stated for stated in found if stated is not None]


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a zip file below ``folder``, and return where.

    Raises:
        DataError: a file of it would land outside, it holds a link, or it is larger than the disk.
    """
    goal = folder / archive.stem
    with reading(archive, "is a damaged zip file"), zipfile.ZipFile(archive) as held:
        for member in held.infolist():
            parts = PurePosixPath(member.filename.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
                raise DataError(f"{archive}: its file {member.filename!r} would land outside its folder; do not use it")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{archive}: its file {member.filename!r} is a link; pack the files themselves")
        size = sum(member.file_size for member in held.infolist())
        goal.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(goal).free
        if size > free:
            raise DataError(f"{archive} unpacks to {size / 2**30:.1f} GiB, {goal} has {free / 2**30:.1f} GiB left; make room")
        held.extractall(goal)
    return goal


def find_scripts(root: Path) -> None:
    """Let ``scripts`` mean the bundle's own from now on, not those of a bundle that was read before."""
    held = {name: m for name, m in list(sys.modules.items()) if name == "scripts" or name.startswith("scripts.")}
    places = {name: [*getattr(m, "__path__", ()), getattr(m, "__file__", None) or ""] for name, m in held.items()}
    for name, found in places.items():  # all of them read before: a folder without __init__.py finds its own by its parent
        if not any(place and Path(place).resolve().is_relative_to(root) for place in found):
            del sys.modules[name]
    if str(root) in sys.path:
        sys.path.remove(str(root))
    sys.path.insert(0, str(root))
    own = root / "scripts"
    if own.is_dir() and not (own / "__init__.py").is_file() and "scripts" not in sys.modules:
        # a folder without __init__.py gives way to any with one on the path, such as that of a bundle that was read before
        spec = ModuleSpec("scripts", None, is_package=True)
        spec.submodule_search_locations = [str(own)]
        sys.modules["scripts"] = module_from_spec(spec)
