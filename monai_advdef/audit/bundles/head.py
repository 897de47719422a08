"""What a bundle's network puts out: softmax or sigmoid, how many channels, what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_advdef.audit.bundles.chain import keys_of, parts, target
from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.bundles.folder import Bundle
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.audit.scoring.forms import is_background
from monai_advdef.errors import DataError

DEFINITIONS = ("channel_def", "label_def")  # of what the channels of a prediction stand for
COUNTS = ("out_channels", "num_classes", "out_classes", "num_class", "n_classes")


def activation(config: Config, postprocessing: str | None, channels: int, options: AuditOptions) -> tuple[str, str]:
    """``"softmax"`` or ``"sigmoid"``, and where it was read.

    Raises:
        DataError: nothing tells it.
    """
    if options.activation:
        if options.activation not in ("softmax", "sigmoid"):
            raise ValueError(f"activation must be 'softmax' or 'sigmoid', got {options.activation!r}")
        return options.activation, "--activation"
    found = _from_postprocessing(config, postprocessing) if postprocessing else None
    if found and not (found == "softmax" and channels == 1):
        return found, config.source(str(postprocessing))
    for id in ("loss", "loss_function", "train::loss"):
        for name in ("softmax", "sigmoid"):
            if config.get(f"{id}{SEP}{name}") is True:
                return name, config.source(id)
    if channels == 1:
        return "sigmoid", "one channel"
    raise DataError(
        f"{config.source(postprocessing or 'network_def')}: nothing tells whether the {channels} channels are classes (softmax) or "
        "regions of their own (sigmoid); say so by --activation"
    )


def _from_postprocessing(config: Config, postprocessing: str) -> str | None:
    for item in parts(config, postprocessing) or ():
        keys, name = keys_of(config, item), target(item)
        at = keys.index("pred") if "pred" in keys else None
        if at is None:
            continue
        if name.startswith("Activations"):
            for kind in ("softmax", "sigmoid"):
                if _at(item.get(kind), at) in (True, "True", "true"):
                    return kind
        if name.startswith("AsDiscrete"):
            if _at(item.get("argmax"), at) in (True, "True", "true"):
                return "softmax"
            if _at(item.get("threshold"), at) is not None:
                return "sigmoid"
    return None


def _at(value: Any, at: int) -> Any:
    return (value[at] if at < len(value) else None) if isinstance(value, list) else value


def channels_of(config: Config, network: str, bundle: Bundle, options: AuditOptions) -> tuple[int, str]:
    """How many channels the network puts out, and where it was read.

    Raises:
        DataError: nothing tells it.
    """
    for id in config.reach([network]):
        for name in COUNTS:
            told = config.get(f"{id}{SEP}{name}") if isinstance(config.get(id), dict) and "_target_" in config.get(id) else None
            if told is not None:
                value = config.value(f"{id}{SEP}{name}") if isinstance(told, str) else told
                return int(value), config.source(f"{id}{SEP}{name}")
    told = bundle.outputs().get("num_channels")
    if isinstance(told, int):
        return told, "network_data_format in configs/metadata.json"
    if options.classes and options.activation:
        return len(options.classes) + (options.activation == "softmax"), "--classes, --activation"
    raise DataError(
        f"{config.source(network)}: nothing tells how many channels the network puts out; add num_channels to metadata.json"
    )


def classes(bundle: Bundle, channels: int, kind: str, options: AuditOptions, told: Any = None) -> tuple[list[str], str, list[str]]:
    """The names of the foreground channels in their order, where they were read, and what is to be told.

    Args:
        told: names of all channels, in place of those of the metadata.

    Raises:
        ValueError: ``options.classes`` of another number.
    """
    name = next((n for n in DEFINITIONS if bundle.outputs().get(n)), DEFINITIONS[0])
    told = told or bundle.outputs().get(name)
    names = _names(told, channels)
    first = 1 if kind == "softmax" else 0
    count = channels - first
    if options.classes:
        if len(options.classes) != count:
            raise ValueError(
                f"the network puts out {count} foreground classes, classes names {len(options.classes)}; name each in order"
            )
        return list(options.classes), "--classes", []
    source = f"{name} in configs/metadata.json"
    if names:
        own = kind == "sigmoid" and is_background(names[0])
        told_of = f"channel 0 is a region of its own, {names[0]!r}: it is attacked with the others, and not scored"
        return _apart(names[first:]), source, [told_of] * own
    notes = [f"metadata.json names {len(told)} classes, the network puts out {channels} channels: they are numbered"] if told else []
    return [f"class {i}" for i in range(first, channels)] if count > 1 else ["foreground"], "numbered", notes


def _names(told: Any, channels: int) -> list[str]:
    if isinstance(told, dict):
        by_number = {str(k): v for k, v in told.items()}
        told = [by_number.get(str(i)) for i in range(channels)] if len(told) == channels else None
    if not isinstance(told, Sequence) or isinstance(told, str) or len(told) != channels or not all(told):
        return []
    return [str(name).strip() for name in told]


def _apart(names: list[str]) -> list[str]:
    return [f"{n} {i + 1}" if names.count(n) > 1 else n for i, n in enumerate(names)]
