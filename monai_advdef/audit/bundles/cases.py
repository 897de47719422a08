"""The cases that a bundle is audited on: its own list of data, brought to the folder that the user gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from monai_advdef.audit.bundles.config import SEP, Config, NotBuilt
from monai_advdef.audit.bundles.labels import label_of, listed_pairs, patterns, without_labels
from monai_advdef.audit.bundles.scans import scans_of
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.data.layouts.rows import bare
from monai_advdef.data.listing import normal
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError

Case = dict[str, Any]
FOLDERS = (
    "dataset_dir",
    "data_dir",
    "data_root",
    "dataset_root",
    "data_file_base_dir",
    "data_base_dir",
    "base_dir",
    "datadir",
    "root_dir",
)
OTHERS = ("bundle_root", "ckpt_dir", "output_dir", "cache_dir")
ENDINGS = tuple(".nii .nii.gz .nrrd .mha .mhd .dcm .jpg .jpeg .png .tif .tiff .bmp .npy .npz .gif .mgz .hdr .img".split())
PICKLED = (".npy", ".npz")
LABELS = ("label", "seg", "mask", "gt")


class NoList(DataError):
    """The list of data of a configuration that names no files of the folder; the message says what it names."""


@dataclass
class Cases:
    """Cases with absolute paths under the bundle's keys, where the list stood, and what is to be told."""

    items: list[Case]
    source: str
    notes: list[str] = field(default_factory=list)


def point_at(config: Config, options: AuditOptions, data_id: str) -> list[str]:
    """Let the folders that the list of data is made of mean the user's; returns their ids."""
    reached = config.reach([data_id])
    folder = str(Path(options.dataset_dir).expanduser().resolve())
    found = [id for id in FOLDERS if id in reached and isinstance(config.get(id), str)]
    for id in found:
        config.put(id, folder + ("/" if str(config.get(id)).endswith("/") else ""))
    for id, value in reached.items():
        if id not in (*found, *OTHERS) and _is_folder(id, value):  # of another name: the folder itself, or one of that name in it
            inner = Path(folder) / Path(value).name
            config.put(id, str(inner if inner.is_dir() else folder))
            found.append(id)
        elif id not in found and isinstance(value, str) and value.lower().rstrip("'\")").endswith(".json") and "(" not in value:
            _beside(config, id, Path(folder))
    return found


def _is_folder(id: str, value: Any) -> bool:
    """Whether something is the name of a folder that is not on this machine."""
    if not isinstance(value, str) or "/" not in value or value.startswith(("$", "@", "%", "http")):
        return False
    called = any(word in id.lower() for word in ("dir", "root", "folder", "path"))
    return called and not Path(value).suffix and not Path(value).exists()


def _beside(config: Config, id: str, folder: Path) -> None:
    """Let a list that is not where the bundle says be the one of its name in the bundle or beside the data."""
    told = Path(str(config.value(id)))
    if not told.is_file():
        for place in (config.root / "configs" / told.name, config.root / told.name, folder / told.name):
            if place.is_file():
                config.put(id, str(place))
                return


def scans(options: AuditOptions, image_key: str, instead: str = "") -> Cases:
    """A case of every image of the folder, without labels.

    Args:
        instead: why the bundle's own list is not used.

    Raises:
        NoList: no image is there.
    """
    found, source = scans_of(options)
    if not found:
        raise NoList(f"{instead or options.dataset_dir}: no image is there; say by --images what they are called")
    notes = [f"{instead}; in its place, the cases are {source}: {len(found)}"] if instead else []
    return Cases([{image_key: str(path)} for path in found], source, notes)


