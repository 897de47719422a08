"""From a reading to the files that stock ``monai.bundle run`` takes: ``model.yaml`` and the list of its cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from monai_advdef.audit.isolation import SOCKET, isolated
from monai_advdef.audit.privacy import private
from monai_advdef.audit.reading import Reading
from monai_advdef.errors import DataError
from monai_advdef.neighbours import whole

MODEL, CASES = "model.yaml", "cases.json"  # the cases, with the paths of their files, lie in the private folder
DEFAULTS: dict[str, Any] = {
    "name": "model",
    "kind": "model",
    "task": "segmentation",
    "checkpoint": None,
    "postprocessing": None,
    "image_key": "image",
    "label_key": "label",
    "pred_key": "pred",
    "activation": "softmax",
    "reads": [],
    "key_metric": None,
    "labelled": True,
    "per_sigma": None,
    "at_input": None,
}
NEEDED = ("network", "inferer", "preprocessing", "classes", "cases")
HEAD = """# What is audited and how it is deployed, as it was read on the model's own files; written by `monai-advdef audit`.
# Weights, cases and this folder are named where they lay then; if any of them has moved, run the audit again.
# By hand, with WORKFLOWS as `monai-advdef list --where workflows` prints it:
# python -m monai.bundle run --config_file "['model.yaml','WORKFLOWS/audit/evaluate.yaml','WORKFLOWS/suites/standard.yaml']"
"""


def plugged(reading: Reading, output_dir: str, device: str) -> dict[str, Any]:
    """The configuration of a model: its socket with every name that an evaluation asks for.

    Raises:
        DataError: a part that the reader left empty.
    """
    config = isolated(reading)
    socket = {**DEFAULTS, **config[SOCKET]}
    if missing := [name for name in NEEDED if socket.get(name) in (None, [], "")]:
        raise DataError(f"{reading.name}: its reading says nothing of {', '.join(missing)}; give it with options, or another model")
    found = str(reading.root) if reading.scripts else output_dir  # MONAI looks for modules there
    settings = {"bundle_root": found, "output_dir": output_dir, "device": f"$torch.device('{device}')"}
    return {**settings, **config, SOCKET: socket}


def as_texts(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with texts that MONAI would read as a macro, an expression or a reference (``"% of range"``) as plain texts."""

    def plain(text: str) -> str:
        return "$" + repr(text).replace("@", "\\x40")  # an expression's @ is a reference, within quotes too

    return {k: plain(v) if isinstance(v, str) and v.startswith(("%", "$", "@")) else v for k, v in given.items()}


def write_socket(config: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``model.yaml`` and ``private/cases.json`` below a folder and return the configuration files.

    Raises:
        TypeError: the configuration holds objects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = config[SOCKET]["cases"]
    if isinstance(cases, Sequence) and not isinstance(cases, str):
        path = private(folder) / CASES
        with whole(path) as new:
            new.write_text(json.dumps(cases, indent=1, ensure_ascii=False), encoding="utf-8")
        cases = {"_target_": "monai_advdef.audit.read_cases", "path": str(path)}
    text = json.dumps({**config, SOCKET: {**config[SOCKET], "cases": cases}})
    with whole(folder / MODEL) as new:
        new.write_text(HEAD + yaml.safe_dump(json.loads(text), sort_keys=False, width=130, allow_unicode=True), encoding="utf-8")
    return [folder / MODEL]


def read_cases(path: str) -> list[dict[str, Any]]:
    """The cases of an audit, as ``cases.json`` lists them.

    Raises:
        DataError: it is not there, or no such list.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the audit again, it writes the list anew") from error
    if not isinstance(found, list) or not all(isinstance(case, dict) for case in found):
        raise DataError(f"{path}: is no list of cases; run the audit again, it writes the list anew")
    return found
