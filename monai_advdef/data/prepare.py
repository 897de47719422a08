"""Converting a distributed data set into ``images/``, ``masks/`` and what goes with them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.checking import Report, listing_report
from monai_advdef.data.decoding import Case, decode
from monai_advdef.data.image_files import image_size
from monai_advdef.data.layouts.core import find_layout
from monai_advdef.data.listing import Entry
from monai_advdef.data.notes import noted
from monai_advdef.data.pairs import Pair
from monai_advdef.data.pictures.read import read_picture
from monai_advdef.data.splits import section_of_patients
from monai_advdef.errors import DataError

FRACTIONS = (0.6125, 0.0875, 0.30)
WITHIN_TRAINING = (0.875, 0.125, 0.0)  # where the data set has a test part but no validation part: the same proportion of the two


def prepare(source: str | os.PathLike[str], target: str | os.PathLike[str], *, layout: str = "") -> Report:
    """Convert a distributed data set into ``target/images``, ``masks``, ``masks_cup``, ``masks_multi``, ``labels.csv`` and
    ``split.csv``.

    Files that can stay as they are are hard-linked (copied where that is not possible). The official sections are kept; where there
    is no validation part, one eighth of the training part becomes it; where there are none, the sections are those of
    :func:`split_pairs`, by patient. ``target`` appears when it is complete.

    Raises:
        ValueError: unknown ``layout``.
        DataError: ``target`` is not empty, or the first problems that :func:`check_folder` would report.
    """
    goal = Path(target)
    if goal.is_file() or (goal.is_dir() and any(goal.iterdir())):
        raise DataError(f"{goal} exists and is not an empty folder; name a new one")
    chosen = find_layout(source, layout)
    with noted() as notes:
        listing = chosen.read(Path(source))
    listing.notes += notes
    if listing.problems or not listing.entries:
        problems = "; ".join(listing.problems[:3]) or "it holds no image"
        raise DataError(f"{source} cannot be used as {chosen.title}: {problems}; monai-advdef check {source} lists all problems")
    goal.parent.mkdir(parents=True, exist_ok=True)
    partial = goal.with_name(f".{goal.name}.{os.getpid()}")
    sizes: Counter[tuple[int, int]] = Counter()
    stretched = 0
    try:
        for entry in listing.entries:
            case = decode(entry, chosen)
            _write(entry, case, partial)
            stretched += case.stretched
            sizes[(case.box[2] - case.box[0], case.box[3] - case.box[1])] += 1
        _write_tables(listing.entries, partial)
        partial.replace(goal)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return listing_report(chosen, listing, sizes, stretched)


def _write(entry: Entry, case: Case, root: Path) -> None:
    """The files of one case: linked where the pixels stay, written where not."""
    whole = case.pixels is None and image_size(entry.image) == (case.box[2] - case.box[0], case.box[3] - case.box[1])
    picture = root / "images" / f"{entry.case}{entry.image.suffix.lower() if whole else '.png'}"
    picture.parent.mkdir(parents=True, exist_ok=True)
    if case.pixels is not None:
        Image.fromarray(case.pixels).save(picture)
    elif whole:
        _link(entry.image, picture)
    else:
        left, top, right, bottom = case.box
        pixels = read_picture(entry.image)[top:bottom, left:right]
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(picture)
    for source, folder, pixels, kept in zip((entry.mask, entry.cup), ("masks", "masks_cup"), case.masks, case.kept):
        path = root / folder / f"{entry.case}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kept and source is not None and source.suffix.lower() == ".png":
            _link(source, path)
        else:
            Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    if case.multi is not None:
        path = root / "masks_multi" / f"{entry.case}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(case.multi).save(path)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _write_tables(entries: Sequence[Entry], root: Path) -> None:
    pairs: list[Pair] = [{"case": entry.case, "patient": entry.patient} for entry in entries]
    if all(entry.diagnosis for entry in entries):
        pairs = [{**pair, "diagnosis": entry.diagnosis} for pair, entry in zip(pairs, entries)]
        labels = [f"{pair['case']},{pair['diagnosis']}" for pair in pairs]
        (root / "labels.csv").write_text("\n".join(["image,diagnosis", *labels]) + "\n", encoding="utf-8")
    sections = _sections(entries, pairs)
    rows = [f"{pair['case']},{section},{pair['patient']}" for pair, section in zip(pairs, sections)]
    (root / "split.csv").write_text("\n".join(["case,section,patient", *rows]) + "\n", encoding="utf-8")


def _sections(entries: Sequence[Entry], pairs: Sequence[Pair]) -> list[str]:
    """The section of every entry, official where the data set has at least a training and a test part."""
    official = {entry.section for entry in entries}
    if not {"train", "test"} <= official:
        where_of = section_of_patients(pairs, FRACTIONS)
        return [where_of[pair["patient"]] for pair in pairs]
    if "validation" in official:
        return [entry.section for entry in entries]
    training = [pair for pair, entry in zip(pairs, entries) if entry.section == "train"]
    where_of = section_of_patients(training, WITHIN_TRAINING)
    return ["test" if entry.section == "test" else where_of[pair["patient"]] for pair, entry in zip(pairs, entries)]
