"""Miniature folders in the layouts of the distributed data sets."""

from __future__ import annotations

import numpy as np
import openpyxl
from PIL import Image

SIZE = (24, 16)


def picture(path, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def drawing(path, values, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, dtype=np.uint8), (size[1], size[0]))).save(path)


def sheet(path, rows):
    """A .xlsx file with one sheet."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append([text or None for text in row])
    book.save(path)


def isic(root):
    for part, count in (("Training", 3), ("Validation", 2), ("Test", 2)):
        for i in range(count):
            case = f"ISIC_{part[:2]}{i}"
            picture(root / f"ISIC2018_Task1-2_{part}_Input" / f"{case}.jpg")
            drawing(root / f"ISIC2018_Task1_{part}_GroundTruth" / f"{case}_segmentation.png", (0, 255))
        (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC-0")


def isbi(root):
    for part, count in (("Training", 30), ("Test", 4)):
        for i in range(count):
            picture(root / f"ISBI2016_ISIC_Part1_{part}_Data" / f"ISIC_{part[:2]}{i}.jpg")
            drawing(root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth" / f"ISIC_{part[:2]}{i}_Segmentation.png", (0, 255))


DRISHTI = [f"drishtiGS_{i:03d}" for i in range(30)]


def drishti(root, *, classes=False, levels=(0, 64, 128, 191, 255)):
    home = root / "Drishti-GS1_files" / "Drishti-GS1_files"
    for i, case in enumerate(DRISHTI):
        part, truth = ("Training", "GT") if i < 20 else ("Test", "Test_GT")
        folder = ("glaucoma" if i % 3 else "NORMAL") if classes else ""
        picture(home / part / "Images" / folder / f"{case}.png")
        maps = home / part / truth / case / "SoftMap"
        drawing(maps / f"{case}_ODsegSoftmap.png", levels)
        drawing(maps / f"{case}_cupsegSoftmap.png", (0, levels[1], levels[2], 0, levels[4]))
    if not classes:
        rows = [["Drishti-GS1"], [], ["", "Drishti-GS File", "Marking Expert-1", "Total"], []]
        rows += [["", f"{case}'", "", "Glaucomatous" if i % 3 else "Normal"] for i, case in enumerate(DRISHTI)]
        sheet(root / "Drishti-GS1_files" / "Drishti-GS1_diagnosis.xlsx", rows)


def rim_one_dl(root):
    for name, count in (("training_set", 8), ("test_set", 4)):
        for i in range(count):
            case, kind = f"r{1 + i % 3}_Im{name[:2]}{i}", ("glaucoma", "normal")[i % 2]
            picture(root / "RIM-ONE_DL_images" / "partitioned_by_hospital" / name / kind / f"{case}.png")
            for structure in ("Disc", "Cup"):
                drawing(root / "RIM-ONE_DL_reference_segmentations" / kind / f"{case}-1-{structure}-T.png", (0, 255))


def rim_one_r3(root):
    for folder, letter in (("Healthy", "N"), ("Glaucoma and suspects", "G")):
        for i in range(8):
            for eye in "LR":
                case = f"{letter}-{i}-{eye}"
                picture(root / "RIM-ONE r3" / folder / "Stereo Images" / f"{case}.jpg", seed=i)
                side = np.zeros((16, 24), dtype=np.uint8)
                side[4:12, 2:10] = 255
                side[4, 2:10] = 90
                if eye == "R":
                    side = np.roll(side, 12, axis=1)
                for structure in ("Disc", "Cup"):
                    drawing(root / "RIM-ONE r3" / folder / "Average_masks" / f"{case}-{structure}-Avg.png", side)


MAKERS = {"isic2018": isic, "isbi2016": isbi, "drishti_gs1": drishti, "rim_one_dl": rim_one_dl, "rim_one_r3": rim_one_r3}
