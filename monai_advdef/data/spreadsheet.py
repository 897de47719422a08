"""The cells of a small .xlsx file, as text. ISO/IEC 29500: a zip archive with one XML file a sheet, and one of shared strings."""

from __future__ import annotations

import os
import zipfile
from xml.etree import ElementTree

from monai_advdef.data.errors import DataError

NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_sheet(path: str | os.PathLike[str]) -> list[list[str]]:
    """The rows of the first sheet; an empty cell is an empty string, a number the text it is stored as.

    Raises:
        DataError: not a readable .xlsx file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            shared = []
            if "xl/sharedStrings.xml" in names:
                strings = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
                shared = ["".join(t.text or "" for t in item.iter(NAMESPACE + "t")) for item in strings.iter(NAMESPACE + "si")]
            sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
            return [_row(row, shared) for row in sheet.iter(NAMESPACE + "row")]
    except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise DataError(f"{path} cannot be read as a spreadsheet ({error}); save it as .xlsx again") from error


def _row(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(NAMESPACE + "c"):
        column = _column(cell.get("r", ""), len(cells))
        cells.extend([""] * (column - len(cells)))
        value = cell.findtext(NAMESPACE + "v") or ""
        if cell.get("t") == "s" and value:
            value = shared[int(value)]
        elif cell.get("t") == "inlineStr":
            value = "".join(text.text or "" for text in cell.iter(NAMESPACE + "t"))
        cells.append(value.strip())
    return cells


def _column(reference: str, default: int) -> int:
    """The number of the column, from 0, of a cell called such as ``"AB12"``."""
    letters = reference.rstrip("0123456789")
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1 if letters else default
