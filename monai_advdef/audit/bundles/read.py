"""A MONAI bundle as a reading: the parts of its evaluator in the socket of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigExpression
from torch import nn

from monai_advdef.audit.bundles.cases import Cases, NoList, data_of, filled, named, own_cases, point_at, with_labels
from monai_advdef.audit.bundles.chain import SAVERS, parts, target, without
from monai_advdef.audit.bundles.choose import Choice, choices
from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.bundles.folder import Bundle, find_scripts, open_bundle
from monai_advdef.audit.bundles.guard import require_pure
from monai_advdef.audit.bundles.head import activation, channels_of, classes
from monai_advdef.audit.bundles.keys import keys_read
from monai_advdef.audit.bundles.labelling import label_too
from monai_advdef.audit.bundles.labels import listed_pairs
from monai_advdef.audit.bundles.promptable import Promptable, require_promptless
from monai_advdef.audit.bundles.settle import SAFE, settle
from monai_advdef.audit.bundles.weights import find_weights, read_weights
from monai_advdef.audit.plan import default_device
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.errors import DataError

KIND = "MONAI bundle"


def read_bundle(path: Path, options: AuditOptions) -> Reading:
    """Read a MONAI bundle as it was published, a folder or a zip file, JSON or YAML.

    Its evaluation on labels is taken where it has one (``validate#evaluator`` of ``train.*``, under ``evaluate.*``), else its
    inference, with labels that lie beside the images or that the user names.

    Raises:
        DataError: no bundle; nothing in it that can be audited, with the reason for each of its configurations; code or files that
            are not run without ``trust``; weights or data that are not there or do not fit.
    """
    bundle = open_bundle(Path(path).expanduser().resolve(), Path(options.output_dir).expanduser().resolve() / "unpacked")
    if options.trust:
        find_scripts(bundle.root)
    refused: list[DataError] = []
    found = choices(bundle)
    if options.unlabelled:
        found = sorted(found, key=lambda choice: not choice.use)
    for choice in found:
        try:
            return _Reader(bundle, choice, options).read([str(error) for error in refused])
        except (NoList, Promptable) as error:
            refused.append(error)
    promptable = [error for error in refused if isinstance(error, Promptable)]
    raise promptable[0] if promptable else DataError("\n  ".join(map(str, dict.fromkeys(map(str, refused)))) + _remedy(options))


def _remedy(options: AuditOptions) -> str:
    return (
        "; give by --dataset_dir the folder that holds the files of this list, or by --images and --labels what they are called in "
        f"{options.dataset_dir or 'it'}"
    )


class _Reader:
    """One of the configurations of a bundle, read part by part."""

    def __init__(self, bundle: Bundle, choice: Choice, options: AuditOptions) -> None:
        self.bundle, self.choice, self.options = bundle, choice, options
        self.evaluator = choice.evaluator
        self.config = Config(choice.files, bundle.root, bundle.metadata, None if options.trust else require_pure)
        self.device = options.device or default_device()
        self.made = Reading(name=bundle.name, kind=KIND, root=bundle.root, files=list(choice.files))
        if "bundle_root" in self.config.tree:
            self.config.put("bundle_root", str(bundle.root))

    def read(self, refused: list[str]) -> Reading:
        """The reading; ``refused`` tells why the configurations before this one were not taken."""
        made, config = self.made, self.config
        made.notes += [f"not audited by its evaluation: {reason}" for reason in refused]
        made.tell("configuration", ", ".join(config.name_of(f) for f in self.choice.files), "configs/")
        data, transform = self._data_ids()
        made.notes += require_promptless(config, self.evaluator, transform)
        image_key, label_key = keys_read(config, self.evaluator)
        cases = self._cases(data, image_key, label_key)
        self._prepare(transform, image_key, label_key, cases)
        ids = self._ids(transform)
        self._check(ids)
        deployed = self._deployed(ids, image_key, label_key, cases)
        made.overlay = {**config.overlay(), "imports": self._imports(ids), "deployed": deployed}
        return made

    def _data_ids(self) -> tuple[str, str]:
        """Where the list of data and the preprocessing stand; what is no list may still be replaced by the user's files."""
        try:
            return data_of(self.config, self.evaluator)
        except NoList:
            if not self.choice.use and self.config.get("preprocessing") is None:
                raise
            return "", "preprocessing"

    def _cases(self, data: str, image_key: str, label_key: str) -> Cases:
        options = self.options
        if not options.dataset_dir:
            raise DataError(f"{self.bundle.name}: dataset_dir is not given; name the folder of the data to audit on")
        if not Path(options.dataset_dir).expanduser().is_dir():
            raise DataError(f"dataset_dir {options.dataset_dir!r} is not a folder; give the folder that holds the images")
        pairs = listed_pairs(options) if options.images and options.labels and not options.unlabelled else None
        if pairs is not None:
            return Cases(pairs.items(image_key, label_key), pairs.name, pairs.notes)
        cases = self._listed(data, image_key, label_key)
        cases.items = filled(cases.items, image_key, label_key, not options.unlabelled and not self.choice.use)
        return cases if options.unlabelled else with_labels(cases, image_key, label_key, options)

    def _listed(self, data: str, image_key: str, label_key: str) -> Cases:
        """The bundle's own list, or in its place what the layout of the folder tells."""
        try:
            if not data:
                raise NoList(f"{self.config.source(self.evaluator)}: its data are not a list of files")
            point_at(self.config, self.options, data)
            return own_cases(self.config, data, self.options)
        except NoList as error:
            found = None if self.options.labels else listed_pairs(self.options)
            if found is None or self._several(image_key):
                raise
            notes = [f"{error}; in its place, {note}" for note in found.notes[:1]] + found.notes[1:]
            return Cases(found.items(image_key, label_key), found.name, notes)

    def _several(self, image_key: str) -> bool:
        """Whether the chain loads images under several keys, so that one file a case cannot be enough."""
        try:
            _, transform = data_of(self.config, self.evaluator)
        except NoList:
            return False
        loads = [item for item in parts(self.config, transform) or () if target(item).startswith("LoadImage")]
        return bool(loads) and not any(image_key in str(item.get("keys")) or "@" in str(item.get("keys")) for item in loads)

    def _prepare(self, transform: str, image_key: str, label_key: str, cases: Cases) -> None:
        """Chains without savers and random transforms; with the label, where only the image is loaded."""
        config, made = self.config, self.made
        post = self._post()
        gone = [*without(config, transform, SAVERS), *(without(config, post, SAVERS) if post else [])]
        if gone:
            made.notes.append(f"{', '.join(dict.fromkeys(gone))} is left out: an audit saves what it needs itself")
        items = parts(config, transform)
        random = [target(item) for item in items or () if target(item).startswith("Rand")]
        if random:
            raise DataError(
                f"{config.source(transform)}: its preprocessing draws at random ({random[0]}), so a case is not the same twice; "
                "give a configuration whose evaluation does not"
            )
        if not self.options.unlabelled:
            made.notes += label_too(config, transform, image_key, label_key, cases.items, self._channels()[0])

    def _post(self) -> str | None:
        id = f"{self.evaluator}{SEP}postprocessing"
        return id if self.config.get(id) is not None else None

    def _channels(self) -> tuple[int, str]:
        return channels_of(self.config, f"{self.evaluator}{SEP}network", self.bundle)

    def _ids(self, transform: str) -> dict[str, str]:
        """What the socket refers to: its name there, and the id."""
        at = self.evaluator
        ids = {"network": f"{at}{SEP}network", "preprocessing": transform}
        for name, key in (("inferer", "inferer"), ("postprocessing", "postprocessing"), ("key_metric", "key_val_metric")):
            if self.config.get(f"{at}{SEP}{key}") is not None:
                ids[name] = f"{at}{SEP}{key}"
        return {name: self.config.follow(id) for name, id in ids.items()}

    def _check(self, ids: dict[str, str]) -> None:
        notes = settle(self.config, ids.values(), self.device, self.options.trust)
        self.made.notes += notes
        if self.config.guard is not None:
            self.config.guard(self.config, ids.values(), False)

    def _imports(self, ids: dict[str, str]) -> list[str]:
        """The statements that the parts need; what else a bundle imports is not imported."""
        needed = self.config.needed_imports(ids.values())
        uses = any("load_weights(" in str(v) for v in self.config.reach(ids.values()).values() if ConfigExpression.is_expression(v))
        return [f"${s}" for s in [*needed, *([SAFE] if uses else [])]]

    def _deployed(self, ids: dict[str, str], image_key: str, label_key: str, cases: Cases) -> dict[str, Any]:
        made, config = self.made, self.config
        network = config.value(ids["network"])
        if not isinstance(network, nn.Module):
            raise DataError(f"{config.source(ids['network'])} is a {type(network).__name__}, not a network of torch; correct it")
        weights = self._weights(network)
        channels, where = self._channels()
        post = ids.get("postprocessing")
        kind, kind_from = activation(config, post, channels, self.options)
        names, names_from, notes = classes(self.bundle, channels, kind, self.options)
        made.notes += [*weights.notes, *notes, *cases.notes]
        items = named(cases.items, image_key)
        made.tell("network", type(network).__name__, config.source(ids["network"]))
        made.tell("checkpoint", weights.path.name + (f", {weights.key}" if weights.key else ""), weights.source)
        made.tell("channels", f"{channels}, {kind}", f"{where}; {kind_from}")
        made.tell("classes", ", ".join(names[:12]) + (f", ... ({len(names)})" if len(names) > 12 else ""), names_from)
        for part in ("preprocessing", "inferer", "postprocessing", "key_metric"):
            made.tell(
                part.replace("_", " "),
                self._told(ids.get(part)),
                config.source(ids[part]) if part in ids else "the evaluator has none",
            )
        made.tell("cases", str(len(items)), cases.source)
        return {
            "name": self.bundle.name,
            "kind": KIND,
            "network": f"@{ids['network']}",
            "checkpoint": weights.socket(self.options.trust),
            "inferer": f"@{ids['inferer']}" if "inferer" in ids else {"_target_": "SimpleInferer"},
            "preprocessing": f"@{ids['preprocessing']}",
            "postprocessing": f"@{post}" if post else None,
            "image_key": image_key,
            "label_key": label_key,
            "pred_key": "pred",
            "activation": kind,
            "classes": names,
            "cases": items,
            "reads": [],
            "key_metric": f"@{ids['key_metric']}" if "key_metric" in ids else None,
        }

    def _weights(self, network: nn.Module) -> Any:
        path, key, source, notes = find_weights(self.config, self.evaluator)
        found = read_weights(path, key, network, source, self.options)
        self.made.notes += notes
        return found

    def _told(self, id: str | None) -> str:
        """A part in words: the class names of a chain, or the class with its arguments."""
        if id is None:
            return "none"
        items = parts(self.config, id) if id.endswith(("preprocessing", "postprocessing", "transform", "transforms")) else None
        if items is not None:
            return " > ".join(target(item) for item in items)
        node = self.config.get(id)
        if isinstance(node, dict) and "_target_" in node:
            given = ", ".join(f"{k}={v}" for k, v in node.items() if not k.startswith("_") and not isinstance(v, dict))
            return f"{target(node)}({given})"
        return ", ".join(map(str, node)) if isinstance(node, dict) else str(node)
