"""Dictionary transforms from loaded images and masks to the crops that the diagnosis networks are trained on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from monai_advdef.data import DataError, require_diagnoses
from monai_advdef.diagnosis.locate import DiscCropper, find_disc
from monai_advdef.switches import as_written

POSITIVE = "glaucoma"


@as_written
def cases_of(data: Mapping[str, Sequence[dict[str, str]]], sections: Sequence[str], *, cups: bool = False) -> list[dict[str, str]]:
    """The cases of the named sections, made sure to be fit for a diagnosis.

    Args:
        data: what :func:`monai_advdef.data.dataset` returns.
        sections: ``"train"``, ``"validation"``, ``"test"``.
        cups: each case must have a cup mask, too.

    Raises:
        DataError: a case without diagnosis or cup mask, a diagnosis that no case has.
    """
    cases = [case for section in sections for case in data[section]]
    require_diagnoses(cases, " + ".join(sections))
    lacking = [case["case"] for case in cases if cups and "cup" not in case]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(cases)} cases have no cup mask ({', '.join(lacking[:5])}); put them into masks_cup/, called as "
            "the disc masks, or use the classifiers alone (train_diagnosis.yaml)"
        )
    return cases


class DiscAndCupd(Transform):
    """Disc mask ``label`` and cup mask ``cup``, each ``(1, W, H)``, to one class map: 0 background, 1 rim, 2 cup."""

    def __init__(self, *, disc_key: str = "label", cup_key: str = "cup", output_key: str = "label") -> None:
        self.disc_key, self.cup_key, self.output_key = disc_key, cup_key, output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        disc, cup = data[self.disc_key], data[self.cup_key]
        return {**data, self.output_key: torch.where(cup > 0, 2, (disc > 0).to(cup.dtype)).to(disc.dtype)}


class CropAtDiscd(MapTransform):
    """The square around the disc of each of ``keys``, ``(C, W, H)``: nearest pixels of a resized mask, bilinear of an image.

    Args:
        keys: what is cropped.
        mask_key: the disc mask ``(1, W, H)``, positive where the disc is; an empty one leaves the centre of the image.
        mode: ``"bilinear"`` or ``"nearest"``, one per key or one for all, where ``disc_diameters`` resizes.
        side, disc_diameters: see :class:`DiscCropper`.
    """

    @as_written
    def __init__(
        self,
        keys: KeysCollection,
        *,
        mask_key: str = "label",
        mode: str | Sequence[str] = "bilinear",
        side: int = 96,
        disc_diameters: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key, self.modes = mask_key, [mode] * len(self.keys) if isinstance(mode, str) else list(mode)
        self.cropper = DiscCropper(side=side, disc_diameters=disc_diameters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        disc = find_disc(data[self.mask_key][0])
        for key, mode in self.key_iterator(result, self.modes):
            result[key] = self.cropper(convert_to_tensor(data[key], track_meta=False), disc, mode=mode)
        return result


class DiagnosisToLabeld(Transform):
    """The word ``diagnosis`` as the class ``label``: 1 glaucoma, 0 otherwise; the mask is left behind."""

    def __init__(self, *, diagnosis_key: str = "diagnosis", output_key: str = "label") -> None:
        self.diagnosis_key, self.output_key = diagnosis_key, output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, self.output_key: torch.tensor(int(data[self.diagnosis_key] == POSITIVE))}
