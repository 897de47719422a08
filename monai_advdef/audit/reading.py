"""What is read of a model that someone else made: a configuration that runs it, and where each part of it was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monai_advdef.errors import DataError
from monai_advdef.switches import AsWritten, folder

WITHOUT = "none"  # of `labels`: there are none, and the model's own clean prediction is the reference


@dataclass(frozen=True)
class Fact:
    """Something that was found out: ``field`` and ``value`` in words, and its ``source`` (``"validate#inferer in train.json"``)."""

    field: str
    value: str
    source: str


@dataclass(frozen=True, kw_only=True)
class AuditOptions(metaclass=AsWritten):
    """What a user may say of an audit; all but ``output_dir`` may be left away where the model says it itself.

    Args:
        dataset_dir: folder of the data to audit on.
        output_dir: where everything goes.
        checkpoint: a file of weights, in place of those that the model names.
        suite: name of a frozen suite, or a file.
        eps, unit, value_range: what the attacker may do, where it is not recovered: the budget in image units, or several, their
            name, and the lowest and highest valid intensity.
        images, labels: patterns of file names below ``dataset_dir`` (``"labelsTr/{case}.nii.gz"``); ``labels="none"``: there are
            none.
        classes: names of the foreground classes in the order of the channels.
        activation: ``"softmax"`` or ``"sigmoid"``.
        overrides: items of a bundle's own configuration that are to be otherwise, by their path, ``{"network": "unet"}``, or as
            they are typed, ``["network=unet"]``.
        trust: build and run what is someone else's code: scripts, expressions that are not pure, whole pickles.
        dry_run: read the model, say what would be done and what it costs, and stop.
        checks: check whether the numbers can be trusted.
        device: where to compute; empty: a GPU where there is one.
        limit: audit the first so many cases; 0: all.
        gates: what must hold, ``"dice@5HU >= 0.6"``.
        baseline, margin: records of an earlier audit, and by how much its mean may be missed.
        groups: a table of cases or patients with columns to report by.
        junit: a file for build servers.

    Raises:
        ValueError: an empty ``output_dir``; a switch that is neither true nor false; a budget that is not above 0, a range
            that is none, a limit that is no number of cases; a class without a name, or two of one name.
    """

    output_dir: str
    dataset_dir: str = ""
    checkpoint: str = ""
    suite: str = "standard"
    eps: float | Sequence[float] | None = None
    unit: str = ""
    value_range: Sequence[float] | None = None
    images: Sequence[str] | str = ()
    labels: Sequence[str] | str = ()
    classes: Sequence[str] | str = ()
    activation: str = ""
    overrides: Mapping[str, Any] | Sequence[str] = ()
    trust: bool = False
    dry_run: bool = False
    checks: bool = True
    device: str = ""
    limit: int = 0
    gates: Sequence[str] = ()
    baseline: str = ""
    margin: float = 0.02
    groups: str = ""
    junit: str = ""

    def __post_init__(self) -> None:
        for name in ("images", "labels", "classes", "gates"):
            given = getattr(self, name)
            self._put(name, [given] if isinstance(given, str) and given else list(given))
        self._put("output_dir", folder("output_dir", self.output_dir))
        self._put("classes", class_names(self.classes))
        self._put("overrides", typed_settings(self.overrides))
        self._put("eps", None if self.eps is None else _numbers("eps", self.eps))
        self._put("value_range", None if self.value_range is None else _numbers("range", self.value_range))
        if any(not size > 0 for size in self.sizes):
            raise ValueError(f"eps must be above 0 in units of the image, got {self.eps}; leave it away to have it recovered")
        wide = self.value_range
        if wide is not None and not (len(wide) == 2 and -math.inf < wide[0] < wide[1] < math.inf):
            raise ValueError(f"range must be the lowest and the highest intensity of an image, as -1024 3071, got {wide}")
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 0:
            raise ValueError(f"limit must be a number of cases, or 0 for all, got {self.limit}")
        if self.activation not in ("", "softmax", "sigmoid"):
            raise ValueError(f"activation must be softmax or sigmoid, got {self.activation!r}")

    def _put(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides as a mapping."""
        return dict(self.overrides)  # type: ignore[arg-type]  # made one above

    @property
    def sizes(self) -> list[float]:
        """The budgets that were asked for, the largest last."""
        return sorted(set(self.eps or ()))  # type: ignore[arg-type]  # made a list above

    @property
    def unlabelled(self) -> bool:
        """Whether the user said that there are no labels."""
        return list(self.labels) == [WITHOUT]


def class_names(given: Sequence[Any]) -> list[str]:
    """The names of the foreground classes as texts.

    Raises:
        DataError: one is empty, or stands there twice: their numbers would be those of another.
    """
    names = [str(name).strip() for name in given]
    wrong = next((name for i, name in enumerate(names) if not name or name in names[:i]), None)
    if wrong is not None:
        raise DataError(
            f"classes: {wrong!r} {'is given twice' if wrong else 'is no name'} in {names}; give each class a name of its own"
        )
    return names


def _numbers(name: str, given: Any) -> list[float]:
    """A number, or several, of Python, numpy or torch."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    many = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]
    if any(isinstance(x, bool) or not hasattr(x, "__float__") for x in many):
        raise ValueError(f"{name} must be a number, or several, got {given!r}")
    return [float(x) for x in many]


def typed_settings(given: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """``network=unet`` as a mapping, its value read as YAML reads it; ``a#b`` and ``a::b`` name the same.

    Raises:
        ValueError: a text without a name and ``=``.
    """
    if isinstance(given, Mapping):
        return {_id(name): value for name, value in given.items()}
    found = {}
    for text in [given] if isinstance(given, str) else given:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ValueError(f"set {text!r}: write NAME=VALUE, as in network=unet or validate::dataloader::batch_size=1")
        found[_id(name.strip())] = yaml.safe_load(value)
    return found


def _id(name: str) -> str:
    return name.replace("#", "::")  # both are MONAI's


@dataclass(kw_only=True)
class Reading:
    """A model in the words of a configuration.

    Args:
        name: of the model.
        kind: ``"MONAI bundle"``, ``"TorchScript"``, ``"nnU-Net"`` or ``"module"``.
        root: its folder.
        scripts: its own code may be run: modules are found in its folder. Without it a file there that is called like a package
            (``einops.py``) would be run when that is imported.
        files: its own configuration files, in their order; none where ``overlay`` says all.
        overlay: what goes over them; its ``deployed`` is the socket that ``workflows/audit/evaluate.yaml`` plugs into, and refers
            (``"@validate::inferer"``) to what the files define. Later the two are joined and what is not referred to is left out, so
            the socket may use names that the evaluation uses for itself.
        facts: what was found, and where.
        stated: units that its files state, in the order in which they are believed.
        notes: what the user should know: what was left out, replaced or assumed.
    """

    name: str
    kind: str
    root: Path
    scripts: bool = False
    files: list[Path] = field(default_factory=list)
    overlay: dict[str, Any] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stated: list[Any] = field(default_factory=list)

    def tell(self, name: str, value: Any, source: str) -> None:
        """Add a fact."""
        self.facts.append(Fact(name, str(value), source))
