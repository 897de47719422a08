"""Phantom data sets, written as the very files a real data set has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from monai_advdef.errors import nearest
from monai_advdef.phantoms.abdomen import LABELS, ct_case
from monai_advdef.phantoms.files import PhantomFolder, claim_folder, save_volumes, write_text
from monai_advdef.phantoms.fundus import Eye, fundus_case
from monai_advdef.phantoms.glioma import Patient, glioma_case
from monai_advdef.phantoms.radiograph import finding_of, radiograph_case
from monai_advdef.phantoms.skin import skin_case
from monai_advdef.switches import as_written

SKIN_SIZES = ((384, 288), (400, 300), (352, 288))
FUNDUS_SIZES = ((596, 512), (560, 512), (512, 512))
LUNG_SIZES = ((512, 512), (480, 512), (512, 448))


@as_written
def write_phantoms(task: str, folder: str | os.PathLike[str], **options) -> list[Path]:
    """Write the phantom data set of ``task`` (a key of :data:`PHANTOMS`) into ``folder``; options and result as its writer's.

    Raises:
        ValueError: unknown ``task``; the message names the nearest known one.
    """
    if task not in PHANTOMS:
        raise ValueError(f"no phantoms for task {task!r}; {nearest(task, PHANTOMS)}")
    return PHANTOMS[task](folder, **options)


@as_written
def write_skin_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 48,
    sizes: Sequence[Sequence[int]] = SKIN_SIZES,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom dermoscopy images: ``images/phantom_0007.jpg`` (every fourth a PNG) and ``masks/phantom_0007.png`` (0 or 255).

    Case ``i`` depends on ``seed`` and ``i`` alone, not on how many are written: its size is drawn from ``sizes``, pairs
    (width, height) in pixels. Files already there from an equal earlier call are kept, so an interrupted call is resumed
    and a larger ``cases`` adds to a folder. JPEG quality is 95 without chroma subsampling.

    Returns:
        The paths of the images, one per case, in order.

    Raises:
        ValueError: ``cases`` below 1, or a size below 64 pixels.
        DataError: ``folder`` holds something else, or phantoms of another seed or sizes (give ``overwrite=True`` for these),
            or more cases than asked for.
    """
    place = PhantomFolder(Path(folder), "skin", ("images", "masks"), sizes, seed)
    place.claim(cases, overwrite=overwrite)
    return place.write(cases, lambda index: skin_case(*place.generator(index)))


@as_written
def write_fundus_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 48,
    sizes: Sequence[Sequence[int]] = FUNDUS_SIZES,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom fundus photographs: as :func:`write_skin_phantoms`, and ``masks_cup/`` and ``labels.csv`` besides.

    ``labels.csv`` has the columns ``image,patient,diagnosis,vertical_cup_disc_ratio``, the ratio as drawn, and names all ``cases``
    before the first of them is drawn. The masks in ``masks/`` are the optic disc, cup included.
    """
    place = PhantomFolder(Path(folder), "fundus", ("images", "masks", "masks_cup"), sizes, seed)
    place.claim(cases, overwrite=overwrite)
    lines = ["image,patient,diagnosis,vertical_cup_disc_ratio"]
    for index in range(cases):
        eye = Eye.of(place.generator(index)[0])
        image = place.files(index)[0]
        lines.append(f"{image.name},{image.stem},{eye.diagnosis},{eye.cup_disc_ratio:.3f}")
    write_text(place.root / "labels.csv", "\n".join(lines) + "\n")
    return place.write(cases, lambda index: fundus_case(*place.generator(index)))


@as_written
def write_lung_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 48,
    sizes: Sequence[Sequence[int]] = LUNG_SIZES,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom chest radiographs, grey: as :func:`write_skin_phantoms`, and ``masks_multi/`` and ``labels.csv`` besides.

    ``masks/`` are both lungs; ``masks_multi/`` are 0 background, 1 left lung (right in the picture), 2 right lung, 3 heart and
    great vessels where no lung covers them. Every other patient has two pictures: cases 3k+1 and 3k+2 are patient 2k+1, case 3k is
    patient 2k. Anatomy, finding and size depend on ``seed`` and the patient, position and exposure on ``seed`` and the case.
    ``labels.csv`` has the columns ``image,patient,finding`` (normal or infiltrate) and names all ``cases`` from the start.
    """
    place = PhantomFolder(Path(folder), "lung", ("images", "masks", "masks_multi"), sizes, seed)
    place.claim(cases, overwrite=overwrite)
    lines = ["image,patient,finding"]
    for index in range(cases):
        patient = _patient(index)
        lines.append(f"{place.files(index)[0].name},patient_{patient:04d},{finding_of(place.generator(patient)[0])}")
    write_text(place.root / "labels.csv", "\n".join(lines) + "\n")

    def draw(index: int) -> Sequence[np.ndarray]:
        anatomy, size = place.generator(_patient(index))
        return radiograph_case(anatomy, np.random.default_rng([seed, index, 1]), size)

    return place.write(cases, draw)


