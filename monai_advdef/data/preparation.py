"""Converting a distributed data set into ``images/``, ``masks/`` and what goes with them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_advdef.data.decoding import Case, decode
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.core import Layout, find_layout, is_plain
from monai_advdef.data.listing import Entry
from monai_advdef.data.notes import noted
from monai_advdef.data.pairs import Pair
from monai_advdef.data.pictures.read import read_picture
from monai_advdef.data.prepare_listed import link, prepare_listed, write_tables
from monai_advdef.data.sections import Sections, sections_of
from monai_advdef.data.sources.collect import with_tables
from monai_advdef.data.sources.find import Patterns, Source, find_source
from monai_advdef.data.sources.report import Report, listing_report
from monai_advdef.data.tasks import find_task
from monai_advdef.errors import DataError
from monai_advdef.switches import as_written


@as_written
def prepare(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    layout: str = "",
    task: str = "",
    images: Patterns = None,
    masks: Patterns = None,
    values: Any = None,
    multi: bool = False,
) -> Report:
    """Convert a data set into ``target/images``, ``masks``, ``masks_cup``, ``masks_multi``, ``labels.csv`` and ``split.csv``; CT
    volumes into ``images``, ``labels`` and ``labels.json``, gliomas into a folder a subject.

    Files that can stay as they are are hard-linked (copied where that is not possible). The official sections are kept, see
    :func:`sections_of`. ``target`` appears when it is complete.

    Args:
        layout, task, images, masks, values, multi: as :func:`check_folder` takes them.

    Raises:
        ValueError: unknown ``layout`` or ``task``, patterns or values that are none.
        DataError: ``target`` is not empty, or the first problems that :func:`check_folder` would report.
    """
    goal = Path(target)
    if goal.is_file() or (goal.is_dir() and any(goal.iterdir())):
        raise DataError(f"{goal} exists and is not an empty folder; name a new one")
    if images or masks or values or Path(source).is_file():
        found = find_source(source, images=images, masks=masks, values=values, task=task, multi=multi)
    else:
        if not layout and is_plain(Path(source)):
            raise DataError(f"{source} holds images/ and masks/ already; give it as dataset_dir")
        found = find_source(source, layout=find_layout(source, layout).name, task=task)
        if found.layout is not None:
            return _prepare_distributed(found, goal, found.layout)
    with _new_folder(goal) as partial:
        return prepare_listed(found, partial, task=task, values=values, multi=multi)


@contextmanager
def _new_folder(goal: Path) -> Iterator[Path]:
    """A folder beside ``goal`` that becomes it if all goes well, and is removed otherwise."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    partial = goal.with_name(f".{goal.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(goal)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _prepare_distributed(source: Source, goal: Path, chosen: Layout) -> Report:
    with noted() as notes:
        listing = chosen.read(source.root)
    listing.notes += notes
    if listing.problems or not listing.entries:
        problems = "; ".join(listing.problems[:3]) or "it holds no image"
        raise DataError(
            f"{source.root} cannot be used as {chosen.title}: {problems}; monai-advdef check {source.root} lists all problems"
        )
    sizes: Counter[tuple[int, int]] = Counter()
    stretched = 0
    with _new_folder(goal) as partial:
        for entry in listing.entries:
            case = decode(entry, chosen)
            _write(entry, case, partial)
            stretched += case.stretched
            sizes[(case.box[2] - case.box[0], case.box[3] - case.box[1])] += 1
        write_tables(_sections(source, listing.entries), partial)
    return listing_report(chosen, listing, sizes, stretched)


def _write(entry: Entry, case: Case, root: Path) -> None:
    """The files of one case: linked where the pixels stay, written where not."""
    whole = case.pixels is None and image_size(entry.image) == (case.box[2] - case.box[0], case.box[3] - case.box[1])
    picture = root / "images" / f"{entry.case}{entry.image.suffix.lower() if whole else '.png'}"
    picture.parent.mkdir(parents=True, exist_ok=True)
    if case.pixels is not None:
        Image.fromarray(case.pixels).save(picture)
    elif whole:
        link(entry.image, picture)
    else:
        left, top, right, bottom = case.box
        pixels = read_picture(entry.image)[top:bottom, left:right]
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(picture)
    for source, folder, pixels, kept in zip((entry.mask, entry.cup), ("masks", "masks_cup"), case.masks, case.kept):
        path = root / folder / f"{entry.case}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kept and source is not None and source.suffix.lower() == ".png":
            link(source, path)
        else:
            Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    if case.multi is not None:
        path = root / "masks_multi" / f"{entry.case}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(case.multi).save(path)


def _sections(source: Source, entries: Sequence[Entry]) -> Sections:
    """The entries by section, as the loaders would have them."""
    about = find_task(source.task)
    pairs: list[Pair] = [
        {"image": str(entry.image), "case": entry.case, "patient": entry.patient}
        | ({"diagnosis": entry.diagnosis} if entry.diagnosis else {})
        for entry in entries
    ]
    official = {entry.case: entry.section for entry in entries if entry.section}
    return sections_of(with_tables(source, pairs, about), about.split, official=official, split_file=source.split_file)
