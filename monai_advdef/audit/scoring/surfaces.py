"""One structure, predicted and labelled, in numbers that clinicians read: surface distances, lesions found, volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.spatial import cKDTree

PERCENTILE = 95


@dataclass(frozen=True)
class Surfaces:
    """Distances of each surface voxel to the other surface: of the prediction to the label, and of the label to the prediction."""

    predicted: np.ndarray
    labelled: np.ndarray

    def dice(self, tolerance: float) -> float:
        """Normalised surface Dice: the share of both surfaces that lies within ``tolerance`` of the other.

        Source: Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy", JMIR 2021; surfaces
        counted in voxels, as MONAI's ``compute_surface_dice`` counts them.
        """
        within = (self.predicted <= tolerance).sum() + (self.labelled <= tolerance).sum()
        return float(within / (len(self.predicted) + len(self.labelled)))

    def hausdorff(self, percentile: float = PERCENTILE) -> float:
        """The greater of the two percentiles of the distances, as MONAI's ``compute_hausdorff_distance``."""
        return float(max(np.percentile(self.predicted, percentile), np.percentile(self.labelled, percentile)))


def surfaces(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> Surfaces:
    """Distances between the surfaces of two masks (\\*S) that both hold something, in the unit of ``spacing`` (size of a voxel)."""
    found, there = (np.argwhere(_surface(mask)) * np.asarray(spacing, float) for mask in (prediction, truth))
    return Surfaces(cKDTree(there).query(found)[0], cKDTree(found).query(there)[0])


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a neighbour across a face that is none; beyond the array is none."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        at, last = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        last[1:] &= at[:-1]
        last[:-1] &= at[1:]
        last[0] = last[-1] = False
    return mask & ~inside


def components_found(prediction: np.ndarray, truth: np.ndarray, share: float) -> tuple[float, float]:
    """Component recall and precision: of the labelled components how many are found, of the predicted ones how many are true.

    A component is what hangs together over faces, edges and corners. It counts where more than the ``share`` of its voxels lies in
    the other mask: with 0 any overlap. None on both sides is 1, on one side 0.

    Source: lesion-wise true positive rate of Carass et al., "Longitudinal multiple sclerosis lesion segmentation: resource and
    challenge", NeuroImage 2017.
    """
    if not prediction.any() or not truth.any():
        same = float(prediction.any() == truth.any())
        return same, same
    return _hit(truth, prediction, share), _hit(prediction, truth, share)


def _hit(mask: np.ndarray, other: np.ndarray, share: float) -> float:
    parts, count = label(mask, generate_binary_structure(mask.ndim, mask.ndim))
    sizes, hits = (np.bincount(parts[where], minlength=count + 1)[1:] for where in (mask, mask & other))
    return float((hits > share * sizes).mean())
