"""What checks found about evaluations: ``checks.json`` beside the records, an entry for the fingerprint of each.

An entry holds ``verdicts``, each with ``name``, ``verdict`` (``ok``, ``suspect`` or ``broken``), ``evidence`` in a sentence and its
``numbers``, and what was looked at: ``cases``, ``attack``, ``defense``, ``adaptive``, ``eps``, ``unit``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_advdef.neighbours import alone, cannot_write, whole
from monai_advdef.records.files import RecordError

FILE = "checks.json"
VERDICTS = ("ok", "suspect", "broken")
PATIENCE = 60.0  # seconds that another process may hold the file; it takes milliseconds


def read_verdicts(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The entries of ``folder/checks.json`` by fingerprint; none where nothing was checked.

    Raises:
        RecordError: the file is damaged; names it and the remedy.
    """
    path = Path(folder) / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, dict) or not all(_entry(entry) for entry in found.values()):
        raise _damaged(path, "it holds other things than verdicts by fingerprint")
    return found


def add_verdicts(folder: str | Path, fingerprint: str, entry: dict[str, Any]) -> Path:
    """Put the entry of one evaluation into ``folder/checks.json``, beside those of others, in the place of its own older one.

    Raises:
        RecordError: the file there is damaged.
        OSError: it cannot be written; names it and the remedy.
    """
    path = Path(folder) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(f"{path}.lock", timeout=PATIENCE):
            known = read_verdicts(folder)
            with whole(path) as new:
                text = json.dumps({**known, fingerprint: entry}, indent=2, ensure_ascii=False, allow_nan=False)
                new.write_text(text + "\n", encoding="utf-8")
    except RecordError:
        raise
    except OSError as error:
        raise cannot_write(path, error, "the verdicts") from error
    return path


def worst(verdicts: list[dict[str, Any]]) -> str:
    """The worst of the verdicts of an entry; ``"ok"`` of none."""
    return max((str(v["verdict"]) for v in verdicts), key=VERDICTS.index, default="ok")


def _entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("verdicts"), list) and all(_verdict(v) for v in entry["verdicts"])


def _verdict(found: Any) -> bool:
    return isinstance(found, dict) and found.get("verdict") in VERDICTS and {"name", "evidence"} <= found.keys()


def _damaged(path: Path, why: str) -> RecordError:
    return RecordError(f"{path} cannot be read as verdicts of checks ({why}); remove it, and check the evaluations again")
