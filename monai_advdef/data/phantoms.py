"""Phantom data sets, written as the very files a real data set has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from monai_advdef.data.errors import DataError, nearest
from monai_advdef.data.skin_phantom import skin_case

MARKER = "phantoms.json"
SKIN_SIZES = ((384, 288), (400, 300), (352, 288))


def write_phantoms(task: str, folder: str | os.PathLike[str], **options) -> list[Path]:
    """Write the phantom data set of ``task`` (a key of :data:`PHANTOMS`) into ``folder``; options and result as its writer's.

    Raises:
        ValueError: unknown ``task``; the message names the nearest known one.
    """
    if task not in PHANTOMS:
        raise ValueError(f"no phantoms for task {task!r}; {nearest(task, PHANTOMS)}")
    return PHANTOMS[task](folder, **options)


def write_skin_phantoms(
    folder: str | os.PathLike[str],
    *,
    cases: int = 48,
    sizes: Sequence[Sequence[int]] = SKIN_SIZES,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Write phantom dermoscopy images: ``images/phantom_0007.jpg`` (every fourth a PNG) and ``masks/phantom_0007.png`` (0 or 255).

    Case ``i`` depends on ``seed`` and ``i`` alone, not on how many are written: its size is drawn from ``sizes``, pairs
    (width, height) in pixels. Files already there from an equal earlier call are kept, so an interrupted call is resumed
    and a larger ``cases`` adds to a folder. JPEG quality is 95 without chroma subsampling.

    Returns:
        The paths of the images, one per case, in order.

    Raises:
        ValueError: ``cases`` below 1, or a size below 64 pixels.
        DataError: ``folder`` holds something else, or phantoms of another seed or sizes (give ``overwrite=True`` for these),
            or more cases than asked for.
    """
    if cases < 1:
        raise ValueError(f"cases must be at least 1, got {cases}")
    if not sizes or any(len(size) != 2 or min(size) < 64 for size in sizes):
        raise ValueError(f"sizes must be (width, height) pairs of at least 64 pixels, got {sizes}")
    root = Path(folder)
    made_of = {"task": "skin", "seed": seed, "sizes": [list(size) for size in sizes]}
    _claim(root, made_of, cases, overwrite)
    images = []
    for index in range(cases):
        image_path = root / "images" / f"phantom_{index:04d}.{'png' if index % 4 == 3 else 'jpg'}"
        mask_path = root / "masks" / f"phantom_{index:04d}.png"
        images.append(image_path)
        if image_path.exists() and mask_path.exists():
            continue
        rng = np.random.default_rng([seed, index])
        width, height = sizes[int(rng.integers(len(sizes)))]
        picture, mask = skin_case(rng, (width, height))
        _save(picture, image_path)
        _save(mask, mask_path)
    return images


PHANTOMS: dict[str, Callable[..., list[Path]]] = {"skin": write_skin_phantoms}


def _claim(root: Path, made_of: dict, cases: int, overwrite: bool) -> None:
    """Make ``root`` ours: create it, accept our own equal phantoms, clear others of ours if allowed, refuse everything else."""
    marker = root / MARKER
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, not a folder; name a new or empty folder for the phantoms")
    if root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir()):
        if not marker.exists():
            raise DataError(f"{root} is not empty and holds no phantoms of ours; name a new or empty folder for the phantoms")
        found = json.loads(marker.read_text(encoding="utf-8"))
        ours = [p for part in ("images", "masks") for p in (root / part).glob("phantom_[0-9]*.*")]
        surplus = [p for p in ours if int(p.stem.removeprefix("phantom_")) >= cases]
        if not overwrite and (found != made_of or surplus):
            raise DataError(
                f"{root} holds other phantoms (made of {found}, {len(surplus)} files beyond {cases} cases); "
                "pass overwrite=True to replace them, or name another folder"
            )
        if overwrite:
            for path in ours:
                path.unlink()
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f".{MARKER}.{os.getpid()}"
    partial.write_text(json.dumps(made_of) + "\n", encoding="utf-8")
    partial.replace(marker)
    for part in ("images", "masks"):
        (root / part).mkdir(exist_ok=True)


def _save(pixels: np.ndarray, path: Path) -> None:
    """Write the whole file or none of it."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    Image.fromarray(pixels).save(partial, quality=95, subsampling=0)  # PNG has no such settings and leaves them aside
    partial.replace(path)
