"""One structure, predicted and labelled, in numbers that clinicians read: surface distances, lesions found, volume.

Cost follows the voxels of a structure and not the box around them: under attack a prediction may be strewn over the whole volume.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

PERCENTILE = 95
DENSE = 30  # voxels of a box for one of a structure, from which on its components are found voxel by voxel


@dataclass(frozen=True)
class Structure:
    """The voxels of one class: those of ``field`` that hold ``value``, as sorted numbers (N,); the field ends in empty voxels."""

    field: np.ndarray
    value: int
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def places(self) -> np.ndarray:
        """Their coordinates (N, dimensions)."""
        return np.stack(np.unravel_index(self.index, self.field.shape), 1) - 1

    def holds(self, index: np.ndarray) -> np.ndarray:
        """Which of these voxels belong to it."""
        return self.field.reshape(-1)[index] == self.value

    def surface(self) -> Structure:
        """Its voxels with a neighbour across a face that is none of it; beyond the field is none."""
        inside = np.ones(len(self), bool)
        for step in _steps(self.field.shape, lambda d: sum(map(abs, d)) == 1):
            inside &= self.holds(self.index + step)
        return Structure(self.field, self.value, self.index[~inside])

    def parts(self) -> tuple[np.ndarray, int]:
        """The component (N,) that each voxel belongs to, counted from 0, and how many there are: what hangs together over faces,
        edges and corners."""
        places = self.places
        low, high = places.min(0), places.max(0) + 1
        if np.prod(high - low) <= DENSE * len(self):
            box = self.field[tuple(slice(a + 1, b + 1) for a, b in zip(low, high))] == self.value
            found, count = label(box, generate_binary_structure(box.ndim, box.ndim))
            return found[tuple((places - low).T)] - 1, count
        pairs = []
        for step in _steps(self.field.shape, lambda d: d > (0,) * len(d)):
            one = np.flatnonzero(self.holds(self.index + step))
            pairs.append(np.stack([one, np.searchsorted(self.index, self.index[one] + step)]))
        one, other = np.concatenate(pairs, 1)
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(self), len(self)))
        count, found = connected_components(graph, directed=False)
        return found, count


def _steps(shape: Sequence[int], among: Any) -> list[int]:
    """How far apart voxels and those of their neighbours are numbered whose difference is ``among`` the wanted."""
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    every = itertools.product((-1, 0, 1), repeat=len(shape))
    return [sum(a * s for a, s in zip(d, strides)) for d in every if among(d)]


def structures(x: np.ndarray, classes: int, *, maps: bool) -> list[Structure]:
    """Every class of class maps (1, \\*S) of 1..``classes`` (``maps``), or of masks (``classes``, \\*S)."""
    if not maps:
        return [_of_mask(mask) for mask in x]
    field = np.pad(x[0], 1)
    index = np.flatnonzero(field)
    values = field.reshape(-1)[index]
    order = np.argsort(values, kind="stable")
    ends = np.searchsorted(values[order], np.arange(1, classes + 2))
    return [Structure(field, k + 1, index[order[ends[k] : ends[k + 1]]]) for k in range(classes)]


def _of_mask(mask: np.ndarray) -> Structure:
    field = np.pad(mask != 0, 1)
    return Structure(field, True, np.flatnonzero(field))


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


def surfaces(prediction: Structure, truth: Structure, spacing: Sequence[float]) -> Surfaces:
    """Distances between the surfaces of two structures that are both there, in the unit of ``spacing`` (the size of a voxel)."""
    found, there = (s.surface().places * np.asarray(spacing, float) for s in (prediction, truth))
    return Surfaces(cKDTree(there).query(found)[0], cKDTree(found).query(there)[0])


def components_found(prediction: Structure, truth: Structure, share: float) -> tuple[float, float]:
    """Component recall and precision: of the labelled components how many are found, of the predicted ones how many are true.

    A component counts where more than the ``share`` of its voxels lies in the other structure: with 0 any overlap. None on both
    sides is 1, on one side 0.

    Source: lesion-wise true positive rate of Carass et al., "Longitudinal multiple sclerosis lesion segmentation: resource and
    challenge", NeuroImage 2017.
    """
    if not len(prediction) or not len(truth):
        same = float(len(prediction) == len(truth))
        return same, same
    return _hit(truth, prediction, share), _hit(prediction, truth, share)


def _hit(one: Structure, other: Structure, share: float) -> float:
    parts, count = one.parts()
    sizes, hits = np.bincount(parts, minlength=count), np.bincount(parts[other.holds(one.index)], minlength=count)
    return float((hits > share * sizes).mean())
