"""Drishti-GS1 (Aravind Eye Hospital; 101 images, four experts) as it is distributed.

::

    Drishti-GS1_files/
        Training/Images/drishtiGS_002.png            50 images; in some copies below Images/{GLAUCOMA,NORMAL}/
        Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_{ODsegSoftmap,cupsegSoftmap}.png
        Test/Images/drishtiGS_001.png                51 images
        Test/Test_GT/drishtiGS_001/SoftMap/...       in some copies Test/GT
        Drishti-GS1_diagnosis.xlsx                   columns "Drishti-GS File" and "Total" (Normal, Glaucomatous)

The folder and file names, the two columns and the 50 and 51 images were compared with several public loaders, which agree; copies
differ in the points marked, in how many folders stand around, and in where the spreadsheet is. A soft map holds the number of
experts who drew a pixel, times a quarter of 255: 0, 64, 128, 191, 255 (some tools write 63 and 127). A pixel belongs to the
structure here from two of four experts on. One public loader found soft maps a few pixels smaller than their image: up to 1 % of the
size, they are stretched to it (nearest neighbour), more is an error.
"""

from __future__ import annotations

from pathlib import Path

from monai_advdef.data.cells import lines_of
from monai_advdef.data.listing import Entry, Listing, first_below, images_in
from monai_advdef.errors import DataError

LEVELS = (0, 63, 64, 127, 128, 191, 255)
PARTS = {"Training": "train", "Test": "test"}
TABLE = "Drishti-GS1_diagnosis"
WORDS = {"normal": "normal", "glaucomatous": "glaucoma", "glaucoma": "glaucoma"}


def _has_part(path: Path) -> bool:
    return any((path / part / "Images").is_dir() and _truth(path / part) is not None for part in PARTS)


def _truth(part: Path) -> Path | None:
    return next((part / name for name in ("GT", "Test_GT") if (part / name).is_dir()), None)


def home(folder: Path) -> Path | None:
    """The folder that holds ``Training`` or ``Test``."""
    return first_below(folder, _has_part)


def read(folder: Path) -> Listing:
    """Every case of both parts, with its diagnosis from the spreadsheet or the folder of its class."""
    listing, root = Listing(), home(folder) or folder
    diagnosis_of = _diagnoses(root, listing)
    for part, section in PARTS.items():
        images, truth = root / part / "Images", _truth(root / part)
        if not images.is_dir():
            listing.notes.append(f"no {images}: there will be no official {section} section")
            continue
        if truth is None:
            listing.problems.append(f"{root / part} has no folder GT or Test_GT; unpack the ground truth there")
            continue
        classes = sorted(path for path in images.iterdir() if path.is_dir() and path.name.lower() in WORDS)
        for image in [path for place in (images, *classes) for path in images_in(place)]:
            maps = truth / image.stem / "SoftMap"
            diagnosis = diagnosis_of.get(image.stem) or WORDS.get(image.parent.name.lower(), "")
            disc, cup = (maps / f"{image.stem}_{kind}segSoftmap.png" for kind in ("OD", "cup"))
            listing.add(Entry(image.stem, image.stem, image, disc, cup, diagnosis, section))
    without = [entry.case for entry in listing.entries if not entry.diagnosis]
    if without:
        text = f"{len(without)} of {len(listing.entries)} images have no diagnosis ({', '.join(without[:5])})"
        if len(without) < len(listing.entries):
            listing.problems.append(f"{text}; complete {TABLE}.xlsx, or sort all images into GLAUCOMA and NORMAL")
        else:
            listing.notes.append(f"{text}: put {TABLE}.xlsx beside Training and Test if the diagnosis is wanted")
    return listing


def _diagnoses(root: Path, listing: Listing) -> dict[str, str]:
    """The diagnosis of each case by the spreadsheet (or the same saved as CSV) in ``root`` or a folder around it."""
    places = [place / f"{TABLE}{kind}" for place in (root, *list(root.parents)[:2]) for kind in (".xlsx", ".csv")]
    table = next((path for path in places if path.is_file()), None)
    if table is None:
        return {}
    try:
        rows = [cells for _, cells in lines_of(table)]
    except DataError as error:
        listing.problems.append(str(error))
        return {}
    head = next((place for place, row in enumerate(rows) if {"Drishti-GS File", "Total"} <= set(row)), None)
    if head is None:
        listing.problems.append(f"{table} has no row with the column names 'Drishti-GS File' and 'Total'; take the original file")
        return {}
    name, word = rows[head].index("Drishti-GS File"), rows[head].index("Total")
    found = {}
    for row in rows[head + 1 :]:
        case = row[name].strip().strip("'").removesuffix(".png") if len(row) > max(name, word) else ""
        if case:
            diagnosis = WORDS.get(row[word].strip().lower())
            if diagnosis is None:
                listing.problems.append(f"{table}: {case} has the diagnosis {row[word]!r}; known: Normal, Glaucomatous")
            else:
                found[case] = diagnosis
    return found
