"""Gates as they are written: ``dice[spleen]@5HU/standard >= 0.6``.

gate    = what "@" size [ "/" attack ]  ( ">=" | "<=" | ">" | "<" )  bound
what    = measure [ "[" class "]" ], or a statistic of it over cases: mean, median, min, max, p0 to p100, as p10(dice[spleen])
measure = dice, iou, nsd, hd95_mm, component_recall, ..., stability (without labels), drop (of Dice: clean minus attacked)
size    = "clean", or what was attacked: a number and its unit (HU, grey level, sigma, %; of an attack that cannot go through the
          preprocessing with "at the network's input" behind it), which may be left out
attack  = a suite or one attack; left out, the lowest of all that were run
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from monai_advdef.comparison.measures import DROP, OVERLAPS, STABILITY, Measure, measure, unit_of
from monai_advdef.errors import DataError

EXAMPLES = ("dice@5HU >= 0.6", "dice[spleen]@5HU/standard >= 0.5", "p10(dice)@8 >= 0.4", "dice@clean >= 0.8", "drop@5HU <= 0.2")
CLEAN = "clean"
STATISTICS = ("mean", "median", "min", "max")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_AT_INPUT = r"(\s*,)?(\s*\bat( the)?( network(['’]?s)?)? input)"
_UNIT = re.compile(rf"([^\W\d_]+( (?!at\b)[^\W\d_]+)*|%( of( the)? range)?)({_AT_INPUT})?", re.IGNORECASE)
_SIGN = re.compile(r">=|<=|≥|≤|>|<")


@dataclass(frozen=True)
class Gate:
    """A number of an audit and the bound that it must keep to.

    Attributes:
        measure: ``dice``, ``hd95_mm``, ``drop``...
        sign: ``>=``, ``<=``, ``>`` or ``<``.
        bound: in the unit of the measure.
        eps: size of the attack in image units; ``None``: clean.
        unit: of ``eps``, in one spelling; empty: whatever the records have.
        structure: name of the class; empty: the mean over the classes of each case.
        statistic: over cases: ``mean``, ``median``, ``min``, ``max`` or ``p10``.
        attack: a suite or an attack; empty: the lowest of all.
    """

    measure: str
    sign: str
    bound: float
    eps: float | None = None
    unit: str = ""
    structure: str = ""
    statistic: str = "mean"
    attack: str = ""

    @property
    def of(self) -> Measure:
        """What its measure is."""
        return measure(self.measure)

    @property
    def number(self) -> str:
        """The left side, as it would be written."""
        what = self.measure + (f"[{self.structure}]" if self.structure else "")
        what = what if self.statistic == "mean" else f"{self.statistic}({what})"
        size = CLEAN if self.eps is None else f"{self.eps:.17g}" if float(f"{self.eps:g}") != self.eps else f"{self.eps:g}"
        space = " " if self.unit and self.unit != "HU" and self.unit != "%" else ""
        return f"{what}@{size}{space}{self.unit}" + (f"/{self.attack}" if self.attack else "")

    def __str__(self) -> str:
        """As it would be written; :func:`parse_gate` reads the same gate from it."""
        bound = f"{self.bound:g}" if float(f"{self.bound:g}") == self.bound else f"{self.bound:.17g}"
        return f"{self.number} {self.sign} {bound}"

    def kept_by(self, value: float) -> bool:
        """Whether a value keeps to the bound; nothing that is undefined does."""
        return {
            ">=": value >= self.bound,
            "<=": value <= self.bound,
            ">": value > self.bound,
            "<": value < self.bound,
        }[self.sign]


def parse_gates(texts: Sequence[str], *, labels: bool = True) -> list[Gate]:
    """The gates of a command line.

    Args:
        texts: one gate each.
        labels: whether there are labels; without them the model is compared with itself, and the measure is ``stability``.

    Raises:
        DataError: a text that is no gate, with a mark under the place and examples; one that could not fail or not be met.
    """
    gates = [parse_gate(text, labels=labels) for text in texts]
    twice = next((g for i, g in enumerate(gates) if g in gates[:i]), None)
    if twice is not None:
        raise DataError(f"the gate {str(twice)!r} is given twice; give each once")
    return gates


def parse_gate(text: str, *, labels: bool = True) -> Gate:
    """One gate; see :func:`parse_gates`."""
    return _Reader(str(text)).gate(labels)


class _Reader:
    """Reads a gate from left to right; ``at`` is the place that has been reached."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def gate(self, labels: bool) -> Gate:
        start = self.skip()
        name = self.take(_NAME, "the name of a measure, as in dice@5HU >= 0.6")
        statistic, inner = "mean", self.peek("(")
        if inner:
            statistic = self.statistic(name, start)
            self.expect("(")
            start = self.skip()
            name = self.take(_NAME, "the name of a measure, as in p10(dice)@5HU >= 0.4")
        of = self.known(name, start)
        structure = self.structure()
        if inner:
            self.expect(")", "a closing bracket (the size stands behind it, as in p10(dice)@5HU)")
        eps, unit, attack = self.place()
        self.skip()
        sign_at = self.at
        sign = self.take(_SIGN, "one of >= <= > <").replace("≥", ">=").replace("≤", "<=")
        bound_at = self.skip()
        bound = self.number("a number to compare with")
        if self.skip() < len(self.text):
            unitless = "; a bound has no unit of its own: it is in that of the measure, a fraction or mm"
            self.fail(self.at, f"nothing more is expected here{unitless if self.text[self.at].isalpha() or self.peek('%') else ''}")
        found = Gate(name, sign, bound, eps, unit, structure, statistic, attack)
        self.sensible(found, of, start, sign_at, bound_at, labels)
        return found

    def known(self, name: str, start: int) -> Measure:
        try:
            return measure(name)
        except ValueError as error:
            self.fail(start, str(error))

    def statistic(self, name: str, start: int) -> str:
        if name in STATISTICS:
            return name
        if re.fullmatch(r"p\d{1,3}", name) and int(name[1:]) <= 100:
            return f"p{int(name[1:])}"
        self.fail(start, f"{name!r} is no statistic over cases; known: {', '.join(STATISTICS)}, and percentiles p0 to p100")

    def structure(self) -> str:
        if not self.peek("["):
            return ""
        begin = self.at
        end = self.text.find("]", begin)
        if end < 0:
            self.fail(begin, "this bracket is not closed; write the class in brackets, as in dice[spleen]@5HU")
        name = " ".join(self.text[begin + 1 : end].split())
        if not name:
            self.fail(begin, "no class is named in these brackets; leave them out for the mean over classes")
        self.at = end + 1
        return name

    def place(self) -> tuple[float | None, str, str]:
        """Size, unit and attack."""
        self.expect("@", "the size of the attack: @5HU, @8, or @clean for no attack")
        self.skip()
        if self.text[self.at :].lower().startswith(CLEAN):
            self.at += len(CLEAN)
            if self.peek("/"):
                self.fail(self.at, "a clean number has no attack")
            return None, "", ""
        start = self.at
        eps = self.number("a number, the size of the attack in units of the image, or the word clean")
        if eps <= 0:
            self.fail(start, f"an attack has a size above 0, not {eps:g}; the number without an attack is @clean")
        self.skip()
        unit = _UNIT.match(self.text, self.at)
        if unit:
            self.at = unit.end()
        return eps, unit_of(unit[0]) if unit else "", self.attack()

    def attack(self) -> str:
        """Everything up to the sign of comparison."""
        if not self.peek("/"):
            return ""
        begin = self.at
        sign = _SIGN.search(self.text, begin)
        self.at = sign.start() if sign else len(self.text)
        name = " ".join(self.text[begin + 1 : self.at].split())
        if not name:
            self.fail(begin, "a suite or an attack is expected behind this stroke, as in dice@5HU/standard")
        return name

    def sensible(self, gate: Gate, of: Measure, name_at: int, sign_at: int, bound_at: int, labels: bool) -> None:
        """Refuse what could not fail, could not be met, or asks for the worse."""
        wanted = ">=" if of.better == "higher" else "<="
        if gate.sign[0] != wanted[0]:
            rises = "higher" if of.better == "higher" else of.better
            self.fail(sign_at, f"{gate.measure} is better when {rises}, and this gate is kept by the worse; write {wanted}")
        if not of.low <= gate.bound <= of.high:
            hint = f"; {gate.bound / 100:g} is meant?" if of.high == 1 and 1 < gate.bound <= 100 else ""
            reach = f"{of.low:g} to {of.high:g}" if math.isfinite(of.high) else f"{of.low:g} upwards"
            self.fail(bound_at, f"{gate.measure} has values from {reach}{hint}")
        worst, best = (of.low, of.high) if wanted == ">=" else (of.high, of.low)
        if gate.bound == (worst if len(gate.sign) == 2 else best):
            never = "every value keeps to this bound" if len(gate.sign) == 2 else "no value keeps to this bound"
            self.fail(bound_at, f"{never}; choose another")
        if gate.measure == DROP and gate.eps is None:
            self.fail(name_at, "a drop is the clean number minus that under attack; write the size of the attack, as in drop@5HU")
        if gate.measure == STABILITY and gate.eps is None:
            self.fail(name_at, "stability is 1 on clean images by definition: the reference is the clean prediction")
        if not labels and gate.measure in OVERLAPS:
            self.fail(
                name_at, f"there are no labels, so there is no {gate.measure}: the reference is the model's own; use stability"
            )
        if labels and gate.measure == STABILITY:
            self.fail(name_at, "stability is for audits without labels; with them the measure is dice")

    def number(self, what: str) -> float:
        begin = self.skip()
        value = float(self.take(_NUMBER, what))
        if not math.isfinite(value):
            self.fail(begin, "this number is too large")
        return value

    def skip(self) -> int:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at

    def peek(self, sign: str) -> bool:
        self.skip()
        return self.text.startswith(sign, self.at)

    def expect(self, sign: str, what: str = "") -> None:
        if not self.peek(sign):
            self.fail(self.at, f"{what or repr(sign)} is expected here")
        self.at += len(sign)

    def take(self, pattern: re.Pattern[str], what: str) -> str:
        self.skip()
        found = pattern.match(self.text, self.at)
        if found is None:
            self.fail(self.at, f"{what} is expected here")
        self.at = found.end()
        return found[0]

    def fail(self, at: int, why: str) -> NoReturn:
        shown = "".join(sign if sign.isprintable() else " " for sign in self.text)
        examples = ", ".join(repr(e) for e in EXAMPLES)
        raise DataError(f"gate {shown!r}: {why}\n    {shown}\n    {' ' * at}^\nexamples: {examples}")
