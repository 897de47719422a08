"""Image and mask files of a data-set folder: found, checked, and split into train, validation and test."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from monai_advdef.data.errors import DataError, nearest
from monai_advdef.data.image_files import check_pair

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MASK_TYPES = (".png", ".bmp", ".tif", ".tiff")
SECTIONS = ("train", "validation", "test")

Pair = dict[str, str]


def image_mask_pairs(
    dataset_dir: str | os.PathLike[str],
    *,
    images: str = "images",
    masks: str = "masks",
    suffixes: Sequence[str] = ("", "_segmentation"),
    classes: int = 2,
    check: bool = True,
) -> list[Pair]:
    """The pairs of ``dataset_dir/images`` and ``dataset_dir/masks``, a mask called as its image, plus one of ``suffixes``.

    ``"_segmentation"`` is how the ISIC archive names its masks. Files of other kinds, and masks without an image, are left aside.

    Args:
        classes: how many classes a mask may name, background included.
        check: open every file (see :func:`check_pair`), some milliseconds a pair; ``False`` for a large data set checked before.

    Returns:
        Dictionaries ``{"image": path, "label": path, "case": base name, "patient": base name}``, sorted by case.

    Raises:
        DataError: no folder, no image, an image without a mask, two images of one name, or what :func:`check_pair` finds.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(dataset_dir)!r} is not a folder; give the folder that holds {images}/ and {masks}/")
    pictures, drawings = _files(root, images, IMAGE_TYPES), _files(root, masks, MASK_TYPES)
    cases = Counter(path.stem for path in pictures)
    twice = sorted(case for case, count in cases.items() if count > 1)
    if twice:
        raise DataError(f"{root / images} holds more than one image named {twice[0]!r}; keep one file per case")
    mask_of = {path.stem: path for path in drawings}
    pairs, lonely = [], []
    for picture in pictures:
        mask = next((mask_of[picture.stem + suffix] for suffix in suffixes if picture.stem + suffix in mask_of), None)
        if mask is None:
            lonely.append(picture.name)
        else:
            pairs.append({"image": str(picture), "label": str(mask), "case": picture.stem, "patient": picture.stem})
    if lonely:
        names = ", ".join(lonely[:5]) + (", ..." if len(lonely) > 5 else "")
        raise DataError(
            f"{len(lonely)} of {len(pictures)} images in {root / images} have no mask in {root / masks}: {names}; "
            f"a mask is called as its image, plus one of {list(suffixes)}, and is a {', '.join(MASK_TYPES)} file "
            "(JPEG does not keep labels); add the masks or move the images away"
        )
    if check:
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(check_pair, classes=classes), pairs))
    return pairs


def _files(root: Path, name: str, types: Sequence[str]) -> list[Path]:
    """The files of these types in ``root/name``, sorted by case; an error that says what was found instead if there are none."""
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder {name!r} (it holds: {there}); put the files into {folder}, or name their folder")
    entries = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    files = sorted((path for path in entries if path.suffix.lower() in types), key=lambda path: path.stem)
    if not files:
        kinds = Counter(path.suffix.lower() or "no extension" for path in entries)
        there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no file"
        raise DataError(f"no {', '.join(types)} file in {folder} (it holds: {there}); put the files there, or name their folder")
    return files


def split_pairs(
    pairs: Sequence[Pair],
    section: str,
    *,
    split_file: str | os.PathLike[str] | None = None,
    fractions: Sequence[float] = (0.6125, 0.0875, 0.30),
    seed: int = 0,
) -> list[Pair]:
    """The pairs of one section: ``"train"``, ``"validation"`` or ``"test"``.

    Where the data set says how it is split, that holds: a file with the columns ``case,section`` and optionally ``patient``
    (default: the ``split.csv`` in the folder above the images, if there is one). Otherwise the SHA-256 of seed and patient decides,
    so that neither the other cases nor their order move a case, and ``fractions`` are met on average.

    Raises:
        ValueError: unknown section, or fractions that are not three shares with the sum 1.
        DataError: an empty section, or a split file with an unknown, missing or doubled case, a wrong section word, or one patient
            on two sides.
    """
    if section not in SECTIONS:
        raise ValueError(f"no section {section!r}; {nearest(section, SECTIONS)}")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be three shares (train, validation, test) with the sum 1, got {list(fractions)}")
    if not pairs:
        raise DataError("there are no pairs to split; check dataset_dir")
    beside = Path(pairs[0]["image"]).parent.parent / "split.csv"
    table = Path(split_file) if split_file is not None else beside
    if split_file is not None or beside.exists():
        chosen = _read_split(table, pairs)
    else:
        chosen = [(pair, _hashed_section(pair["patient"], fractions, seed)) for pair in pairs]
    picked = [pair for pair, where in chosen if where == section]
    if not picked:
        raise DataError(
            f"the section {section!r} of the {len(pairs)} cases is empty; write a split.csv with the columns case,section into "
            f"{beside.parent} that names the cases of {', '.join(SECTIONS)}"
        )
    return picked


def _hashed_section(patient: str, fractions: Sequence[float], seed: int) -> str:
    """The section of a patient: where its hash, as a number in [0, 1), falls among the fractions."""
    place = int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2**64
    if place < fractions[0]:
        return "train"
    return "validation" if place < fractions[0] + fractions[1] else "test"


def _read_split(path: Path, pairs: Sequence[Pair]) -> list[tuple[Pair, str]]:
    """Every pair with the section (and patient) that the file gives it."""
    if not path.is_file():
        raise DataError(f"split file {path} does not exist; write one with the columns case,section, or leave split_file away")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if not {"case", "section"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path} has the columns {reader.fieldnames}; it needs case,section (and may have patient)")
        rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    known = {pair["case"] for pair in pairs}
    listed: dict[str, tuple[str, str]] = {}
    sides: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        case, where = row["case"], row["section"]
        patient = row.get("patient") or case
        if case not in known:
            raise DataError(f"{path}, line {line}: no image is called {case!r}; {nearest(case, known)}")
        if where not in SECTIONS:
            raise DataError(f"{path}, line {line}: no section {where!r}; {nearest(where, SECTIONS)}")
        if case in listed:
            raise DataError(f"{path}, line {line}: the case {case!r} stands there twice; keep one line per case")
        if sides.setdefault(patient, where) != where:
            raise DataError(
                f"{path}, line {line}: patient {patient!r} is in {sides[patient]} and in {where}; keep a patient on one side"
            )
        listed[case] = (patient, where)
    missing = sorted(known - listed.keys())
    if missing:
        raise DataError(
            f"{path} leaves out {len(missing)} cases ({', '.join(missing[:5])}); give each a section, or remove its files"
        )
    return [({**pair, "patient": listed[pair["case"]][0]}, listed[pair["case"]][1]) for pair in pairs]
