"""Errors of readers that other commands use, too, in the options that an audit has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from monai_advdef.errors import DataError

WORDS = (
    (r"--images, --masks and --values", "--images and --labels"),
    (r"--masks\b", "--labels"),
    (r"--values (?=\S*=)", "--set values="),
    (r"--values\b", "--set values=…"),
)


def in_own_options(text: str) -> str:
    """``--masks`` of ``check`` and of our bundles is ``--labels`` here, and ``--values`` an item of the bundle."""
    for there, here in WORDS:
        text = re.sub(there, here, text)
    return text


@contextmanager
def own_options() -> Iterator[None]:
    """Data errors name the options of an audit.

    Raises:
        DataError: in place of one that names others.
    """
    try:
        yield
    except DataError as error:
        told = in_own_options(str(error))
        if told == str(error):
            raise
        raise DataError(told) from error
