"""What identifies an evaluation cell: its cases, weights, and the plain configuration of all that acts on them."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import decollate_batch
from torch import Tensor, nn

from monai_advdef.defenses import DefendedInferer
from monai_advdef.metrics import class_map, masks_to_classes
from monai_advdef.victim import unwrap

Engine = Any  # a MONAI evaluator or trainer: an ignite engine with a network and an inferer


def digest(*parts: bytes | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part)
        sha.update(b"\0")
    return sha.hexdigest()[:16]


def tensor_bytes(x: Tensor) -> bytes:
    """Shape, type and contents."""
    x = x.detach().cpu().contiguous()
    return f"{tuple(x.shape)}{x.dtype}".encode() + x.reshape(-1).view(torch.uint8).numpy().tobytes()


def weights_hash(network: nn.Module) -> str:
    """A digest of every parameter and buffer by name."""
    state = unwrap(network).state_dict()
    return digest(*(part for name in sorted(state) for part in (name, tensor_bytes(state[name]))))


def items_of(batch: Any) -> list[dict[str, Any]]:
    """The cases of a batch or an output, collated or not.

    Raises:
        ValueError: they are no dictionaries.
    """
    if not isinstance(batch, (list, Mapping)) or not all(isinstance(item, Mapping) for item in batch if isinstance(batch, list)):
        held = f" of {type(batch[0]).__name__}" if isinstance(batch, (list, tuple)) and batch else ""
        raise ValueError(
            f"cases come as a {type(batch).__name__}{held}, not as dictionaries; let the data set give dictionaries with 'image', "
            "'label' and 'case', and MONAI's DataLoader collate them"
        )
    return batch if isinstance(batch, list) else decollate_batch(batch)


def label_map(mask: Tensor, name: str = "mask", classes: int | None = None, *, hard: bool = False) -> Tensor:
    """Class map (\\*S) from a class map (1, \\*S), one-hot masks or, unless ``hard``, scores (K, \\*S), on the CPU.

    Raises:
        ValueError: masks that overlap, values that are no class indices, another number of channels or classes than ``classes``.
    """
    mask = mask.detach().cpu()
    mask = mask.as_tensor() if hasattr(mask, "as_tensor") else mask
    whole = bool((mask == mask.round()).all()) if mask.is_floating_point() else True
    if not whole and (hard or len(mask) == 1):
        raise ValueError(f"{name} holds values that are not whole numbers; make it a class map or one-hot (MONAI's AsDiscreted)")
    if classes is not None and len(mask) not in (1, classes):
        raise ValueError(
            f"{name} has {len(mask)} channels for {classes} classes, background included; give one each, or a class map"
        )
    if len(mask) == 1:
        low, high = int(mask.min()), int(mask.max())
        if classes is not None and not (low >= 0 and high < classes):
            raise ValueError(f"{name} holds class {high if high >= classes else low}, known are 0..{classes - 1}; map its values")
        return mask[0].long()
    one_hot = whole and bool(((mask == 0) | (mask == 1)).all())
    if hard and not one_hot:
        raise ValueError(f"{name} has {len(mask)} channels that hold other values than 0 and 1; make it a class map or one-hot")
    return (masks_to_classes(mask[None], name) if one_hot else class_map(mask[None]))[0, 0].long()


def masks_of(masks: Tensor, name: str) -> Tensor:
    """Masks (K, \\*S) of zeros and ones, as they were given.

    Raises:
        ValueError: other values, of probabilities for example, every one of which would count as found.
    """
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise ValueError(f"{name} holds other values than 0 and 1; turn it into masks (MONAI's AsDiscreted with threshold 0.5)")
    return masks


def not_annotated(label: Tensor, classes: Sequence[str]) -> set[str]:
    """The classes that nobody outlined in one case, as its label's metadata tell (see :class:`monai_advdef.data.MarginalLoss`)."""
    annotated = getattr(label, "meta", {}).get("annotated")
    flags = [True] * len(classes) if annotated is None else torch.as_tensor(annotated).flatten().tolist()[1:]
    return {name for name, flag in zip(classes, flags) if not flag}


def add_readings(engine: Engine, readings: Sequence[Mapping[tuple[str, str], float]]) -> None:
    """Leave what was measured on the cases of the batch, by (class, metric), for the ``RecordHandler``."""
    before = getattr(engine.state, "readings", None) or [{}] * len(readings)
    engine.state.readings = [{**known, **new} for known, new in zip(before, readings)]


def case_name(item: dict[str, Any], image_key: str) -> str:
    """The ``case`` entry of one case's data, else its image's file name without suffixes.

    Raises:
        ValueError: the case carries neither.
    """
    if "case" in item:
        return str(item["case"])
    file = getattr(item[image_key], "meta", {}).get("filename_or_obj")
    if file is None:
        raise ValueError(f"a case has no 'case' and its {image_key!r} no file name; add 'case' to the data list")
    return Path(str(file)).name.split(".")[0]


def case_names(batch: dict[str, Any], image_key: str) -> list[str]:
    """:func:`case_name` of every case of a collated batch."""
    image = batch[image_key]
    columns = {"case": batch["case"]} if "case" in batch else {}
    return [case_name({image_key: image[i], **{k: v[i] for k, v in columns.items()}}, image_key) for i in range(len(image))]


def case_seeds(seed: int, names: Iterable[str], salt: str = "") -> list[int]:
    """One independent stream per case, the same in whatever batch and order the case comes."""
    return [int(digest(str(seed), name, salt), 16) >> 1 for name in names]


def defense_of(engine: Engine) -> Any:
    """The defence in front of the engine's inferer, or ``None``."""
    inferer = getattr(engine, "inferer", None)
    return inferer.defense if isinstance(inferer, DefendedInferer) else None


def defense_config(defense: Any) -> dict[str, Any] | None:
    """The defence's configuration with a digest of its tables (a configuration may only name the file they came from)."""
    if defense is None:
        return None
    return {**defense.to_config(), "tables": digest(*(tensor_bytes(b) for b in defense.buffers()))}


def inferer_config(inferer: Any) -> str:
    """A text that changes when the inferer's settings do."""
    inner = inferer.inferer if isinstance(inferer, DefendedInferer) else inferer
    plain = (
        {k: str(v) for k, v in sorted(vars(inner).items()) if not isinstance(v, (Tensor, nn.Module))} if inner is not None else {}
    )
    return f"{type(inner).__name__}{plain}"


def dataset_names(engine: Engine) -> Sequence[str]:
    """Names of all cases the engine will see, where its data set has a list of them."""
    data = getattr(getattr(engine.state.dataloader, "dataset", None), "data", None) or []
    return [str(d.get("case", d.get("image", i))) for i, d in enumerate(data) if isinstance(d, dict)]


def provenance() -> dict[str, Any]:
    """Versions and the command, for the sidecar of a cell."""
    import monai
    import numpy

    import monai_advdef

    return {
        "command": " ".join(["python -m monai.bundle" if "monai/bundle" in sys.argv[0] else Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {
            "monai_advdef": monai_advdef.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
    }
