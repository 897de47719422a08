"""Where the bundles and the overlay files are. Imports neither torch nor monai."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def home(kind: str) -> Path:
    """The folder ``bundles`` or ``workflows``: inside an installed package, or at the root of a checkout.

    Raises:
        FileNotFoundError: the folder is in neither place.
    """
    for folder in (_PACKAGE / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{kind}/ stands neither in {_PACKAGE} nor in {_PACKAGE.parent}; install monai_advdef again")


def bundles() -> dict[str, Path]:
    """Every bundle by name."""
    return {p.parent.parent.name: p.parent.parent for p in sorted(home("bundles").glob("*/configs/metadata.json"))}


def workflows() -> dict[str, Path]:
    """Every overlay file by its path below ``workflows`` without the suffix, such as ``attacks/pgd``; studies are none."""
    root = home("workflows")
    found = {p.relative_to(root).with_suffix("").as_posix(): p for p in sorted(root.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith("sweeps/")}


def describe(overlay: Path) -> str:
    """The comment on the first line of an overlay."""
    first = overlay.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").rstrip()
