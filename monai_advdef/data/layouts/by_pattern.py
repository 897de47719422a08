"""Layouts that are a pair of patterns: HAM10000, Montgomery and Shenzhen, PH2, train and test folders, pairs in one folder.

The names of the first four are those of their distributions (Tschandl et al., Scientific Data 2018; Jaeger et al., QIMS 2014;
Mendonca et al., EMBC 2013).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from monai_advdef.data.columns import SECTION_WORDS
from monai_advdef.data.layouts.patterns import listed_by_patterns
from monai_advdef.data.layouts.rows import Listed, Row, bare, inside
from monai_advdef.data.layouts.tables import rows_of
from monai_advdef.data.listing import IMAGE_SUFFIXES
from monai_advdef.data.notes import some

HAM_IMAGES, HAM_MASKS = "HAM10000_images*/{case}.*", "*_segmentations*/{case}_segmentation.*"
LUNG_IMAGES = "CXR_png/{case}.*"
LUNG_MASKS = ("ManualMask/leftMask/{case}.*", "ManualMask/rightMask/{case}.*")
SHENZHEN_MASKS = "mask/{case}_mask.*"
PH2_IMAGES, PH2_MASKS = "{case}/{case}_Dermoscopic_Image/{case}.*", "{case}/{case}_lesion/{case}_lesion.*"
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "input", "inputs", "original", "x")  # in any capitals
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "ann_dir", "annotations", "gt", "groundtruth", "ground_truth", "ground truth"),
    *("segmentations", "segmentation", "segmentationclass", "targets", "y"),
)
SUFFIXES = (
    "_mask",
    "_segmentation",
    "_seg",
    "_label",
    "_labels",
    "_gt",
    "_GT",
    "_Mask",
    "_Segmentation",
    "_lesion",
    "_groundtruth",
    "_manual",
    "_annotation",
    "-mask",
    "-seg",
    "-label",
    "-gt",
    "_m",
    ".mask",
    ".seg",
)
LEAST_PATIENTS = 4  # folders, below which they are rather sites or findings
FINDINGS = {"benign", "malignant", "normal", "abnormal", "healthy", "glaucoma", "positive", "negative", "control", "hgg", "lgg"}


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder."""
    return [path for path in inside(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def ham_reason(root: Path) -> str:
    """Why a folder is HAM10000; empty where it is not."""
    images = [path.name for path in inside(root) if path.name.startswith("HAM10000_images") and pictures(path)]
    return f"it holds {' and '.join(images)}" if images else ""


def read_ham(root: Path) -> Listed:
    """The images of all parts; views of one lesion (``HAM10000_metadata``) are one patient."""
    listed = listed_by_patterns(root, [HAM_IMAGES], [HAM_MASKS])
    table = next((path for path in inside(root) if path.is_file() and path.stem.lower() == "ham10000_metadata"), None)
    rows = rows_of(table) if table else []
    if not rows or not {"lesionid", "imageid"} <= rows[0].keys():
        listed.notes.append(
            "no HAM10000_metadata with lesion_id and image_id: views of one lesion may lie in train and in test, put it there"
        )
        return listed
    lesion_of = {row["imageid"]: row["lesionid"] for row in rows}
    absent = [row.case for row in listed.rows if not lesion_of.get(row.case)]
    if absent:
        listed.problems.append(
            f"{table} leaves out {len(absent)} images ({', '.join(absent[:5])}); fetch it again: it says which show one lesion"
        )
    listed.rows = [Row(r.case, lesion_of.get(r.case) or r.case, r.images, r.masks, r.section) for r in listed.rows]
    return listed


def lungs_reason(root: Path) -> str:
    """Why a folder is Montgomery or Shenzhen; empty where it is neither."""
    if not pictures(root / "CXR_png"):
        return ""
    if (root / "ManualMask").is_dir():
        return "it holds CXR_png/ and ManualMask/, a lung a file, as Montgomery"
    return "it holds CXR_png/ and mask/ with *_mask.png, as Shenzhen" if pictures(root / "mask") else ""


def read_lungs(root: Path) -> Listed:
    """Every radiograph; of Shenzhen those whose lungs were drawn (566 of 662), the others are counted."""
    if (root / "ManualMask").is_dir():
        return listed_by_patterns(root, [LUNG_IMAGES], LUNG_MASKS, ("left lung", "right lung"))
    listed = listed_by_patterns(root, [LUNG_IMAGES], [SHENZHEN_MASKS])
    lonely = [problem for problem in listed.problems if "have no mask" in problem]
    listed.problems = [problem for problem in listed.problems if problem not in lonely]
    listed.notes += [problem.split(";")[0] + ": they are left out (the data set has masks of 566 of 662)" for problem in lonely]
    return listed


def ph2_reason(root: Path) -> str:
    """Why a folder is PH2; empty where it is not."""
    first = next((path for path in inside(root) if (path / f"{path.name}_Dermoscopic_Image").is_dir()), None)
    return f"{first.name}/ holds {first.name}_Dermoscopic_Image and {first.name}_lesion" if first else ""


def read_ph2(root: Path) -> Listed:
    """Every lesion."""
    return listed_by_patterns(root, [PH2_IMAGES], [PH2_MASKS])


def _spelled(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a folder of images and one of masks among these names, as they are spelt, the likeliest first."""
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names), reverse=True):
        spelt[name.lower()].append(name)
    return [pair for i, m in product(IMAGE_FOLDERS, MASK_FOLDERS) for pair in product(spelt[i], spelt[m])]


def _parted(name: str) -> list[tuple[str, str, str]]:
    """What is ``{section}`` in a folder's name such as ``train_images`` or ``Masks-Test``: before, between and after it."""
    found = []
    for word in SECTION_WORDS:
        size = len(word) + 1
        if name.lower().startswith((f"{word}_", f"{word}-")):
            found.append(("{section}" + name[size - 1], name[size:], ""))
        if name.lower().endswith((f"_{word}", f"-{word}")):
            found.append(("", name[:-size], name[-size] + "{section}"))
    return found


def _section_patterns(root: Path) -> tuple[str, str] | None:
    """The folders of images and of masks with ``{section}`` in them, where a data set has such."""
    top = [path.name for path in inside(root) if path.is_dir()]
    words = [name for name in top if name.lower() in SECTION_WORDS]
    for image, mask in _spelled(path.name for word in words for path in inside(root / word)):
        if any(pictures(root / word / image) and (root / word / mask).is_dir() for word in words):
            return f"{{section}}/{image}", f"{{section}}/{mask}"
    for image, mask in _spelled(top):
        if any(path.name.lower() in SECTION_WORDS and pictures(path) for path in inside(root / image)):
            return f"{image}/{{section}}", f"{mask}/{{section}}"
    parted = {form: name for name in top for form in _parted(name)}
    for image, mask in _spelled(form[1] for form in parted):
        for before, between, after in parted:
            if between == image and (before, mask, after) in parted and pictures(root / parted[before, between, after]):
                return f"{before}{image}{after}", f"{before}{mask}{after}"
    for mask, word in product(MASK_FOLDERS, words):
        beside = next((name for name in top if name.lower() == f"{word}_{mask}".lower()), None)
        if beside and pictures(root / word):
            return "{section}", f"{{section}}{beside[len(word) :]}"
    return None


def sections_reason(root: Path) -> str:
    """Why a folder is one of train and test folders; empty where it is not."""
    found = _section_patterns(root)
    return f"its pictures lie in {found[0]}/ and their masks in {found[1]}/" if found else ""


def read_sections(root: Path) -> Listed:
    """Every case, in the section of its folder."""
    images, masks = _section_patterns(root) or ("{section}/images", "{section}/masks")
    named = [path.name for path in (*inside(root), *(below for path in inside(root) for below in inside(path))) if path.is_dir()]
    spelt = {name for word in SECTION_WORDS for name in (word, word.capitalize(), word.upper())}
    words = sorted(spelt | {name for name in named if name.lower() in SECTION_WORDS})
    suffix = suffix_of(*([root / pattern.replace("{section}", word) for word in words] for pattern in (images, masks)))
    drawn = {SECTION_WORDS[word.lower()] for word in words if inside(root / masks.replace("{section}", word))}
    unlabelled = sorted({"train", "validation", "test"} - drawn)
    return listed_by_patterns(root, [f"{images}/{{case}}.*"], [f"{masks}/{{case}}{suffix}.*"], unlabelled=unlabelled)


def folders_reason(root: Path) -> str:
    """Why a folder is one of an image and a mask folder of other names than images and masks; empty where it is not."""
    found = _folders(root)
    return f"it holds the folders {found[0]} and {found[1]}" if found else ""


def _folders(root: Path) -> tuple[str, str] | None:
    for image, mask in _spelled(path.name for path in inside(root) if path.is_dir()):
        if (image, mask) != ("images", "masks") and pictures(root / image) and pictures(root / mask):
            return image, mask
    return None


def read_folders(root: Path, image: str = "", mask: str = "") -> Listed:
    """Every case of the two folders; those that are there where none are named."""
    image, mask = (image, mask) if image else _folders(root) or ("images", "masks")
    suffix = suffix_of([root / image], [root / mask])
    return listed_by_patterns(root, [f"{image}/{{case}}.*"], [f"{mask}/{{case}}{suffix}.*"])


def suffix_of(images: Sequence[Path], masks: Sequence[Path]) -> str:
    """What the name of a mask has more than that of its image, by the suffix that fits most."""
    stems = {bare(path) for folder in images for path in pictures(folder)}
    drawn = {bare(path) for folder in masks for path in inside(folder) if path.is_file()}
    return max(("", *SUFFIXES), key=lambda suffix: len({stem + suffix for stem in stems} & drawn))


def paired_reason(root: Path) -> str:
    """Why a folder is one of pictures with their masks beside them; empty where it is not."""
    found = _paired(root)
    return f"{found[0]} has its mask {found[1]} beside it" if found else ""


def _paired(root: Path) -> tuple[Path, Path, str] | None:
    """The first picture with a mask beside it, in the folder or in those below, and the suffix of the mask."""
    for folder in (root, *(path for path in inside(root) if path.is_dir())):
        files = {bare(path): path for path in inside(folder) if path.is_file() and path.suffix.lower() in (*IMAGE_SUFFIXES, ".gif")}
        for suffix in SUFFIXES:
            for stem, path in files.items():
                if stem + suffix in files and not any(stem.endswith(other) for other in SUFFIXES):
                    return path.relative_to(root), files[stem + suffix].relative_to(root), suffix
    return None


def read_paired(root: Path) -> Listed:
    """Every picture; where they lie in folders, a folder is a patient, unless it is called like a section or a finding."""
    found = _paired(root)
    if found is None:
        return Listed()
    image, _, suffix = found
    if len(image.parts) == 1:
        return listed_by_patterns(root, ["{case}.*"], [f"{{case}}{suffix}.*"])
    folders = [path.name for path in inside(root) if pictures(path)]
    if len(folders) == 1:
        return listed_by_patterns(root, [f"{folders[0]}/{{case}}.*"], [f"{folders[0]}/{{case}}{suffix}.*"])
    if {name.lower() for name in folders} <= SECTION_WORDS.keys():
        return listed_by_patterns(root, ["{section}/{case}.*"], [f"{{section}}/{{case}}{suffix}.*"])
    listed = listed_by_patterns(root, ["{patient}/{case}.*"], [f"{{patient}}/{{case}}{suffix}.*"])
    if len(folders) < LEAST_PATIENTS or {name.lower() for name in folders} & FINDINGS:
        listed.rows = [Row(row.case, row.case, row.images, row.masks) for row in listed.rows]
        listed.notes.append(f"the folders {some(folders)} are not taken for patients: every case is one (a list can say otherwise)")
    else:
        listed.notes.append(f"each of the {len(folders)} folders ({some(folders)}) is taken for a patient")
    return listed
