"""The mistakes that a clinic fears, as masks to aim at: a lesion erased, invented, moved, grown. One case at a time, in voxels."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

AMOUNTS = {"invent": 0.2, "shift": 0.5, "grow": 0.5}  # of what takes a number, and the number where none is given
AIR = 0.02  # of an image's width above its lowest value: at or below it there is no body to have a lesion in


class Impossible(ValueError):
    """There is no such target for a case; the message says why."""


@dataclass(frozen=True)
class Wish:
    """``"shift 0.5"`` or ``"shift 12 voxels"`` taken apart."""

    name: str
    amount: float = 0.0
    voxels: bool = False


def wish(text: str) -> Wish:
    """A target's name and number.

    Raises:
        ValueError: a number where none is taken, one that is out of range, or words that are none.
    """
    name, *rest = text.split(maxsplit=1)
    if not rest:
        return Wish(name, AMOUNTS.get(name, 0.0))
    if name not in AMOUNTS:
        raise ValueError(f"target {name!r} takes no number, got {text!r}; write {name} (one is taken by {', '.join(AMOUNTS)})")
    found = re.fullmatch(r"([+-]?[\d.]+(?:e[+-]?\d+)?)(?: *(voxels?))?", rest[0].strip())
    try:
        asked = Wish(name, float(found[1]), bool(found[2])) if found else None
    except ValueError:
        asked = None
    if asked is None:
        raise ValueError(f"target {text!r} is not understood after {name!r}; write a number as in {name} {AMOUNTS[name]:g}")
    if name == "grow":
        if asked.voxels or asked.amount == 0 or asked.amount <= -1:
            raise ValueError(f"target 'grow' takes a share of the volume, above -1 and not 0, got {text!r}; 0.5 adds half")
    elif asked.amount <= 0:
        raise ValueError(f"target {name!r} takes a number above 0, got {text!r}; {AMOUNTS[name]:g} is usual")
    return asked


def clinical(asked: Wish, label: np.ndarray, image: np.ndarray | None, exclusive: bool) -> np.ndarray:
    """The target of one case.

    Args:
        asked: what is wanted.
        label: (1, \\*S) class map where ``exclusive`` (softmax), else (K, \\*S) zeros and ones.
        image: (C, \\*S), to tell the body from the air around it; without it a lesion may be invented anywhere.
        exclusive: whether a voxel has one class.

    Raises:
        Impossible: nothing to erase, to shift or to grow; no room.
    """
    foreground = (label != 0).any(0)
    if asked.name == "invent":
        return _invent(asked, label, foreground, image)
    if not foreground.any():
        raise Impossible("there is no foreground in it; 'invent' is for such cases")
    if asked.name == "erase":
        return np.zeros_like(label)
    if asked.name == "shift":
        return _shift(asked, label, foreground)
    if exclusive:
        return _grow(label[0], asked.amount)[None]
    return np.stack([_grow(mask, asked.amount) if mask.any() else mask for mask in label])


def _invent(asked: Wish, label: np.ndarray, foreground: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    """A ball of the first class (or of every mask) at the place farthest from foreground, from air and from the image's border."""
    diameter = asked.amount if asked.voxels else asked.amount * min(foreground.shape)
    free = ~foreground if image is None else ~foreground & _body(image)
    room = ndimage.distance_transform_edt(np.pad(free, 1))[(slice(1, -1),) * free.ndim]
    if room.max() < diameter / 2 + 1:
        raise Impossible(f"there is no room for a lesion {diameter:g} voxels across, only for {2 * room.max() - 2:.0f}")
    centre = np.unravel_index(room.argmax(), room.shape)
    made = label.copy()
    made[:, _distance(free.shape, centre) <= diameter / 2] = 1
    return made


def _body(image: np.ndarray) -> np.ndarray:
    grey = image.mean(0)
    low, high = grey.min(), grey.max()
    return ndimage.binary_fill_holes(grey > low + AIR * (high - low)) if high > low else np.ones(grey.shape, bool)


def _shift(asked: Wish, label: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Everything moved along the axis and to the side where most room is left; what leaves the image is cut off."""
    where = np.argwhere(foreground)
    first, last = where.min(0), where.max(0)
    sides = []
    for axis, size in enumerate(foreground.shape):
        extent = last[axis] - first[axis] + 1
        distance = max(1, round(asked.amount if asked.voxels else asked.amount * extent))
        sides += [(size - 1 - last[axis] - distance, axis, distance), (first[axis] - distance, axis, -distance)]
    spare, axis, distance = max(sides, key=lambda side: side[0])
    made = ndimage.shift(label, np.eye(label.ndim)[axis + 1] * distance, order=0, mode="constant", cval=0, prefilter=False)
    left = (made != 0).any(0).sum() / foreground.sum()
    if left < 0.5:
        raise Impossible(f"moved by {abs(distance)} voxels, {1 - left:.0%} of it would lie outside the image; shift it by less")
    return made


def _grow(label: np.ndarray, share: float) -> np.ndarray:
    """Voxels added (each of the class nearest to it) or taken away at the surface, as many as change the volume by ``share``."""
    inside = label != 0
    volume = int(inside.sum())
    change = max(1, round(abs(share) * volume))
    centroid = tuple(np.argwhere(inside).mean(0))
    if share > 0:
        if change > label.size - volume:
            raise Impossible(f"its {volume} voxels cannot grow by {change}: the image has {label.size}; grow it by less")
        depth, nearest = ndimage.distance_transform_edt(~inside, return_indices=True)
        chosen = _lowest(~inside, change, depth, _distance(label.shape, centroid))
        made = label.copy()
        made[chosen] = label[tuple(nearest[:, chosen])]
        return made
    if change >= volume:
        raise Impossible(f"of its {volume} voxels none would be left; shrink it by less, or take 'erase'")
    depth = np.zeros(label.shape) if inside.all() else ndimage.distance_transform_edt(inside)
    made = label.copy()
    made[_lowest(inside, change, depth, -_distance(label.shape, centroid))] = 0
    return made


def _lowest(among: np.ndarray, count: int, *keys: np.ndarray) -> np.ndarray:
    """Mask of the ``count`` voxels with the lowest keys, the first counting most."""
    places = np.flatnonzero(among)
    order = np.lexsort([key.reshape(-1)[places] for key in reversed(keys)])
    chosen = np.zeros(among.shape, bool)
    chosen.reshape(-1)[places[order[:count]]] = True
    return chosen


def _distance(shape: tuple[int, ...], centre: tuple) -> np.ndarray:
    """Of every voxel to ``centre``."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, centre)))