def own_cases(config: Config, data_id: str, options: AuditOptions, label_key: str = "label") -> Cases:
    """The bundle's own list, every file found below the folder of the user.

    Raises:
        NoList: it is no list of dictionaries with files, or its files are not there.
    """
    try:
        data = config.value(data_id, data=True)
    except NotBuilt as error:
        raise NoList(str(error)) from error
    where = config.source(data_id)
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise NoList(f"{where} is a {type(data).__name__}, not a list of files")
    if not data:
        raise NoList(f"{where} names no file in {options.dataset_dir}")
    if not all(isinstance(item, Mapping) for item in data):
        raise NoList(f"{where} is not a list of cases {{key: file}}, it holds a {type(data[0]).__name__}")
    folder = Path(options.dataset_dir).expanduser().resolve()
    held = [{_text(key): value for key, value in item.items()} for item in data]
    for stated in [*_stated(config), None]:
        found = Files(folder, config.root, stated)
        items = [{k: found.of(v) for k, v in item.items() if not (options.unlabelled and k == label_key)} for item in held]
        if not found.lost and not found.twice:
            break
    if found.lost:
        raise NoList(f"{where} names {len(found.lost)} files that are not in {folder}: {some([Path(p).name for p in found.lost])}")
    if found.twice:
        raise DataError(
            f"{where} names {' and '.join(map(str, found.twice[0]))}, and in {folder} both lead to one file; give by --dataset_dir "
            "the folder that holds both of theirs, or say by --images and --labels what the files are called"
        )
    if not any(found.paths(item) for item in items):
        raise NoList(f"{where} names no files: its cases hold {', '.join(map(str, items[0]))}")
    listed, items = len(items), without_labels(items)
    for place in found.outside:
        if place.suffix.lower() in PICKLED and not options.trust:
            raise DataError(
                f"{place} lies outside {folder}, and arrays of numpy may hold code; put it with the data, or audit it with --trust"
            )
    outside = [p for p in found.outside if not p.is_relative_to(config.root)]
    notes = [f"{len(outside)} files of the list of data lie outside {folder}, where the list says"] if outside else []
    if len(items) < listed:
        notes.append(f"{listed - len(items)} files of the list of data are called like labels of others, and are no cases")
    return Cases(items, where, notes)


def _text(key: Any) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _stated(config: Config) -> list[Path]:
    """The folders, on its author's machine, in whose place the user's stands."""
    told = [config.raw.get(id) for id in FOLDERS]
    return [Path(value) for value in told if isinstance(value, str) and value.startswith("/")]


class Files:
    """The files that a list names, where they are on this machine.

    Args:
        folder: of the user.
        root: of the bundle.
        stated: the folder of the author in whose place ``folder`` stands, by which the others are found; ``None``: a file is
            what ends like its name.
    """

    def __init__(self, folder: Path, root: Path, stated: Path | None = None) -> None:
        self.folder, self.root, self.stated = folder, root, stated
        self.lost: list[str] = []
        self.outside: list[Path] = []
        self.twice: list[tuple[Path, Path]] = []  # two names of the list that lead to one file: an image and its label, called alike
        self._told: dict[Path, Path] = {}

    def of(self, value: Any) -> Any:
        """The same with absolute paths; what is no name of a file stays."""
        if isinstance(value, (list, tuple)):
            return [self.of(v) for v in value]
        if isinstance(value, Path) or (isinstance(value, str) and value.lower().endswith(ENDINGS)):
            return self._file(Path(value))
        return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value

    def _file(self, told: Path) -> str:
        place = self._place(told)
        if place is None:
            self.lost.append(str(told))
            return str(told)
        if not place.is_relative_to(self.folder):
            place = place.resolve()
            self.outside.append(place)
        if self._told.setdefault(place, told) != told:
            self.twice.append((self._told[place], told))
        return str(place)

    def _place(self, told: Path) -> Path | None:
        if self.stated is not None and told.is_absolute():
            near = Path(os.path.normpath(self.folder / os.path.relpath(told, self.stated)))
            return near if near.exists() else None
        for start in range(len(told.parts)):
            tail = [p for p in told.parts[start:] if p not in ("/", ".", "..")]
            if tail and (self.folder.joinpath(*tail)).exists():
                return self.folder.joinpath(*tail)
        return next((place for place in (told, self.root / told) if place.is_file()), None)

    def paths(self, item: Mapping[str, Any]) -> list[str]:
        """The keys of a case that hold files."""
        return [k for k, v in item.items() if is_file(v[0] if isinstance(v, list) and v else v)]


