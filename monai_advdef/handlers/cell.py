"""What identifies an evaluation cell: its cases, weights, and the plain configuration of all that acts on them."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import decollate_batch
from monai.engines import IterationEvents
from monai.networks.utils import train_mode
from monai.transforms import Compose, SaveImage, SaveImaged
from torch import Tensor, nn

from monai_advdef.defenses import DefendedInferer
from monai_advdef.handlers.cases import Cases
from monai_advdef.handlers.identity import digest, identity, structure, weights_hash
from monai_advdef.metrics import class_map, masks_to_classes

MASK: ContextVar[Callable[[str], str]] = ContextVar("mask", default=str)
"""What is done to every text that is recorded; an audit masks names and paths, and what is computed knows nothing of it."""
Engine = Any  # a MONAI evaluator or trainer: an ignite engine with a network and an inferer


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
    mask = mask if mask.is_floating_point() else mask.long()
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
    if one_hot and not hard and not bool(mask.any(0).all()):
        raise ValueError(
            f"{name} has {int((~mask.any(0)).sum())} voxels of no class, background included; postprocess case by case (decollate "
            "true), so that argmax takes the classes and not the cases of a batch"
        )
    return (masks_to_classes(mask[None], name) if one_hot else class_map(mask[None]))[0, 0].long()


def masks_of(masks: Tensor, name: str) -> Tensor:
    """Masks (K, \\*S) of zeros and ones, as they were given.

    Raises:
        ValueError: other values, of probabilities for example, every one of which would count as found.
    """
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise ValueError(f"{name} holds other values than 0 and 1; turn it into masks (MONAI's AsDiscreted with threshold 0.5)")
    return masks


def not_annotated(label: Any, classes: Sequence[str]) -> set[str]:
    """The classes that nobody outlined in one case, as its label's metadata tell (see :class:`monai_advdef.data.MarginalLoss`)."""
    annotated = getattr(label, "meta", {}).get("annotated")
    flags = [True] * len(classes) if annotated is None else torch.as_tensor(annotated).flatten().tolist()[1:]
    return {name for name, flag in zip(classes, flags) if not flag}


def add_readings(engine: Engine, readings: Sequence[Mapping[tuple[str, str], float]]) -> None:
    """Leave what was measured on the cases of the batch, by (class, metric), for the ``RecordHandler``."""
    fresh = getattr(engine.state, "read_at", None) == engine.state.iteration  # what nobody recorded of another batch is dropped
    before = (fresh and engine.state.readings) or [{}] * len(readings)
    engine.state.read_at = engine.state.iteration
    engine.state.readings = [{**known, **new} for known, new in zip(before, readings)]


def announce(engine: Engine, what: str, settings: Mapping[str, Any]) -> None:
    """Tell, when a run starts, how readings are taken: an evaluation with other settings is then recorded as another one."""
    engine.state.measuring = {**announced(engine), what: plain(settings)}


def announced(engine: Engine) -> dict[str, Any]:
    """What handlers have announced, by name."""
    return getattr(engine.state, "measuring", {})


def outward(value: Any) -> Any:
    """A plain value (mappings, lists, text, numbers) as it may be recorded: every text in it but keys is masked, see ``MASK``."""
    if isinstance(value, str):
        return MASK.get()(value)
    if isinstance(value, Mapping):
        return {key: outward(item) for key, item in value.items()}
    return [outward(item) for item in value] if isinstance(value, (list, tuple)) else value


def case_names(batch: Mapping[str, Any], image_key: str) -> list[str]:
    """What every case of a collated batch is called by itself; see :class:`monai_advdef.handlers.cases.Cases`."""
    return Cases(None, image_key).names(batch)


def case_seeds(seed: int, names: Iterable[str], salt: str = "") -> list[int]:
    """One independent stream per case, the same in whatever batch and order the case comes."""
    return [int(digest(str(seed), name, salt), 16) >> 1 for name in names]


def defense_of(engine: Engine) -> Any:
    """The defence in front of the engine's inferer, or ``None``."""
    inferer = getattr(engine, "inferer", None)
    return inferer.defense if isinstance(inferer, DefendedInferer) else None


def described(value: Any) -> dict[str, Any] | None:
    """The configuration of an attack or a defence, or the name of its class: for people, not to tell it apart."""
    if value is None:
        return None
    if hasattr(value, "to_config"):
        return plain(value.to_config())
    return {"_target_": f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"}


def plain(value: Any) -> Any:
    """A value as JSON has it; what JSON has no word for by its class."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return plain(value.tolist()) if isinstance(value, np.generic) else f"a {type(value).__name__}"


def defense_identity(defense: Any) -> str:
    """What tells a defence, with its tables, from another one."""
    return "none" if defense is None else identity(defense)


def inferer_identity(inferer: Any) -> str:
    """What tells the inferer inside a defended one, or an inferer by itself, from another one."""
    return identity(inferer.inferer if isinstance(inferer, DefendedInferer) else inferer, without=("progress", "held_grid"))


def networks_of(engine: Engine) -> Any:
    """The network of an evaluator, or the list of those of an ensemble."""
    return getattr(engine, "networks", None) or engine.network


def weights_of(networks: Any) -> str:
    """The digest of the weights of a network, or of several."""
    many = networks if isinstance(networks, (list, tuple)) else [networks]
    hashes = [weights_hash(n) if isinstance(n, nn.Module) else identity(n) for n in many]
    return hashes[0] if len(hashes) == 1 else digest(*hashes)


def network_identity(networks: Any) -> str:
    """What tells a network, or several, from another one: classes, structure and weights."""
    many = networks if isinstance(networks, (list, tuple)) else [networks]
    return digest(weights_of(networks), *(structure(n) for n in many))


def postprocessing_identity(engine: Engine) -> str:
    """What tells the transforms after the network from others; what they write, and where, decides no result."""
    found = [h for h, *_ in getattr(engine, "_event_handlers", {}).get(IterationEvents.MODEL_COMPLETED, ())]
    held = [inspect.getclosurevars(h).nonlocals.get("posttrans") for h in found if inspect.isfunction(h)]
    flat = [t for h in held if h is not None for t in (h.flatten().transforms if isinstance(h, Compose) else [h])]
    return identity([t for t in flat if not isinstance(t, (SaveImage, SaveImaged))], engine_settings(engine))


def engine_settings(engine: Engine) -> list[Any]:
    """How the evaluator itself computes."""
    return [getattr(engine, name, None) for name in ("amp", "amp_kwargs", "prepare_batch", "mode")]


def batching(engine: Engine, batches: int | None) -> Any:
    """Which batches decide the numbers: in training mode all, as their statistics do; where the epoch is cut short, the first."""
    size = getattr(engine.state.dataloader, "batch_size", None)
    training = getattr(engine, "mode", None) is train_mode
    return [training, batches, size] if training or batches is not None else None


def provenance() -> dict[str, Any]:
    """Versions and the command, for the sidecar of a cell."""
    import monai
    import numpy

    import monai_advdef

    program = "python -m monai.bundle" if "monai/bundle" in sys.argv[0] else Path(sys.argv[0]).name
    return {
        "command": outward(" ".join([program, *sys.argv[1:]])),
        "versions": {
            "monai_advdef": monai_advdef.__version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
    }
