"""What the cases of an evaluation are called, and what they hold as they are loaded."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Randomizable, ResizeWithPadOrCrop
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from monai_advdef.handlers.identity import Unidentified, identity

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .tif .tiff .webp .gif .pgm .ppm .pnm .jp2 .j2k .nii .nrrd .nhdr .mha .mhd .mgz .mgh .hdr .img "
    ".dcm .dicom .ima .npy .npz .h5 .hdf5 .mat .pt .pth".split()
)
GEOMETRY = ("spatial_shape", "annotated", "unit_size")  # of the metadata what measurements depend on, besides the affine
_NOT_LOADED = ("_meta_dict", "_transforms")


def bare_name(file: str | os.PathLike[str]) -> str:
    """The name of a file without what tells its format (``scan.001.nii.gz``: ``scan.001``); of a folder, the whole name."""
    name = Path(file).name
    for packed in (".gz", ".bz2"):
        inner = name[: -len(packed)]
        if name.lower().endswith(packed) and Path(inner).suffix.lower() in SUFFIXES:
            name = inner
    stem, suffix = os.path.splitext(name)
    return stem if stem and suffix.lower() in SUFFIXES and not os.path.isdir(file) else name


class Cases:
    """What the cases of a data set are called: their ``case``, else their image's file, with its folders where names are met twice.

    Args:
        dataset: of the evaluation; its list of ``data``, where it has one, tells which files there are.
        image_key: of the image.
    """

    def __init__(self, dataset: Any, image_key: str) -> None:
        self.image_key = image_key
        while not hasattr(dataset, "data") and hasattr(dataset, "dataset"):  # a part of another data set
            dataset = dataset.dataset
        data = getattr(dataset, "data", None)
        entries = [e for e in (data if isinstance(data, Sequence) else ()) if isinstance(e, Mapping) and "case" not in e]
        files = [f for f in (_file(e.get(image_key)) for e in entries) if f is not None]
        self._names = _told_apart(dict.fromkeys(files))

    def name(self, item: Mapping[str, Any]) -> str:
        """Of one case.

        Raises:
            ValueError: it carries neither ``case`` nor a file name.
        """
        if "case" in item:
            return str(item["case"])
        file = self.file(item)
        if file is None:
            raise ValueError(f"a case has no 'case' and its {self.image_key!r} no file name; add 'case' to the data list")
        return self._names.get(file) or bare_name(file)

    def names(self, batch: Mapping[str, Any]) -> list[str]:
        """Of every case of a collated batch."""
        image = batch[self.image_key]
        columns = {"case": batch["case"]} if "case" in batch else {}
        return [self.name({self.image_key: image[i], **{k: v[i] for k, v in columns.items()}}) for i in range(len(image))]

    def file(self, item: Mapping[str, Any]) -> str | None:
        """The file that a case's image was read from."""
        return _file(getattr(item.get(self.image_key), "meta", {}).get("filename_or_obj"))


def _file(given: Any) -> str | None:
    given = given[0] if isinstance(given, (list, tuple)) and given else given
    return str(Path(given).expanduser()) if isinstance(given, (str, os.PathLike)) and str(given) else None


def _told_apart(files: Mapping[str, Any]) -> dict[str, str]:
    """A name for every file: bare where no other file has the same, else with as many of its folders as tell it apart."""
    named: dict[str, str] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        groups[bare_name(file)].append(file)
    for bare, group in groups.items():
        folders = {file: Path(file).parts[:-1] for file in group}
        for depth in range(max(map(len, folders.values())) + 1):
            names = {file: "/".join((*(parts[len(parts) - depth :] if depth else ()), bare)) for file, parts in folders.items()}
            if len(set(names.values())) == len(group):
                break
        else:  # files of one folder that differ in their format alone
            names = {file: Path(file).name for file in group}
        named |= names
    return named


def loaded(loader: Any, cases: Cases, *, order: Any = None) -> tuple[str, list[str]]:
    """The digest of everything that an evaluation over ``loader`` will see, and the names of its cases, sorted.

    The data set is gone through once before the run: a ``CacheDataset`` holds what is loaded, any other loads it twice. A case's
    result depends on no other case, so the order in which they come counts only where the loader takes a part of the data set, or
    where the caller knows why (``order``, which then counts, too); the names are then in this order.

    Raises:
        Unidentified: the data cannot be looked at beforehand.
        ValueError: two cases of one name, with both files; a sampler that leaves cases to other processes; with the remedy.
    """
    digests: dict[str, str] = {}
    files: dict[str, str] = {}
    for number, item in enumerate(_items(getattr(loader, "dataset", loader))):
        name = cases.name(item)
        file = cases.file(item) or f"entry {number} of the data list"
        if name in files:
            raise ValueError(
                f"two cases are called {name!r}: {files[name]} and {file}; give each a 'case' of its own in the data list"
                if files[name] != file
                else f"case {name!r} ({file}) is in the data list twice; list every case once, whole and not in pieces"
            )
        files[name] = file
        digests[name] = _held(item)
    order = [found for found in (_part(loader), order) if found is not None]
    if _drawn(getattr(loader, "dataset", None), digests, cases):
        raise Unidentified(
            "a case loaded twice differs: its transforms draw at random; leave random transforms (Rand...) to the training, or the "
            "scores are those of one draw"
        )
    names = list(digests) if order else sorted(digests)
    return identity(order, [(name, digests[name]) for name in names]), names


