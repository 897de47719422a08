"""The rows of the gallery: which pictures are shown, with which words, within how many bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_advdef.report import words
from monai_advdef.report.gallery.panels import scale_of, triple
from monai_advdef.report.gallery.volumes import is_volume, plane, smaller, tall, viewer

PLANE_PARTS = ("image", "adversarial", "difference", "label", "prediction")
VOLUME_PARTS = ("image", "difference", "label", "prediction", "spacing", "limit", "low", "high")
ABOUT = ("case", "rank", "value", "eps", "unit", "attack", "defense", "adaptive")
WIDEST = 256
"""Pictures wider or higher than this many pixels are reduced: the noise of an attack does not compress."""
SMALLEST = 0.25
"""To this share of their width pictures are made smaller, where they must."""
RANKS = {"only": "the only case"}
TOO_LARGE = "Left out to keep this file small; the picture is in gallery/."


def pictures(
    folder: Path,
    eps: float | None,
    *,
    most: int = 8,
    hidden: Collection[str] = (),
    clean: Mapping[tuple[str, str], float] | None = None,
    score: str = "Dice",
    truth: str = "truth",
    room: int = 2_400_000,
) -> list[dict[str, Any]]:
    """Rows of the gallery out of the ``*.npz`` files of a folder: the headline's size first, then, per defence, the attacker who
    knows it and the strongest attack; those of ``hidden`` cells are left out, and of one case its only picture is shown once.

    Args:
        folder: of the pictures, see :class:`monai_advdef.handlers.gallery.Gallery`.
        eps: size of attack of the headline.
        most: rows at most.
        hidden: fingerprints.
        clean: score without an attack by defence and case.
        score, truth: what the score and the reference are called.
        room: bytes that all rows together may take; pictures are made smaller until they fit, and then fewer.

    Raises:
        ValueError: a file lacks a part; names it.
    """
    chosen = _chosen(folder, eps, hidden)[:most]
    for entry in chosen:
        if clean is not None and (entry["defense"], entry["case"]) in clean:
            entry.setdefault("value_clean", clean[entry["defense"], entry["case"]])
    rows, share = [], 1.0
    power = 1 / 3 if any(is_volume(entry) for entry in chosen) else 1 / 2
    while share >= SMALLEST:
        rows = [_row(entry, number, share, score, truth) for number, entry in enumerate(chosen)]
        total = sum(_bytes(row) for row in rows)
        if total <= room:
            return rows
        share *= 0.95 * (max(room, 0) / total) ** power
    for number in reversed(range(len(rows))):
        if sum(_bytes(row) for row in rows) > room:
            rows[number] = _row({**chosen[number], "left_out": TOO_LARGE}, number, 0.0, score, truth)
    return rows


def _chosen(folder: Path, eps: float | None, hidden: Collection[str]) -> list[dict[str, Any]]:
    """The entries that are shown, in their order."""
    entries = [_load(path) for path in sorted(folder.glob("*.npz"))]
    entries = [e for e in entries if e.get("fingerprint") not in hidden]
    entries = [e for e in entries if e["attack"] != "none" and not e["attack"].startswith("noise")]
    entries.sort(key=lambda e: (e["eps"] != eps, not e["adaptive"] and e["defense"] != "none", e["value"], e["case"]))
    chosen: dict[tuple, dict] = {}
    for entry in entries:
        chosen.setdefault((entry["defense"], "worst" if entry["rank"] == "only" else entry["rank"]), entry)
    for key in [key for key in chosen if key[1] != "worst"]:
        worst, other = chosen.get((key[0], "worst")), chosen[key]
        if worst is not None and worst["case"] == other["case"]:
            del chosen[key]
            if worst.get("fingerprint") == other.get("fingerprint"):  # as older galleries keep a lone case
                worst["rank"] = "only"
    return sorted(chosen.values(), key=lambda e: (e["defense"] != "none", e["defense"], e["rank"] == "median"))


def _load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        entry = {name: file[name].item() if file[name].ndim == 0 else file[name] for name in file.files}
    parts = () if "left_out" in entry else VOLUME_PARTS if is_volume(entry) else PLANE_PARTS
    if missing := [name for name in (*parts, *ABOUT) if name not in entry]:
        raise ValueError(f"{path} is not a picture of the gallery: it has no {missing}; remove that file")
    return entry


def _row(entry: dict[str, Any], number: int, share: float, score: str, truth: str) -> dict[str, Any]:
    """What the card shows of one entry, its pictures at a share of their size."""
    before = f"{words.fraction(entry['value_clean'], 2)} → " if "value_clean" in entry else ""
    attacker = "" if entry["defense"] == "none" else ", known to the attacker" if entry["adaptive"] else ", unknown to the attacker"
    channels = int(entry.get("channels", 1))
    row = {
        "case": entry["case"],
        "score": f"{RANKS.get(entry['rank'], entry['rank'])} · {score} {before}{words.fraction(entry['value'], 2)}",
        "how": f"{_attack(entry)}, {words.size(entry['eps'], entry['unit'])}",
        "defence": words.defence(entry["defense"]) + attacker,
        "channel": f"channel 1 of {channels} is shown" if channels not in (1, 3) or (is_volume(entry) and channels > 1) else "",
        "left_out": entry.get("left_out", ""),
        "outlined": "prediction_clean" in entry,
        "viewer": None,
        "number": number,
    }
    if row["left_out"]:
        return row
    if is_volume(entry):
        kept = smaller(entry, share)
        shown = triple(plane(kept), widest=WIDEST, truth=truth, tall=tall(kept))
        return {**row, **shown, "scale": scale_of(kept), "viewer": viewer(kept, number)}
    return {**row, **triple(entry, widest=int(WIDEST * share), truth=truth), "scale": scale_of(entry)}


def _attack(entry: dict[str, Any]) -> str:
    """The attack's name; the worst case of a suite by the suite's."""
    return f"{entry['suite']} (worst case)" if entry["attack"].startswith("worst") and entry.get("suite") else entry["attack"]


def _bytes(row: dict[str, Any]) -> int:
    return sum(len(str(value)) for value in row.values())
