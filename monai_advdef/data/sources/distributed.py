"""The cases of a distributed layout as pairs: files that can stay as they are where they lie, the others decoded into one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_advdef.data.decoding import Case, decode
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.core import Layout
from monai_advdef.data.listing import Entry
from monai_advdef.data.pairs import MASK_TYPES, Pair
from monai_advdef.data.pictures.read import read_picture
from monai_advdef.data.sources.pictures import stored_png
from monai_advdef.errors import DataError


def decoded_pairs(
    layout: Layout, entries: Sequence[Entry], store: Path, *, cups: bool = True, multi: bool = False
) -> tuple[list[Pair], list[str], Counter[tuple[int, int]], int]:
    """A pair an entry, the problems of the others, the sizes in pixels, and how many masks were stretched to their image.

    Args:
        store: gets the pictures and masks that have to be written.
        multi: take the single structures as the label.
    """
    pairs, problems, sizes, stretched = [], [], Counter[tuple[int, int]](), 0
    for entry in entries:
        try:
            case = decode(entry, layout)
            pairs.append(_pair(entry, case, store, cups, multi))
        except DataError as error:
            problems.append(str(error))
            continue
        stretched += case.stretched
        sizes[_size(case)] += 1
    return pairs, problems, sizes, stretched


def _size(case: Case) -> tuple[int, int]:
    left, top, right, bottom = case.box
    return right - left, bottom - top


def _pair(entry: Entry, case: Case, store: Path, cups: bool, multi: bool) -> Pair:
    if multi and case.multi is None:
        raise DataError(f"{entry.image} has no masks of the single structures; leave multi at false, or unpack them too")
    image = entry.image if case.pixels is None else stored_png(case.pixels, entry.case, store)
    if case.pixels is None and image_size(entry.image) != _size(case):
        left, top, right, bottom = case.box
        pixels = read_picture(entry.image)[top:bottom, left:right]
        image = stored_png(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), entry.case, store)
    files = [
        path if kept and path.suffix.lower() in MASK_TYPES else stored_png(np.ascontiguousarray(mask), entry.case, store)
        for path, mask, kept in zip([path for path in (entry.mask, entry.cup) if path], case.masks, case.kept)
    ]
    label = stored_png(case.multi, entry.case, store) if multi and case.multi is not None else files[0]
    pair = {"image": str(image), "label": str(label), "case": entry.case, "patient": entry.patient}
    pair |= {"cup": str(files[1])} if cups and entry.cup is not None else {}
    return pair | ({"diagnosis": entry.diagnosis} if entry.diagnosis else {})
