"""A data set told by patterns: which files are images and which are masks, ``CXR_png/{case}.png`` and ``mask/{case}_mask.png``.

In a pattern ``{case}``, ``{patient}`` and ``{section}`` stand for a part of a name without ``/``, as short as it can be, and ``*``
for any such part, at the end ``.*`` for the ending of a picture or volume; a placeholder that stands there twice means the same both
times. Everything else means itself: brackets, dots, spaces. What fits a pattern of masks is no image. ``{section}`` stands for
words such as train, val, test. Whether a name is written with composed or with decomposed accents makes no difference.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from monai_advdef.data.columns import SECTION_WORDS, SECTIONS
from monai_advdef.data.layouts.rows import Listed, Row, inside, settle
from monai_advdef.data.layouts.suggestions import ENDINGS, files_below, suggest
from monai_advdef.data.listing import normal
from monai_advdef.data.notes import some
from monai_advdef.errors import DataError
from monai_advdef.switches import absent

Patterns = str | Sequence[str] | None
PLACES = ("case", "patient", "section")


class Key(NamedTuple):
    """What a name says, empty where its pattern does not ask."""

    case: str
    patient: str = ""
    section: str = ""


def as_patterns(told: Patterns) -> list[str]:
    """Patterns as a list: one alone, several (a list, or joined by commas), or none.

    Fire makes a set of ``{case}`` alone, and MONAI reads ``#`` in the texts of a configuration as ``::``.
    """
    if absent(told) or not told:
        return []
    if isinstance(told, (set, frozenset)):
        return ["{" + ",".join(map(str, told)) + "}"]
    several = [told] if isinstance(told, (str, os.PathLike)) else told
    if isinstance(told, str) and all("{case}" in pattern for pattern in told.split(",")):
        several = [pattern.strip() for pattern in told.split(",")]
    return [str(pattern).replace("::", "#") for pattern in several]


def listed_by_patterns(
    root: Path, images: Sequence[str], masks: Sequence[str], structures: Sequence[str] = (), *, unlabelled: Collection[str] = ()
) -> Listed:
    """The cases of a folder by one pattern for the images (or one a channel) and one or more for the masks.

    Args:
        structures: what the masks of each pattern draw; empty: the masks of one case are one structure, drawn together.
        unlabelled: sections that are known to have no masks; their images are left out.

    Raises:
        ValueError: a pattern without ``{case}``, with an unknown placeholder, or that leaves the folder.
        DataError: no such folder, or no file that fits the images, with what there is and a pattern that would fit.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; patterns are read from the folder that holds the files")
    if not images or not masks:
        raise ValueError(f"images and masks belong together, got images {list(images)} and masks {list(masks)}; give both")
    listed = Listed()
    used: set[Path] = set()
    found_masks = [_matches(root, pattern, listed, used, "masks") for pattern in masks]
    drawings = frozenset(used)
    found_images = [_matches(root, pattern, listed, used, "images", drawings) for pattern in images]
    if not any(found_images):
        raise DataError(f"no file in {root} fits the images {' or '.join(images)!r}; {suggest(root)}")
    if not any(found_masks) and not listed.problems:
        raise DataError(f"no file in {root} fits the masks {' or '.join(masks)!r}; {suggest(root)}")
    wanted = sorted({key for found in found_images for key in found if not key.section or key.section not in unlabelled})
    left = len({key for found in found_images for key in found}) - len(wanted)
    if left:
        listed.notes.append(f"{left} images of {', '.join(unlabelled)} have no masks and are left out: they can be predicted only")
    served = _fill(listed, wanted, found_images, found_masks, (*images, *masks), tuple(structures))
    for path, cases in served.items():
        if len(cases) > 1:
            listed.problems.append(
                f"{path} fits {len(cases)} images ({some(cases)}); put what tells these apart ({{patient}}, {{section}}) into the "
                "pattern of masks too"
            )
    idle = [path for found in found_masks for path in found.values() if path not in served]
    if idle:
        listed.notes.append(f"{len(idle)} masks without an image are left out ({some([p.relative_to(root) for p in idle])})")
    _tell_unused(root, used, listed)
    return settle(listed)


