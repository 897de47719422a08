"""Dictionary twins of the corruptions: the same name with a ``d``, image and labels in one go."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from monai_advdef.corruptions import ct, mri, photo, xray
from monai_advdef.corruptions.core import Corruption
from monai_advdef.corruptions.scales import SEVERITIES
from monai_advdef.errors import nearest
from monai_advdef.switches import as_written

KINDS: dict[str, type[Corruption]] = {
    name: getattr(m, name) for m in (mri, ct, xray, photo) for name in SEVERITIES if hasattr(m, name)
}
"""Every corruption by name."""


def named_corruption(name: str, **options: Any) -> Corruption:
    """The corruption called ``name``, with its options.

    Raises:
        ValueError: there is none of that name, with the nearest; what the corruption refuses.
    """
    if name not in KINDS:
        raise ValueError(f"there is no corruption {name!r}; {nearest(str(name), KINDS)}")
    return KINDS[name](**options)


class Corruptiond(MapTransform):
    """Corrupt the images under ``keys``; the labels under ``label_keys`` follow where the geometry changes.

    Args:
        keys: of the images; labels follow the first.
        label_keys: of labels on the grid of that image, (K, \\*S).
        allow_missing_keys: pass over keys that are not there.
        options: of the corruption, see :class:`Corruption`.
    """

    corruption: ClassVar[str]
    backend = Corruption.backend

    @as_written
    def __init__(
        self, keys: KeysCollection, label_keys: Sequence[str] | str = (), allow_missing_keys: bool = False, **options: Any
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys: tuple[Hashable, ...] = ensure_tuple(label_keys)
        self.transform = named_corruption(self.corruption, **options)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """The same entries, images and labels corrupted.

        Raises:
            KeyError: a key that is not there.
        """
        out = dict(data)
        labels = [k for k in self.label_keys if k in out or not self.allow_missing_keys]
        for number, key in enumerate(self.key_iterator(out)):
            of_this = labels if number == 0 else []
            out[key], *moved = self.transform.both(out[key], *(out[k] for k in of_this))
            out.update(zip(of_this, moved))
        return out


def _twin(name: str) -> type[Corruptiond]:
    text = f"Dictionary twin of :class:`{name}`; takes its options after ``keys``, ``label_keys`` and ``allow_missing_keys``."
    return type(f"{name}d", (Corruptiond,), {"corruption": name, "__doc__": text, "__module__": __name__})


TWINS: dict[str, type[Corruptiond]] = {
    f"{name}{end}": twin for name in KINDS for twin in [_twin(name)] for end in ("d", "D", "Dict")
}
"""The dictionary twins by name, and by the aliases that MONAI's have, too."""
globals().update(TWINS)  # so that they can be pickled
