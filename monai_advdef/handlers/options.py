"""From the flat options of an overlay (``attack: PGD, eps: 8, steps: 10``) to the objects that a handler is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from monai_advdef.attacks.named import named_attack
from monai_advdef.defenses.quantiser import check_seen_through
from monai_advdef.errors import nearest
from monai_advdef.logits import unwrap
from monai_advdef.networks.scaled import ScaledLogits
from monai_advdef.records import LABELS, REFERENCES
from monai_advdef.switches import AsWritten
from monai_advdef.threat import ThreatModel, as_threat
from monai_advdef.victim import Victim

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class VictimSettings(metaclass=AsWritten):
    """How the network is looked at while images are crafted.

    Args:
        activation: ``"softmax"`` or ``"sigmoid"``.
        normalize: what stands between image units and the network (see :class:`monai_advdef.Victim`); ``None`` if the network
            does it.
        draws, step_precision, compiled, heads, kept_windows, surrogate, smoothness: see :class:`monai_advdef.Victim`.
        logit_scale: craft the images on that many times the logits, 1/T for a network distilled at temperature T; predictions are
            the same, saturated losses are not.
        source: a network on which the images are crafted instead of the deployed one (a transfer attack), and ``source_name`` for
            tables.

    Raises:
        ValueError: ``logit_scale`` not above 0; a switch that is neither true nor false; an unknown surrogate, a smoothness outside
            [0, 1] or of another surrogate than ``"smooth"``.
    """

    activation: str = "softmax"
    normalize: Any = None
    draws: int = 8
    step_precision: str = "float32"
    compiled: bool = False
    heads: bool = False
    kept_windows: int = 0
    surrogate: str | None = None
    smoothness: float | None = None
    logit_scale: float = 1.0
    source: nn.Module | None = None
    source_name: str = "another network"

    def __post_init__(self) -> None:
        check_seen_through(None, self.surrogate, self.smoothness)
        if not self.logit_scale > 0:
            raise ValueError(f"logit_scale must be > 0, got {self.logit_scale}; 1/T undoes a temperature T, 1 does nothing")

    def victim(self, deployed: nn.Module, inferer: Any, device: Any) -> Victim:
        """The network that is attacked, the ``source`` or the deployed one, with these settings."""
        network = deployed if self.source is None else self.source.to(device)
        if self.logit_scale != 1:
            network = ScaledLogits(unwrap(network), factor=float(self.logit_scale)).to(device)
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        own = {name: value for name, value in given.items() if name not in ("logit_scale", "source", "source_name")}
        own["activation"] = getattr(inferer, "activation", None) or self.activation
        return Victim(network, inferer=inferer, **own)

    def plain(self) -> dict[str, Any]:
        """The settings that images depend on, as plain values; normaliser and source are told apart by their contents elsewhere."""
        names = ("activation", "draws", "step_precision", "compiled", "heads", "logit_scale")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class RecordOptions(metaclass=AsWritten):
    """What a :class:`RecordHandler` reads and keeps.

    Args:
        activation: ``"softmax"`` (class map or one-hot predictions) or ``"sigmoid"`` (a mask per class).
        image_key, pred_key, label_key: keys of the batch and the output.
        gallery: keep pictures of the worst and the median case.
        card: write the card when the evaluation has finished.
        undefended: behind a defence, also record ``undefended_iou``: what the same images do to the network without it.
        gradients: also record ``zero_gradient`` (class ``image``): the share of an attack's gradients that is exactly 0, a sign of
            masking.
        reference: what is under ``label_key``: ``"labels"`` of the data set, or the model's ``"own prediction"`` for the clean
            image, with which the scores tell stability, not accuracy.

    Raises:
        ValueError: a switch that is neither true nor false; an unknown reference.
    """

    activation: str = "softmax"
    image_key: str = "image"
    pred_key: str = "pred"
    label_key: str = "label"
    gallery: bool = True
    card: bool = True
    undefended: bool = False
    gradients: bool = False
    reference: str = LABELS

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise ValueError(f"there is no reference {self.reference!r}; {nearest(str(self.reference), REFERENCES)}")


def names_of(kind: type) -> list[str]:
    """Names of the fields of a dataclass."""
    return [field.name for field in dataclasses.fields(kind)]


def take(options: dict[str, Any], kind: type) -> dict[str, Any]:
    """The options that are fields of ``kind``, taken out of ``options``."""
    return {name: options.pop(name) for name in names_of(kind) if name in options}


def gather(kind: type[Made], given: Made | Mapping[str, Any] | None, options: dict[str, Any]) -> Made:
    """An object of a dataclass: the one given, or made of the fields given; flat ``options`` that are fields of it go before both.

    Raises:
        ValueError: a field that ``kind`` does not have, with the nearest known one.
    """
    own = take(options, kind)
    if isinstance(given, kind):
        return dataclasses.replace(given, **own)  # type: ignore[type-var]
    stated = {**(given or {}), **own}  # type: ignore[dict-item]
    refuse_unknown(kind.__name__, [name for name in stated if name not in names_of(kind)], names_of(kind))
    return kind(**stated)


def refuse_unknown(what: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``ValueError`` for the first of the ``unknown`` options, with the nearest known one."""
    for name in unknown:
        raise ValueError(f"{what} has no option {name!r}; {nearest(name, known)}")


