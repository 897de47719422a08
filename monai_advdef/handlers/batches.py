"""What a batch and an output must hold for an attack and its records, asked for in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_advdef.logits import name_of, unwrap, why_not
from monai_advdef.networks import Ensemble

WHY = {"image": "it is what is attacked", "label": "an attack and its scores are measured against it: load the masks"}


@dataclass
class Attacked:
    """What happened to the current batch, for the handlers that come later: one entry per case.

    ``target`` is what a targeted attack aimed at, a class map (B, 1, \\*S) or a mask per class (B, K, \\*S), else ``None``. Of a
    suite ``members`` holds a row of every run of each case, and ``adaptive`` says whether a defence was attacked by somebody who
    knows it.
    """

    iteration: int
    clean: Tensor
    target: Tensor | None
    score: list[float]
    linf: list[float]
    l2: list[float]
    forwards: list[int]
    backwards: list[int]
    seconds: list[float]
    zero_gradient: list[float]
    members: list[list[dict[str, Any]]] = field(default_factory=list)
    adaptive: bool | None = None


def batch_images(batch: Any, image_key: str, label_key: str) -> tuple[Tensor, Tensor]:
    """Image (B, C, \\*S) and label of a collated batch.

    Raises:
        ValueError: a batch that is no dictionary, an entry that it lacks or that is no tensor; naming key and remedy.
    """
    if not isinstance(batch, Mapping):
        held = f" of {', '.join(sorted({type(item).__name__ for item in batch}))}" if isinstance(batch, (list, tuple)) else ""
        raise ValueError(
            f"the batch is a {type(batch).__name__}{held}, not a dictionary; let the data set give dictionaries with {image_key!r}, "
            f"{label_key!r} and 'case', and the DataLoader collate them (MONAI's DataLoader does)"
        )
    image, label = (entry(batch, key, f"{kind}_key", "the batch") for kind, key in (("image", image_key), ("label", label_key)))
    return image, label


def entry(held: Mapping[str, Any], key: str, argument: str, what: str) -> Tensor:
    """A tensor of a batch, of a case or of an output.

    Raises:
        ValueError: it is not there, or no tensor.
    """
    found = held.get(key)
    if isinstance(found, Tensor):
        return found
    if found is None and key in held:
        raise ValueError(
            f"{key!r} of {what} is empty for a case of the batch; every case needs one in the data (or name the right key "
            f"with {argument}), and a postprocessing of whole batches (decollate false) must keep the cases apart"
        )
    why = WHY.get(argument.removesuffix("_key"), "it is what is scored")
    if found is None:
        known = ", ".join(k for k in map(str, held) if not k.endswith(("_meta_dict", "_transforms")))
        raise ValueError(f"{what} has no {key!r} (it has {known or 'nothing'}); {why}, or name the right key with {argument}")
    if isinstance(found, (list, tuple)) and all(isinstance(x, Tensor) for x in found):
        sizes = " and ".join(sorted({str(tuple(x.shape)) for x in found}))
        raise ValueError(f"{key!r} of {what} is a list of tensors {sizes}; pad or resize them to one size, or set batch_size to 1")
    raise ValueError(f"{key!r} of {what} is a {type(found).__name__}, not a tensor; add EnsureTyped(keys={key!r}) to the transforms")


def check_classes(classes: Sequence[str], output: Any, activation: str) -> None:
    """Refuse names of classes for which a softmax head has no channel: with both masks empty, each would score 1.

    Raises:
        ValueError: naming the classes and how many there are.
    """
    found = next((v for k, v in output.items() if str(k).startswith("pred")), None) if isinstance(output, Mapping) else None
    logits = found[0] if isinstance(found, (list, tuple)) and found else found
    if activation != "softmax" or not isinstance(logits, Tensor) or logits.ndim < 3:
        return
    channels = max(logits.shape[1] - 1, 1)
    if len(classes) > channels:
        raise ValueError(
            f"classes names {len(classes)} foreground classes ({list(classes)}), the network has channels for {channels}; name as "
            "many, in the order of its channels"
        )


def put_image(batch: Any, key: str, adversarial: Tensor) -> None:
    """Put an adversarial image in the place of the clean one: with its metadata, and of its type where that is a floating one.

    Rounding to fewer bits goes towards the clean image, so that no change becomes larger by it.
    """
    clean = batch[key]
    plain = clean.as_tensor() if isinstance(clean, MetaTensor) else clean
    made = adversarial
    if plain.is_floating_point() and plain.dtype != adversarial.dtype:
        plain = plain.to(adversarial.device)
        made = adversarial.to(plain.dtype)
        over = (made.double() - plain.double()).abs() > (adversarial.double() - plain.double()).abs()
        made = torch.where(over, torch.nextafter(made, plain), made)
    batch[key] = MetaTensor(made).copy_meta_from(clean) if isinstance(clean, MetaTensor) else made


def network_of(engine: Any) -> nn.Module:
    """The network of an engine; of MONAI's ``EnsembleEvaluator`` the mean of the logits of its networks."""
    several = getattr(engine, "networks", None)
    return engine.network if several is None else Ensemble([unwrap(network) for network in several])


@contextmanager
def in_words(engine: Any, image_key: str = "image") -> Iterator[None]:
    """Says of what the engine itself stumbles over (keys, size, channels, precision, several outputs) what it means.

    Raises:
        ValueError: in place of torch's or MONAI's error.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError) as error:
        words = _of_keys(engine.state.batch) if isinstance(error, KeyError) else _of_network(engine, image_key, str(error))
        if words is None:
            raise
        raise ValueError(words) from error


def _of_keys(batch: Any) -> str | None:
    """Words for a batch in which MONAI's evaluators do not find what they take."""
    if not isinstance(batch, Mapping) or "image" in batch:
        return None
    return (
        f"the evaluator takes 'image' and 'label' from the batch, which has {', '.join(map(str, batch))}; rename them (MONAI's "
        "CopyItemsd as the last transform), or give it a prepare_batch that knows these names"
    )


def _of_network(engine: Any, image_key: str, message: str) -> str | None:
    """Words for images that a network cannot take, and for several outputs, which no postprocessing can."""
    batch, output, network = engine.state.batch, engine.state.output, unwrap(network_of(engine))
    image = batch.get(image_key) if isinstance(batch, Mapping) else None
    if isinstance(image, Tensor) and (words := why_not(network, image, message)):
        return words
    for item in output if isinstance(output, list) else [output]:
        found = item.get("pred") if isinstance(item, Mapping) else None
        if isinstance(found, (list, tuple, Mapping)):
            held = f"a dictionary with {', '.join(map(str, found))}" if isinstance(found, Mapping) else f"{len(found)} outputs"
            return f"{name_of(network)} returns {held}, the postprocessing expects one; wrap it in a network that returns that one"
    return None
