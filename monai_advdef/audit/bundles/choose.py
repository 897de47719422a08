"""Which files of a bundle say how it is evaluated or used, and where in them its evaluator stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monai.bundle import ConfigParser

from monai_advdef.audit.bundles.folder import Bundle
from monai_advdef.errors import DataError, reading

EVALUATORS = (
    "validate::evaluator",
    "evaluator",
    "evaluate::evaluator",
    "test::evaluator",
    "infer::evaluator",
    "inference::evaluator",
)
OVERLAYS = ("evaluate", "evaluation", "eval", "validate", "test")
USES = ("inference", "infer", "predict", "test", *OVERLAYS)


@dataclass(frozen=True)
class Choice:
    """Files in their order, the id of their evaluator, and whether they are for use alone, without labels."""

    files: tuple[Path, ...]
    evaluator: str
    use: bool

    @property
    def overlaid(self) -> bool:
        """Whether it is more than the validation of a training: a file for evaluation goes over it, or it is one."""
        return len(self.files) > 1 or not self.files[0].stem.startswith("train")


def choices(bundle: Bundle) -> list[Choice]:
    """What a bundle can be audited by, the evaluation on labels first.

    Raises:
        DataError: no file has an evaluator.
    """
    found = [choice for files, use in _sets(bundle) if (choice := _choice(files, use)) is not None]
    if not found:
        raise DataError(
            f"{bundle.root} has no evaluator: {', '.join(EVALUATORS[:2])} are looked for in "
            f"{', '.join(p.name for p in bundle.configs.values())}; a bundle whose workflow is Python code, or one for training "
            "alone, cannot be audited by its configuration: audit its network as a module"
        )
    return found


def _sets(bundle: Bundle) -> Iterator[tuple[tuple[Path, ...], bool]]:
    configs = dict(bundle.configs)
    trains = [name for name in configs if name == "train"] or [name for name in configs if name.startswith("train")][:1]
    overlays = [name for name in OVERLAYS if name in configs]
    for train in trains:
        overlay = next((configs[name] for name in overlays if _is_overlay(configs[name])), None)
        yield (configs[train], *([overlay] if overlay else [])), False
    for name in overlays:
        if not _is_overlay(configs[name]):
            yield (configs[name],), False
    for name in dict.fromkeys(
        [*(n for n in USES if n in configs), *(n for n in configs if n.startswith("infer") and "trt" not in n)]
    ):
        if name not in overlays:
            yield (configs[name],), True


def _keys(path: Path) -> dict[str, object]:
    with reading(path, "is no configuration that can be read", "correct it"):
        content = ConfigParser.load_config_file(path)
    return content if isinstance(content, dict) else {}


def _is_overlay(path: Path) -> bool:
    """Whether a file goes over another one, which its keys name parts of."""
    keys = _keys(path)
    return any("#" in key or "::" in key or key.startswith("+") for key in keys) or not any(_has(keys, id) for id in EVALUATORS)


def _has(keys: dict[str, object], id: str) -> bool:
    first, *rest = id.split("::")
    node = keys.get(first)
    return isinstance(node, dict) and (not rest or isinstance(node.get(rest[0]), (dict, str)))


def _choice(files: tuple[Path, ...], use: bool) -> Choice | None:
    evaluator = next((id for id in EVALUATORS if _has(_keys(files[0]), id)), None)
    return Choice(files, evaluator, use) if evaluator else None
