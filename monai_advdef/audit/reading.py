"""What is read of a model that someone else made: a configuration that runs it, and where each part of it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_advdef.switches import AsWritten

WITHOUT = "none"  # of `labels`: there are none, and the model's own clean prediction is the reference


@dataclass(frozen=True)
class Fact:
    """Something that was found out: ``field`` and ``value`` in words, and its ``source`` (``"validate#inferer in train.json"``)."""

    field: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class AuditOptions(metaclass=AsWritten):
    """What a user may say of a model that is audited; all but the data may be left away where the model says it itself.

    Args:
        dataset_dir: folder of the data to audit on.
        output_dir: where everything goes.
        images, labels: patterns of file names below ``dataset_dir`` (``"labelsTr/{case}.nii.gz"``); ``labels="none"``: there are none.
        classes: names of the foreground classes in the order of the channels.
        activation: ``"softmax"`` or ``"sigmoid"``.
        trust: build and run what is someone else's code: scripts, expressions that are not pure, whole pickles.
        device: where to compute.
        limit: audit the first so many cases; 0: all.

    Raises:
        ValueError: a switch that is neither true nor false.
    """

    dataset_dir: str
    output_dir: str
    images: Sequence[str] = ()
    labels: Sequence[str] | str = ()
    classes: Sequence[str] = ()
    activation: str = ""
    trust: bool = False
    device: str = "cpu"
    limit: int = 0

    @property
    def unlabelled(self) -> bool:
        """Whether the user said that there are no labels."""
        return self.labels == WITHOUT or list(self.labels) == [WITHOUT]


@dataclass(kw_only=True)
class Reading:
    """A model in the words of a configuration.

    Args:
        name: of the model.
        kind: ``"MONAI bundle"``, ``"TorchScript"``, ``"nnU-Net"`` or ``"module"``.
        root: its folder, which holds its own ``scripts``.
        files: its own configuration files, in their order; none where ``overlay`` says all.
        overlay: what goes over them; its ``deployed`` is the socket that ``workflows/audit/evaluate.yaml`` plugs into, and refers
            (``"@validate::inferer"``) to what the files define. Later the two are joined and what is not referred to is left out, so
            the socket may use names that the evaluation uses for itself.
        facts: what was found, and where.
        notes: what the user should know: what was left out, replaced or assumed.
    """

    name: str
    kind: str
    root: Path
    files: list[Path] = field(default_factory=list)
    overlay: dict[str, Any] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tell(self, name: str, value: Any, source: str) -> None:
        """Add a fact."""
        self.facts.append(Fact(name, str(value), source))