def _held(item: Mapping[str, Any]) -> str:
    return identity({key: _content(value) for key, value in item.items() if not str(key).endswith(_NOT_LOADED)})


def _drawn(dataset: Any, digests: Mapping[str, str], cases: Cases) -> bool:
    """Whether a second look finds other cases; at the first entry, and at all where a transform may draw."""
    steps = getattr(getattr(dataset, "transform", None), "flatten", lambda: None)()
    random = any(isinstance(step, Randomizable) for step in getattr(steps, "transforms", ()))
    return any(_held(item) != digests[cases.name(item)] for item in (_items(dataset) if random else islice(_items(dataset), 1)))


def _items(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """Every case of a data set."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise Unidentified(f"the cases of a {type(dataset).__name__} are not known before it has been gone through; give a Dataset")
    for i in range(len(dataset)):
        found = dataset[i]
        for item in found if isinstance(found, list) else [found]:
            if not isinstance(item, Mapping):
                raise Unidentified(f"entry {i} of the data set is a {type(item).__name__}; give a dictionary with image and label")
            yield item


def in_order(loader: Any) -> bool:
    """Whether the cases come as they stand in the data set."""
    if not isinstance(loader, DataLoader):
        return True
    return isinstance(loader.sampler, SequentialSampler) and type(loader.batch_sampler) in (BatchSampler, type(None))


def other_case(engine: Any, label: Tensor, label_key: str, following: int, *, trainer: bool) -> Tensor:
    """For each case of a batch the label of the next case of the data set (the first one's for the last), centred on its own grid.

    Args:
        engine: an evaluator, or a trainer, where the order does not matter.
        label: (B, K, \\*S) of the batch.
        label_key: key of a case.
        following: how many cases the epoch has come to with this batch.

    Raises:
        ValueError: a data set of one case; an evaluator that draws its cases in another order.
    """
    dataset = engine.state.dataloader.dataset
    if len(dataset) < 2:
        raise ValueError("target 'other_case' needs a second case; the data set has one. Choose another target, or add a case")
    if not trainer and not in_order(engine.state.dataloader):
        raise ValueError("target 'other_case' needs the cases in the order of the data set; set the DataLoader's shuffle to false")
    item = dataset[following % len(dataset)]
    donor = (item[0] if isinstance(item, list) else item)[label_key].to(label.device)
    if donor.shape[1:] != label.shape[2:]:
        donor = ResizeWithPadOrCrop(label.shape[2:], lazy=False)(donor)
    return torch.cat([label[1:], donor[None]])


def _part(loader: Any) -> Any:
    """Which cases are taken, and in which batches, where it is not each of them once."""
    if not isinstance(loader, DataLoader):
        return None
    sampler, batches, count = loader.sampler, loader.batch_sampler, len(loader.dataset)  # type: ignore[arg-type]
    if batches is not None and type(batches) is not BatchSampler:
        return _drawn_by(batches)
    if loader.drop_last and loader.batch_size and count % loader.batch_size:
        return [loader.batch_size, _drawn_by(sampler)]
    each = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == count
    return None if each or isinstance(sampler, SequentialSampler) else _drawn_by(sampler)


def _drawn_by(sampler: Any) -> list[Any]:
    """A sampler that draws in its own way, as values.

    Raises:
        ValueError: another process takes the rest.
    """
    if (processes := getattr(sampler, "num_replicas", 1)) > 1:
        raise ValueError(
            f"the cases are shared among {processes} processes ({type(sampler).__name__}), and each would record its own as if they "
            "were all; evaluate in one process, without configs/multi_gpu_train.yaml"
        )
    own = {k: v for k, v in getattr(sampler, "__dict__", {}).items() if k not in ("data_source", "dataset", "generator", "epoch")}
    return [type(sampler).__qualname__, own]


def _content(value: Any) -> Any:
    """Of what is loaded that which decides a result: entries and geometry, not the folder in which a file lies."""
    if isinstance(value, MetaTensor):
        known = {k: torch.as_tensor(value.meta[k]).tolist() for k in GEOMETRY if value.meta.get(k) is not None}
        return [value.as_tensor(), torch.as_tensor(value.affine).double().round(decimals=6) + 0.0, known]
    if isinstance(value, Mapping):
        return {key: _content(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_content(item) for item in value]
    if isinstance(value, (str, os.PathLike)) and os.path.isabs(value) and not os.path.isfile(value):
        return Path(value).name
    return value
