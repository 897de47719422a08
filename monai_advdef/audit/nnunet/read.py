"""Read an nnU-Net v2 results folder: what stands in it becomes the socket that an audit plugs into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_advdef.audit.nnunet.cases import find_cases
from monai_advdef.audit.nnunet.inferer import STEP
from monai_advdef.audit.nnunet.library import own
from monai_advdef.audit.nnunet.network import Folds
from monai_advdef.audit.nnunet.plan import Plan, read_json
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.weights import load_weights, loaded_network
from monai_advdef.errors import DataError

HERE = "monai_advdef.audit.nnunet"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")


def read_nnunet(folder: Path, options: AuditOptions) -> Reading:
    """A reading of an nnU-Net v2 results folder (``plans.json``, ``dataset.json``, ``fold_*/checkpoint_final.pth``).

    Raises:
        DataError: nnU-Net is not installed; files that are missing or damaged, a cascade, a trainer or an architecture that is not
            known, checkpoints that hold more than weights; data of another shape.
    """
    folder = Path(folder)
    own("nnunetv2")
    read_json(folder / "plans.json")
    checkpoints = _checkpoints(folder)
    held = {fold: load_weights(str(file), trust=options.trust) for fold, file in checkpoints.items()}
    trainer, configuration, mirror = _agreed(folder, held)
    plan = Plan(str(folder), configuration, trust=options.trust)
    network = plan.network(trainer)
    name = f"{plan.manager.plans.get('dataset_name') or folder.name} {configuration}"
    reading = Reading(name=name, kind="nnU-Net", root=folder)
    _note(reading, folder, checkpoints)
    cases = find_cases(plan, options, list(checkpoints), reading.notes)
    told = {"folder": str(folder), "configuration": configuration, "trust": options.trust}
    files = [str(file) for file in checkpoints.values()]
    reading.overlay = _overlay(reading, plan, told, files, trainer, mirror, cases)
    _tell(reading, plan, network, trainer, checkpoints, mirror)
    return reading


def trained(plan: Plan, checkpoints: Sequence[str], trainer: str) -> Folds:
    """The networks of all folds, each with its own weights.

    Raises:
        DataError: weights of another network; naming the file.
    """
    networks = []
    for path in checkpoints:
        told = {"path": path, "key": "network_weights", "trust": plan.trust}
        networks.append(loaded_network(plan.network(trainer), told))
    return Folds(networks)


def _overlay(
    reading: Reading,
    plan: Plan,
    told: Mapping[str, Any],
    files: list[str],
    trainer: str,
    mirror: list[int],
    cases: list[dict[str, Any]],
) -> dict[str, Any]:
    """The parts stand beside the socket, because several of them share the plan and what was fed last."""
    parts = {
        "plan": {"_target_": f"{HERE}.Plan", **told},
        "network": {"_target_": f"{HERE}.trained", "plan": "@nnunet::plan", "checkpoints": files, "trainer": trainer},
        "preprocessing": {"_target_": f"{HERE}.Preprocessing", "plan": "@nnunet::plan"},
        "proof": {"_target_": f"{HERE}.Proof", "plan": "@nnunet::plan", "network": "@nnunet::network", "mirror_axes": mirror},
        "inferer": {
            "_target_": f"{HERE}.NnUNetInferer",
            "preprocessing": "@nnunet::preprocessing",
            "folds": len(files),
            "mirror_axes": mirror,
            "proof": "@nnunet::proof",
        },
        "postprocessing": {"_target_": f"{HERE}.Segmented", "plan": "@nnunet::plan"},
    }
    socket = {name: f"@nnunet::{name}" for name in ("network", "inferer", "preprocessing", "postprocessing")}
    head = "sigmoid" if plan.regions else "softmax"
    told_of = {
        "name": reading.name,
        "kind": reading.kind,
        "checkpoint": None,
        "activation": head,
        "classes": plan.classes,
        "cases": cases,
    }
    return {"nnunet": parts, "deployed": {**told_of, **socket}}


def _checkpoints(folder: Path) -> dict[str, Path]:
    """The file of each fold: the same for all, as nnU-Net asks; ``fold_all`` only where there is no other."""
    folds = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    for name in CHECKPOINTS:
        found = {path.name.removeprefix("fold_"): path / name for path in folds if (path / name).is_file()}
        numbered = {fold: file for fold, file in found.items() if fold.isdigit()}
        if numbered or found:
            return numbered or found
    told = ", ".join(path.name for path in folds) or "no folder fold_0, fold_1, ..."
    raise DataError(
        f"{folder}: there are no weights ({told}; none holds {' or '.join(CHECKPOINTS[:2])}); copy the trained folds there"
    )


def _agreed(folder: Path, held: Mapping[str, Any]) -> tuple[str, str, list[int]]:
    """Trainer, configuration and mirroring axes, of the first fold as in nnU-Net; folds of another are refused."""
    found = {}
    for fold, checkpoint in held.items():
        try:
            axes = checkpoint.get("inference_allowed_mirroring_axes")
            told = (checkpoint["trainer_name"], checkpoint["init_args"]["configuration"], [int(a) for a in axes or ()])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                f"{folder}/fold_{fold}: its checkpoint lacks {error}, so it is none of nnU-Net v2; copy the trained fold again"
            ) from error
        found[fold] = told
    first = next(iter(found.values()))
    if other := next((fold for fold, told in found.items() if told != first), None):
        raise DataError(
            f"{folder}: fold_{other} is {found[other]}, the first fold {first}; an ensemble needs folds of one configuration"
        )
    return first


def _note(reading: Reading, folder: Path, checkpoints: Mapping[str, Path]) -> None:
    name = next(iter(checkpoints.values())).name
    without = sorted(p.name for p in folder.glob("fold_*") if p.is_dir() and p.name.removeprefix("fold_") not in checkpoints)
    if without:
        reading.notes.append(f"{', '.join(without)} left out: without {name}, or beside numbered folds")
    if name != CHECKPOINTS[0]:
        reading.notes.append(f"no fold has {CHECKPOINTS[0]}, so {name} is audited; nnUNetv2_predict needs -chk {name}")
    if len(checkpoints) < 5 and "all" not in checkpoints:
        are = (
            f"fold {', '.join(checkpoints)} alone" if len(checkpoints) == 1 else f"an ensemble of the folds {', '.join(checkpoints)}"
        )
        reading.notes.append(f"audited is {are}; nnU-Net's own default are five (0, 1, 2, 3, 4)")
    for path in [*folder.glob("postprocessing.*"), *folder.glob("crossval_results*/postprocessing.*")][:1]:
        reading.notes.append(
            f"{path.relative_to(folder)} is not applied: nnUNetv2_predict does not apply it either, but a step after it"
        )


def _tell(reading: Reading, plan: Plan, network: Any, trainer: str, checkpoints: Mapping[str, Path], mirror: Sequence[int]) -> None:
    where = f"plans.json, {plan.configuration}"
    first = f"fold_{next(iter(checkpoints))}/{next(iter(checkpoints.values())).name}"
    tell = reading.tell
    tell("configuration", plan.configuration, first)
    tell("network", f"{type(network).__name__}, as {trainer} builds it", f"{where}; trainer_name in {first}")
    tell(
        "folds",
        f"{', '.join(checkpoints)}: the mean of their logits, each stitched by itself",
        f"fold_*/{next(iter(checkpoints.values())).name}",
    )
    tell("windows", f"{plan.patch_size}, moved by {STEP:g} of it, Gaussian weights, sums in half precision", where)
    tell("mirroring", f"axes {list(mirror)}" if mirror else "none", f"inference_allowed_mirroring_axes in {first}")
    pairs = zip(plan.channels, plan.schemes, plan.masked)
    tell("channels", "; ".join(f"{c}: {s}{' of nonzero voxels' if m else ''}" for c, s, m in pairs), f"dataset.json; {where}")
    tell("spacing", f"{plan.spacing} mm, the logits resampled back", where)
    tell("head", "regions, a sigmoid each" if plan.regions else "softmax", "labels in dataset.json")
    tell("classes", ", ".join(plan.classes), "labels in dataset.json")
    tell(
        "logits",
        "held against nnUNetPredictor's own on the first case; the audit stops where they differ by more than 1e-4",
        "run time",
    )
