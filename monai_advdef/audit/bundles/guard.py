"""Everything that a bundle's parts need, checked before any of it is built: nothing but computing, or ``--trust``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import monai.data
from monai.bundle import ConfigExpression
from monai.data.image_reader import ImageReader

from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.bundles.packages import CALLED
from monai_advdef.audit.bundles.settle import dotted
from monai_advdef.audit.trust import LOCATED, Impure, Missing, check_expression, check_target, components, imported, refusal
from monai_advdef.errors import DataError

READERS = ("nibabelreader", "itkreader", "numpyreader", "pilreader", "nrrdreader", "pydicomreader", "nibabelgpureader")


def require_pure(config: Config, ids: Iterable[str], data: bool = False) -> None:
    """Pass where what the ids need only computes.

    Args:
        data: the ids are lists of data, which may read tables.

    Raises:
        DataError: what does more, with its file, its key and the remedy; or a package that is not installed.
    """
    modules = imported(config.imports())
    for id, value in config.reach(ids).items():
        for at, item in components(value, id):
            try:
                if isinstance(item, dict):
                    _check_component(config, at, item, modules)
                elif ConfigExpression.is_expression(item):
                    check_expression(item[1:], modules, data=data)
            except Missing as error:
                package = CALLED.get(error.package, error.package)
                raise DataError(
                    f"{config.source(at)} wants the package {error.package}, which is not installed; run: pip install {package}"
                ) from error
            except Impure as error:
                shown = item if isinstance(item, str) else item.get("_target_")
                raise refusal(config.source(at), f"{str(shown)[:120]!r}", str(error)) from error


def _check_component(config: Config, at: str, item: dict[str, Any], modules: dict[str, str]) -> None:
    if not isinstance(item.get("_target_"), str):
        raise Impure("is a target that is no name")
    if item.get("_mode_") not in (None, "default", "callable"):
        raise Impure(f"is built in the mode {item['_mode_']!r}, which starts a debugger")
    if item["_target_"].startswith(("$", "@")):
        raise Impure("is a target that is put together when it is built")
    check_target(dotted(item))
    for name in LOCATED:
        if name in item and not _is_reader(config, f"{at}{SEP}{name}"):
            raise Impure(f"names the {name} {item[name]!r}, which is none of MONAI's")
    for name, value in item.items():
        if name.endswith("_url") and value not in (None, "$None", ""):
            raise Impure(f"fetches {name} {value!r}")
        if name == "allow_pickle" and value not in (False, "$False"):
            raise Impure("unpickles the files it reads")


def _is_reader(config: Config, at: str) -> bool:
    value = config.get(config.follow(at))
    if value is None or isinstance(value, dict):
        return True  # a component is checked for itself
    told = value if isinstance(value, list) else [value]
    return all(isinstance(v, str) and (v.lower() in READERS or _named(v)) for v in told)


def _named(name: str) -> bool:
    thing = getattr(monai.data, name.removeprefix("$").removeprefix("monai.data."), None)
    return isinstance(thing, type) and issubclass(thing, ImageReader)
