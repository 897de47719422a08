"""The tables that travel with a data set as rows by column name, so that layouts ask for what they know."""

from __future__ import annotations

from pathlib import Path

from monai_advdef.data.columns import key_of
from monai_advdef.data.tables import read_table


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table by column name in small letters, without spaces and signs (``image_id`` is ``imageid``).

    Raises:
        DataError: what :func:`read_table` refuses.
    """
    table = read_table(path)
    names = [key_of(column) for column in table.columns]
    return [dict(zip(names, cells)) for _, cells in table.rows]
