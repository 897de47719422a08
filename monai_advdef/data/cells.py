"""The cells of a table file, whatever delimiter, encoding or program it comes from."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
from pathlib import Path

import openpyxl

from monai_advdef.data.columns import roles_of
from monai_advdef.data.listing import normal
from monai_advdef.data.pictures.contents import head_of
from monai_advdef.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
AGAIN = "save it again as CSV (UTF-8) or .xlsx"
LOOK = 20  # lines by which the delimiter is told, and among which the header is

Line = tuple[int, list[str]]


def lines_of(path: Path) -> list[Line]:
    """The number and the cells of every line of a CSV file or spreadsheet that is not blank; words stripped, in one Unicode form.

    CSV may have commas, semicolons, tabs or bars, in UTF-8, UTF-16 or Windows-1252, and a first line ``sep=;``; where these part
    nothing, spaces, or commas in lines that are quoted as a whole. Of a spreadsheet that sheet counts whose header says most.

    Raises:
        DataError: naming the file: it cannot be opened or is empty, is an old .xls or no text, or leaves a quotation mark open.
    """
    head = head_of(str(path))
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path} is a spreadsheet in the old .xls format; save it as .xlsx or CSV")
    lines = _sheet(path) if head.startswith(b"PK\x03\x04") or path.suffix.lower() == ".xlsx" else _lines(path, _text(path))
    broken = next((cells[0] for _, cells in lines if cells[1:] == ["\0"]), "")
    if broken:
        raise DataError(broken)
    return [(number, cells) for number, cells in lines if any(cells)]


def _text(path: Path) -> str:
    raw = path.read_bytes()
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "")
    if not encoding and b"\0" in raw[:200]:
        even, odd = raw[:200:2].count(0), raw[1:200:2].count(0)
        encoding = "utf-16-le" if odd > 4 * max(even, 1) else "utf-16-be" if even > 4 * max(odd, 1) else ""
    for candidate in (encoding,) if encoding else ("utf-8", "cp1252", "latin-1"):
        try:
            text = raw.decode(candidate)
            break
        except UnicodeDecodeError as error:
            if encoding:
                raise DataError(f"{path} cannot be read as {encoding} text ({error.reason}); {AGAIN}") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: a NUL byte, so that this is no text or damaged; {AGAIN}")
    return normal(text)


def _lines(path: Path, text: str) -> list[Line]:
    """The cells of every line, with its number, split at the delimiter under which the header says most."""
    first, skip = text.split("\n", 1)[0].strip(), 0
    given = ""
    if first.lower().strip('"').startswith("sep="):
        given, skip = first.strip('"')[4:5] or "\t", 1
    tried = {delimiter: _split(path, text, delimiter) for delimiter in ((given,) if given else DELIMITERS)}
    return _apart(max(tried.values(), key=lambda rows: _says(rows[skip:]))[skip:])


def _apart(rows: list[Line]) -> list[Line]:
    """Lines of one cell that name two roles or more once they are split, split; others as they are."""
    full = [(number, cells) for number, cells in rows if any(cells)]
    if any(len(cells) > 1 for _, cells in full):
        return rows
    for delimiter in (*DELIMITERS, " "):
        split = [(n, [_cell(c) for c in next(csv.reader(cells, delimiter=delimiter, skipinitialspace=True))]) for n, cells in full]
        if split and len(roles_of(split[0][1])) > 1 and all(len(cells) > 1 for _, cells in split):
            return split
    return rows


def _split(path: Path, text: str, delimiter: str) -> list[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    rows: list[Line] = []
    try:
        for cells in reader:
            rows.append((reader.line_num, [_cell(cell) for cell in cells]))
    except csv.Error as error:
        rows.append((reader.line_num, [f"{path}, line {reader.line_num}: {error}; close the quotation mark, or {AGAIN}", "\0"]))
    return rows


def _cell(word: str) -> str:
    """A word of a CSV file; of ``="007"``, by which spreadsheets are kept from making a number of it, what is meant."""
    word = word.strip()
    return word[2:-1].strip() if word.startswith('="') and word.endswith('"') and len(word) > 3 else word


def _says(lines: list[Line]) -> tuple[int, int]:
    """How much is told apart: columns with a known role in the header, then cells."""
    full = [(number, cells) for number, cells in lines if any(cells)][:LOOK]
    header = full[header_of(full)][1] if full else []
    return sum(bool(roles_of([cell])) for cell in header), sum(len(cells) for _, cells in full)


def header_of(lines: list[Line]) -> int:
    """Which line is the header: the first, unless it is a title or remark, and a later one names two roles or more."""
    first = [cell for cell in lines[0][1] if cell]
    if roles_of(first) and len(first) > 1:
        return 0
    return next((place for place, (_, cells) in enumerate(lines[:LOOK]) if len(roles_of(cells)) > 1), 0)


def _sheet(path: Path) -> list[Line]:
    """The lines of the sheet whose first line says most; the first sheet where none says more."""
    try:
        book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True)
        sheets = [
            [(number, [_word(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(values_only=True), start=1)]
            for sheet in book.worksheets
        ]
    except Exception as error:  # a broken archive makes the reader raise whatever it stumbles over
        raise DataError(f"{path} cannot be read as a spreadsheet ({error}); {AGAIN}") from error
    return max(sheets, key=_says) if sheets else []


def _word(cell: object) -> str:
    """A cell as people see it; whole numbers without the ``.0`` that a spreadsheet keeps."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return normal(str(cell)).strip()
