"""The one reader of tables: which column is what, and which row is which case, in the words that people use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from monai_advdef.data.cells import lines_of
from monai_advdef.data.columns import EMPTY, Names, key_of, one_spelling, role_of
from monai_advdef.data.notes import note, some
from monai_advdef.errors import DataError

ENDINGS = (".csv", ".tsv", ".xlsx")


@dataclass(frozen=True)
class Table:
    """A table: ``columns`` as the file calls them, and ``rows``, each with the number of its line and a word for every column."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def places(self, role: str) -> list[int]:
        """Which columns may have the role (a key of :data:`~monai_advdef.data.columns.ROLES`), the likeliest first.

        Raises:
            DataError: two columns of one name.
        """
        found = [place for place, column in enumerate(self.columns) if role_of(column, role) is not None]
        names = [key_of(self.columns[place]) for place in found]
        twice = next((self.columns[place] for place, name in zip(found, names) if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{self.path} has more than one column called {twice!r}; keep one, or give the others another name")
        return sorted(found, key=lambda place: (role_of(self.columns[place], role), place))

    def cases(self, names: Names, needs: str) -> list[tuple[int, str, str | None]]:
        """For every row its line, the word that names the case, and the case; the column is the one whose words name most cases.

        Raises:
            DataError: no column that names cases; ``needs`` says what is missing.
        """
        places = self.places("case")
        if not places:
            raise DataError(f"{self.path} has the columns {list(self.columns)}; it needs {needs}")
        best = max(places, key=lambda place: sum(row[place] in names for _, row in self.rows))
        names.loose.clear()
        found = [(line, row[best], names.find(row[best])) for line, row in self.rows]
        if names.told():
            note(f"{self.path}: {names.told()}")
        return found

    def patients(self) -> list[str] | None:
        """The patient of every row, one spelling for each; empty where a cell tells none, ``None`` where no column does.

        That some are spelt in two ways is told.
        """
        words = self.words("patient")
        if words is None:
            return None
        spelt, twice = one_spelling(["" if word.lower() in EMPTY else word for word in words])
        if twice:
            note(f"{self.path}: patients that are written in two ways are taken as one: {some(sorted(set(twice)))}")
        return spelt

    def words(self, role: str) -> list[str] | None:
        """The words of the column with that role, a row each; ``None`` where there is no such column."""
        places = self.places(role)
        return [row[places[0]] for _, row in self.rows] if places else None


def find_table(folder: str | os.PathLike[str], name: str) -> Path | None:
    """The table called ``name`` (``"labels"``, ``"split"``) in a folder, as .csv, .tsv or .xlsx, in any capitals; or ``None``.

    Where there are several, CSV counts, and that is told. A link to nothing is found too: reading it says so.
    """
    root = Path(folder)
    if not root.is_dir():
        return None
    there = [path for path in root.iterdir() if path.stem.lower() == name and path.suffix.lower() in ENDINGS]
    found = sorted(there, key=lambda path: (ENDINGS.index(path.suffix.lower()), path.name != path.name.lower(), path.name))
    if len(found) > 1:
        note(f"{found[0]} is read; left aside: {', '.join(path.name for path in found[1:])}")
    return found[0] if found else None


def read_table(path: str | os.PathLike[str]) -> Table:
    """A table file as :func:`lines_of` reads it: a header, and a line a row. Empty cells behind the last column are passed over.

    Raises:
        DataError: what :func:`lines_of` refuses, nothing but blank lines, or a line with more words than there are columns.
    """
    name = Path(path)
    lines = lines_of(name)
    if not lines:
        raise DataError(f"{path} holds no line; write a header and a line for each case, or remove the file")
    columns = lines[0][1]
    while not columns[-1]:
        columns = columns[:-1]
    rows = []
    for number, cells in lines[1:]:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells where the header has {len(columns)} columns ({', '.join(columns)}); put "
                "a word that holds the delimiter into quotation marks"
            )
        rows.append((number, tuple(cells[: len(columns)] + [""] * (len(columns) - len(cells)))))
    return Table(name, tuple(columns), tuple(rows))
