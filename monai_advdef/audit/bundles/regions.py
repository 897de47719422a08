"""Labels for heads whose channels are regions of their own: class numbers are spread over the channels before the attack."""

from __future__ import annotations

from typing import Any

import torch

from monai_advdef.audit.bundles.chain import keys_of, parts, put_parts, target
from monai_advdef.audit.bundles.config import Config
from monai_advdef.audit.scoring.forms import is_background
from monai_advdef.errors import DataError, reason, root_of

Case = dict[str, Any]
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif")


def spread_label(config: Config, chains: tuple[str, str | None], keys: tuple[str, str], case: Case, names: list[str]) -> list[str]:
    """Let the preprocessing end with a label of one channel a region, where it ends with class numbers; returns what is to be told.

    Args:
        chains: the ids of preprocessing and postprocessing.
        keys: of image and label.
        case: the first, to see what the label becomes.
        names: of the channels in their order.

    Raises:
        DataError: the preprocessing fails on the case, or leaves as many channels as fit neither.
    """
    transform, post = chains
    count, label = len(names), keys[1]
    if count == 1:
        return []
    made = _made(config, transform, case)
    channels = int(made[label].shape[0])
    if channels == count:
        return []
    items = parts(config, transform)
    if channels != 1 or items is None:
        raise DataError(f"{config.source(transform)}: the label has {channels} channels, the network {count} regions; give one each")
    behind = is_background(names[0])  # then channel k is class k; else class k + 1
    more: list[Case] = [{"_target_": "AsDiscreted", "keys": label, "to_onehot": count if behind else count + 1}]
    more += [] if behind else [{"_target_": "Lambdad", "keys": label, "func": "$lambda x: x[1:]"}]
    put_parts(config, transform, [*items, *more])
    if post is not None:
        _only_once(config, post, label)
    told = "the channel of its number" if behind else "the channel of its number less 1"
    return [f"labels are class numbers and the network has a channel a region: class k is {told}"]


def whole_label(config: Config, chains: tuple[str, str | None], keys: tuple[str, str], case: Case) -> list[str]:
    """Let the preprocessing of pictures end with whole class numbers, where the postprocessing cuts off what is behind the point.

    A mask that went through JPEG and is scaled to 0..1 holds .996 and the like, of which one-hot encoding makes 0.
    """
    (transform, post), label = chains, keys[1]
    encoded = any(_encodes(config, item, label) for item in (parts(config, post) if post else None) or ())
    items = parts(config, transform)
    if not str(case.get(label, "")).lower().endswith(PICTURES) or not encoded or items is None:
        return []
    values = torch.as_tensor(_made(config, transform, case)[label])
    if not values.is_floating_point() or bool((values == values.round()).all()):
        return []
    put_parts(config, transform, [*items, {"_target_": "Lambdad", "keys": label, "func": "$lambda x: x.trunc()"}])
    return ["labels are no whole numbers; what is behind the point is cut off, as the bundle's own one-hot encoding does"]


def _encodes(config: Config, item: dict[str, Any], label: str) -> bool:
    return target(item).startswith("AsDiscrete") and item.get("to_onehot") is not None and label in keys_of(config, item)


def label_on_input(config: Config, transform: str, keys: tuple[str, str], case: Case) -> list[str]:
    """Let a label that covers only the middle of the network's input cover all of it, as background; returns what is to be told."""
    made, items = _made(config, transform, case), parts(config, transform)
    image, label = (tuple(made[key].shape[1:]) for key in keys)
    if image == label or items is None or any(m > n for n, m in zip(image, label)):
        return []
    put_parts(config, transform, [*items, {"_target_": "SpatialPadd", "keys": keys[1], "spatial_size": list(image)}])
    return [f"the label covers {label} of the network's input {image}, as its prediction does; around them both are background"]


def _made(config: Config, transform: str, case: Case) -> Any:
    """What a preprocessing makes of a case."""
    try:
        return config.value(transform)(dict(case))
    except DataError:
        raise
    except Exception as error:
        cause = root_of(error)
        told = f"{type(cause).__name__}: {reason(cause)}"
        raise DataError(f"{config.source(transform)} fails on the case {case.get('case', '')}: {told}; correct it") from error


def _only_once(config: Config, post: str, label: str) -> None:
    """The postprocessing does not spread the label a second time."""
    items = parts(config, post)
    if items is None:
        return
    changed = []
    for item in items:
        keys = keys_of(config, item)
        told = item.get("to_onehot")
        if target(item).startswith("AsDiscrete") and label in keys and told is not None:
            given = list(told) if isinstance(told, list) else [told] * len(keys)
            given[keys.index(label)] = None
            item = {**item, "to_onehot": given}
        changed.append(item)
    if changed != items:
        put_parts(config, post, changed)
