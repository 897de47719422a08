"""What an attacker of someone else's model may do: unit, budget and range of its images, recovered from the chain and the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from monai_advdef.audit.reading import Fact
from monai_advdef.audit.tail import Divided, NotDifferentiable
from monai_advdef.audit.tail.scale import local_scale
from monai_advdef.audit.tail.stated import (
    BUDGETS,
    GREY,
    HU,
    PERCENT,
    RANGES,
    SHARE,
    SIGMA,
    Stated,
    of_chain,
    of_files,
    spelt,
    window,
)
from monai_advdef.audit.tail.units import brightness_free, sigma
from monai_advdef.errors import DataError

Item = Mapping[str, Any]  # of an audit's data set: image, fed, case, files


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A threat model of images, where it was read, and how the preprocessing has to be divided for it.

    Args:
        eps, value_range, unit, relative, region: see :class:`monai_advdef.ThreatModel`.
        source: where the unit was read.
        notes: what must be told wherever a number is.
        per_sigma, at_input: see :func:`monai_advdef.audit.divided`.
    """

    unit: str
    eps: float
    value_range: Any
    source: str
    relative: bool = False
    region: str | None = None
    notes: tuple[str, ...] = ()
    per_sigma: dict[str, bool] | None = None
    at_input: float | None = None

    def threat(self) -> dict[str, Any]:
        """The fields of the threat model."""
        wide = self.value_range if isinstance(self.value_range, str) else list(self.value_range)
        return {"eps": self.eps, "value_range": wide, "unit": self.unit, "relative": self.relative, "region": self.region}

    def division(self) -> dict[str, Any]:
        """How :func:`monai_advdef.audit.divided` divides for it."""
        return {"per_sigma": self.per_sigma, "at_input": self.at_input}

    def facts(self) -> list[Fact]:
        """What was recovered, to be printed and recorded."""
        wide = "each image's own" if isinstance(self.value_range, str) else "{:g} to {:g}".format(*self.value_range)
        return [
            Fact("unit", self.unit, self.source),
            Fact("eps", f"{self.eps:g} {self.unit}", "given, or the default of the unit"),
            Fact("range", wide, "given, or of the unit and the images"),
        ]


@dataclass
class _Seen:
    """What the images of a data set showed."""

    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    whole: bool = True  # all values whole numbers
    scales: list[float] = field(default_factory=list)
    lacking: str = ""  # why the tail has no gradient


def recover(
    parts: Divided,
    items: Iterable[Item],
    *,
    complete: bool = True,
    stated: Sequence[Stated | None] = (),
    unit: str = "",
    eps: float | None = None,
    value_range: Sequence[float] | None = None,
) -> Recovered:
    """The threat model of images: what is given, else what the files tell, else what is stated, else what chain and values show.

    A default range never excludes a case: where one lies outside, or not all of HU were looked at, it is each image's own. Where the
    tail has no gradient, or is not equal to what the deployed chain makes, eps moves the network's input by as much as the image's
    eps moves it at the median case.

    Args:
        parts: of :func:`monai_advdef.audit.tail.dividing.split`.
        items: cases with ``image`` (C, \\*S) of the head, ``fed`` (C', \\*S') of the whole chain, ``case``, ``files``; a data set,
            which may be gone through twice.
        complete: whether these are all cases.
        stated: units that a model's or a data set's files state, in the order in which they are believed; a header or a picture
            among the images themselves comes before them.
        unit, eps, value_range: given by a user.

    Raises:
        DataError: no case; an eps that is not above 0, or wider than the window that the network sees; a range that a case leaves; a
            unit without a default eps or one that the chain does not allow.
    """
    first = next(iter(items), None)
    if first is None:
        raise DataError("there is no case to audit on; name the files with --images and --labels")
    found = _unit(parts, first, [s for s in stated if s is not None], unit)
    per_sigma = brightness_free(parts.tail.transforms) if found.unit == SIGMA else None
    budget = _budget(found.unit, eps, float(torch.as_tensor(first["image"]).max()))
    _require_below_window(parts, found.unit, budget)
    seen = _look(parts, items, budget, found.unit, per_sigma, fallback=False)
    if seen.lacking:
        seen = _look(parts, items, budget, found.unit, per_sigma, fallback=True, lacking=seen.lacking)
        made = _at_input(found, budget, seen)
        unused = () if value_range is None else ("--range is of the image, and is not used at the network's input",)
        return replace(made, notes=(*made.notes, *unused))
    if eps is None and found.unit == GREY and max(span[1] for span in seen.spans.values()) > 255:
        budget = BUDGETS[GREY] * 257  # of 65535, where the first case was a dark one
    wide, notes = _range(found.unit, seen, complete, value_range)
    region = "nonzero" if per_sigma is not None and per_sigma["nonzero"] else None
    relative = found.unit == PERCENT
    return Recovered(
        unit=found.unit,
        eps=budget,
        value_range=wide,
        source=found.source,
        relative=relative,
        region=region,
        notes=tuple(notes),
        per_sigma=per_sigma,
    )


