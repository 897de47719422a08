"""The texts that results of robustness tests speak to, each with one careful sentence, and what such tests do not cover.

A sentence says what these results can contribute to that part, and what of it they leave open; never that it is fulfilled.
"""

from __future__ import annotations

from typing import NamedTuple

from monai_advdef.report import words
from monai_advdef.report.scope import Scope, is_noise
from monai_advdef.report.sections import BOUND

AI_ACT = "EU AI Act, Regulation (EU) 2024/1689"
FDA = "FDA draft guidance, AI-Enabled Device Software Functions, January 2025"
PREFACE = (
    "Parts to which these results can contribute. Whether a text applies, and what would suffice, is for others to judge; no "
    "conformity is claimed."
)


class Passage(NamedTuple):
    """A part of a text, and what the results have to do with it."""

    text: str
    part: str
    sentence: str


def passages(scope: Scope) -> list[Passage]:
    """The parts to which the results of an evaluation can contribute."""
    return [*_ai_act(scope), *_fda(scope), *_standards(scope)]


def _ai_act(scope: Scope) -> list[Passage]:
    """Article 15, accuracy, robustness and cybersecurity."""
    size = words.bound(scope.eps, scope.unit, scope.norm) if scope.eps is not None else ""
    where = f"clean and under changes of at most {size}" if size else "on clean images only (no bounded attack is recorded)"
    what = "How stable predictions are (not how accurate)" if scope.stability else "Accuracy"
    noise = f"Random noise of at most {size}" if size and len(scope.noise(scope.eps)) else ""
    errors = f"{noise} stands for some errors of the input" if noise else "No error of the input (noise, artefacts) was measured"
    attacks = (
        "Inputs made to mislead the model (adversarial examples, model evasion) were tried, as listed; poisoning of data or model, "
        "confidentiality attacks, and how attacks are detected and answered, were not."
    )
    return [
        Passage(
            AI_ACT,
            "Article 15(1), accuracy and robustness",
            f"{what}, {where}, is measured with intervals on this data set; which level is appropriate is not said.",
        ),
        Passage(
            AI_ACT,
            "Article 15(4), errors and faults",
            f"{errors}; faults of hardware and software, redundancy and feedback loops were not examined.",
        ),
        Passage(
            AI_ACT,
            "Article 15(5), attacks on the model",
            attacks if size else "No input made to mislead the model within a bound is recorded.",
        ),
    ]


def _fda(scope: Scope) -> list[Passage]:
    measured = "Stability" if scope.stability else "Performance"
    cases = words.count(scope.every["case"].nunique(), "case")
    evasion = "Of the threats it names, model evasion was tested; data poisoning, leakage, model theft and inversion were not."
    return [
        Passage(
            FDA,
            "performance validation",
            f"{measured} by case and structure, with intervals, on {cases}; it is no clinical study, and the cases need not stand "
            "for the intended population.",
        ),
        Passage(FDA, "cybersecurity", evasion if scope.eps is not None else "None of the threats it names was tested."),
    ]


def _standards(scope: Scope) -> list[Passage]:
    certified = scope.every["metric"].str.startswith(BOUND).any()
    measured = "A measurement" if scope.eps is not None else "No measurement"
    return [
        Passage(
            "AAMI CR515:2025",
            "cybersecurity threats to deployed ML-enabled devices",
            f"{measured} of how far changed inputs mislead the model, for use in a threat model; likelihood and harm are not "
            "assessed.",
        ),
        Passage(
            "ISO/IEC TR 24029-1:2021",
            "robustness, empirical and statistical methods",
            "Attacks and noise are empirical tests with statistics over cases; they find failures and do not prove their absence.",
        ),
        Passage(
            "ISO/IEC 24029-2:2023",
            "robustness, formal methods",
            "The certificates by randomised smoothing are statistical bounds; no formal verification was done."
            if certified
            else "No formal method was used.",
        ),
    ]


def not_covered(scope: Scope) -> list[str]:
    """What the results say nothing about."""
    names = " ".join([*scope.rows["attack"].unique(), *(scope.members["attack"].unique() if len(scope.members) else ())]).lower()
    rows = scope.attacked()
    sizes = sorted(rows["eps"].unique())
    told = ["Other attacks: one that fails proves nothing, so every number under attack is an upper bound on robustness."]
    if sizes:
        among = " or ".join(f"{eps:g}" for eps in sizes[:5]) + (" …" if len(sizes) > 5 else "")
        told.append(f"Other sizes and measures of change than {among} {words.units(scope.unit)} ({_norm(scope.norm)}).")
    if not any(name in names for name in ("square", "transfer")):
        told.append("Attacks without gradients or from other models: gradients that are hidden are not ruled out.")
    if not is_noise(scope.rows).any():
        told.append("Random noise of the same size.")
    told += [
        "Shifts: other scanners, sites, protocols, populations; artefacts and image errors.",
        "Patches, physical attacks, and changes of the patient or the scene.",
        "Poisoned training data or weights, theft of model or data, and the software, hardware and network around the model.",
        "Clinical safety and benefit: an overlap of outlines says neither who is harmed nor whether a reader would notice.",
    ]
    if scope.stability:
        told.append("Accuracy: no labels were given, and a model that is wrong may be stable.")
    return told


def _norm(norm: str) -> str:
    return {"linf": "largest change of a pixel", "l2": "length of the whole change"}.get(norm, norm)
