"""One case of a data set of volumes as its layout tells it, before any task has turned it into an item to load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class VolumeCase:
    """One case: its image files in the order of the data set's channels, its label, and whose and in which section it is.

    Args:
        images: one file per channel; a single file with several channels is a 4-D volume (as MSD keeps its MRI), channels last.
        label: one file with the class numbers of :attr:`VolumeListing.class_names`, a file per structure (name to file, each 0 or
            not 0, as TotalSegmentator keeps them), or None where the case has none (to predict only).
        section: ``train``, ``validation`` or ``test``; empty where the data set does not tell.
    """

    case: str
    patient: str
    images: tuple[Path, ...]
    label: Path | Mapping[str, Path] | None
    section: str = ""


@dataclass(frozen=True)
class VolumeListing:
    """The volumes of a data set, what its files mean, what keeps it from being used, and what one should know.

    Args:
        channels: name of each channel, as the data set spells it (``("FLAIR", "T1w", "t1gd", "T2w")``); empty where it tells none.
        class_names: name of each label value, the background (0) included; empty for labels of a file per structure.
        problems: each names a file or field, its value and the remedy; the data set is not used while there is one.
    """

    cases: tuple[VolumeCase, ...]
    channels: tuple[str, ...] = ()
    class_names: Mapping[int, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
