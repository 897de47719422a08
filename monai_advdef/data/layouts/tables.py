"""The tables that travel with a data set, read in one place."""

from __future__ import annotations

import csv
from pathlib import Path

from monai_advdef.errors import DataError


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name in small letters, cells without blanks around them.

    Raises:
        DataError: a file that cannot be read, naming it.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head.count)
            rows = list(csv.reader(file, delimiter=delimiter, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); save it as CSV in UTF-8") from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    return [dict(zip(names, (cell.strip() for cell in row))) for row in rows[1:] if any(cell.strip() for cell in row)]
