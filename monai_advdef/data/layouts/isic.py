"""Lesion segmentation challenges as the ISIC archive distributes them: ISIC 2018 task 1 and ISBI 2016 part 1.

::

    ISIC2018_Task1-2_{Training,Validation,Test}_Input/ISIC_0000000.jpg       (and ATTRIBUTION.txt, LICENSE.txt)
    ISIC2018_Task1_{Training,Validation,Test}_GroundTruth/ISIC_0000000_segmentation.png   (0 and 255)

    ISBI2016_ISIC_Part1_{Training,Test}_Data/ISIC_0000000.jpg
    ISBI2016_ISIC_Part1_{Training,Test}_GroundTruth/ISIC_0000000_Segmentation.png         (0 and 255)

The folder names and the 2594, 100 and 1000 images of 2018 and the 900 and 379 of 2016 are those of the challenge pages and agree
with public loaders; some copies have a folder twice, one inside the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_advdef.data.listing import Entry, Listing, first_below, images_in

SUPERPIXELS = "_superpixels"  # what the archive calls the pictures of them that lie among the images


@dataclass(frozen=True)
class Challenge:
    """The folder names of one challenge, with ``{part}`` for a key of ``parts``, whose values are the sections.

    A mask is called as its image, plus ``suffix``.
    """

    images: str
    masks: str
    suffix: str
    parts: Mapping[str, str]

    def home(self, folder: Path) -> Path | None:
        """The folder that holds the image folders."""
        return first_below(folder, lambda path: any((path / self.images.format(part=part)).is_dir() for part in self.parts))

    def read(self, folder: Path) -> Listing:
        """Every case of all parts; a part that is absent altogether is only noted."""
        listing, root = Listing(), self.home(folder) or folder
        for part, section in self.parts.items():
            outer, masks = root / self.images.format(part=part), root / self.masks.format(part=part)
            if not outer.is_dir():
                listing.notes.append(f"no {outer.name}: there will be no official {section} section")
                continue
            images = outer / outer.name if (outer / outer.name).is_dir() else outer
            masks = masks / masks.name if (masks / masks.name).is_dir() else masks
            if not masks.is_dir():
                listing.problems.append(f"{outer} has no ground truth beside it; unpack {masks.name} into {root}")
                continue
            found = images_in(images)
            pictures = [image for image in found if not image.stem.endswith(SUPERPIXELS)]
            if len(pictures) < len(found):
                listing.notes.append(f"{len(found) - len(pictures)} pictures of superpixels in {images} are left aside")
            for image in pictures:
                mask = masks / f"{image.stem}{self.suffix}.png"
                listing.add(Entry(image.stem, image.stem, image, mask, section=section))
        return listing


ISIC2018 = Challenge(
    images="ISIC2018_Task1-2_{part}_Input",
    masks="ISIC2018_Task1_{part}_GroundTruth",
    suffix="_segmentation",
    parts={"Training": "train", "Validation": "validation", "Test": "test"},
)
ISBI2016 = Challenge(
    images="ISBI2016_ISIC_Part1_{part}_Data",
    masks="ISBI2016_ISIC_Part1_{part}_GroundTruth",
    suffix="_Segmentation",
    parts={"Training": "train", "Test": "test"},
)
