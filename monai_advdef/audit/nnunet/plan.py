"""What an nnU-Net folder says of itself: ``plans.json`` and ``dataset.json``, every name in them checked before it is looked up."""

from __future__ import annotations

import importlib
import json
import pkgutil
import pydoc
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from monai_advdef.audit.nnunet.library import own, quiet
from monai_advdef.audit.nnunet.normalisation import SCHEMES
from monai_advdef.audit.nnunet.resampling import RESAMPLING, resampling, rounds_to_half
from monai_advdef.errors import DataError, reading
from monai_advdef.switches import as_written

READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO")
ARCHITECTURES = "dynamic_network_architectures."
PARTS = ("torch.nn.", ARCHITECTURES)  # packages whose classes may stand in an architecture


class Plan:
    """One configuration of an nnU-Net folder.

    Args:
        folder: with ``plans.json`` and ``dataset.json``.
        configuration: ``"3d_fullres"``, ``"2d"``, ...
        trust: architectures of other packages than torch and nnU-Net's own are built, too.

    Raises:
        DataError: nnU-Net is not installed; a file that is missing or no JSON; a cascade; a name that is not known.
    """

    fleeting = ("folder",)  # what lies in it decides

    @as_written
    def __init__(self, folder: str, configuration: str, *, trust: bool = False) -> None:
        self.folder, self.configuration, self.trust = Path(folder), str(configuration), trust
        plans, self.dataset = (read_json(self.folder / name) for name in ("plans.json", "dataset.json"))
        with reading(self.folder / "plans.json", f"has no usable configuration {configuration!r}", "train it anew, or name another"):
            self.manager = own("nnunetv2.utilities.plans_handling.plans_handler").PlansManager(plans)
            with quiet():
                self.settings = self.manager.get_configuration(self.configuration)
            self._read(self.settings.configuration, plans)
        with reading(self.folder / "dataset.json", "has labels that nnU-Net does not take", "correct 'labels'"):
            with quiet():
                self.labels = self.manager.get_label_manager(self.dataset)
            self.heads = int(self.labels.num_segmentation_heads)
            self.regions = (
                [r if isinstance(r, tuple) else (r,) for r in self.labels.foreground_regions] if self.labels.has_regions else []
            )
        self._check_labels()

    def _read(self, told: Mapping[str, Any], plans: Mapping[str, Any]) -> None:
        if told.get("previous_stage"):
            raise DataError(
                f"{self.folder}: {self.configuration} is the second stage of a cascade, and takes the prediction of "
                f"{told['previous_stage']} as channels of its input; audit the folder of a single stage (3d_fullres, 2d, 3d_lowres)"
            )
        _known("preprocessor_name", told["preprocessor_name"], ["DefaultPreprocessor"])
        _known("label_manager", plans.get("label_manager", "LabelManager"), ["LabelManager"])
        self.reader = _known("image_reader_writer", plans["image_reader_writer"], READERS)
        self.schemes = [_known("normalization_schemes", name, SCHEMES) for name in told["normalization_schemes"]]
        self.masked = [bool(m) for m in told["use_mask_for_norm"]]
        self.patch_size, self.spacing = list(told["patch_size"]), list(told["spacing"])
        self.forward, self.backward = list(plans["transpose_forward"]), list(plans["transpose_backward"])
        names = {part: told[f"resampling_fn_{part}"] for part in ("data", "probabilities")}
        _known("resampling_fn_seg", told["resampling_fn_seg"], RESAMPLING)
        made = {part: resampling(n, told[f"resampling_fn_{part}_kwargs"], f"resampling_fn_{part}") for part, n in names.items()}
        self.resample, self.resample_back, self.half = made["data"], made["probabilities"], rounds_to_half(names["probabilities"])
        self.channels = channel_names(self.dataset)
        if not len(self.channels) == len(self.schemes) == len(self.masked):
            raise DataError(f"{len(self.schemes)} normalization_schemes for the channels {self.channels} of dataset.json")
        if any("CT" in scheme for scheme in self.schemes) or "foreground_intensity_properties_per_channel" in plans:
            told_of = self.manager.foreground_intensity_properties_per_channel
            self.intensities = [told_of[str(c)] for c in range(len(self.channels))]
        else:
            self.intensities = [{} for _ in self.channels]

    def _check_labels(self) -> None:
        if not self.regions and list(self.labels.all_labels) != list(range(self.heads)):
            raise DataError(f"{self.folder / 'dataset.json'}: labels are {self.labels.all_labels}; nnU-Net needs 0, 1, 2, ...")

    @property
    def ending(self) -> str:
        """Of the data's files, ``".nii.gz"``."""
        return str(self.dataset.get("file_ending", ".nii.gz"))

    @property
    def classes(self) -> list[str]:
        """Names of the foreground labels, or of the regions, in the order of the channels."""
        told = {name: value for name, value in self.dataset["labels"].items() if name != "ignore" and value not in (0, [0])}
        return list(told) if self.regions else [name for name, _ in sorted(told.items(), key=lambda item: _first(item[1]))]

    def network(self, trainer: str) -> nn.Module:
        """An untrained network as ``trainer`` builds it, without deep supervision.

        Raises:
            DataError: a trainer that is none of the installed nnU-Net's, or a class of a package that is not known.
        """
        wrong = ("has an architecture that cannot be built", "train it anew, or mend the plans")
        with reading(self.folder / "plans.json", *wrong), quiet():
            told = self.settings.configuration["architecture"]
            self._check_class("network_class_name", told["network_class_name"], (ARCHITECTURES,))
            for name in told["_kw_requires_import"]:
                if told["arch_kwargs"].get(name) is not None:
                    self._check_class(f"arch_kwargs {name}", told["arch_kwargs"][name], PARTS)
            build = self._trainer(trainer).build_network_architecture
            return build(self.manager, self.settings, len(self.channels), self.heads, enable_deep_supervision=False)

    def _trainer(self, name: str) -> Any:
        try:
            with quiet():
                if self.trust:
                    return own("nnunetv2.utilities.find_objects").recursive_find_trainer_class_by_name(name)
                found = _of_package(own("nnunetv2.training.nnUNetTrainer"), name)
        except (RuntimeError, ImportError, AssertionError) as error:
            raise DataError(f"{self.folder}: trainer_name {name!r} cannot be loaded ({error}); install what it needs") from error
        if not isinstance(found, type) or not issubclass(found, own("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer):
            raise DataError(
                f"{self.folder}: was trained by {name!r}, which the installed nnunetv2 does not have, so the network that it builds "
                "is not known; install the nnU-Net that has it, or name its folder in nnUNet_extTrainer and give --trust"
            )
        return found

    def _check_class(self, field: str, name: str, packages: tuple[str, ...]) -> None:
        """A name in the plans is someone else's: nothing is imported for it but what is nnU-Net's or torch's."""
        if self.trust:
            return
        told = f"{self.folder / 'plans.json'}: {field} is {name!r}"
        if not str(name).startswith(packages):
            raise DataError(f"{told}, code of a package other than {' or '.join(packages)}; give --trust if you trust who made it")
        found = pydoc.locate(str(name))
        if found is not None and not (
            isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(packages)
        ):
            raise DataError(f"{told}, which is no network layer; the plans are damaged")


def _of_package(package: ModuleType, name: str) -> Any:
    """What is called so in a module of a package; modules that lack something of their own are passed over."""
    for told in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None):
        try:
            module = importlib.import_module(told.name)
        except (ImportError, RuntimeError, AttributeError):
            continue
        if hasattr(module, name):
            return getattr(module, name)
    return None


def _known(field: str, value: Any, known: Any) -> str:
    if value not in known:
        raise DataError(f"{field} is {value!r}, known here are {', '.join(known)}")
    return str(value)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, (list, tuple)) else value)


def channel_names(dataset: Mapping[str, Any]) -> list[str]:
    """The names of the channels in their order; ``modality`` in older files."""
    told = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(told, Mapping) or not told:
        raise DataError("dataset.json has no channel_names; say what the channels are: {'0': 'CT'}")
    return [str(told[key]) for key in sorted(told, key=int)]


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        DataError: it is not there, or no JSON object.
    """
    with reading(path, "cannot be read as JSON", "copy it again from the folder of the trained model"):
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, not an object; copy it again from the folder of the trained model")
    return found
