"""One phantom subject with a glioma: four MRI series on one grid, and the labels of BraTS.

A head is drawn, tissue by tissue, and a tumour grown into it: oedema that keeps to the white matter, in it the core, in that (of a
high grade) a rim that takes up contrast agent around a necrotic middle; of a low grade hardly any. Each series weights tissues in
its own way, and the scanner adds blur, bias field, noise and a scale of its own. The weights are chosen by eye against public MRI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.glioma_head import CSF, WHITE, Head, draw_head
from monai_advdef.phantoms.volume_fields import Grid

FIELD = (192.0, 224.0, 160.0)  # of view, mm
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4  # label values of BraTS
# signal of CSF, grey matter, white matter, oedema, enhancing tumour, necrosis, core without enhancement
SIGNAL = {
    "t1": (0.34, 0.72, 1.00, 0.74, 0.78, 0.50, 0.66),
    "t1ce": (0.34, 0.74, 0.98, 0.76, 1.75, 0.52, 0.70),
    "t2": (2.10, 1.12, 0.85, 1.65, 1.40, 1.85, 1.60),
    "flair": (0.40, 1.12, 0.92, 1.85, 1.55, 0.95, 1.45),
}
# per site: what a signal of 1 is stored as in the four series, and the noise
SITES = {
    "A": ((260.0, 300.0, 180.0, 170.0), 0.03),
    "B": ((380.0, 420.0, 240.0, 200.0), 0.04),
    "C": ((900.0, 1100.0, 700.0, 480.0), 0.03),
    "D": ((8000.0, 7500.0, 6000.0, 7000.0), 0.06),
}


@dataclass(frozen=True)
class Patient:
    """What is decided of a subject before anything is drawn: the grade of the tumour, its place and radii (mm), and the site."""

    grade: str
    site: str
    centre: np.ndarray
    radius: float
    core: float
    middle: float

    @classmethod
    def of(cls, rng: np.random.Generator) -> Patient:
        """A patient; two of three have a high grade. ``core`` and ``middle`` (its part without enhancement) are shares of radii."""
        high = bool(rng.random() < 2 / 3)
        site = str(rng.choice(list(SITES)))
        side, angle = rng.choice([-1, 1]), rng.uniform(0, 2 * np.pi)
        centre = np.array([side * rng.uniform(26, 38), 42 * np.cos(angle), 12 + 22 * np.sin(angle)])
        radius = rng.uniform(22, 38) if high else rng.uniform(20, 32)
        core = rng.uniform(0.52, 0.72) if high else rng.uniform(0.6, 0.8)
        return cls("high" if high else "low", site, centre, radius, core, rng.uniform(0.6, 0.82) if high else 1.0)


def glioma_case(rng: np.random.Generator, patient: Patient, spacing: tuple[float, float, float]) -> tuple[dict, np.ndarray]:
    """The four series by name (int16) and ``"seg"`` (uint8), all of one shape, and their affine.

    Brain voxels are at least 1, all others 0 in every series.
    """
    grid = Grid.of(rng, spacing, FIELD)
    head = draw_head(grid, patient.centre, push=5.0, reach=patient.radius * 1.3)
    label = _tumour(grid, head, patient)
    tissue = head.tissue.copy()
    low_core = 6 if patient.grade == "low" else 5
    for value, number in ((OEDEMA, 3), (ENHANCING, 4), (NECROSIS, low_core)):
        tissue[label == value] = number
    vessels = (np.maximum(np.abs(grid.noise(26)), np.abs(grid.noise(26))) < 0.035) & (head.depth > 0) & (label == 0)
    texture = 1 + 0.03 * grid.noise(6)
    mottled = 1 + 0.10 * grid.noise(9) * (label > 0)
    scales, noise = SITES[patient.site]
    volumes = {}
    for (name, weights), scale in zip(SIGNAL.items(), scales):
        signal = np.asarray(weights, dtype=np.float32)[tissue] * texture * mottled
        signal[vessels] = 1.5 if name == "t1ce" else signal[vessels]
        blur = [0.55 * min(1.0, 2 / step) for step in grid.spacing]
        signal = ndimage.gaussian_filter(np.where(head.brain, signal, weights[CSF]), blur) * np.exp(0.12 * grid.noise(120))
        signal += noise * grid.rng.standard_normal(grid.shape, dtype=np.float32)
        stored = np.clip(np.rint(signal * scale * grid.rng.uniform(0.85, 1.15)), 1, 32767)
        volumes[name] = np.where(head.brain, stored, 0).astype(np.int16)
    return volumes | {"seg": label}, grid.affine


def _tumour(grid: Grid, head: Head, patient: Patient) -> np.ndarray:
    """The labels, nested: each boundary is a level of one distance, and the levels are in order everywhere."""
    x, y, z = (axis - np.float32(place) for axis, place in zip(grid.axes(), patient.centre))
    distance = np.sqrt(x * x + y * y + z * z) / np.float32(patient.radius) * np.exp(0.2 * grid.noise(28) + 0.07 * grid.noise(10))
    outer = np.where(head.tissue == WHITE, np.float32(1.05), np.float32(0.82)) * np.exp(0.12 * grid.noise(22))
    core = np.minimum(patient.core * np.exp(0.10 * grid.noise(20)), outer - 3 / patient.radius)
    middle = np.minimum(core * patient.middle * np.exp(0.15 * grid.noise(14)), core - 2.2 / patient.radius)
    tumour = head.brain & (head.depth > 2) & ((head.tissue != CSF) | (distance < core)) & (distance < outer)
    label = np.where(distance < core, ENHANCING, OEDEMA).astype(np.uint8)
    if patient.grade == "high":
        label[distance < middle] = NECROSIS
    else:
        spots = (grid.noise(12) > 2.2) & (distance < middle)
        label[(distance < core) & ~spots] = NECROSIS
    label[~tumour] = 0
    return label