def resolve(
    attack: Any, threat: ThreatModel | Mapping[str, Any] | None, options: dict[str, Any], others: Iterable[str] = ()
) -> tuple[Any, ThreatModel]:
    """The attack and the threat model that the options describe; ``others`` are options that would have been known, too.

    Options of the threat model beside an attack's name go before those of ``threat``, the bundle's.

    Raises:
        ValueError: an unknown attack, an unknown option (each with the nearest known one), or options beside ready-made objects.
    """
    bounds = take(options, ThreatModel)
    if hasattr(attack, "to_config"):
        if options:
            raise ValueError(f"{', '.join(options)} given beside a ready-made attack; put them into the attack")
        if isinstance(threat, ThreatModel) and bounds:
            raise ValueError(f"{', '.join(bounds)} given beside a ready-made threat model; put them into the threat model")
        return attack, threat_of(threat, bounds)
    made = named_attack(attack, options, [*names_of(ThreatModel), *others])
    return made, threat_of(threat, bounds)


def threat_of(threat: ThreatModel | Mapping[str, Any] | None, bounds: dict[str, Any]) -> ThreatModel:
    """The threat model, with those of its fields that ``bounds`` states otherwise."""
    return ThreatModel(**bounds) if threat is None else as_threat(threat, **bounds)


def rights(threat: ThreatModel) -> dict[str, Any]:
    """The fields of a threat model; budgets and ranges that are the same for all channels once."""
    told = {name: getattr(threat, name) for name in names_of(ThreatModel)}
    for name, numbers in (("eps", 1), ("value_range", 2)):
        if not isinstance(told[name], str):
            rows = np.reshape(told[name], (-1, numbers))
            told[name] = (rows[:1] if bool((rows == rows[0]).all()) else rows).tolist()
    return told


def budget(threat: ThreatModel) -> str:
    """What each channel may be changed by, in words: ``"8"``, ``"[8, 0, 0]"``, ``"2 %"``; ``"no bound"``."""
    sizes = [threat.eps] if isinstance(threat.eps, (int, float)) else list(threat.eps)
    told = [f"{float(size):g}" for size in sizes]
    text = told[0] if len(set(told)) == 1 else f"[{', '.join(told)}]"
    return "no bound" if threat.norm == "unbounded" else text + (" %" if threat.relative else "")


def unit(threat: ThreatModel) -> str:
    """The unit that eps is in; of a relative budget per cent of the range, whatever the image is in."""
    return threat.unit if not threat.relative or "%" in threat.unit else "% of the range"
