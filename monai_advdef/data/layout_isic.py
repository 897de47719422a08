"""ISIC 2018 task 1 (lesion boundary segmentation) as the ISIC archive distributes it.

::

    ISIC2018_Task1-2_{Training,Validation,Test}_Input/ISIC_0000000.jpg       (and ATTRIBUTION.txt, LICENSE.txt)
    ISIC2018_Task1_{Training,Validation,Test}_GroundTruth/ISIC_0000000_segmentation.png   (0 and 255)

The folder names and the 2594, 100 and 1000 images are those of the challenge page and agree with public loaders; some copies have
the folder twice, one inside the other.
"""

from __future__ import annotations

from pathlib import Path

from monai_advdef.data.listing import Entry, Listing, first_below, images_in

PARTS = {"Training": "train", "Validation": "validation", "Test": "test"}


def _images(part: str) -> str:
    return f"ISIC2018_Task1-2_{part}_Input"


def home(folder: Path) -> Path | None:
    """The folder that holds the image folders."""
    return first_below(folder, lambda path: any((path / _images(part)).is_dir() for part in PARTS))


def read(folder: Path) -> Listing:
    """Every case of the three parts; a part that is absent altogether is only noted."""
    listing, root = Listing(), home(folder) or folder
    for part, section in PARTS.items():
        outer, masks = root / _images(part), root / f"ISIC2018_Task1_{part}_GroundTruth"
        if not outer.is_dir():
            listing.notes.append(f"no {outer.name}: there will be no official {section} section")
            continue
        images = outer / outer.name if (outer / outer.name).is_dir() else outer
        masks = masks / masks.name if (masks / masks.name).is_dir() else masks
        if not masks.is_dir():
            listing.problems.append(f"{outer} has no ground truth beside it; unpack {masks.name} into {root}")
            continue
        for image in images_in(images):
            mask = masks / f"{image.stem}_segmentation.png"
            listing.add(Entry(image.stem, image.stem, image, mask, section=section))
    return listing