@as_written
def write_glioma_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 16,
    spacing: Sequence[float] = (2.0, 2.0, 2.0),
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom subjects with a glioma: ``phantom_0007/`` with ``t1, t1ce, t2, flair`` (int16) and ``seg`` (uint8) ``.nii.gz``.

    The field of view is 192 x 224 x 160 mm, left-posterior-superior, the ``spacing`` in mm: 96 x 112 x 80 voxels by default,
    192 x 224 x 32 for ``(1, 1, 5)``. Labels are those of BraTS: 1 necrotic and non-enhancing core, 2 oedema, 4 enhancing tumour.
    ``labels.csv`` has the columns ``case,grade,site`` and names all ``cases`` from the start; resuming is as for
    :func:`write_skin_phantoms`.

    Returns:
        The folders of the subjects, in order.

    Raises:
        ValueError: ``cases`` below 1, or a spacing outside 0.5 to 8 mm.
        DataError: as :func:`write_skin_phantoms`.
    """
    across, along, up = (float(step) for step in spacing)
    if not all(0.5 <= step <= 8 for step in (across, along, up)):
        raise ValueError(f"spacing must be three lengths of 0.5 to 8 mm, got {list(spacing)}")
    root = Path(folder)
    claim_folder(root, {"task": "glioma", "seed": seed, "spacing": [across, along, up]}, cases, overwrite=overwrite)
    subjects = [root / f"phantom_{index:04d}" for index in range(cases)]
    generators = [np.random.default_rng([seed, index]) for index in range(cases)]
    patients = [Patient.of(rng) for rng in generators]
    lines = ["case,grade,site", *(f"{path.name},{patient.grade},{patient.site}" for path, patient in zip(subjects, patients))]
    write_text(root / "labels.csv", "\n".join(lines) + "\n")
    for path, rng, patient in zip(subjects, generators, patients):
        if not all((path / f"{name}.nii.gz").exists() for name in ("t1", "t1ce", "t2", "flair", "seg")):
            save_volumes(path, *glioma_case(rng, patient, (across, along, up)))
    return subjects


@as_written
def write_abdomen_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 16,
    spacing: Sequence[float] = (3.0, 3.0, 4.0),
    dicom: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom abdominal CT: ``images/phantom_0007.nii.gz`` (int16, HU), ``labels/phantom_0007.nii.gz`` and ``labels.json``.

    The field of view is 384 x 288 x 224 mm, left-posterior-superior, the ``spacing`` in mm. Labels are spleen, both kidneys, liver
    and pancreas by the values of TotalSegmentator. With ``dicom`` a case is ``dicom/phantom_0007/``, a CT series, with
    ``dicom/phantom_0007_label.nii.gz``. Resuming is as for :func:`write_skin_phantoms`.

    Returns:
        The paths of the images (files, or series folders), in order.

    Raises:
        ValueError: ``cases`` below 1, or a spacing outside 0.5 to 12 mm.
        DataError: as :func:`write_skin_phantoms`.
    """
    across, along, up = (float(step) for step in spacing)
    if not all(0.5 <= step <= 12 for step in (across, along, up)):
        raise ValueError(f"spacing must be three lengths of 0.5 to 12 mm, got {list(spacing)}")
    root = Path(folder)
    made_of = {"task": "abdomen", "seed": seed, "spacing": [across, along, up], "dicom": dicom}
    claim_folder(root, made_of, cases, overwrite=overwrite)
    names = {0: "background", **LABELS}
    write_text(root / "labels.json", json.dumps(names, indent=1) + "\n")
    images = []
    for index in range(cases):
        name, rng = f"phantom_{index:04d}", np.random.default_rng([seed, index])
        label = root / "dicom" / f"{name}_label.nii.gz" if dicom else root / "labels" / f"{name}.nii.gz"
        images.append(root / "dicom" / name if dicom else root / "images" / f"{name}.nii.gz")
        if not (label.exists() and images[-1].exists()):
            _save_ct(images[-1], label, ct_case(rng, (across, along, up)), seed)
    return images


def _save_ct(image: Path, label: Path, case: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int) -> None:
    """The image first, so that a case with a label is whole."""
    voxels, labels, affine = case
    if image.suffix:
        save_volumes(image.parent, {image.name.removesuffix(".nii.gz"): voxels}, affine)
    else:
        from monai_advdef.dicom.series_write import write_series

        write_series(image, voxels, affine, modality="CT", description="phantom abdomen", patient=image.name, seed=seed)
    save_volumes(label.parent, {label.name.removesuffix(".nii.gz"): labels}, affine)


def _patient(index: int) -> int:
    """Whose picture a case is: of three cases in a row, the last two are of one patient."""
    return 2 * (index // 3) + min(index % 3, 1)


PHANTOMS: dict[str, Callable[..., list[Path]]] = {
    "skin": write_skin_phantoms,
    "fundus": write_fundus_phantoms,
    "lung": write_lung_phantoms,
    "glioma": write_glioma_phantoms,
    "abdomen": write_abdomen_phantoms,
}
