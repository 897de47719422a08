"""Organ maps: which label values of a file are which class, from one JSON file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_advdef.errors import DataError, nearest
from monai_advdef.switches import as_written

FOLDER = Path(__file__).with_name("organ_maps")


@dataclass(frozen=True)
class Organs:
    """Organs in the order of their classes, which count from 1, and the label values of each in the files of a data set.

    ``others`` are the label values of organs of the map that were not chosen: they count as background.
    """

    source: str
    values: Mapping[str, tuple[int, ...]]
    others: tuple[int, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of classes 1, 2, ..."""
        return list(self.values)

    @property
    def classes(self) -> int:
        """How many classes there are, the background included."""
        return len(self.values) + 1

    @property
    def class_of(self) -> dict[int, int]:
        """Class number of every label value that is an organ."""
        return {value: number for number, values in enumerate(self.values.values(), start=1) for value in values}

    @property
    def known(self) -> set[int]:
        """The label values that a file may hold: 0 and those of all organs of the map, chosen or not."""
        return {0, *self.class_of, *self.others}

    def class_named(self, name: str) -> int:
        """The class whose name's words are all in ``name`` ("Right Kidney" is one of the kidneys), 0 where there is none."""
        fitting = [number for number, organ in enumerate(self.values, start=1) if _words(organ) <= _words(name)]
        return fitting[0] if fitting else 0

    def require(self, names: Iterable[str], where: str) -> list[str]:
        """The names as a list; a :class:`DataError` that begins with ``where`` if one is none of our organs."""
        wanted = list(names)
        for name in wanted:
            if name not in self.values:
                raise DataError(f"{where}: no organ {name!r} in the organ map {self.source}; {nearest(name, self.values)}")
        return wanted

    def check_names(self, labels: Mapping[int, str], where: str) -> None:
        """Make sure that this map means what a data set's own ``labels`` (value to name) say.

        Raises:
            DataError: an organ none of whose values the data set has, or a value that it calls by a name without a word in common
                with ours.
        """
        for organ, values in self.values.items():
            there = [value for value in values if value in labels]
            if not there:
                wanted = " or ".join(map(str, values))
                raise DataError(
                    f"{where} has no label value {wanted}, which the organ map {self.source} takes for {organ}; "
                    f"known: {', '.join(map(str, sorted(labels)))}: choose or write the organ map of this data set"
                )
            for value in there:
                if not _words(organ) & _words(labels[value]):
                    raise DataError(
                        f"{where} calls the label value {value} {labels[value]!r}, the organ map {self.source} takes it for "
                        f"{organ!r}; choose or write the organ map of this data set"
                    )


def organ_map(source: str | os.PathLike[str] = "abdomen", organs: str | Sequence[str] | None = None) -> Organs:
    """The organ map of a JSON file ``{organ: label value or values}``; several values are merged into one class.

    Args:
        source: a file that ends in ``.json``, or a name: ``"abdomen"`` (pancreas, kidneys, liver and spleen with the values of
            TotalSegmentator), ``"abdomen_all"`` (nine organs, kidneys apart), ``"liver"`` (with its tumours), ``"btcv"`` (the four
            with the values of BTCV) or ``"curvas"`` (pancreas, kidneys and liver as in CURVAS slices).
        organs: some of its organs, in the order their classes shall have, or their names with commas between; None: all.

    Raises:
        DataError: an unknown name or file, a file that is no such map, a value of two organs, or ``organs`` not in the map.
    """
    path = Path(source)
    if path.suffix.lower() != ".json":
        known = sorted(file.stem for file in FOLDER.glob("*.json"))
        if str(source) not in known:
            raise DataError(f"no organ map {str(source)!r}; {nearest(str(source), known)}; or give the path of a .json file")
        path = FOLDER / f"{source}.json"
    read = Organs(str(source), _read(path))
    if organs is None:
        return read
    words = organs.strip("[]() ").split(",") if isinstance(organs, str) else organs
    wanted = read.require([word.strip(" '\"") for word in words], "organs")
    if not wanted or len(set(wanted)) != len(wanted):
        raise DataError(f"organs must name at least one organ, and none twice, got {wanted}; known: {', '.join(read.names)}")
    chosen = Organs(str(source), {organ: read.values[organ] for organ in wanted})
    return Organs(chosen.source, chosen.values, tuple(sorted(read.known - chosen.known)))


def read_label_names(path: Path) -> dict[int, str]:
    """The ``labels.json`` of a data set: ``{"0": "background", "5": "liver", ...}``.

    Raises:
        DataError: a file that is not such a table.
    """
    try:
        return {int(value): str(name) for value, name in json.loads(path.read_text(encoding="utf-8-sig")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path} does not tell what label values mean ({error}); write {{"0": "background", "5": "liver"}}'
        ) from error


@as_written
def write_label_names(folder: str | os.PathLike[str], organs: Sequence[str]) -> Path:
    """Write ``labels.json`` for files that hold class numbers, such as predictions: 0 background, then ``organs``."""
    path = Path(folder) / "labels.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(enumerate(["background", *organs])), indent=1) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"organ map {path} cannot be read ({error}); give a JSON file {{organ: label value or values}}") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"organ map {path} must be a JSON object {{organ: label value or values}} with at least one organ")
    result: dict[str, tuple[int, ...]] = {}
    owner: dict[int, str] = {}
    for organ, given in found.items():
        values = given if isinstance(given, list) else [given]
        if not values or not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values):
            raise DataError(f"organ map {path}: {organ!r} must have whole label values above 0, got {given!r}; correct the file")
        for value in values:
            if value in owner:
                raise DataError(f"organ map {path}: the value {value} stands for {owner[value]!r} and {organ!r}; give it to one")
            owner[value] = organ
        result[organ] = tuple(values)
    return result


def _words(name: str) -> set[str]:
    """The words of a name, in small letters and the singular."""
    return {word.removesuffix("s") for word in re.findall(r"[a-z]{3,}", name.lower())}