def images_by_pattern(root: Path, pattern: str) -> list[Path]:
    """The files of a folder that fit one pattern, to be predicted on; no masks are asked for.

    Raises:
        ValueError: a pattern that is none, see :func:`listed_by_patterns`.
        DataError: no such folder, no file that fits, or two of one case.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; patterns are read from the folder that holds the files")
    listed = Listed()
    found = _matches(root, pattern, listed, set(), "images")
    if listed.problems:
        raise DataError("\n  ".join(listed.problems))
    if not found:
        raise DataError(f"no file in {root} fits the images {pattern!r}; {suggest(root)}")
    return list(found.values())


def _fill(
    listed: Listed,
    wanted: Sequence[Key],
    found_images: Sequence[dict[Key, Path]],
    found_masks: Sequence[dict[Key, Path]],
    patterns: Sequence[str],
    structures: tuple[str, ...],
) -> dict[Path, list[str]]:
    """Add a row for every case whose files are all there, a problem for the others; the cases that each mask serves."""
    served: dict[Path, list[str]] = defaultdict(list)
    lonely: dict[str, list[str]] = defaultdict(list)
    count = len(found_images)
    for key in wanted:
        pictures = [found.get(key) for found in found_images]
        drawn = [_of(found, key, pattern) for found, pattern in zip(found_masks, patterns[count:])]
        for mask in drawn:
            if mask:
                served[mask[1]].append("/".join(word for word in (key.section, key.patient, key.case) if word))
        for pattern in [p for p, path in zip(patterns, (*pictures, *drawn)) if path is None]:
            lonely[pattern].append(key.case)
        if all(pictures) and all(drawn):
            paths = tuple(path for path in pictures if path)
            section = key.section or next((m[0].section for m in drawn if m and m[0].section), "")
            patient = key.patient or next((m[0].patient for m in drawn if m and m[0].patient), "") or key.case
            listed.rows.append(Row(key.case, patient, paths, tuple(m[1] for m in drawn if m), section, structures))
    for pattern, cases in lonely.items():
        what = "image" if pattern in patterns[:count] else "mask"
        listed.problems.append(
            f"{len(cases)} of {len(wanted)} cases have no {what} {pattern} ({some(cases)}); add the files, or move the others away"
        )
    return served


def _of(found: dict[Key, Path], key: Key, pattern: str) -> tuple[Key, Path] | None:
    """The mask of an image: the one that agrees in everything both patterns name."""
    named = set(re.findall(r"\{(\w+)\}", pattern))
    if key in found:
        return key, found[key]
    wanted = Key(key.case, key.patient if "patient" in named else "", key.section if "section" in named else "")
    if wanted in found:
        return wanted, found[wanted]
    told = [(other, path) for other, path in found.items() if other.case == key.case and _agree(other, key)]
    return told[0] if len(told) == 1 else None


def _agree(one: Key, other: Key) -> bool:
    return all(a == b or not a or not b for a, b in zip(one, other))


def _matches(
    root: Path, pattern: str, listed: Listed, used: set[Path], what: str, but: frozenset[Path] = frozenset()
) -> dict[Key, Path]:
    """The files of a pattern by what their names say; two files of one key, and a section of no known name, are problems."""
    twice: dict[Key, list[Path]] = defaultdict(list)
    for path, said in _walk(root, _parts(pattern, what)):
        if path in but:
            continue
        used.add(path)
        word = said.get("section", "")
        section = SECTION_WORDS.get(word.lower(), "")
        if word and not section:
            known = ", ".join(SECTIONS)
            listed.problems.append(f"{path}: {word!r} is no section (known: {known}); write another pattern, or rename it")
            continue
        twice[Key(said["case"], said.get("patient", ""), section)].append(path)
    for key, paths in twice.items():
        if len(paths) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in paths)
            listed.problems.append(f"{len(paths)} {what} of the case {key.case!r} fit {pattern} ({names}); keep one")
    return {key: paths[0] for key, paths in twice.items()}


def _parts(pattern: str, what: str) -> list[re.Pattern[str]]:
    """The regular expression of each folder or file name of a pattern."""
    told = normal(pattern).replace("\\", "/").removeprefix("./")
    names = told.split("/")
    if told.startswith("/") or ".." in names or "" in names or re.match(r"^[A-Za-z]:/", told):
        raise ValueError(f"{what} pattern {pattern!r} must be a path below the data set's folder, such as 'images/{{case}}.png'")
    asked = re.findall(r"\{([^{}]*)\}", told)
    odd = [word for word in asked if word not in PLACES]
    if odd:
        raise ValueError(f"{what} pattern {pattern!r} has {{{odd[0]}}}; known: {', '.join(f'{{{word}}}' for word in PLACES)}")
    if "case" not in asked:
        raise ValueError(f"{what} pattern {pattern!r} has no {{case}}; it stands for the part of a name that image and mask share")
    return [_expression(name) for name in names]


def _expression(name: str) -> re.Pattern[str]:
    """What a folder or file name of a pattern fits: a placeholder anything the first time, then the same again."""
    told, seen = "", set()
    any_ending = name.endswith(".*")
    for piece in re.split(r"(\{\w+\}|\*)", name.removesuffix(".*")):
        word = piece[1:-1]
        if piece == "*":
            told += "[^/]*?"
        elif piece == f"{{{word}}}" and word in PLACES:
            told += f"(?P={word})" if word in seen else f"(?P<{word}>[^/]+?)"
            seen.add(word)
        else:
            told += re.escape(piece)
    ending = rf"\.(?i:{'|'.join(map(re.escape, ENDINGS))})" if any_ending else ""
    return re.compile(told + ending, re.DOTALL)


def _walk(folder: Path, parts: list[re.Pattern[str]]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Every path below a folder whose names fit, with what the placeholders stand for."""
    for path in inside(folder):
        name = normal(path.name)
        match = parts[0].fullmatch(name)
        said = match.groupdict() if match else {}
        if match and len(parts) == 1:
            yield path, said
        for found, more in _walk(path, parts[1:]) if match and len(parts) > 1 and path.is_dir() else ():
            if all(said[word] == more[word] for word in said.keys() & more.keys()):
                yield found, said | more


def _tell_unused(root: Path, used: set[Path], listed: Listed) -> None:
    """A note on the image files that no pattern fits, counted by folder."""
    left: Counter[str] = Counter()
    for path in files_below(root):
        if path not in used and not used & set(path.parents):
            left[str(path.parent.relative_to(root))] += 1
    if left:
        where = ", ".join(f"{count} in {folder if folder != '.' else root.name}" for folder, count in left.most_common(5))
        listed.notes.append(f"{sum(left.values())} files fit no pattern and are left out ({where})")
