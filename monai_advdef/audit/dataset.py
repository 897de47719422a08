"""The cases of an audit: each as its image in image units, and as the model's own chain feeds it to the network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, MapTransform, allow_missing_keys_mode
from torch import Tensor

from monai_advdef.audit.scoring.forms import background_first, masks_of_map
from monai_advdef.audit.scoring.label_files import label_steps
from monai_advdef.audit.scoring.way_back import moves, steps
from monai_advdef.errors import DataError, root_of
from monai_advdef.switches import as_written

logger = logging.getLogger(__name__)
Chain = Callable[[dict[str, Any]], Mapping[str, Any]]


class AuditDataset(Dataset):
    """A case becomes ``image`` (C, \\*S) in image units, ``label`` on the grid of the network's output, and ``fed``.

    ``fed`` is what the model's own preprocessing makes of the case, whole and as deployed; with it come the operations that its
    postprocessing inverts. The ``image`` is what the head of that preprocessing makes of it, and what is attacked; what stands
    between the two is the tail.

    Args:
        cases: one mapping per case with the files of image and label, ``case`` and ``patient``.
        preprocessing: the whole chain, on dictionaries.
        head: the part of it that reads and shapes the image; ``preprocessing`` itself where the attack is at the
            network's input.
        image_key, label_key: the chain's names.
        labelled: false: cases have no label; the chain then goes without it.
        classes, activation: of the network. Where a sigmoid head has several classes and the label is a class map, ``label`` holds a
            mask per class; a mask of the background counts as not annotated.
        postprocessing: the model's own. What it does to the values of labels is done to ``label``, so that what is attacked is what
            is scored. Where ``label`` is another than the chain made it, ``given`` holds that.

    Raises:
        DataError: no case; when a case is read, the chain fails on it, or its image holds NaN or infinity, naming the case.
    """

    @as_written
    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        preprocessing: Any,
        head: Any,
        *,
        image_key: str = "image",
        label_key: str = "label",
        labelled: bool = True,
        classes: Sequence[str] = (),
        activation: str = "softmax",
        postprocessing: Any = None,
    ) -> None:
        if not cases:
            raise DataError("there is no case to audit on; name the files with --images and --labels")
        super().__init__([dict(case) for case in cases], None)
        self.preprocessing, self.head = as_chain(preprocessing), as_chain(head)
        self.image_key, self.label_key, self.labelled = image_key, label_key, labelled
        self.classes, self.activation = list(classes), activation
        self.after = Compose(label_steps(postprocessing, label_key, activation))
        self.moved = any(moves(t) and self.image_key in getattr(t, "keys", ()) for t in steps(self.preprocessing))
        if not labelled:
            for chain in (self.preprocessing, self.head):
                let_missing(chain)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        case = dict(self.data[index])
        name = str(case.get("case", index))
        if not self.labelled:
            case.pop(self.label_key, None)
        fed, raw = (self._made(chain, dict(case), name) for chain in (self.preprocessing, self.head))
        for made in (raw, fed):
            if self.image_key not in made:
                raise DataError(f"{name}: the preprocessing gives no {self.image_key!r}; name its key with image_key")
        _require_numbers(raw[self.image_key], name)
        item = {"image": self._placed(raw), "fed": self._placed(fed)}
        if self.labelled:
            if self.label_key not in fed:
                raise DataError(f"{name}: the preprocessing gives no {self.label_key!r}; name its key with label_key")
            item |= self._masks(fed[self.label_key], name)
        carried = {k: v for k, v in fed.items() if isinstance(v, MetaTensor) and k not in (self.image_key, self.label_key)}
        files = {key: case[key] for key in (self.image_key, self.label_key) if key in case}
        return {**carried, **item, "files": files, "case": name, "patient": str(case.get("patient", name))}

    def _placed(self, made: Mapping[str, Any]) -> Tensor:
        """The image that a chain made; where joining scans as arrays lost where it lies, it lies where the first of them does."""
        image = _float(made[self.image_key])
        if self.moved or (isinstance(image, MetaTensor) and image.meta.get("filename_or_obj")):
            return image
        others = (v for k, v in made.items() if isinstance(v, MetaTensor) and k not in (self.image_key, self.label_key))
        first = next((v for v in others if v.meta.get("filename_or_obj") and v.shape[1:] == image.shape[1:]), None)
        return image if first is None else MetaTensor(image.as_subclass(Tensor)).copy_meta_from(first)

    def _masks(self, given: Any, name: str) -> dict[str, Any]:
        """The label as it is attacked, and, where that is another, as it was given."""
        label = given
        if self.after.transforms:
            copied = given.clone() if isinstance(given, Tensor) else given
            with _own(f"{name}: what the model's own postprocessing does to labels"), allow_missing_keys_mode(self.after):
                label = self.after({self.label_key: copied})[self.label_key]
            one, other = (torch.as_tensor(x).as_subclass(Tensor) for x in (label, given))
            label = given if torch.equal(one.double(), other.double()) else label
        if self.activation != "sigmoid" or len(self.classes) < 2:
            return {"label": label} | ({} if label is given else {"given": given})
        try:
            masks = label if len(label) > 1 else masks_of_map(torch.as_tensor(label), self.classes)
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        found = MetaTensor(masks).copy_meta_from(label) if isinstance(label, MetaTensor) else MetaTensor(masks)
        if background_first(self.classes, self.activation):
            found.meta["annotated"] = torch.tensor([1.0, 0.0] + [1.0] * (len(self.classes) - 1))
        return {"label": found, "given": given}

    def _made(self, chain: Chain, case: dict[str, Any], name: str) -> Mapping[str, Any]:
        with _own(f"{name}: the model's own preprocessing"):
            found = chain(case)
        if isinstance(found, list):
            raise DataError(
                f"{name}: the preprocessing gives {len(found)} samples of one case; an audit needs whole cases, without random crops"
            )
        return found


@contextmanager
def _own(what: str) -> Iterator[None]:
    """Words for what a chain of the model's own stumbles over.

    Raises:
        DataError: in place of its error, with the first cause.
    """
    try:
        yield
    except DataError:
        raise
    except (RuntimeError, ValueError, KeyError, IndexError, OSError, TypeError) as error:
        cause = root_of(error)
        if isinstance(cause, (DataError, torch.OutOfMemoryError)):
            raise cause from error
        raise DataError(f"{what} fails on it: {type(cause).__name__}: {cause}") from error


def as_chain(preprocessing: Any) -> Chain:
    """A preprocessing as one callable: a list becomes a ``Compose`` without threads of its own."""
    return Compose(list(preprocessing)) if isinstance(preprocessing, (list, tuple)) else preprocessing


def let_missing(chain: Any) -> None:
    """Every dictionary transform of a chain passes over keys that a case lacks."""
    for transform in chain.flatten().transforms if isinstance(chain, Compose) else []:
        if isinstance(transform, MapTransform):
            transform.allow_missing_keys = True


def _require_numbers(image: Any, name: str) -> None:
    x = torch.as_tensor(image)
    bad = int((~torch.isfinite(x)).sum()) if x.is_floating_point() else 0
    if bad:
        raise DataError(
            f"{name}: {bad} of the {x.numel()} values of its image are NaN or infinite, as where a resampling found nothing; "
            "store a number there, or leave the case out"
        )


def _float(x: Any) -> Tensor:
    """A floating image; a MetaTensor stays one."""
    x = x if isinstance(x, Tensor) else torch.as_tensor(x)
    return x if x.dtype == torch.float32 else x.float()


class AsDeployed:
    """The model's own postprocessing on what an audit's evaluator gives: its keys are its own, and its image is what was fed.

    ``pred`` and ``label`` are afterwards what it left of them; everything else of the case stays.

    Args:
        postprocessing: a transform on dictionaries, a list of them, or ``None``.
        image_key, label_key, pred_key: its names.
    """

    def __init__(self, postprocessing: Any, *, image_key: str = "image", label_key: str = "label", pred_key: str = "pred") -> None:
        self.postprocessing = None if postprocessing is None else as_chain(postprocessing)
        self.keys = {"image": image_key, "label": label_key, "pred": pred_key}
        if postprocessing is not None:
            let_missing(self.postprocessing)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """One case, decollated.

        Raises:
            DataError: the postprocessing fails on it, naming the case.
        """
        if self.postprocessing is None:
            return dict(data)
        held = {self.keys["image"]: data["fed"], self.keys["pred"]: _with_meta(data["pred"], data["fed"])}
        if "label" in data:
            held[self.keys["label"]] = data.get("given", data["label"])
        others = {key: value for key, value in data.items() if key not in ("image", "label", "pred", "fed", *held)}
        label = held.get(self.keys["label"])
        with _own(f"{data.get('case', 'a case')}: the model's own postprocessing{_told(label)}"):
            made = self.postprocessing({**others, **held})
        return {**data, **{name: made[self.keys[name]] for name in ("label", "pred") if self.keys[name] in made}}


def _told(label: Any) -> str:
    """What a label holds, in words: values beyond the classes are what a postprocessing stumbles over most often."""
    if label is None or not len(x := torch.as_tensor(label).as_subclass(Tensor).flatten()):
        return ""
    return f" (its label holds {float(x.min()):g} to {float(x.max()):g})"


def _with_meta(pred: Tensor, fed: Any) -> Tensor:
    """A prediction with the geometry of what was fed, as MONAI's own inferers leave it."""
    if not isinstance(fed, MetaTensor) or isinstance(pred, MetaTensor):
        return pred
    return MetaTensor(pred).copy_meta_from(fed)
