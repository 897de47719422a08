"""The Robustness Card: one self-contained HTML file made from a folder of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monai_advdef import stats
from monai_advdef.neighbours import cannot_write, whole
from monai_advdef.records import read_provenance
from monai_advdef.report import words
from monai_advdef.report.audited import Audit, read_audit
from monai_advdef.report.checked import checked
from monai_advdef.report.figures import curve, forest, gains
from monai_advdef.report.finding import finding
from monai_advdef.report.gallery import pictures
from monai_advdef.report.readings import readings
from monai_advdef.report.scope import METRIC_NAMES, Scope, read_scope
from monai_advdef.report.sections import Section, sections
from monai_advdef.report.structures import structures
from monai_advdef.report.subgroups import subgroups
from monai_advdef.report.suites import suites
from monai_advdef.report.tables import cell_table, class_table, headline_table, unbounded_table
from monai_advdef.report.verdicts import Verdict, verdicts

HERE = Path(__file__).parent
NO_AUDIT = Audit()
LARGEST = 2_900_000
"""Bytes of a card, so that it can be sent by mail; pictures are made smaller until it keeps to them."""


def build(
    folder: str | Path,
    out: str | Path = "card.html",
    *,
    eps: float | None = None,
    model: str | None = None,
    run: str | None = None,
    groups: str | Path | None = None,
) -> Path:
    """Write the card of the evaluation in ``folder`` and return its path.

    Args:
        folder: holds ``records/`` (see :mod:`monai_advdef.records`) and perhaps ``gallery/*.npz``, ``checks.json``, ``audit.json``.
        out: the HTML file; a bare file name lies in ``folder``.
        eps: size of attack the headline speaks of, in image units; by default 8 where it was attacked, else the largest with noise.
        model: which model, where the records hold several. Of several weights of one model, or of several data
            sets, the last evaluated are shown, and the card says which others there are.
        run: fingerprint of a cell whose weights and data are shown instead of the last.
        groups: a list that says which case or patient belongs to which group, see :func:`monai_advdef.report.subgroups.read_groups`.

    Raises:
        RecordError: there are no records, or a file is damaged.
        OSError: the card cannot be written; names it and the remedy.
        ValueError: ``eps`` was not attacked, the records hold several models and none is chosen, or ``groups`` cannot be used.
    """
    folder = Path(folder)
    scope = read_scope(folder / "records", eps=eps, model=model, run=run)
    facts = read_provenance(folder / "records")
    used = set(scope.every["fingerprint"].unique())
    shown = [entry for name, entry in facts.items() if name in used]
    extra = [*filter(None, [readings(scope), structures(scope)]), *(subgroups(scope, groups) if groups is not None else [])]
    page = render(scope, shown, checks=checked(folder, used), audit=read_audit(folder), extra=extra)
    kept = pictures(
        folder / "gallery",
        scope.eps,
        hidden=set(facts) - used,
        clean=_clean(scope),
        score=scope.metric_name,
        truth=scope.truth,
        room=LARGEST - len(page([]).encode()),
    )
    path = folder / out if Path(out).parent == Path(".") else Path(out)
    try:
        with whole(path) as new:
            new.write_text(page(kept), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error, "the card") from error
    return path


def _clean(scope: Scope) -> dict[tuple[str, str], float]:
    """The score without an attack by defence and case."""
    rows = stats.per_case(scope.clean, ["defense"]) if len(scope.clean) else scope.clean
    return {(row["defense"], row["case"]): float(row["value"]) for _, row in rows.iterrows()}


def render(
    scope: Scope, facts: list[dict], *, checks: Sequence[Verdict] = (), audit: Audit = NO_AUDIT, extra: Sequence[Section] = ()
) -> Callable[[list[dict[str, Any]]], str]:
    """The HTML of the card as a function of the rows of its gallery."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found = gains(scope)
    if scope.stability:
        checks = [box._replace(text=box.text.replace("Dice", scope.metric_name)) for box in checks]
    told = {
        "style": Markup((HERE / "card.css").read_text(encoding="utf-8")),
        "script": Markup((HERE / "card.js").read_text(encoding="utf-8")),
        "title": words.evaluation(str(scope.every["task"].iloc[0]), str(scope.every["model"].iloc[0]), audit.kind),
        "subtitle": _subtitle(scope, facts),
        "metric": scope.metric_name,
        "heading": scope.heading,
        "stability": scope.stability,
        "truth": scope.truth,
        "audit": audit,
        "bound": words.bound(scope.eps, scope.unit, scope.norm) if scope.eps is not None else None,
        "norm": scope.norm,
        "knowledge": _knowledge(scope),
        "finding": finding(scope),
        "verdicts": verdicts(scope),
        "checks": checks,
        "headline": headline_table(scope),
        "suites": suites(scope),
        "classes": class_table(scope) if scope.rows["class"].nunique() > 1 else [],
        "defences": [words.defence(name) for name in scope.defenses],
        "sections": [*extra, *sections(scope)],
        "unbounded": unbounded_table(scope),
        "unbounded_metrics": [scope.named(name) for name in METRIC_NAMES if (scope.every["metric"] == name).any()],
        "length_unit": words.units(scope.unit),
        "cells": cell_table(scope),
        "curve": curve(scope),
        "gains": found,
        "forest": forest(scope, found) if found else None,
        "n": scope.every["case"].nunique(),
        "limits": _limits(scope),
        "commands": list(dict.fromkeys(_command(entry["command"]) for entry in facts if entry.get("command"))),
        "versions": _versions(facts),
    }
    template = environment.get_template("card.html.j2")
    return lambda gallery: template.render(**told, gallery=gallery, outlined=any(row["outlined"] for row in gallery))


def _knowledge(scope: Scope) -> str:
    """What the strongest recorded attacker knows: ``weights``, ``defence`` (too), or ``unaware`` of the defences."""
    rows = scope.headline_rows
    defended = rows[rows["defense"] != "none"]
    return "weights" if not len(defended) else "defence" if defended["adaptive"].any() else "unaware"


def _subtitle(scope: Scope, facts: list[dict]) -> str:
    weights = list(dict.fromkeys(words.short_hash(str(entry["weights"])) for entry in facts if entry.get("weights")))
    images, patients = (scope.every[name].nunique() for name in ("case", "patient"))
    dates = sorted(str(entry["recorded"])[:10] for entry in facts if entry.get("recorded"))
    suites = sorted(name for name in scope.every["suite"].unique() if name)
    suites = [_version(name, facts) for name in suites]
    data = list(dict.fromkeys(words.short_hash(str(entry["data"])) for entry in facts if entry.get("data")))
    parts = [
        f"weights {', '.join(weights[:3])}" if weights else "",
        f"data {', '.join(data[:3])}" if data else "",
        f"{words.count(images, 'image')} of {words.count(patients, 'patient')}",
    ]
    parts += [f"suite {words.listing(suites)}" if suites else "", dates[-1] if dates else ""]
    return " · ".join(part for part in parts if part)


def _version(suite: str, facts: list[dict]) -> str:
    """The suite with its version and digest, where the provenance tells them."""
    told = [((entry.get("config") or {}).get("attack") or {}).get("attack") or {} for entry in facts]
    known = [f"{suite} {of['version']} ({of['digest']})" for of in told if of.get("name") == suite and of.get("digest")]
    return " and ".join(dict.fromkeys(known)) or suite


def _limits(scope: Scope) -> list[str]:
    attacks = " ".join([*scope.rows["attack"].unique(), *(scope.members["attack"].unique() if len(scope.members) else ())]).lower()
    patients = scope.every["patient"].nunique()
    told = ["An attack that fails proves nothing: these numbers are upper bounds on robustness."]
    if not any(name in attacks for name in ("square", "transfer")):
        told.append("No attack without gradients and no transferred attack was run, so hidden gradients are not ruled out.")
    if scope.stability:
        told.append("No labels were given: stability is no accuracy, and a model that is wrong may be stable.")
    if patients < 20:
        told.append(f"{words.count(patients, 'patient')} only: read the intervals with care.")
    if scope.others:
        told.append(f"Recorded in the same folder, and not shown here: {'; '.join(scope.others)}.")
    told.append("Not tested: other scanners, patches, physical attacks. Not for clinical use.")
    return told


def _command(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


def _versions(facts: list[dict]) -> str:
    found: dict[str, list[str]] = {}
    for entry in facts:
        for name, version in (entry.get("versions") or {}).items():
            found.setdefault(name, []).append(str(version))
    return " · ".join(f"{name} {' / '.join(dict.fromkeys(versions))}" for name, versions in found.items())
