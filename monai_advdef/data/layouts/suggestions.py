"""What a folder holds, and the patterns that the names of its files suggest: for the error that none fits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from monai_advdef.data.columns import SECTION_WORDS
from monai_advdef.data.layouts.rows import inside

ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "gif", "nii.gz", "nii")  # of pictures and volumes


def files_below(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Every picture and volume at or below a folder; a link back to a folder around it is not followed."""
    seen = seen | {folder.resolve()}
    for path in inside(folder):
        if path.is_dir() and path.resolve() not in seen:
            yield from files_below(path, seen)
        elif path.name.lower().endswith(tuple(f".{ending}" for ending in ENDINGS)):
            yield path


def suggest(root: Path) -> str:
    """What there is, and the patterns that the names of the files suggest: a sentence for an error."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(root):
        kinds[str(path.parent.relative_to(root))].append(path)
    if not kinds:
        others = Counter(path.suffix.lower() or "no ending" for path in root.rglob("*") if path.is_file())
        told = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5)) or "no file"
        kinds_known = f"no picture ({', '.join(ENDINGS[:6])}) and no volume (.nii.gz, .nii)"
        return f"it holds {kinds_known}, but {told}; convert them, or give the folder that does"
    seen = ", ".join(f"{len(paths)} in {folder} ({paths[0].name}, ...)" for folder, paths in sorted(kinds.items())[:6])
    pair = _guess(root, [path for paths in kinds.values() for path in paths]) or ("FOLDER/{case}.png", "FOLDER/{case}_mask.png")
    return f"it holds {seen}; say which are which, such as --images {pair[0]!r} --masks {pair[1]!r}"


def in_patterns(root: Path) -> str:
    """The patterns that the names below a folder suggest, as they are written on a command line; empty where none do."""
    pair = _guess(root, list(files_below(root)))
    return f": --images {pair[0]!r} --masks {pair[1]!r}" if pair else ""


def _guess(root: Path, files: Sequence[Path]) -> tuple[str, str] | None:
    """The patterns of the first image and of a mask that carries its name, or lies beside it in a folder a case."""
    masked = re.compile(r"mask|seg|label|truth|gt|annot|manual|contour", re.IGNORECASE)
    told = {path: path.relative_to(root).as_posix() for path in files}
    drawings = [path for path in files if masked.search(told[path])]
    often = Counter(path.name for path in files)
    for image in [path for path in files if path not in drawings]:
        stem, folder = image.name.split(".")[0], image.parent.name
        numbers = re.findall(r"\d+", stem)
        for mask in drawings:
            if mask.parent == image.parent and often[image.name] > 1 and often[mask.name] > 1:
                return told[image].replace(folder, "{case}"), told[mask].replace(folder, "{case}")
            shared = (
                stem if stem and stem in mask.name else numbers[-1] if numbers and numbers == re.findall(r"\d+", mask.name) else ""
            )
            if shared:
                return _parted(_with_case(image, shared, root), _with_case(mask, shared, root), set(told.values()))
    return None


def _parted(image: str, mask: str, files: Collection[str]) -> tuple[str, str]:
    """The same patterns with ``{patient}`` or ``{section}`` for the folder at the end of both, where it has others beside it."""
    home, folder = PurePosixPath(image).parent.parent, PurePosixPath(image).parent.name
    beside = {path.parent.name for path in map(PurePosixPath, files) if path.parent.parent == home and path.parent.name}
    if not folder or folder != PurePosixPath(mask).parent.name or image.split("/")[:-1] == mask.split("/")[:-1] or len(beside) < 2:
        return image, mask
    place = "{section}" if {name.lower() for name in beside} <= SECTION_WORDS.keys() else "{patient}"
    parts = [(PurePosixPath(pattern).parent.parent / place / PurePosixPath(pattern).name).as_posix() for pattern in (image, mask)]
    return parts[0], parts[1]


def _with_case(path: Path, shared: str, root: Path) -> str:
    """The pattern of a file: the last place of what its name shares with another is the case."""
    before, _, after = path.name.rpartition(shared)
    return (path.parent.relative_to(root) / f"{before}{{case}}{after}").as_posix()
