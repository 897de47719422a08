"""The evidence page in three forms: a page that prints on one side of A4, JSON, and Markdown."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monai_advdef.neighbours import cannot_write, whole
from monai_advdef.report import words
from monai_advdef.report.evidence.gathering import gather
from monai_advdef.report.evidence.results import CLASS, CLEAN

HERE = Path(__file__).parent
MOST = {"results": 8, "classes": 3, "gates": 3, "doubts": 3, "notes": 2, "names": 6}
"""What one side of A4 has room for; all of it stands in the twins."""


def build_evidence(
    folder: str | Path,
    out: str | Path = "evidence.html",
    *,
    eps: float | None = None,
    model: str | None = None,
    run: str | None = None,
) -> Path:
    """Write the evidence page of the evaluation in ``folder``, with a twin in JSON and one in Markdown, and return the page's path.

    Args:
        folder, eps, model, run: as of :func:`monai_advdef.report.build`; of ``audit.json`` and ``checks.json`` what there is.
        out: the HTML file; a bare file name lies in ``folder``. The twins lie beside it, with the ends ``.json`` and ``.md``.

    Raises:
        RecordError: there are no records, or a file is damaged.
        OSError: a file cannot be written; names it and the remedy.
        ValueError: as :func:`monai_advdef.report.build`.
    """
    folder = Path(folder)
    told = gather(folder, eps=eps, model=model, run=run)
    path = folder / out if Path(out).parent == Path(".") else Path(out)
    forms = {
        path.with_suffix(".json"): json.dumps(told, indent=2, ensure_ascii=False) + "\n",
        path.with_suffix(".md"): markdown(told),
        path: html(told),
    }
    for place, text in forms.items():
        try:
            with whole(place) as new:
                new.write_text(text, encoding="utf-8")
        except OSError as error:
            raise cannot_write(place, error, "the evidence page") from error
    return path


def html(told: dict[str, Any]) -> str:
    """The page, of what :func:`gather` tells; what has no room is counted."""
    style = Markup((HERE / "evidence.css").read_text(encoding="utf-8"))
    template, shown = _environment(autoescape=True).get_template("evidence.html.j2"), _shown(told, short=True)
    body = re.sub(r"<style>.*?</style>|<[^>]+>", "", template.render(**shown, style="", size="0"), flags=re.DOTALL)
    return template.render(**shown, style=style, size=f"{print_size(len(' '.join(body.split()))):.2f}")


def print_size(characters: int) -> float:
    """The size of type, in px, with which so many characters fill one side of A4, as measured: 7.5 px to 11 px. The area that a
    text takes grows as the square of the size."""
    height = 230 + 0.145 * characters  # in px at a size of 9.6 px, between margins 188 mm apart
    return min(11.0, max(7.5, 9.6 * math.sqrt(960 / height)))


def markdown(told: dict[str, Any]) -> str:
    """The same in Markdown, with all lines."""
    text = _environment(autoescape=False).get_template("evidence.md.j2").render(**_shown(told, short=False))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(*, autoescape: bool) -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"plain": plain_markdown, "short": lambda text, length: words.shorten(str(text), length)}
    return made


def plain_markdown(text: Any) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(str(text).split()))


def _shown(told: dict[str, Any], *, short: bool) -> dict[str, Any]:
    """What a template shows: lines as text, and of long lists the first and how many more there are."""
    lines = [_line(entry) for entry in told["results"] if entry["what"] != CLASS]
    classes = sorted((e for e in told["results"] if e["what"] == CLASS), key=lambda e: (e["mean"] is None, e["mean"]))
    if short and len(lines) > MOST["results"]:
        lines.sort(key=lambda line: _less(line, told["results"]))
    doubts = [box for box in told["checks"] if box["status"] not in ("ok", "note")]

    def cut(name: str, found: list[Any]) -> list[Any]:
        return found[: MOST[name]] if short else found

    lists = {
        "results": lines,
        "classes": [_line(entry) for entry in classes],
        "gates": sorted(told["gates"], key=lambda gate: gate["passed"]) if short else told["gates"],
        "doubts": doubts,
        "notes": told["notes"],
    }
    return {
        **told,
        **{name: cut(name, found) for name, found in lists.items()},
        "more": {name: max(0, len(found) - len(cut(name, found))) for name, found in lists.items()},
        "fine": [box["name"] for box in told["checks"] if box["status"] in ("ok", "note")],
        "defences": len(told["tested"]["defenses"]),
        "names": cut("names", told["tested"]["classes"]),
        "more_names": len(told["tested"]["classes"]) - len(cut("names", told["tested"]["classes"])),
    }


def _less(line: dict[str, Any], every: list[dict[str, Any]]) -> int:
    """How far behind the headline a line comes, where not all have room: what the undefended network does beside it, the headline of
    each defence, clean scores, the rest."""
    size = next((entry["eps"] for entry in every if entry["headline"]), None)
    beside = line["what"] == CLEAN or line["eps"] == size
    return (0 if line["defense"] == "none" else 1 if line["headline"] else 2) if beside else 3


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    """A result as text."""
    interval = words.interval(entry["ci_low"], entry["ci_high"]) if entry["ci_low"] is not None else "none: one patient"
    size = words.size(entry["eps"], entry["unit"]) if entry["eps"] is not None else "–"
    return {
        **entry,
        "size": size,
        "defence": words.defence(entry["defense"]),
        "value": words.fraction(entry["mean"]),
        "interval": interval,
        "p5": words.fraction(entry["p5"]),
        "of": words.listing(entry["attacks"]) if entry["attacks"] else "–",
    }
