"""One phantom abdominal CT: Hounsfield units with contrast agent, blur and noise, and the labels of five organs."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monai_advdef.phantoms.abdomen_body import Tissue, draw_abdomen
from monai_advdef.phantoms.volume_fields import Grid

FIELD = (384.0, 288.0, 224.0)  # of view, mm
LABELS = {1: "spleen", 2: "right kidney", 3: "left kidney", 5: "liver", 7: "pancreas"}  # values of TotalSegmentator
HU = {
    Tissue.AIR: -1000,
    Tissue.FAT: -100,
    Tissue.MUSCLE: 55,
    Tissue.LUNG: -820,
    Tissue.BOWEL: 30,
    Tissue.GAS: -900,
    Tissue.STOMACH: 15,
    Tissue.VESSEL: 40,
    Tissue.LIVER: 58,
    Tissue.SPLEEN: 48,
    Tissue.CORTEX: 34,
    Tissue.MEDULLA: 32,
    Tissue.PANCREAS: 42,
    Tissue.BONE: 520,
    Tissue.MARROW: 190,
    Tissue.TABLE: -60,
}
# what the contrast agent adds in the portal venous phase, HU
ENHANCEMENT = {
    Tissue.MUSCLE: 8,
    Tissue.BOWEL: 30,
    Tissue.VESSEL: 120,
    Tissue.LIVER: 52,
    Tissue.SPLEEN: 75,
    Tissue.CORTEX: 160,
    Tissue.MEDULLA: 120,
    Tissue.PANCREAS: 50,
}


def ct_case(rng: np.random.Generator, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The volume in HU (X, Y, Z) int16, its labels (uint8, the values of :data:`LABELS`), and the affine, left-posterior-superior.

    Dose, contrast and kernel differ from case to case: noise of 8 to 20 HU, 80 to 115 % of the enhancement.
    """
    grid = Grid.of(rng, spacing, FIELD)
    tissue = draw_abdomen(grid)
    contrast = rng.uniform(0.8, 1.15)
    table = np.array([HU[t] + contrast * ENHANCEMENT.get(t, 0) for t in Tissue], dtype=np.float32)
    signal = table[tissue] + 6 * grid.noise(14) * (tissue != Tissue.AIR)
    blur = rng.uniform(0.6, 1.0)
    signal = ndimage.gaussian_filter(signal, [blur * min(1.0, 2 / step) for step in grid.spacing])
    grain = ndimage.gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), (0.6, 0.6, 0))
    signal += rng.uniform(8, 20) * grain / grain.std()
    return np.clip(np.rint(signal), -1024, 3071).astype(np.int16), _labels(grid, tissue), grid.affine


def _labels(grid: Grid, tissue: np.ndarray) -> np.ndarray:
    label = np.zeros(tissue.shape, np.uint8)
    kidney = np.isin(tissue, (Tissue.CORTEX, Tissue.MEDULLA))
    left = np.broadcast_to(grid.axes()[0] > 0, tissue.shape)
    parts = {
        1: tissue == Tissue.SPLEEN,
        2: kidney & ~left,
        3: kidney & left,
        5: tissue == Tissue.LIVER,
        7: tissue == Tissue.PANCREAS,
    }
    for value, mask in parts.items():
        label[mask] = value
    return label
