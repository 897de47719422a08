"""The parts of a bundle in words, for the table of what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from monai_advdef.audit.bundles.cases import data_of
from monai_advdef.audit.bundles.chain import parts, target
from monai_advdef.audit.bundles.choose import Choice, choices
from monai_advdef.audit.bundles.config import Config, Guard
from monai_advdef.audit.bundles.folder import Bundle
from monai_advdef.errors import DataError

CHAINS = ("preprocessing", "postprocessing")
INTENSITIES = re.compile(r"Intensity|Smooth|Sharpen|Histogram|Contrast")
ABSENT = {"inferer": "SimpleInferer, the engine's own", "postprocessing": "none", "key_metric": "none"}


def told_parts(config: Config, ids: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What each part is, and where it stands."""
    told = {}
    for part in ("preprocessing", "inferer", "postprocessing", "key_metric"):
        id = ids.get(part)
        value = ABSENT[part] if id is None else _chain(config, id) if part in CHAINS else _component(config, id)
        told[part.replace("_", " ")] = (value, "the evaluator names none" if id is None else config.source(id))
    return told


def _chain(config: Config, id: str) -> str:
    items = parts(config, id)
    return str(config.get(id)) if items is None else " > ".join(target(item) for item in items)


def _component(config: Config, id: str) -> str:
    """The class with its arguments, or the names of what is held."""
    node = config.get(id)
    if isinstance(node, dict) and "_target_" in node:
        given = ", ".join(f"{k}={v}" for k, v in node.items() if not k.startswith("_") and not isinstance(v, dict))
        return f"{target(node)}({given})"
    return ", ".join(map(str, node)) if isinstance(node, dict) else str(node)


def shortened(names: Sequence[str], most: int = 12) -> str:
    """The first of many names, and how many there are."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def deployed_first(bundle: Bundle, unlabelled: bool, guard: Guard | None) -> tuple[list[Choice], list[str]]:
    """What a bundle can be audited by, in the order in which it is tried, and why the evaluation on labels is not the first.

    Without labels the inference comes first; and with them, where the evaluation is but the validation of a training, and scales
    images otherwise.

    Raises:
        DataError: no file has an evaluator.
    """
    found = choices(bundle)
    if unlabelled:
        return sorted(found, key=lambda choice: not choice.use), []
    why = "" if found[0].overlaid else otherwise_in_use(bundle, found[0], guard)
    return ([*found[1:], found[0]], [why]) if why else (found, [])


def otherwise_in_use(bundle: Bundle, evaluation: Choice, guard: Guard | None) -> str:
    """In words, that a bundle's inference scales images in another way than its evaluation; empty where it does not."""
    used = next((choice for choice in choices(bundle) if choice.use), None)
    if used is None or evaluation.use:
        return ""
    try:
        both = [(Config(c.files, bundle.root, bundle.metadata, guard), c.evaluator) for c in (evaluation, used)]
        (here, mine), (there, its) = ((config, data_of(config, evaluator)[1]) for config, evaluator in both)
        one, other = _scaling(here, mine), _scaling(there, its)
    except DataError:  # it is told where it is read
        return ""
    if one is None or other is None or one == other:
        return ""
    names = [" > ".join(name for name, _ in steps) or "nothing" for steps in (one, other)]
    names[1] = "other numbers" if names[0] == names[1] else names[1]
    return f"{here.source(mine)} scales images by {names[0]}, the inference by {names[1]} ({there.source(its)})"


def _scaling(config: Config, id: str) -> list[tuple[str, dict[str, str]]] | None:
    """The intensity transforms of a chain with their arguments, references followed."""
    items = parts(config, id)
    if items is None:
        return None
    return [
        (target(item).removesuffix("ict").removesuffix("d").removesuffix("D"), _arguments(config, item))
        for item in items
        if INTENSITIES.search(target(item))
    ]


def _arguments(config: Config, item: Mapping[str, Any]) -> dict[str, str]:
    given = {k: v for k, v in item.items() if k not in ("keys", "allow_missing_keys") and not k.startswith("_")}
    plain = {k: config.evaluated(v) if isinstance(v, str) and v.startswith(("@", "$")) else v for k, v in given.items()}
    said = {k: f"{v:g}" if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v) for k, v in plain.items()}
    return {k: v for k, v in said.items() if v not in ("False", "None")}  # what is so where nothing is said
