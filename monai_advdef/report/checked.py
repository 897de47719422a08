"""The boxes of the checks that ran with the evaluations shown: one for each check, with the worst that it found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monai_advdef.records import read_verdicts
from monai_advdef.records.verdicts import VERDICTS
from monai_advdef.report.scope import read_scope
from monai_advdef.report.verdicts import Verdict


def checked(folder: Path, used: Iterable[str]) -> list[Verdict]:
    """A box for each check, in the order of the file: the worst verdict on the evaluations ``used`` (fingerprints), with its
    evidence and, where several evaluations were checked, which one it is about.

    Raises:
        RecordError: ``checks.json`` is damaged.
    """
    shown = set(used)
    entries = [entry for name, entry in read_verdicts(folder).items() if name in shown]
    found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for entry in entries:
        for verdict in entry["verdicts"]:
            found.setdefault(verdict["name"], []).append((verdict, entry))
    return [_box(name, pairs, len(entries)) for name, pairs in found.items()]


def doubts(folder: str | Path, *, model: str | None = None) -> list[str]:
    """What the checks doubt of the evaluations that the card of ``folder`` shows, a sentence each; nothing where all is well, or
    nothing was checked.

    Raises:
        RecordError, ValueError: as :func:`monai_advdef.report.build`.
    """
    if not read_verdicts(folder):
        return []
    scope = read_scope(Path(folder) / "records", model=model)
    boxes = checked(Path(folder), scope.every["fingerprint"].unique())
    return [f"{box.name}: {box.status}, {box.text}" for box in boxes if box.status != "ok"]


def _box(name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]], evaluations: int) -> Verdict:
    verdict, entry = max(pairs, key=lambda pair: VERDICTS.index(pair[0]["verdict"]))
    same = sum(other["verdict"] == verdict["verdict"] for other, _ in pairs)
    about = f"{_of(entry)}: " if evaluations > 1 else ""
    more = f" ({same} of {len(pairs)} evaluations)" if verdict["verdict"] != "ok" and len(pairs) > 1 else ""
    return Verdict(name, str(verdict["verdict"]), f"{about}{verdict['evidence']}{more}")


def _of(entry: dict[str, Any]) -> str:
    defended = "" if entry.get("defense", "none") == "none" else f", {entry['defense']}"
    return f"{entry.get('attack', 'attack')}{defended}{', adaptive' if entry.get('adaptive') else ''}"