def is_file(value: Any) -> bool:
    """Whether a value is the path of a file or folder that is there."""
    return isinstance(value, str) and Path(value).is_absolute() and Path(value).exists()


def with_labels(cases: Cases, image_key: str, label_key: str, options: AuditOptions) -> Cases:
    """The cases with a label each; those of a list of images alone find theirs beside, or as the user says.

    Raises:
        DataError: labels are nowhere.
    """
    if all(label_key in item for item in cases.items):
        return cases
    paired, bare_ones = [], []
    for item in cases.items:
        image: Any = item.get(image_key)
        first: Any = image[0] if isinstance(image, list) and image else image
        label = item.get(label_key) or (label_of(Path(first), options) if is_file(first) else None)
        (paired.append({**item, label_key: str(label)}) if label else bare_ones.append(item))
    if paired and not bare_ones:
        return Cases(paired, cases.source, [*cases.notes, f"labels: {_how(options)}, for the bundle names none"])
    told = listed_pairs(options)
    if told is None:
        raise DataError(
            f"{cases.source}: {len(bare_ones)} of {len(cases.items)} images have no label (nothing is called like them in labelsTr, "
            f"labels, masks beside their folder, or with _seg, _mask, _label beside them); say by --labels what labels are called "
            "('labelsTr/{case}.nii.gz'), or --labels none where there are none"
        )
    return Cases(told.items(image_key, label_key), told.name, [*cases.notes, *told.notes])


def _how(options: AuditOptions) -> str:
    return f"by the pattern {', '.join(patterns(options))}" if patterns(options) else "the files called like the images"


def named(cases: list[Case], image_key: str) -> list[Case]:
    """Every case with ``case`` and ``patient``, told apart."""
    stems = [str(item.get("case") or normal(bare(Path(_first(item, image_key))))) for item in cases]
    twice = {s for s in stems if stems.count(s) > 1}
    made = []
    for item, stem in zip(cases, stems):
        path = Path(_first(item, image_key))
        name = f"{path.parent.name}_{stem}" if stem in twice else stem
        made.append({"case": name, "patient": str(item.get("patient", name)), **item} | {"case": name})
    names = [m["case"] for m in made]
    if len(set(names)) < len(names):
        for i, m in enumerate(made):
            m["case"] = f"{m['case']}_{i}" if names.count(m["case"]) > 1 else m["case"]
    return made


def _first(item: Case, image_key: str) -> str:
    value: Any = item.get(image_key) or next((v for k, v in item.items() if is_file(v) or isinstance(v, list)), "case")
    return str(value[0] if isinstance(value, list) else value)


def filled(cases: list[Case], image_key: str, label_key: str, labelled: bool) -> list[Case]:
    """Cases whose image or label goes by other keys until the chain makes it: the files under the keys that the audit knows, too."""
    made = []
    for item in cases:
        labels = [k for k in item if any(word in k.lower() for word in LABELS) and is_file(item[k])]
        images = [item[k] for k in item if k not in labels and is_file(item[k])]
        extra: Case = {}
        if image_key not in item and images:
            extra[image_key] = images if len(images) > 1 else images[0]
        if labelled and label_key not in item and labels:
            extra[label_key] = item[labels[0]]
        made.append({**item, **extra})
    return made


def data_of(config: Config, evaluator: str) -> tuple[str, str]:
    """The ids of the list of data and of the transforms of an evaluator's data set.

    Raises:
        NoList: it has no data set, or one that is not made of a list and transforms.
    """
    loader = config.follow(f"{evaluator}{SEP}val_data_loader")
    at = loader
    for _ in range(5):
        node = config.get(at)
        if not isinstance(node, dict):
            break
        if "data" in node:
            return f"{at}{SEP}data", f"{at}{SEP}transform"
        if "dataset" not in node:
            break
        at = config.follow(f"{at}{SEP}dataset")
    raise NoList(f"{config.source(evaluator)}: its data come from {loader.replace(SEP, '#')}, which is not made of a list of files")
