"""A preprocessing in two: what reads and shapes an image, and from the first change of its intensities on, a part of the victim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.transforms import Compose, ConcatItemsd, CopyItemsd, EnsureChannelFirst, MapTransform, ScaleIntensity, Transform
from monai.utils import ensure_tuple

from monai_advdef.audit.tail.kinds import Kind, flat, keys_of, kind_of, plain, told_apart, type_for
from monai_advdef.audit.tail.tail import Tail
from monai_advdef.audit.tail.units import PerSigmad, Times, Timesd

LEAVING = (Kind.READS, Kind.IDLE, Kind.TYPES, Kind.SHAPES, Kind.CROPS)  # the values of an image


@dataclass(frozen=True)
class Divided:
    """A preprocessing in two.

    ``head`` reads and shapes the image, then (C, \\*S) in its own units; ``tail`` makes of it what the network is fed. Transforms of
    other keys alone stay in the head; what a transform of the tail does to a label, too, only the whole preprocessing does.
    """

    head: Compose
    tail: Tail


def divided(
    preprocessing: Any,
    key: str = "image",
    *,
    reads: Sequence[str] = (),
    per_sigma: Mapping[str, Any] | None = None,
    at_input: float | None = None,
) -> Divided:
    """Divide a preprocessing before its first transform that may change intensities of the image.

    Args:
        preprocessing: a ``Compose``, or a list of transforms, array or dictionary.
        key: of the image in a dictionary.
        reads: names of classes of one's own that read or shape an image and leave its values; others count as intensity transforms,
            and are differentiated as they are where finite differences confirm their gradient.
        per_sigma: ``{"nonzero": ..., "channel_wise": ...}``: the head ends in standard deviations of each image, see
            :class:`monai_advdef.audit.tail.units.PerSigmad`.
        at_input: the head is the whole preprocessing, in units of which the network's input has so much each: where the tail has no
            gradient.

    Raises:
        DataError: a transform that draws at random.
        NotDifferentiable: a transform in the tail to a type of whole numbers; one that brings channels to the front behind a
            statistic by channel.
    """
    if at_input is not None:
        whole = preprocessing if isinstance(preprocessing, Compose) else Compose(list(preprocessing))
        own = Timesd(key, 1 / at_input) if _dictionary(flat(whole)) else Times(1 / at_input)
        return Divided(Compose([whole, own]), Tail([ScaleIntensity(minv=None, maxv=None, factor=at_input - 1)], key=key))
    parts = split(preprocessing, key, reads=reads)
    parts.tail.require_gradient()
    return parts if per_sigma is None else Divided(Compose([parts.head, PerSigmad(key, **per_sigma)]), parts.tail)


def split(preprocessing: Any, key: str = "image", *, reads: Sequence[str] = ()) -> Divided:
    """The two parts as :func:`divided` gives them, whether or not the tail has a gradient; or those that a preprocessing offers."""
    if hasattr(preprocessing, "head") and hasattr(preprocessing, "tail"):
        return Divided(preprocessing.head, preprocessing.tail)
    chain = _joins_named(flat(preprocessing), key)
    feeds = _feeds(chain, key)
    lazy = preprocessing.lazy if isinstance(preprocessing, Compose) else False
    reading = _last_reader(chain, feeds)
    head: list[Any] = []
    tail: list[Any] = []
    sources: list[str] = [key]
    made: set[str] = set()  # by the tail: the head does without
    for i, t in enumerate(chain):
        if not _touches(t, feeds[i]):
            head += [] if made & set(keys_of(t)) else [t]
        elif not tail and (i <= reading or kind_of(t) in LEAVING or type(t).__name__ in reads):
            head.append(t)
        elif type(plain(t)) is EnsureChannelFirst and not told_apart(tail):
            head.append(t)
        else:
            sources = sources if tail else feeds[i]
            tail.append(t)
            made |= {*ensure_tuple(getattr(t, "names", ())), *ensure_tuple(getattr(t, "name", ()))}
            if kind_of(t) is Kind.TYPES and _floats(t, feeds[i]) and set(keys_of(t)) - set(feeds[i]):
                head.append(Beside(t, feeds[i]))  # of a label, too
    if sources != [key]:
        head.append(ConcatItemsd(sources, key) if len(sources) > 1 else CopyItemsd(sources, 1, [key]))
    end = Tail(tail, key=key, sources=sources, lazy=lazy, dictionary=_dictionary(chain))
    end.crops_before = [t for t in head if kind_of(t) is Kind.CROPS and getattr(t, "source_key", key) == key]
    return Divided(Compose(head, lazy=lazy), end)


class Beside(Transform):
    """A transform of several keys, of which those of the image stay as they are: the tail changes them."""

    def __init__(self, transform: Any, image: Sequence[str]) -> None:
        self.transform, self.image = transform, list(image)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**self.transform(dict(data)), **{k: data[k] for k in self.image if k in data}}


def _joins_named(chain: Sequence[Any], key: str) -> list[Any]:
    """The chain, with MONAI's ``ConcatItemsd`` where a class of someone's own says that it makes the image of several keys.

    That it does no more than join them shows where the tail is held against what the whole preprocessing makes.
    """
    found: list[Any] = []
    known: set[str] = set()
    for t in chain:
        held = list(getattr(t, "__dict__", {}).values()) if kind_of(t) is Kind.ASKED and isinstance(t, MapTransform) else []
        many = [v for v in held if isinstance(v, (list, tuple)) and len(v) > 1 and all(isinstance(k, str) and k in known for k in v)]
        found.append(ConcatItemsd(many[0], key) if many and key in held and key not in known else t)
        known |= {k for k in keys_of(t) if isinstance(k, str)}
    return found


def _feeds(chain: Sequence[Any], key: str) -> list[list[Any]]:
    """Before each transform, the keys that the image is going to be made of, in the order of its channels."""
    now: list[Any] = [key]
    found: list[list[Any]] = []
    for t in reversed(chain):
        if isinstance(t, ConcatItemsd) and t.name in now:
            now = [k for name in now for k in (t.keys if name == t.name else [name])]
        elif isinstance(t, CopyItemsd):
            names = dict(zip(t.names, t.keys * t.times))
            now = [names.get(k, k) for k in now]
        found.append(now)
    return found[::-1]


def _dictionary(chain: Sequence[Any]) -> bool:
    return any(isinstance(t, MapTransform) for t in chain)


def _floats(t: Any, keys: Sequence[str]) -> bool:
    told = [type_for(t, k) for k in keys]
    return all(d is None or d.is_floating_point for d in told)


def _touches(t: Any, feeding: Sequence[str]) -> bool:
    """Whether a transform reads or changes what the image is made of; one without keys does."""
    if not isinstance(t, MapTransform):
        return True
    named = [*keys_of(t), *(getattr(t, n, None) for n in ("source_key", "mask_key"))]
    return any(k in feeding for k in named) or not keys_of(t)


def _last_reader(chain: Sequence[Any], feeds: Sequence[Sequence[str]]) -> int:
    """The place of the last transform that reads the image from a file; where MONAI's own does not, an unknown first one is it."""
    places = [i for i, t in enumerate(chain) if _touches(t, feeds[i])]
    readers = [i for i in places if kind_of(chain[i]) is Kind.READS]
    if readers:
        return readers[-1]
    return places[0] if places and kind_of(chain[places[0]]) is Kind.ASKED and isinstance(chain[places[0]], MapTransform) else -1
