"""Image and mask files of a data-set folder: found and checked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from monai_advdef.data.image_files import inspect_pair
from monai_advdef.data.layouts.suggestions import ENDINGS, in_patterns
from monai_advdef.data.listing import IMAGE_SUFFIXES, Found, files_in, normal, require_content, tell_twins
from monai_advdef.data.notes import note, some
from monai_advdef.errors import DataError

IMAGE_TYPES = IMAGE_SUFFIXES
MASK_TYPES = (".png", ".bmp", ".tif", ".tiff")

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

    ``"_segmentation"`` is how the ISIC archive names its masks. Names are compared in one Unicode form (NFC), which is that of
    ``case``; a mask whose name differs in capitals only is taken where no other can be meant. That, files of other kinds, and masks
    without an image are told, see :func:`note`.

    Args:
        classes: how many classes a mask may name, background included.
        check: open every file (see :func:`check_pair`), some milliseconds a pair; ``False`` for a large data set checked before.

    Returns:
        Dictionaries ``{"image": path, "label": path, "case": base name, "patient": base name}``, sorted by case.

    Raises:
        DataError: no folder, no image, links to nothing, an image without a mask or with two, two images of one name, or what
            :func:`check_pair` finds.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(dataset_dir)!r} is not a folder; give the folder that holds {images}/ and {masks}/")
    pictures, drawings = _found(root, images, IMAGE_TYPES), _found(root, masks, MASK_TYPES)
    require_content(pictures.lost + drawings.lost)
    by_case = single(pictures.use())
    mask_of = _masks(by_case, drawings.use(), suffixes)
    pairs, lonely = [], []
    for case, picture in by_case.items():
        if case in mask_of:
            pairs.append({"image": str(picture), "label": str(mask_of[case]), "case": case, "patient": case})
        else:
            lonely.append(picture.name)
    if lonely:
        hint = f", or say by patterns what masks are called{in_patterns(root)}" if not pairs else ""
        raise DataError(
            f"{len(lonely)} of {len(by_case)} images in {root / images} have no mask in {root / masks}: {some(lonely)}; "
            f"a mask is called as its image, plus one of {list(suffixes)}, and is a {', '.join(MASK_TYPES)} file "
            f"(JPEG does not keep labels); add the masks or move the images away{hint}"
        )
    taken = set(mask_of.values())
    idle = [path.name for path in drawings.files if path not in taken]
    if idle:
        note(f"{len(idle)} of {len(drawings.files)} masks in {root / masks} have no image and are left aside: {some(idle)}")
    if check:
        _inspect(pairs, classes)
    return pairs


def single(files: Iterable[Path], remedy: str = "keep one file per case") -> dict[str, Path]:
    """The files by case, the base name in one Unicode form; a :class:`DataError` where two share one."""
    found: dict[str, Path] = {}
    for path in files:
        case = normal(path.stem)
        if case in found:
            home = Path(os.path.commonpath([path.parent, found[case].parent]))
            names = ", ".join(str(file.relative_to(home)) for file in (found[case], path))
            raise DataError(f"{home} holds more than one image named {case!r} ({names}); {remedy}")
        found[case] = path
    return found


def _masks(by_case: dict[str, Path], drawings: Sequence[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    """The mask of every case that has one; a :class:`DataError` where one has two."""
    exact: dict[str, list[Path]] = defaultdict(list)
    loose: dict[str, list[Path]] = defaultdict(list)
    for path in drawings:
        stem = normal(path.stem)
        owners = [stem] if stem in by_case and "" in suffixes else [stem.removesuffix(end) for end in suffixes if stem.endswith(end)]
        for owner in owners:
            exact[owner].append(path)
            loose[owner.casefold()].append(path)
    for case in by_case:
        if len(exact[case]) > 1:
            names = ", ".join(path.name for path in exact[case])
            raise DataError(
                f"{by_case[case]} has {len(exact[case])} masks in {exact[case][0].parent} ({names}); keep one mask per image"
            )
    found = {case: exact[case][0] for case in by_case if exact[case]}
    capitals = []
    cases = [case.casefold() for case in by_case]
    for case in by_case:
        meant = loose[case.casefold()]
        if case not in found and len(meant) == 1 and cases.count(case.casefold()) == 1:
            found[case] = meant[0]
            capitals.append(f"{by_case[case].name} and {meant[0].name}")
    if capitals:
        note(f"{len(capitals)} masks are taken although their names differ from their images' in capitals: {some(capitals)}")
    return found


def _inspect(pairs: Sequence[Pair], classes: int) -> None:
    """Open every pair, and tell what is done with the images, counted."""
    with ThreadPoolExecutor() as pool:
        remarks = list(pool.map(partial(inspect_pair, classes=classes), pairs))
    tell_twins([Path(pair["image"]) for pair in pairs])
    for told in sorted({told for these in remarks for told in these}):
        names = [Path(pair["image"]).name for pair, these in zip(pairs, remarks) if told in these]
        note(f"{len(names)} of {len(pairs)} images {told} ({some(names)})")


def _found(root: Path, name: str, types: Sequence[str]) -> Found:
    """The files of these types in ``root/name``; an error that says what was found instead if there are none."""
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder {name!r} (it holds: {there}); put the files into {folder}, or name their folder")
    found = files_in(folder, types)
    if not found.files and not found.lost:
        hint = ""
        if any(kind.removeprefix(".") in ENDINGS for kind in found.left):
            soft = ", and what they store by --values 0-127=0,128-255=1" if {".jpg", ".jpeg"} & found.left.keys() else ""
            hint = f", or say by patterns which are which{in_patterns(root)}{soft}"
        raise DataError(
            f"no {', '.join(types)} file in {folder} (it holds: {found.inside()}); put the files there, or name their folder{hint}"
        )
    return found
