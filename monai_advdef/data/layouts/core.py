"""The folder layouts in which public data sets are distributed: recognised, and listed file by file.

What is known of each layout, and from where, stands in the module of its reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_advdef.data.layouts import drishti, isic, jsrt, rim_one
from monai_advdef.data.listing import Listing
from monai_advdef.errors import DataError, nearest


@dataclass(frozen=True)
class Layout:
    """One distributed layout.

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


def recognise(folder: str | os.PathLike[str]) -> Layout | None:
    """The distributed layout that ``folder`` has, or ``None``."""
    return next((layout for layout in LAYOUTS.values() if layout.home(Path(folder)) is not None), None)


def find_layout(folder: str | os.PathLike[str], name: str = "") -> Layout:
    """The layout called ``name``, or the one that ``folder`` has.

    Raises:
        ValueError: unknown ``name``.
        DataError: no such folder, or none of the layouts, saying what was looked for.
    """
    if name and name not in LAYOUTS:
        raise ValueError(f"no layout {name!r}; {nearest(name, LAYOUTS)}")
    if not Path(folder).is_dir():
        raise DataError(f"{folder} is not a folder; give the folder into which the archives of the data set were unpacked")
    layout = LAYOUTS[name] if name else recognise(folder)
    if layout is None or layout.home(Path(folder)) is None:
        there = ", ".join(sorted(path.name for path in Path(folder).iterdir())[:5]) or "nothing"
        raise DataError(
            f"{folder} does not look like {layout.title if layout else 'any of ' + ', '.join(LAYOUTS)} (it holds: {there}): "
            + "; ".join(f"{known.name} has {known.mark}" for known in ([layout] if layout else LAYOUTS.values()))
        )
    return layout