def _unit(parts: Divided, item: Item, stated: Sequence[Stated], given: str) -> Stated:
    x = torch.as_tensor(item["image"]).as_subclass(Tensor).float()
    low, high = float(x.min()), float(x.max())
    free = brightness_free(parts.tail.transforms) is not None
    if given:
        found = Stated(spelt(given), "given")
        if found.unit == SIGMA and not free:
            raise DataError(
                f"unit {given}: this preprocessing asks how bright an image is as a whole, so it cannot be given in standard "
                f"deviations; give --unit '{PERCENT}'"
            )
        return found
    shown = low < 0 or high <= 1  # fat and air are below 0 HU: what has neither is no CT, or not in HU
    told = (of_files(item), *(s for s in stated if s.unit != HU or shown), of_chain(parts.tail.transforms))
    found = next((s for s in told if s is not None), None) or _of_values(low, high, free)
    if found.unit in (HU, GREY) and low >= 0 and high <= 1 and bool((x != x.round()).any()):
        return Stated(SHARE, f"images lie inside [0, 1], although {found.source} says {found.unit}")
    if found.unit == SIGMA and not free:
        return Stated(PERCENT, found.source)
    return found


def _of_values(low: float, high: float, free: bool) -> Stated:
    span = f"values of {low:g} to {high:g}"
    if low <= -500:
        return Stated(HU, f"{span}; no file says it, give --unit where that is wrong")
    if free:
        return Stated(SIGMA, f"the preprocessing normalises; {span}; no file says a unit, give --unit where there is one")
    if 0 <= low and 1 < high <= 255:
        return Stated(GREY, f"{span}; no file says it, give --unit where that is wrong")
    if 0 <= low and high <= 1:
        return Stated(SHARE, span)
    return Stated(PERCENT, f"{span}; no file says a unit, give --unit where there is one")


def _budget(unit: str, given: float | None, top: float) -> float:
    if given is not None:
        if not given > 0:
            raise DataError(f"eps must be above 0 in {unit}, got {given:g}; leave it away for the default of the unit")
        return float(given)
    if unit not in BUDGETS:
        raise DataError(f"unit {unit!r} has no default eps; give --eps, or a unit of {', '.join(BUDGETS)}")
    return BUDGETS[unit] * (257 if unit == GREY and top > 255 else 1)  # of 65535


def _require_below_window(parts: Divided, unit: str, eps: float) -> None:
    t = window(parts.tail.transforms)
    if t is None or unit in (SIGMA, PERCENT):
        return
    wide = abs(float(t.a_max) - float(t.a_min))
    if eps >= wide > 0:
        raise DataError(
            f"eps {eps:g} {unit} is as wide as the window {t.a_min:g}…{t.a_max:g} that the network sees, so every image could "
            f"become every other; give --eps well below {wide:g}"
        )


