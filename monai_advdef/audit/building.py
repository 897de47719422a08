"""MONAI workflows made of configuration files, with the reason itself where something cannot be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow


@contextmanager
def unwrapped() -> Iterator[None]:
    """The reason itself, in place of MONAI's word that a component could not be made or an item of ``run`` not be carried out."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, (ValueError, OSError)):
            cause = cause.__cause__
        if isinstance(cause, (ValueError, OSError)):
            raise cause from error
        if cause is not error:
            raise RuntimeError(f"{type(cause).__name__}: {cause}") from error
        raise


def workflow(files: Sequence[Path], overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """A workflow of configuration files, initialized."""
    made = ConfigWorkflow([str(f) for f in files], meta_file=None, logging_file=False, workflow_type=None, **overrides)
    with unwrapped():
        made.initialize()
    return made


def built(parser: ConfigParser, name: str) -> Any:
    """An object of a configuration.

    Raises:
        ValueError: why it cannot be made.
    """
    with unwrapped():
        return parser.get_parsed_content(name)
