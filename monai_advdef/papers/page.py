"""What every page of a paper shares: the bundle that it is about, how missing weights are made, and where it is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_advdef.progress import Steps
from monai_advdef.study import train


class PaperPage:
    """A Markdown page made from evaluations of a bundle.

    Args:
        name: the page is ``output_dir/<name>.md``, numbers and figures lie beside it.
        title: of the page.
        bundle_root: the bundle.
        settings: overrides of every training and evaluation, at least ``dataset_dir, output_dir, ckpt_dir``.
        note: what else the page says, such as the paper's own figures.
    """

    def __init__(
        self,
        *,
        name: str,
        bundle_root: str | os.PathLike[str],
        settings: Mapping[str, Any],
        title: str = "",
        note: str = "",
    ) -> None:
        self.name, self.title, self.note = name, title, note
        self.bundle, self.settings = Path(bundle_root).resolve(), dict(settings)

    @property
    def output(self) -> Path:
        """The folder of the page, made if it is not there."""
        folder = Path(self.settings["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def train(self, settings: Mapping[str, Any], missing: str) -> None:
        """Train the bundle's network as its own configuration says and tell the epochs; ``missing`` says what is not there."""
        with Steps(f"{self.name}: {missing}, training", 0) as steps:
            train(self.bundle, dict(settings), lambda epoch, total: steps.done(f"epoch {epoch} of {total}"))

    def write(self, page: str) -> Path:
        """Write the page and print it.

        Returns:
            The Markdown file.
        """
        path = self.output / f"{self.name}.md"
        path.write_text(page, encoding="utf-8")
        print(f"{page}\n{path}")
        return path
