"""nnU-Net's preprocessing in two: a head that reads the image in image units, and a differentiable tail that feeds the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from monai_advdef.audit.nnunet.files import Read, as_meta, read_image
from monai_advdef.audit.nnunet.library import own, quiet
from monai_advdef.audit.nnunet.normalisation import LEAST, moments
from monai_advdef.audit.nnunet.plan import Plan
from monai_advdef.audit.nnunet.tail import SCALE, Tail, cropped, nonzero_box
from monai_advdef.audit.tail.recovery import Recovered
from monai_advdef.audit.tail.stated import BUDGETS, GREY, HU, PERCENT, RANGES, SIGMA, spelt
from monai_advdef.errors import DataError


class Preprocessing(MapTransform):
    """``preprocessing(case)`` is what nnU-Net's own preprocessing feeds the network; ``tail(head(case))`` the same with a gradient.

    The image keeps the file's own grid, in MONAI's order of the axes, and so do the logits, which nnU-Net resamples back before it
    decides: an attack and its label live on the grid of the files.

    Args:
        plan: of the folder.
        image_key, label_key: of a case; either may be missing.

    Raises:
        DataError: when called, files that cannot be read, other channels than the network's, labels that it does not know.
    """

    fleeting = ("_last",)

    def __init__(self, plan: Plan, *, image_key: str = "image", label_key: str = "label") -> None:
        super().__init__([image_key, label_key], allow_missing_keys=True)
        self.plan, self.image_key, self.label_key = plan, image_key, label_key
        self.tail = Tail(plan)
        self._last: tuple[tuple[str, ...], Read] | None = None

    @property
    def unit(self) -> str:
        """HU where all channels are CT, grey levels of colour pictures, else each channel's own deviation, σ."""
        kinds = set(self.plan.schemes)
        return HU if kinds == {"CTNormalization"} else GREY if kinds == {"RGBTo01Normalization"} else SIGMA

    def recovered(self, *, unit: str = "", eps: float | None = None, value_range: Sequence[float] | None = None) -> Recovered:
        """The threat model of these images: only what is not 0 may change where the plans mask the background.

        Args:
            unit, eps, value_range: given by a user; the unit is that of :attr:`unit`, or % of the range.

        Raises:
            DataError: another unit; an eps that is not above 0; a range in σ or %, which is another one for each image.
        """
        given = spelt(unit) if unit else self.unit
        if given not in (self.unit, PERCENT):
            raise DataError(f"unit {unit}: the images of this nnU-Net are in {self.unit}; leave --unit away, or give '{PERCENT}'")
        if eps is not None and not eps > 0:
            raise DataError(f"eps must be above 0 in {given}, got {eps:g}; leave it away for the default of the unit")
        if value_range is not None and given != self.unit or value_range is not None and self.unit == SIGMA:
            raise DataError(f"a range in {given} would be another one for each image; leave --range away")
        return Recovered(
            unit=given,
            eps=float(eps or BUDGETS[given]),
            value_range=value_range or (RANGES[GREY] if given == GREY else "image"),
            source=", ".join(sorted(set(self.plan.schemes))) + " in plans.json" if not unit else "given",
            relative=given == PERCENT,
            region="nonzero" if any(self.plan.masked) else None,
        )

    def __call__(self, case: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A case with what nnU-Net's own preprocessing makes of its image, (C, \\*N), and the label on the grid of the file.

        The metadata are those of the file, on whose grid the logits will be.
        """
        made = self._labelled(case)
        if self.image_key in case:
            read, plan = self._image(case), self.plan
            make = own("nnunetv2.preprocessing.preprocessors.default_preprocessor").DefaultPreprocessor(verbose=False)
            values, told = read.axes.to_reader(read.values).numpy(), {"spacing": list(read.axes.spacing)}
            with quiet():
                fed, _, _ = make.run_case_npy(values, None, told, plan.manager, plan.settings, plan.dataset)
            made[self.image_key] = as_meta(torch.from_numpy(np.ascontiguousarray(fed)), read)
        return made

    def head(self, case: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A case with its image in image units, (C, \\*S), and the label on the same grid."""
        made, read = self._labelled(case), self._image(case)
        scale = self._scale(read) if self.unit == SIGMA else [1.0] * len(read.values)
        image = as_meta(read.values / torch.tensor(scale).reshape(-1, *(1,) * (read.values.ndim - 1)), read)
        image.meta[SCALE] = " ".join(map(repr, scale))
        made[self.image_key] = image
        return made

    def _scale(self, read: Read) -> list[float]:
        """The deviation of each channel: of the training data where it is CT, else of the image, within its mask if it has one."""
        with self.tail.holding(read.axes, []):
            x = self.tail.on_axes(read.values)
        x = cropped(x, nonzero_box(x))
        mask, found = self.tail.inside(x), []
        for part, scheme, masked, told in zip(x, self.plan.schemes, self.plan.masked, self.plan.intensities):
            values = part if mask is None or not masked else part[mask]
            deviation = float(told["std"] if scheme == "CTNormalization" else moments(values)[1])
            found.append(deviation if deviation > LEAST else 1.0)
        return found

    def _image(self, case: Mapping[Hashable, Any]) -> Read:
        """The files of the image; those of the last case are still there."""
        given = case[self.image_key]
        files = tuple(str(f) for f in (given if isinstance(given, (list, tuple)) else [given]))
        if self._last is None or self._last[0] != files:
            read = read_image(self.plan.reader, files)
            if len(read.values) != len(self.plan.channels):
                raise DataError(
                    f"{', '.join(files)}: {len(read.values)} channels, the network takes {len(self.plan.channels)} "
                    f"({', '.join(self.plan.channels)}); give a file *_0000, *_0001, ... for each"
                )
            self._last = (files, read)
        return self._last[1]

    def _labelled(self, case: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if case.get(self.label_key) is None:
            return dict(case)
        read = read_image(self.plan.reader, [str(case[self.label_key])])
        if self.image_key in case and read.values.shape[1:] != self._image(case).values.shape[1:]:
            raise DataError(
                f"{read.file}: the label has the grid {tuple(read.values.shape[1:])}, its image "
                f"{tuple(self._image(case).values.shape[1:])}; nnU-Net needs one grid"
            )
        return {**case, self.label_key: self._known(read)}

    def _known(self, read: Read) -> MetaTensor:
        """A label as the network's head knows it.

        Raises:
            DataError: values that are no label; a label to be ignored, where nobody knows what is right.
        """
        known, values, ignored = (
            [int(v) for v in self.plan.labels.all_labels],
            read.values[:1].round(),
            self.plan.labels.ignore_label,
        )
        strange = [int(v) for v in values.unique().tolist() if int(v) not in known]
        if strange and strange == [ignored]:
            raise DataError(f"{read.file}: holds {ignored}, to be ignored, so the case is not labelled throughout; leave it out")
        if strange:
            raise DataError(f"{read.file}: holds the values {strange[:5]}, which dataset.json does not know; it knows {known}")
        return as_meta(in_channels(values, self.plan), read)


def in_channels(values: Tensor, plan: Plan) -> Tensor:
    """A label map (1, \\*S) as the network's head knows it: itself, or a mask per region (K, \\*S)."""
    if not plan.regions:
        return values
    return torch.cat([torch.isin(values, torch.tensor(region, dtype=values.dtype)) for region in plan.regions]).float()
