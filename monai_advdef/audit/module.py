"""A plain network from Python: images in image units in, logits out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import decollate_batch
from monai.inferers import SimpleInferer
from monai.transforms import EnsureTyped, LoadImaged
from torch import Tensor, nn
from torch.utils.data import DataLoader

from monai_advdef.audit.reading import AuditOptions, Reading, class_names
from monai_advdef.errors import DataError

WANTED = "a list of mappings with 'image' and 'label' (files, or arrays with the channels in front), one for each case"


class Given:
    """A network with all that stands around it where it is deployed; any part left away is the plain one.

    Args:
        network: images as ``preprocessing`` leaves them (B, C, \\*S) -> logits (B, K, \\*S).
        classes: names of the foreground classes in the order of the channels.
        preprocessing: MONAI transforms on dictionaries with ``image`` and ``label``, from file names or from tensors.
        inferer: a MONAI inferer.
        postprocessing: MONAI transforms on dictionaries with ``pred`` and ``label``.
        activation: ``"softmax"`` or ``"sigmoid"``.
        name: of the model, for tables.

    Raises:
        DataError: a class without a name, or two of one name.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str] = (),
        *,
        preprocessing: Any = None,
        inferer: Any = None,
        postprocessing: Any = None,
        activation: str = "softmax",
        name: str = "",
    ) -> None:
        self.network, self.classes, self.preprocessing = network, class_names(classes), preprocessing
        self.inferer, self.postprocessing, self.activation = inferer, postprocessing, activation
        self.name = name or type(network).__name__


def as_cases(data: Any) -> list[dict[str, Any]]:
    """The cases of a network from Python, one mapping each.

    Args:
        data: mappings with ``image`` and ``label``, or pairs of the two: a list, a generator, a data set, or a ``DataLoader``, whose
            batches are taken apart.

    Raises:
        DataError: anything else.
    """
    if isinstance(data, (Mapping, np.ndarray, Tensor)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(f"data: is a {type(data).__name__}; give {WANTED}")
    if isinstance(data, DataLoader):
        items = [item for batch in data for item in decollate_batch(batch)]
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):  # not every data set says by itself where it ends
        items = [data[i] for i in range(len(data))]
    else:
        items = list(data)
    return [_case(i, item) for i, item in enumerate(items)]


def _case(i: int, item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    if isinstance(item, (list, tuple)) and len(item) == 2:
        return dict(zip(("image", "label"), item))
    of = f" of {len(item)}" if isinstance(item, (list, tuple)) else ""
    raise DataError(f"data: its entry {i} is a {type(item).__name__}{of}; give {WANTED}, or pairs of the two")


def read_module(model: nn.Module | Given, cases: Sequence[Mapping[str, Any]] | None, options: AuditOptions) -> Reading:
    """A reading of a network: its parts go into the socket as they are.

    Raises:
        DataError: no classes, or no cases; a case without its label, or an array whose shape is not that of its image.
    """
    given = model if isinstance(model, Given) else Given(model, options.classes, activation=options.activation or "softmax")
    classes = given.classes or list(options.classes)
    if not classes:
        raise DataError("classes: the network does not name its foreground classes; give their names, in the order of its channels")
    if not cases:
        raise DataError(f"data: a network from Python needs its cases, {WANTED}")
    for i, case in enumerate(cases):
        _require_label(str(case.get("case", i)), case, options, bare=given.preprocessing is None)
    reading = Reading(name=given.name, kind="module", root=Path(options.output_dir))
    reading.overlay["deployed"] = {
        "name": given.name,
        "kind": reading.kind,
        "network": given.network,
        "checkpoint": None,
        "inferer": given.inferer or SimpleInferer(),
        "preprocessing": _reading(cases) if given.preprocessing is None else given.preprocessing,
        "postprocessing": given.postprocessing,
        "activation": given.activation,
        "classes": classes,
        "cases": [dict(case) for case in cases],
    }
    if given.classes:
        reading.tell("classes", ", ".join(given.classes), "given")
    reading.tell("network", type(given.network).__name__, "given")
    return reading


def _require_label(name: str, case: Mapping[str, Any], options: AuditOptions, *, bare: bool) -> None:
    """Refuse a case without its label, and, where nothing else reads them, arrays of other shapes than their image's."""
    if options.unlabelled:
        return
    if case.get("label") is None:
        raise DataError(f"case {name!r} has no 'label' (it has {', '.join(case)}); give it, or say labels='none' (--labels none)")
    image, label = (np.shape(case[k]) if hasattr(case.get(k), "shape") else () for k in ("image", "label"))
    if bare and image and (len(image) < 3 or (label and (len(image) != len(label) or image[1:] != label[1:]))):
        raise DataError(
            f"case {name!r}: its image has the shape {tuple(image)}, its label {tuple(label)}; both need their channels in front, "
            "and the same voxels behind them (resample one onto the other first)"
        )


def _reading(cases: Sequence[Mapping[str, Any]]) -> list[Any]:
    """How cases are read where nothing is said of it: files with MONAI, arrays as they are."""
    if not isinstance(cases[0].get("image"), (str, os.PathLike, list, tuple)):
        return [EnsureTyped(keys=["image", "label"])]
    return [LoadImaged(keys=["image", "label"], ensure_channel_first=True), EnsureTyped(keys=["image", "label"])]
