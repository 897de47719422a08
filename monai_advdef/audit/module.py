"""A plain network from Python: images in image units in, logits out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import SimpleInferer
from monai.transforms import EnsureTyped, LoadImaged
from torch import nn

from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.errors import DataError


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
        self.network, self.classes, self.preprocessing = network, list(classes), preprocessing
        self.inferer, self.postprocessing, self.activation = inferer, postprocessing, activation
        self.name = name or type(network).__name__


def read_module(model: nn.Module | Given, cases: Sequence[Mapping[str, Any]] | None, options: AuditOptions) -> Reading:
    """A reading of a network: its parts go into the socket as they are.

    Raises:
        DataError: no classes, or no cases.
    """
    given = model if isinstance(model, Given) else Given(model, options.classes, activation=options.activation or "softmax")
    classes = given.classes or list(options.classes)
    if not classes:
        raise DataError("classes: the network does not name its foreground classes; give their names, in the order of its channels")
    if not cases:
        raise DataError("data: a network from Python needs its cases, a list of mappings with 'image' and 'label' (files or arrays)")
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


def _reading(cases: Sequence[Mapping[str, Any]]) -> list[Any]:
    """How cases are read where nothing is said of it: files with MONAI, arrays as they are."""
    if not isinstance(cases[0].get("image"), (str, os.PathLike, list, tuple)):
        return [EnsureTyped(keys=["image", "label"])]
    return [LoadImaged(keys=["image", "label"], ensure_channel_first=True), EnsureTyped(keys=["image", "label"])]
