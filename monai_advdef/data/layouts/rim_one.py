"""RIM-ONE DL and RIM-ONE r3 (University of La Laguna) as they are distributed.

RIM-ONE DL, 485 square pictures around the disc; images and reference segmentations are two archives::

    RIM-ONE_DL_images/partitioned_{by_hospital,randomly}/{training_set,test_set}/{glaucoma,normal}/r1_Im001.png
    RIM-ONE_DL_reference_segmentations/{glaucoma,normal}/r1_Im001-1-{Disc,Cup}-T.png

RIM-ONE r3, 159 stereo pairs, two views side by side in one picture::

    {Healthy,Glaucoma and suspects}/Stereo Images/N-1-L.jpg
    {Healthy,Glaucoma and suspects}/Average_masks/N-1-L-{Disc,Cup}-Avg.png

These names were compared with several public loaders, which agree. Not verified on the files themselves: the grey levels of the
masks (any are taken, a pixel belongs to the structure from half of 255 on), and on which view of r3 the masks lie (public loaders
disagree: here it is the half in which the disc mask is, and a mask on both is an error). RIM-ONE r1 and r2, and other repackaged
copies, are not supported. Suspects of r3 count as glaucoma, since the data set does not keep them apart by folder.
"""

from __future__ import annotations

from pathlib import Path

from monai_advdef.data.listing import Entry, Listing, first_below, images_in

PARTITIONS = ("partitioned_by_hospital", "partitioned_randomly")
SETS = {"training_set": "train", "test_set": "test"}
SEGMENTATIONS = "RIM-ONE_DL_reference_segmentations"
CLASSES_R3 = {"Healthy": "normal", "Glaucoma and suspects": "glaucoma"}


def home_dl(folder: Path) -> Path | None:
    """The folder that holds one of the two partitions."""
    return first_below(folder, lambda path: any((path / partition).is_dir() for partition in PARTITIONS))


def read_dl(folder: Path) -> Listing:
    """Every case of the partition by hospital (of the random one, where that is absent)."""
    listing, root = Listing(), home_dl(folder) or folder
    partition = next((root / name for name in PARTITIONS if (root / name).is_dir()), root / PARTITIONS[0])
    masks = next((m for m in (root.parent / SEGMENTATIONS, root / SEGMENTATIONS) if m.is_dir()), None)
    if masks is None:
        listing.problems.append(
            f"no {SEGMENTATIONS} beside or in {root}; the masks of RIM-ONE DL are an archive of their own: unpack it there"
        )
        return listing
    for name, section in SETS.items():
        if not (partition / name).is_dir():
            listing.problems.append(f"{partition} has no folder {name}; unpack the images again")
        for diagnosis in ("glaucoma", "normal"):
            for image in images_in(partition / name / diagnosis):
                disc, cup = (masks / diagnosis / f"{image.stem}-1-{kind}-T.png" for kind in ("Disc", "Cup"))
                listing.add(Entry(image.stem, image.stem, image, disc, cup, diagnosis, section))
    listing.notes.append(f"the official sections are those of {partition.name}")
    return listing


def home_r3(folder: Path) -> Path | None:
    """The folder that holds the classes."""
    return first_below(folder, lambda path: any((path / name / "Stereo Images").is_dir() for name in CLASSES_R3))


def read_r3(folder: Path) -> Listing:
    """Every stereo picture, with the average of the two experts; the two eyes of a person are one patient."""
    listing, root = Listing(), home_r3(folder) or folder
    for name, diagnosis in CLASSES_R3.items():
        images, masks = root / name / "Stereo Images", root / name / "Average_masks"
        for part in (images, masks):
            if not part.is_dir():
                listing.problems.append(f"{root / name} has no folder {part.name!r}; unpack the archive again")
        if not masks.is_dir():
            continue
        for image in images_in(images):
            disc, cup = (masks / f"{image.stem}-{kind}-Avg.png" for kind in ("Disc", "Cup"))
            patient = image.stem.rsplit("-", 1)[0] if image.stem.endswith(("-L", "-R")) else image.stem
            listing.add(Entry(image.stem, patient, image, disc, cup, diagnosis, half=True))
    listing.notes.append("suspects count as glaucoma: the data set keeps them in one folder")
    return listing
