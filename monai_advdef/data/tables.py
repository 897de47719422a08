"""The one reader of tables: which column is what, and which row is which case, in the words that people use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from monai_advdef.data.cells import AGAIN, header_of, lines_of
from monai_advdef.data.columns import EMPTY, SECTION_WORDS, Names, key_of, like_patients, one_spelling, role_of, roles_of
from monai_advdef.data.notes import note, some
from monai_advdef.errors import DataError

ENDINGS = (".csv", ".tsv", ".xlsx", ".xlsm", ".txt", ".csv.txt", ".tsv.txt")  # the last as Windows hides an ending
UNREAD = (".xls", ".ods", ".xlsb", ".numbers", ".csv.gz", ".csv.zip")


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
    """The table called ``name`` (``"labels"``, ``"split"``) in a folder, as .csv, .tsv, .xlsx or .txt, in any capitals; or ``None``.

    Where there are several, CSV counts, and that is told. A link to nothing is found too: reading it says so. Text counts where its
    header names cases and something of them. Where there is none, what looks like one under another name is told: a table that names
    patients, lists called like sections.

    Raises:
        DataError: there is such a table only in a form that is not read.
    """
    root = Path(folder)
    if not root.is_dir():
        return None
    ending_of = {path: path.name[len(name) :].lower() for path in root.iterdir() if path.name.lower().startswith(f"{name}.")}
    there = [path for path, end in ending_of.items() if end in ENDINGS and (end != ".txt" or _header(path))]
    found = sorted(there, key=lambda path: (ENDINGS.index(ending_of[path]), path.name != path.name.lower(), path.name))
    unread = sorted(path for path, end in ending_of.items() if end in UNREAD)
    if unread and not found:
        raise DataError(f"{unread[0]} is a table of a kind that is not read, and it may tell of the cases; {AGAIN}, or move it away")
    if len(found) + len(unread) > 1:
        note(f"{found[0]} is read; left aside: {', '.join(path.name for path in (*found[1:], *unread))}")
    if not found:
        (_tell_others if name == "labels" else _tell_lists)(root)
    return found[0] if found else None


def _header(path: Path) -> list[str]:
    """The header of a file that is a table of cases and of something about them; empty of others."""
    try:
        columns = read_table(path).columns if path.is_file() else ()
    except DataError:
        return []
    roles = roles_of(columns)
    return list(columns) if "case" in roles and len(roles) > 1 else []


def _tell_others(root: Path) -> None:
    """Tell of tables with a column of patients that are not read, for they are not called so."""
    for path in sorted(path for path in root.iterdir() if path.suffix.lower() in ENDINGS and path.name[0] not in ".~"):
        columns = [] if path.stem.lower() == "split" else _header(path)
        named = [column for column in columns if role_of(column, "patient") is not None]
        meant = [*named, *like_patients(columns)]
        if meant:
            note(
                f"{path} is not read, though it has a column {meant[0]!r}: every image counts as a patient of its own, and those of "
                f"one may come to train and to test; call it labels{path.suffix.lower()} to have it read"
                + ("" if named else ", and that column patient")
            )


def _tell_lists(root: Path) -> None:
    """Tell of lists called like sections, ``train.txt`` and ``test.txt``, which are not read."""
    lists = [path for path in root.iterdir() if path.suffix.lower() in ENDINGS and path.stem.lower() in SECTION_WORDS]
    if len({SECTION_WORDS[path.stem.lower()] for path in lists}) > 1:
        note(
            f"{some(sorted(path.name for path in lists))} in {root} are not read; a split.csv with the columns case,section would be"
        )


def read_table(path: str | os.PathLike[str]) -> Table:
    """A table file as :func:`lines_of` reads it: a header, and a line a row. Empty cells behind the last column are passed over.

    A title or remarks above the header are left aside, and that is told.

    Raises:
        DataError: what :func:`lines_of` refuses, nothing but blank lines, or a line with more words than there are columns.
    """
    name = Path(path)
    lines = lines_of(name)
    if not lines:
        raise DataError(f"{path} holds no line; write a header and a line for each case, or remove the file")
    start = header_of(lines)
    if start:
        note(f"{path}: line {lines[start][0]} is taken for the header, and what stands above it is left aside")
    columns = lines[start][1]
    while not columns[-1]:
        columns = columns[:-1]
    rows = []
    for number, cells in lines[start + 1 :]:
        if any(cells[len(columns) :]):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells where the header has {len(columns)} columns ({', '.join(columns)}); put "
                "a word that holds the delimiter into quotation marks"
            )
        rows.append((number, tuple(cells[: len(columns)] + [""] * (len(columns) - len(cells)))))
    return Table(name, tuple(columns), tuple(rows))