def _look(
    parts: Divided,
    items: Iterable[Item],
    eps: float,
    unit: str,
    per_sigma: Mapping[str, bool] | None,
    *,
    fallback: bool,
    lacking: str = "",
) -> _Seen:
    """Go through the cases: their span, and whether the tail is equal and has a gradient or, as a ``fallback``, its local scale."""
    seen = _Seen(lacking=lacking)
    for name, image, fed in _cases(items):
        plain = image.as_subclass(Tensor)
        seen.spans[name] = (float(plain.min()), float(plain.max()))
        seen.whole = seen.whole and bool((plain == plain.round()).all())
        if fallback:
            step = torch.as_tensor(eps)
            if unit == SIGMA and per_sigma is not None:
                step = eps * sigma(image, **per_sigma)
            elif unit == PERCENT:
                step = eps / 100 * (plain.max() - plain.min())
            scale = local_scale(parts.tail, image, fed, step)
            seen.scales += [] if not scale else [scale * float(step.mean()) / eps]
            continue
        try:
            given = image if per_sigma is None else image / sigma(image, **per_sigma)
            parts.tail.require_equal(given[None], fed[None], name)
        except NotDifferentiable as error:
            seen.lacking = str(error)
            return seen
    return seen


def _cases(items: Iterable[Item]) -> Iterator[tuple[str, Tensor, Tensor]]:
    for item in items:
        yield str(item["case"]), item["image"], item["fed"]


def _range(unit: str, seen: _Seen, complete: bool, given: Sequence[float] | None) -> tuple[Any, list[str]]:
    low, high = min(s[0] for s in seen.spans.values()), max(s[1] for s in seen.spans.values())
    if given is not None:
        if unit == SIGMA:
            raise DataError("a range in standard deviations would be another one for each image; leave --range away, or give --unit")
        wide = (float(given[0]), float(given[1]))
        for name, span in seen.spans.items():
            if span[0] < wide[0] or span[1] > wide[1]:
                raise DataError(
                    f"{name} spans {span[0]:g} to {span[1]:g} {unit}, outside --range {wide[0]:g} {wide[1]:g}; give the range the "
                    "images are really stored in, or leave it away"
                )
        return wide, []
    if unit not in RANGES:
        return "image", []
    wide = (0.0, 65535.0) if unit == GREY and high > 255 else RANGES[unit]
    if (complete or unit != HU) and wide[0] <= low and high <= wide[1]:
        return wide, []
    why = "not every case was looked at"
    if complete:
        why = f"images reach {low:g} to {high:g}, beyond {wide[0]:g} to {wide[1]:g} {unit}"
    return "image", [f"{why}: the valid range is each image's own"]


def _at_input(found: Stated, eps: float, seen: _Seen) -> Recovered:
    """The attack at the network's input, by the local scale of the median case."""
    lead = f"the attack is at the network's input, not at the image, because {seen.lacking.split('; attack the input')[0]}"
    if not seen.scales:
        return Recovered(
            unit=f"{PERCENT}, at the network's input",
            eps=BUDGETS[PERCENT],
            value_range="image",
            source="the local scale could not be measured",
            relative=True,
            notes=(
                f"{lead}; how far {eps:g} {found.unit} of the image move that input could not be measured: eps is in % of its range",
            ),
            at_input=1.0,
        )
    scale = median(seen.scales)
    spread = f"{min(seen.scales):.3g} to {max(seen.scales):.3g}" if len(seen.scales) > 1 else "one case"
    return Recovered(
        unit=f"{found.unit}, at the network's input",
        eps=eps,
        value_range="image",
        source=found.source,
        notes=(f"{lead}; 1 {found.unit} of the image is taken for {scale:.3g} of that input, the median of its cases ({spread})",),
        at_input=scale,
    )
