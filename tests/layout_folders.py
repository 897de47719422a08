"""Tiny folders in the layouts that public data sets and people have; every mask is one rectangle whose place tells its case."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
from PIL import Image

SIDE = 24
SHAPE = (12, 10, 8)


def place(number):
    """The rectangle of a case: rows, columns."""
    return slice(2 + number % 8, 12), slice(3, 9 + number % 8)


def picture(path, number=0, *, grey=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path)


def drawn(number=0):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[place(number)] = True
    return mask


def mask(path, number=0, *, value=255, where=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = drawn(number) if where is None else where
    Image.fromarray(np.where(shape, np.uint8(value), np.uint8(0))).save(path)


def pixels(path):
    with Image.open(path) as file:
        return np.asarray(file)


def scan(path, number=0, *, low=-1000):
    """A volume in HU: air around, soft tissue inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(number).normal(40, 20, SHAPE).astype(np.int16)
    voxels[:2] = low
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def organ(number=0):
    shape = np.zeros(SHAPE, bool)
    shape[3 : 6 + number % 3, 2:6, 1:7] = True
    return shape


def volume(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.uint8), np.eye(4)), path)


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def msd(root, *, cases=4, labels=("background", "spleen"), modality="CT", tests=0):
    for k in range(cases):
        scan(root / f"imagesTr/spleen_{k}.nii.gz", k)
        volume(root / f"labelsTr/spleen_{k}.nii.gz", organ(k))
    for k in range(tests):
        scan(root / f"imagesTs/spleen_{k + 50}.nii.gz", k)
    training = [{"image": f"./imagesTr/spleen_{k}.nii.gz", "label": f"./labelsTr/spleen_{k}.nii.gz"} for k in range(cases)]
    told = {"modality": {"0": modality}, "labels": {str(n): name for n, name in enumerate(labels)}, "training": training}
    write_json(root / "dataset.json", {**told, "test": [f"./imagesTs/spleen_{k + 50}.nii.gz" for k in range(tests)]})


def nnunet(root, *, cases=6, labels=None, channels=("CT",)):
    for k in range(cases):
        for number in range(len(channels)):
            scan(root / f"imagesTr/amos_{k:04}_{number:04}.nii.gz", 10 * number + k)
        volume(root / f"labelsTr/amos_{k:04}.nii.gz", organ(k))
    told = {"channel_names": {str(n): name for n, name in enumerate(channels)}, "labels": labels or {"background": 0, "liver": 1}}
    write_json(root / "dataset.json", {**told, "numTraining": cases, "file_ending": ".nii.gz"})


def nnunet_pictures(root, *, cases=12, labels=None, value=1, tests=0):
    for part, numbers in (("Tr", range(cases)), ("Ts", range(cases, cases + tests))):
        for k in numbers:
            picture(root / f"images{part}/lesion_{k:03}_0000.png", k)
            mask(root / f"labels{part}/lesion_{k:03}.png", k, value=value)
    told = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": labels or {"background": 0, "skin lesion": 1}}
    write_json(root / "dataset.json", {**told, "numTraining": cases, "file_ending": ".png"})


def totalsegmentator(root, *, cases=4, splits=()):
    for k in range(cases):
        scan(root / f"s{k:04}/ct.nii.gz", k)
        for name, shape in (("liver", organ(k)), ("kidney_left", np.roll(organ(k), 5, 1)), ("aorta", np.roll(organ(k), 2, 2))):
            volume(root / f"s{k:04}/segmentations/{name}.nii.gz", shape)
    if splits:
        rows = [f"s{k:04};60;m;{split}" for k, split in enumerate(splits)]
        (root / "meta.csv").write_text("\n".join(["image_id;age;gender;split", *rows]) + "\n")


def ham10000(root, *, cases=12, lesions=0):
    for k in range(cases):
        part = 1 + k % 2
        picture(root / f"HAM10000_images_part_{part}/ISIC_{k:07}.jpg", k)
        mask(root / f"HAM10000_segmentations_lesion_tschandl/ISIC_{k:07}_segmentation.png", k)
    if lesions:
        rows = [f"HAM_{k % lesions:07},ISIC_{k:07},nv" for k in range(cases)]
        (root / "HAM10000_metadata.csv").write_text("\n".join(["lesion_id,image_id,dx", *rows]) + "\n")


LUNGS = {"leftMask": (slice(4, 20), slice(14, 22)), "rightMask": (slice(4, 20), slice(2, 10))}


def lung(side):
    shape = np.zeros((SIDE, SIDE), bool)
    shape[LUNGS[side]] = True
    return shape


def montgomery(root, *, cases=12):
    for k in range(cases):
        picture(root / f"MontgomerySet/CXR_png/MCUCXR_{k:04}_0.png", k, grey=True)
        for side in LUNGS:
            mask(root / f"MontgomerySet/ManualMask/{side}/MCUCXR_{k:04}_0.png", where=lung(side))
    (root / "MontgomerySet/ClinicalReadings").mkdir()
    (root / "MontgomerySet/ClinicalReadings/MCUCXR_0000_0.txt").write_text("normal")


def shenzhen(root, *, cases=12, undrawn=2):
    for k in range(cases + undrawn):
        picture(root / f"CXR_png/CHNCXR_{k:04}_0.png", k, grey=True)
        if k < cases:
            mask(root / f"mask/CHNCXR_{k:04}_0_mask.png", k)


def ph2(root, *, cases=8):
    for k in range(cases):
        name = f"IMD{k:03}"
        picture(root / f"PH2 Dataset images/{name}/{name}_Dermoscopic_Image/{name}.bmp", k)
        mask(root / f"PH2 Dataset images/{name}/{name}_lesion/{name}_lesion.bmp", k)


def pairs(root, *, cases=12, suffix="_mask"):
    for k in range(cases):
        picture(root / f"{k:03}.jpg", k)
        mask(root / f"{k:03}{suffix}.png", k)


def sections(root, *, parts=(("train", 12), ("test", 6)), image="{section}/images/{case}.jpg", drawing="{section}/masks/{case}.png"):
    number = 0
    for section, count in parts:
        for _ in range(count):
            case = f"{number:03}"
            picture(root / image.format(section=section, case=case), number)
            mask(root / drawing.format(section=section, case=case), number)
            number += 1
