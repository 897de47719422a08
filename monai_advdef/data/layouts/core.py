"""The folder layouts in which public data sets are distributed: recognised, and listed file by file.

What is known of each layout, and from where, stands in the module of its reader.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_advdef.data.layouts import by_pattern, drishti, isic, jsrt, msd, nnunet, rim_one, totalsegmentator
from monai_advdef.data.layouts.rows import Listed, inside
from monai_advdef.data.layouts.suggestions import suggest
from monai_advdef.data.listing import Entry, Listing
from monai_advdef.data.notes import some
from monai_advdef.data.tasks import Task
from monai_advdef.errors import DataError, nearest


@dataclass(frozen=True)
class Layout:
    """One distributed layout of pictures that has to be decoded.

    ``home`` finds its top folder (known by its ``mark``) at or below a folder, ``read`` lists it;
    ``expected`` is the number of images of each section in
    the complete set (of all sections together under ``""``); ``levels`` are the grey levels a mask may hold, empty for any, and a
    pixel belongs to the structure from ``threshold`` on; ``image_pixels`` reads the images (to ``(height, width)``, 8 bits) where
    they are no image files that could stay as they are.
    """

    name: str
    title: str
    mark: str
    home: Callable[[Path], Path | None]
    read: Callable[[Path], Listing]
    threshold: int
    levels: tuple[int, ...] = ()
    image_pixels: Callable[[Path], np.ndarray] | None = None
    expected: Mapping[str, int] = field(default_factory=dict)

    def remarks(self, entries: Sequence[Entry], stretched: int) -> list[str]:
        """What one should know of the cases found: how many the complete set has, and whose masks were stretched."""
        counts = Counter(entry.section for entry in entries)
        notes = []
        for section, count in self.expected.items():
            found = counts[section] if section else len(entries)
            if found != count:
                notes.append(f"the complete set has {count} {f'{section} images' if section else 'images'}, here are {found}")
        if stretched:
            notes.append(f"the masks of {stretched} cases differ in size from their image by up to 1 % and are stretched to it")
        return notes


@dataclass(frozen=True)
class DirectLayout:
    """One layout that is used where it lies.

    ``reason`` says of a folder why it has this layout (known by its ``mark``), or nothing; ``read`` lists it; ``task`` is what it is
    made for, empty for layouts of any task.
    """

    name: str
    title: str
    mark: str
    reason: Callable[[Path], str]
    read: Callable[[Path], Listed]
    task: str = ""

    def homes(self, folder: Path, depth: int = 2) -> list[Path]:
        """The folder, or those below it (archives often unpack into a folder of their own), that have this layout."""
        if self.reason(folder):
            return [folder]
        below = [path for path in inside(folder) if path.is_dir()] if depth else []
        return [home for path in below for home in self.homes(path, depth - 1)]

    def home(self, folder: Path) -> Path | None:
        """The first of :meth:`homes`."""
        return next(iter(self.homes(folder)), None)

    def listed(self, folder: Path) -> Listed:
        """What the folder holds; several data sets side by side are a problem, for one of them would be lost."""
        homes = self.homes(folder)
        if len(homes) > 1:
            names = ", ".join(str(home.relative_to(folder)) for home in homes[:5])
            return Listed(problems=[f"{folder} holds {len(homes)} data sets ({names}); give one of them"])
        try:
            return self.read(homes[0] if homes else folder)
        except DataError as error:
            return Listed(problems=[str(error)])


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="isic2018",
            title="ISIC 2018 task 1",
            mark="a folder ISIC2018_Task1-2_{Training,Validation,Test}_Input",
            home=isic.ISIC2018.home,
            read=isic.ISIC2018.read,
            threshold=128,
            levels=(0, 255),
            expected={"train": 2594, "validation": 100, "test": 1000},
        ),
        Layout(
            name="isbi2016",
            title="ISBI 2016 part 1",
            mark="a folder ISBI2016_ISIC_Part1_{Training,Test}_Data",
            home=isic.ISBI2016.home,
            read=isic.ISBI2016.read,
            threshold=128,
            levels=(0, 255),
            expected={"train": 900, "test": 379},
        ),
        Layout(
            name="drishti_gs1",
            title="Drishti-GS1",
            mark="Training/Images or Test/Images, with GT or Test_GT beside",
            home=drishti.home,
            read=drishti.read,
            threshold=127,
            levels=drishti.LEVELS,
            expected={"train": 50, "test": 51},
        ),
        Layout(
            name="rim_one_dl",
            title="RIM-ONE DL",
            mark="a folder partitioned_by_hospital or partitioned_randomly",
            home=rim_one.home_dl,
            read=rim_one.read_dl,
            threshold=128,
            expected={"": 485},
        ),
        Layout(
            name="rim_one_r3",
            title="RIM-ONE r3",
            mark="folders Stereo Images in Healthy and in Glaucoma and suspects",
            home=rim_one.home_r3,
            read=rim_one.read_r3,
            threshold=128,
            expected={"": 159},
        ),
        Layout(
            name="jsrt",
            title="JSRT with the SCR masks",
            mark="raw files JPCLN001.IMG and folders fold1/masks, fold2/masks",
            home=jsrt.home,
            read=jsrt.read,
            threshold=128,
            levels=(0, 255),
            image_pixels=jsrt.read_raw,
            expected={"train": 124, "test": 123},
        ),
    )
}


DIRECT: dict[str, DirectLayout] = {
    layout.name: layout
    for layout in (
        DirectLayout("nnunet", "nnU-Net raw", "imagesTr/*_0000.* with labelsTr/ and dataset.json", nnunet.reason, nnunet.read),
        DirectLayout("msd", "Medical Segmentation Decathlon", "imagesTr/, labelsTr/ and dataset.json", msd.reason, msd.read),
        DirectLayout(
            "totalsegmentator",
            "TotalSegmentator",
            "folders with ct.nii.gz and segmentations/",
            totalsegmentator.reason,
            totalsegmentator.read,
        ),
        DirectLayout("ham10000", "HAM10000", "folders HAM10000_images*", by_pattern.ham_reason, by_pattern.read_ham, task="skin"),
        DirectLayout(
            "montgomery",
            "Montgomery or Shenzhen chest radiographs",
            "CXR_png/ with ManualMask/ or mask/",
            by_pattern.lungs_reason,
            by_pattern.read_lungs,
            task="lung",
        ),
        DirectLayout("ph2", "PH2", "folders IMD*/IMD*_Dermoscopic_Image", by_pattern.ph2_reason, by_pattern.read_ph2, task="skin"),
        DirectLayout(
            "sections",
            "train and test folders",
            "train/ and test/ (or images/train, train_images, ...) with images and masks",
            by_pattern.sections_reason,
            by_pattern.read_sections,
        ),
        DirectLayout(
            "folders",
            "a folder of images and one of masks",
            "two folders such as image/ and label/",
            by_pattern.folders_reason,
            by_pattern.read_folders,
        ),
        DirectLayout(
            "paired",
            "pairs in one folder",
            "001.jpg beside 001_mask.png (or _segmentation, _seg, ...)",
            by_pattern.paired_reason,
            by_pattern.read_paired,
        ),
    )
}


def recognise(folder: str | os.PathLike[str]) -> Layout | DirectLayout | None:
    """The layout that ``folder`` has, or ``None``: it is a plain folder, or none that is known."""
    root = Path(folder)
    known = next((layout for layout in LAYOUTS.values() if layout.home(root) is not None), None)
    if known is not None or is_plain(root):
        return known
    return next((layout for layout in DIRECT.values() if layout.home(root) is not None), None)


def is_plain(root: Path) -> bool:
    """Whether pictures lie in ``images/`` and files in ``masks/``."""
    return bool(by_pattern.pictures(root / "images")) and any(path.is_file() for path in inside(root / "masks"))


def find_layout(folder: str | os.PathLike[str], name: str = "") -> Layout | DirectLayout:
    """The layout called ``name``, or the one that ``folder`` has.

    Raises:
        ValueError: unknown ``name``.
        DataError: no such folder, or none of the layouts, saying what was looked for.
    """
    every: dict[str, Layout | DirectLayout] = {**LAYOUTS, **DIRECT}
    if name and name not in every:
        raise ValueError(f"no layout {name!r}; {nearest(name, every)}")
    if not Path(folder).is_dir():
        raise DataError(f"{folder} is not a folder; give the folder into which the archives of the data set were unpacked")
    layout = every[name] if name else recognise(folder)
    if layout is None or layout.home(Path(folder)) is None:
        raise unknown_layout(Path(folder), layout)
    return layout


def unknown_layout(folder: Path, wanted: Layout | DirectLayout | None = None, task: Task | None = None) -> DataError:
    """The error about a folder that has not the layout ``wanted``, or none at all: what was looked for, and how to say it."""
    there = some(sorted(path.name for path in folder.iterdir())) or "nothing"
    every: list[Layout | DirectLayout] = [*LAYOUTS.values(), *DIRECT.values()] if wanted is None else [wanted]
    form = "images/ and masks/" if task is None or task.spatial_dims == 2 else "images/ and labels/, or dicom/"
    form = f"a folder a subject with {', '.join(f'{name}.nii.gz' for name in task.series)}" if task and task.series else form
    return DataError(
        f"{folder} does not look like {wanted.title if wanted else 'any of ' + ', '.join((*LAYOUTS, *DIRECT))} (it holds: {there})"
        + (f", nor is it a folder for {task.name}, with {form}" if task else "")
        + ": "
        + "; ".join(f"{known.name} has {known.mark}" for known in every)
        + f".\nOr say it by patterns: {suggest(folder)}"
    )
