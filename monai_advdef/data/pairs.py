"""Image and mask files of a data-set folder: found and checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from monai_advdef.data.image_files import check_pair
from monai_advdef.errors import DataError

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
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

    ``"_segmentation"`` is how the ISIC archive names its masks. Files of other kinds, and masks without an image, are left aside.

    Args:
        classes: how many classes a mask may name, background included.
        check: open every file (see :func:`check_pair`), some milliseconds a pair; ``False`` for a large data set checked before.

    Returns:
        Dictionaries ``{"image": path, "label": path, "case": base name, "patient": base name}``, sorted by case.

    Raises:
        DataError: no folder, no image, an image without a mask, two images of one name, or what :func:`check_pair` finds.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise DataError(f"dataset_dir {str(dataset_dir)!r} is not a folder; give the folder that holds {images}/ and {masks}/")
    pictures, drawings = _files(root, images, IMAGE_TYPES), _files(root, masks, MASK_TYPES)
    cases = Counter(path.stem for path in pictures)
    twice = sorted(case for case, count in cases.items() if count > 1)
    if twice:
        raise DataError(f"{root / images} holds more than one image named {twice[0]!r}; keep one file per case")
    mask_of = {path.stem: path for path in drawings}
    pairs, lonely = [], []
    for picture in pictures:
        mask = next((mask_of[picture.stem + suffix] for suffix in suffixes if picture.stem + suffix in mask_of), None)
        if mask is None:
            lonely.append(picture.name)
        else:
            pairs.append({"image": str(picture), "label": str(mask), "case": picture.stem, "patient": picture.stem})
    if lonely:
        names = ", ".join(lonely[:5]) + (", ..." if len(lonely) > 5 else "")
        raise DataError(
            f"{len(lonely)} of {len(pictures)} images in {root / images} have no mask in {root / masks}: {names}; "
            f"a mask is called as its image, plus one of {list(suffixes)}, and is a {', '.join(MASK_TYPES)} file "
            "(JPEG does not keep labels); add the masks or move the images away"
        )
    if check:
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(check_pair, classes=classes), pairs))
    return pairs


def _files(root: Path, name: str, types: Sequence[str]) -> list[Path]:
    """The files of these types in ``root/name``, sorted by case; an error that says what was found instead if there are none."""
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} has no folder {name!r} (it holds: {there}); put the files into {folder}, or name their folder")
    entries = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    files = sorted((path for path in entries if path.suffix.lower() in types), key=lambda path: path.stem)
    if not files:
        kinds = Counter(path.suffix.lower() or "no extension" for path in entries)
        there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no file"
        raise DataError(f"no {', '.join(types)} file in {folder} (it holds: {there}); put the files there, or name their folder")
    return files
