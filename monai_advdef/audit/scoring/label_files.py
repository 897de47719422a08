"""The label file of a case as it lies on disk, with the values that the network's classes have."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, Invertd, SaveImaged, allow_missing_keys_mode
from torch import Tensor

from monai_advdef.audit.scoring.forms import settled
from monai_advdef.audit.scoring.way_back import file_grid, grid_of, moves, steps
from monai_advdef.data.volume_files import whole_values
from monai_advdef.dicom.series_subject import Grid, check_same_grid, turned_onto
from monai_advdef.errors import DataError, reason, root_of

CASE = "case"


class LabelFiles:
    """Reads the label of a case on its file's own grid: what the bundle does to labels, but for all that moves voxels.

    Reading, the arrangement of channels and the mapping of values (``MapLabelValued``, ``Lambdad``, ``AsDiscreted``,
    ``ConvertToMultiChannelBasedOnBratsClassesd``, transforms of the bundle's own) are those of the bundle, before the network and
    after it; spatial transforms are left out.

    Args:
        cases: entries of the data list, each with ``case`` and the file, or files, of its label.
        preprocessing, postprocessing: of the bundle; dictionary transforms.
        classes: names of the foreground classes.
        activation: ``"softmax"``: one class map (1, \\*S); ``"sigmoid"``: a mask per class (K, \\*S).
        image_key, label_key: keys of an entry.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        preprocessing: Any,
        postprocessing: Any = None,
        *,
        classes: Sequence[str],
        activation: str = "softmax",
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        self.image_key, self.label_key, self.classes, self.activation = image_key, label_key, list(classes), activation
        self.entries = {str(c[CASE]): {k: v for k, v in c.items() if k != image_key} for c in cases}
        before = [t for t in steps(preprocessing) if not moves(t)]
        self.chain = Compose([without_encoding(t, activation) for t in before] + label_steps(postprocessing, label_key, activation))

    def _read(self, entry: Mapping[str, Any], image: Any, what: str) -> Any:
        """What the chain makes of the label; with the image, too, where a transform of the bundle's own cannot do without."""
        with allow_missing_keys_mode(self.chain):
            try:
                return self.chain(dict(entry))[self.label_key]
            except Exception as error:  # of any reader and transform
                first = error
        try:
            if image is not None and isinstance(root_of(first), KeyError):
                return self.chain({**entry, self.image_key: image})[self.label_key]
        except Exception as error:
            first = error
        told = reason(root_of(first))
        raise DataError(f"{what} cannot be read as the bundle reads it ({told}); check the file and its transforms") from first

    def own(self, data: Mapping[str, Any], left: Mapping[str, Any]) -> Any:
        """What the bundle's own postprocessing left of the label."""
        return left.get("label")

    def __call__(self, data: Mapping[str, Any]) -> MetaTensor:
        """The label of a case (``case`` of the item): class map (1, \\*S) or masks (K, \\*S), small integers, with its affine.

        Raises:
            DataError: no such case or label, a file that cannot be read, a transform that changes its size, values that are no
                class; names the file.
        """
        case = str(data[CASE])
        entry = self.entries.get(case)
        if entry is None or self.label_key not in entry:
            raise DataError(f"case {case!r} has no {self.label_key!r} in the data list; give it one, or audit with labels 'none'")
        name = f"{_named(entry[self.label_key])}, the label of case {case!r}"
        for file in _files(entry[self.label_key]):
            if not os.path.exists(file):
                raise DataError(f"{file}, the label of case {case!r}, does not exist; fetch it, or correct the data list")
        found = self._read(entry, data.get("files", {}).get(self.image_key), f"{name},")
        if not isinstance(found, MetaTensor):
            raise DataError(f"{name}: the transforms of the label make a {type(found).__name__} of it, which has lost its affine")
        read, made = file_grid(found), tuple(found.shape[1:])
        if read is not None and read.shape[: len(made)] != made:
            raise DataError(
                f"{name}, is read with the size {read.shape}, and a transform that is none of MONAI's spatial ones makes it {made}; "
                "bring the label files into the form that the network is scored on"
            )
        try:
            whole = torch.from_numpy(whole_values(found.as_subclass(Tensor).cpu().numpy()))
            values = settled(whole, self.classes, self.activation, "the label", hard=True)
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        return MetaTensor(values).copy_meta_from(found)


def label_steps(postprocessing: Any, label_key: str, activation: str) -> list[Any]:
    """What a postprocessing does to labels, but for all that moves voxels: mapped values, single components."""
    own = [t for t in steps(postprocessing) if label_key in getattr(t, "keys", ()) and not isinstance(t, (Invertd, SaveImaged))]
    return [without_encoding(t, activation) for t in own if not moves(t)]


def without_encoding(transform: Any, activation: str) -> Any:
    """Of 105 classes a mask each does not fit into memory at the size of a file, and a class map says the same."""
    if activation != "softmax" or not isinstance(transform, AsDiscreted):
        return transform
    plain = copy.copy(transform)
    plain.to_onehot = [None] * len(plain.to_onehot)
    return plain


def on_grid(label: MetaTensor, grid: Grid, image: str) -> MetaTensor:
    """A label on the grid of its image; where its axes are stored in another order or direction, turned, and no voxel moves.

    Raises:
        DataError: its voxels lie elsewhere; names both files.
    """
    own = grid_of(label)
    file = str(label.meta.get("filename_or_obj", "the label"))
    if label.ndim == 4:
        turned, affine = turned_onto(grid, label.as_subclass(Tensor).movedim(0, -1).numpy(), own.affine)
        own = Grid(turned.shape[:3], affine)
        moved = torch.from_numpy(turned.copy()).movedim(-1, 0)
        label, meta = MetaTensor(moved, affine=torch.as_tensor(affine)), label.meta
        label.meta |= {k: v for k, v in meta.items() if k not in ("affine", "spatial_shape")}
    check_same_grid({image: grid, file: own})
    return label


def _files(value: Any) -> list[str]:
    many = value if isinstance(value, (list, tuple)) else [value]
    return [str(v) for v in many if isinstance(v, (str, os.PathLike))]


def _named(value: Any) -> str:
    return ", ".join(_files(value)) or "the label"
