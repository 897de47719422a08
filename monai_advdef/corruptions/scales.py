"""How strong each corruption is: its parameters at five severities, in physical units, with their source. One table for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOP = 5  # the highest severity


@dataclass(frozen=True)
class Parameter:
    """One physical parameter of a corruption.

    Attributes:
        name: what the corruption asks for.
        unit: of the values, as it is printed.
        levels: its values at the severities 1 to 5.
        none: its value at severity 0.
    """

    name: str
    unit: str
    levels: tuple[float, float, float, float, float]
    none: float = 0.0

    def at(self, severity: float) -> float:
        """The value at a severity in [0, 5]: linear between its neighbours, decibels by the amplitudes that they stand for."""
        values = np.array([self.none, *self.levels])
        if self.unit == "dB":
            amplitude = float(np.interp(severity, range(TOP + 1), 10 ** (-values / 20)))
            return -20 * math.log10(amplitude) if amplitude > 0 else math.inf
        return float(np.interp(severity, range(TOP + 1), values))


@dataclass(frozen=True)
class Scale:
    """What a corruption is.

    Attributes:
        modality: whose images it is for: a key of :data:`UNITS`.
        title: in a few words.
        parameters: that grow with the severity.
        source: of the levels; "ours" where nobody else is named.
    """

    modality: str
    title: str
    parameters: tuple[Parameter, ...]
    source: str

    def told(self, severity: float) -> str:
        """``"4 mm, 4 degrees"``: the values at a severity, with their units."""
        return ", ".join(f"{p.at(severity):.4g} {p.unit}" for p in self.parameters)


UNITS: dict[str, tuple[str, ...]] = {
    "MRI": ("signal", "σ", "sigma"),
    "CT": ("HU",),
    "x-ray": ("grey level", "of the range"),
    "photo": ("grey level", "of the range"),
}
"""The units that the images of each modality may be in, as ``unit`` of a threat model says them; the first goes without saying."""

BRAINWEB = "BrainWeb, Collins et al., IEEE TMI 17 (1998)"
TORCHIO = "torchio, Pérez-García et al., Comput Methods Programs Biomed 208 (2021)"
IMAGENET_C = "ImageNet-C, Hendrycks and Dietterich, ICLR 2019"


def _scale(modality: str, title: str, source: str, *parameters: tuple[str, str, Sequence[float], float]) -> Scale:
    made = (Parameter(name, unit, tuple(levels), none) for name, unit, levels, none in parameters)  # type: ignore[arg-type]
    return Scale(modality, title, tuple(made), source)


SEVERITIES: dict[str, Scale] = {
    "RigidMotion": _scale(
        "MRI",
        "the head moves four times while k-space is acquired",
        f"ours; the highest are the default of RandomMotion in {TORCHIO}",
        ("translation", "mm", (1, 2, 4, 7, 10), 0),
        ("rotation", "degrees", (1, 2, 4, 7, 10), 0),
    ),
    "Ghosting": _scale(
        "MRI",
        "every n-th line of k-space is weakened, as by a pulse: ghosts along the phase axis",
        f"ours; the mechanism of RandomGhosting in {TORCHIO}",
        ("weakening", "%", (10, 20, 35, 50, 70), 0),
    ),
    "Spikes": _scale(
        "MRI",
        "one corrupt point of k-space: stripes all over the image",
        f"ours; the mechanism of RandomSpike in {TORCHIO}, whose default begins at the highest",
        ("height", "% of the mean signal", (10, 20, 40, 70, 100), 0),
    ),
    "BiasField": _scale(
        "MRI",
        "the coils see some places better: a smooth factor around 1",
        f"20 and 40 % (a factor of .9 to 1.1 and .8 to 1.2): {BRAINWEB}; higher ours",
        ("inhomogeneity", "%", (20, 40, 60, 80, 100), 0),
    ),
    "RicianNoise": _scale(
        "MRI",
        "noise of the receiver, Rician as in magnitude images",
        f"1, 3, 5, 7 and 9 % of the signal: {BRAINWEB}, there of the brightest tissue, here of the mean signal",
        ("signal to noise", "dB", (40.0, 30.46, 26.02, 23.1, 20.92), math.inf),
    ),
    "GibbsRinging": _scale(
        "MRI",
        "fewer lines of k-space, filled up with zeros: blur, and rings at edges",
        "ours",
        ("acquired matrix", "% of each axis in the slice", (80, 65, 50, 40, 30), 100),
    ),
    "SliceThickness": _scale(
        "MRI",
        "thicker slices, interpolated to the grid of the image",
        "ours; 3 to 5 mm are usual for 2D sequences",
        ("thickness", "mm", (2, 3, 4, 5, 6), 0),
    ),
    "MissingSeries": _scale(
        "MRI",
        "one series covers a part of the volume, or nothing",
        "ours",
        ("missing slices", "% of one series", (20, 40, 60, 80, 100), 0),
    ),
    "MisregisteredSeries": _scale("MRI", "one series lies beside the others", "ours", ("offset", "mm", (1, 2, 4, 6, 10), 0)),
    "Dose": _scale(
        "CT",
        "less tube current: Gaussian noise in the image with the spectrum of filtered back-projection, an approximation of noise in "
        "the sinogram (the same everywhere, without streaks behind bones)",
        "ours; .25 and .1 are the doses simulated by McCollough et al., Med Phys 44 (2017), and Moen et al., Med Phys 48 (2021)",
        ("dose", "of the mAs", (0.5, 0.25, 0.1, 0.05, 0.025), 1),
    ),
    "Kernel": _scale(
        "CT",
        "a smoother reconstruction kernel: a Gaussian in the slice on top of the image's own",
        "ours",
        ("width", "mm FWHM", (0.8, 1.2, 1.8, 2.4, 3.2), 0),
    ),
    "CTSliceThickness": _scale(
        "CT", "thicker slices, interpolated to the grid of the image", "ours", ("thickness", "mm", (3, 4, 5, 7.5, 10), 0)
    ),
    "CalibrationShift": _scale(
        "CT",
        "all numbers too high, or too low",
        "ours; a few HU are what quality control lets pass for water",
        ("shift", "HU", (5, 10, 20, 40, 80), 0),
    ),
    "MetalStreaks": _scale(
        "CT", "a star of streaks around a metal clip", "ours", ("streaks", "HU at 10 mm", (50, 100, 200, 400, 800), 0)
    ),
    "Breathing": _scale(
        "CT",
        "the patient breathes while the table moves: slices are displaced along the body",
        "ours; abdominal organs move by 5 to 40 mm, Keall et al., AAPM TG-76, Med Phys 33 (2006)",
        ("amplitude", "mm", (2, 4, 8, 12, 16), 0),
    ),
    "XRayExposure": _scale(
        "x-ray", "fewer photons: quantum noise", "ours", ("exposure", "of the mAs", (0.5, 0.25, 0.1, 0.05, 0.02), 1)
    ),
    "Scatter": _scale(
        "x-ray",
        "scattered radiation over the whole detector: less contrast",
        "ours",
        ("scatter fraction", "of the detected", (0.2, 0.35, 0.5, 0.65, 0.8), 0),
    ),
    "GridLines": _scale("x-ray", "the lines of a stationary grid", "ours", ("depth", "% of the detected", (2, 4, 8, 12, 20), 0)),
    "XRayRotation": _scale(
        "x-ray", "the patient lies, or the cassette, at an angle", "ours", ("angle", "degrees", (2, 4, 8, 12, 20), 0)
    ),
    "Collimation": _scale(
        "x-ray", "the beam is cut at all four sides", "ours", ("cut", "% of each axis a side at most", (4, 8, 12, 16, 20), 0)
    ),
    "Defocus": _scale("photo", "out of focus: a disc", "ours", ("radius", "px", (1, 2, 3, 5, 8), 0)),
    "Exposure": _scale("photo", "too light, or too dark", "ours", ("exposure", "stops", (0.5, 1, 1.5, 2, 2.5), 0)),
    "ColourCast": _scale(
        "photo",
        "daylight balance under a warmer light",
        "ours; 2856 K is CIE illuminant A, tungsten light",
        ("light", "K", (5500, 4700, 4000, 3400, 2856), 6504),
    ),
    "Vignette": _scale(
        "photo", "light falls off towards the corners", "ours", ("fall", "stops in the corner", (0.5, 1, 1.5, 2, 3), 0)
    ),
    "Hairs": _scale("photo", "hairs across the lens or the skin", "ours", ("hairs", "hairs", (3, 6, 12, 20, 32), 0)),
    "Ruler": _scale("photo", "a ruler along one side", "ours", ("width", "% of the picture", (5, 8, 12, 16, 20), 0)),
    "JPEGArtefacts": _scale("photo", "stored as JPEG", IMAGENET_C, ("quality", "JPEG quality", (25, 18, 15, 10, 7), 100)),
    "LowResolution": _scale(
        "photo", "fewer pixels, enlarged again", IMAGENET_C, ("pixels", "of each side", (0.6, 0.5, 0.4, 0.3, 0.25), 1)
    ),
    "OtherCamera": _scale(
        "photo",
        "the colour response of another camera: other primaries, and another tone curve a channel",
        "ours",
        ("mixing", "% of the other colours", (5, 10, 15, 20, 30), 0),
        ("tone", "% of the exponent", (5, 10, 15, 25, 40), 0),
    ),
}
"""Every corruption by the name of its transform."""
