"""Networks that answer to prompts: they segment what a click or a box points at, and an audit has neither."""

from __future__ import annotations

import re

from monai_advdef.audit.bundles.chain import parts, target
from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.errors import DataError

NETWORKS = re.compile(r"vista|sam(?![a-z])|SamWrapper|segment_?anything|interactive", re.I)
PROMPTS = re.compile(r"Click|SeedPoint|PointGuidance|RandomGuidance|InitialSeed|ExtremePoint|BoundingBox|Prompt|VistaPre", re.I)
OPTIONAL = re.compile(r"Guidance", re.I)
EVALUATORS = ("SupervisedEvaluator",)


class Promptable(DataError):
    """A configuration whose network waits for prompts."""


def require_promptless(config: Config, evaluator: str, transform: str) -> list[str]:
    """Pass where an evaluator feeds images alone; returns what is to be told of prompts that may be left away.

    Raises:
        Promptable: prompts are needed, naming what asks for them.
        DataError: an evaluator that works in a way of its own.
    """
    network = config.reach([f"{evaluator}{SEP}network"])
    made = [str(v.get("_target_")) for v in network.values() if isinstance(v, dict)] + [
        v for v in network.values() if isinstance(v, str)
    ]
    named = next((m for m in made if NETWORKS.search(m.rsplit("(", 1)[0].rsplit(".", 1)[-1])), None)
    if named:
        raise Promptable(_words(config.source(f"{evaluator}{SEP}network"), f"the network {named!r}"))
    node = config.get(evaluator)
    kind = target(node)
    if isinstance(node, dict) and node.get("iteration_update") is not None:
        what = target(config.get(config.follow(f"{evaluator}{SEP}iteration_update"))) or str(node["iteration_update"])
        raise Promptable(_words(config.source(evaluator), f"the evaluator's iteration {what!r}"))
    if NETWORKS.search(kind):
        raise Promptable(_words(config.source(evaluator), f"the evaluator {kind!r}"))
    if kind not in EVALUATORS:
        raise DataError(
            f"{config.source(evaluator)}: {kind!r} is none of {', '.join(EVALUATORS)}, so how it evaluates is not known; audit its "
            "network as a module"
        )
    names = [target(item) for item in parts(config, transform) or ()]
    asked = [name for name in names if PROMPTS.search(name)]
    if asked:
        raise Promptable(_words(config.source(transform), f"{asked[0]} in its preprocessing"))
    optional = [name for name in names if OPTIONAL.search(name)]
    told = f"{config.source(transform)}: clicks may be given to the network; none are, so it segments by itself"
    return [told] if optional else []


def _words(where: str, what: str) -> str:
    return (
        f"{where}: {what} waits for prompts (clicks, boxes or class numbers), or is of a family of networks that do so or that tell "
        "single objects apart; it gives no map of classes by itself, so it is not audited: give a configuration in which it does"
    )
