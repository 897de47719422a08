"""A MONAI bundle as a reading: the parts of its evaluator in the socket of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from monai_advdef.audit.bundles.cases import Cases, NoList, data_of, filled, named, own_cases, point_at, scans, with_labels
from monai_advdef.audit.bundles.chain import SAVERS, keys_of, parts, target, without
from monai_advdef.audit.bundles.choose import Choice, choices
from monai_advdef.audit.bundles.config import SEP, Config
from monai_advdef.audit.bundles.facts import shortened, told_parts
from monai_advdef.audit.bundles.folder import Bundle, find_scripts, open_bundle
from monai_advdef.audit.bundles.guard import require_pure
from monai_advdef.audit.bundles.head import activation, channels_of, classes
from monai_advdef.audit.bundles.keys import keys_read
from monai_advdef.audit.bundles.labelling import label_too
from monai_advdef.audit.bundles.labels import listed_pairs
from monai_advdef.audit.bundles.one_head import Head, OneHead, head_of
from monai_advdef.audit.bundles.packages import require_packages
from monai_advdef.audit.bundles.promptable import Promptable, require_promptless
from monai_advdef.audit.bundles.regions import label_on_input, spread_label, whole_label
from monai_advdef.audit.bundles.settle import settle
from monai_advdef.audit.bundles.spare import one_chain, without_spare
from monai_advdef.audit.bundles.weights import Weights, find_weights, read_weights
from monai_advdef.audit.plan import default_device
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.tail.stated import of_metadata
from monai_advdef.errors import DataError, nearest

KIND = "MONAI bundle"


def read_bundle(path: Path, options: AuditOptions) -> Reading:
    """Read a MONAI bundle as it was published, a folder or a zip file, JSON or YAML.

    Its evaluation on labels is taken where it has one (``validate#evaluator`` of ``train.*``, under ``evaluate.*``), else its
    inference, with labels that lie beside the images or that the user names.

    Raises:
        DataError: no bundle; nothing in it that can be audited, with the reason for each of its configurations; code or files that
            are not run without ``trust``; weights or data that are not there or do not fit.
    """
    unpack_to = Path(options.output_dir).expanduser().resolve() / "unpacked"
    return read_workflow(open_bundle(Path(path).expanduser().resolve(), unpack_to), options)


def read_workflow(bundle: Bundle, options: AuditOptions, network: dict[str, Any] | None = None, kind: str = KIND) -> Reading:
    """Read an opened bundle.

    Args:
        network: the definition of a network that brings its own weights, in place of the bundle's.
        kind: of the reading.

    Raises:
        DataError: see :func:`read_bundle`.
    """
    if options.trust:
        find_scripts(bundle.root)
    refused: list[DataError] = []
    found = choices(bundle)
    if options.unlabelled:
        found = sorted(found, key=lambda choice: not choice.use)
    for choice in found:
        try:
            return _Reader(bundle, choice, options, network, kind).read([str(error) for error in refused])
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

    def __init__(self, bundle: Bundle, choice: Choice, options: AuditOptions, network: dict[str, Any] | None, kind: str) -> None:
        self.bundle, self.choice, self.options, self.network = bundle, choice, options, network
        self.evaluator = choice.evaluator
        self.config = Config(choice.files, bundle.root, bundle.metadata, None if options.trust else require_pure)
        self.device = options.device or default_device()
        self.head: Head | None = None
        self.made = Reading(name=bundle.name, kind=kind, root=bundle.root, scripts=options.trust, files=list(choice.files))
        self.made.stated = [of_metadata(bundle.metadata, "configs/metadata.json")]
        for name, value in options.settings.items():
            above = name.rpartition(SEP)[0]
            if above and not isinstance(self.config.get(above), (dict, list)):
                raise DataError(f"set {name}: {bundle.name} has no {above!r} in {choice.files[0].name}")
            if not above and not self.config.has(name):
                raise DataError(f"set {name}: {choice.files[0].name} has no such item; {nearest(name, self.config.tree)}")
            self.config.put(name, value)
            self.made.tell(name, value, "given by --set")
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
        self.head = head_of(self.bundle, config, self.evaluator)
        channels = self._channels()
        self._prepare(transform, image_key, label_key, cases, channels[0])
        if self.network is not None:
            config.put(config.follow(f"{self.evaluator}{SEP}network"), self.network)
        ids = self._ids(transform)
        if self.head is not None:
            made.notes += self._take_head(ids, (image_key, label_key), cases)
        self._check(ids)
        deployed = self._deployed(ids, (image_key, label_key), cases, channels)
        about = {"_meta_": self.bundle.metadata} if any(id.startswith("_meta_") for id in config.reach(ids.values())) else {}
        made.overlay = {**about, **config.overlay(), "imports": self._imports(ids), "deployed": deployed}
        return made

    def _channels(self) -> tuple[int, str]:
        if self.head is not None:
            return len(self.head.channels), self.head.source
        return channels_of(self.config, f"{self.evaluator}{SEP}network", self.bundle, self.options)

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
        cases = scans(options, image_key) if options.unlabelled and options.images else self._listed(data, image_key, label_key)
        cases.items = filled(cases.items, image_key, label_key, not options.unlabelled and not self.choice.use)
        return cases if options.unlabelled else with_labels(cases, image_key, label_key, options)

    def _listed(self, data: str, image_key: str, label_key: str) -> Cases:
        """The bundle's own list, or in its place what the layout of the folder tells."""
        try:
            if not data:
                raise NoList(f"{self.config.source(self.evaluator)}: its data are not a list of files")
            point_at(self.config, self.options, data)
            return own_cases(self.config, data, self.options, label_key)
        except NoList as error:
            if self.options.unlabelled and self._loads_one(image_key):
                return scans(self.options, image_key, str(error))
            found = None if self.options.labels else listed_pairs(self.options)
            if found is None or not self._loads_one(image_key):
                raise
            notes = [f"{error}; in its place, {note}" for note in found.notes[:1]] + found.notes[1:]
            return Cases(found.items(image_key, label_key), found.name, notes)

    def _loads_one(self, image_key: str) -> bool:
        """Whether the chain loads one image a case from a file, so that a list of the user's files can take the place of its own."""
        _, transform = self._data_ids()
        items = parts(self.config, transform)
        loads = [keys_of(self.config, item) for item in items or () if "Load" in target(item)]
        return items is None or any(image_key in keys for keys in loads)

    def _prepare(self, transform: str, image_key: str, label_key: str, cases: Cases, channels: int) -> None:
        """Chains without savers and random transforms; with the label, where only the image is loaded."""
        config, made = self.config, self.made
        post = self._post()
        gone = [*without(config, transform, SAVERS), *(without(config, post, SAVERS) if post else [])]
        if gone:
            made.notes.append(f"{', '.join(dict.fromkeys(gone))} is left out: an audit saves what it needs itself")
        made.notes += one_chain(config, transform, post) + without_spare(config, transform, [post])
        items = parts(config, transform)
        random = [target(item) for item in items or () if target(item).startswith("Rand")]
        if random:
            raise DataError(
                f"{config.source(transform)}: its preprocessing draws at random ({random[0]}), so a case is not the same twice; "
                "give a configuration whose evaluation does not"
            )
        if not self.options.unlabelled:
            made.notes += label_too(config, transform, image_key, label_key, cases.items, channels)

    def _post(self) -> str | None:
        id = f"{self.evaluator}{SEP}postprocessing"
        return id if self.config.get(id) is not None else None

    def _ids(self, transform: str) -> dict[str, str]:
        """What the socket refers to: its name there, and the id."""
        at = self.evaluator
        ids = {"network": f"{at}{SEP}network", "preprocessing": transform}
        for name, key in (("inferer", "inferer"), ("postprocessing", "postprocessing"), ("key_metric", "key_val_metric")):
            if self.config.get(f"{at}{SEP}{key}") is not None:
                ids[name] = f"{at}{SEP}{key}"
        return {name: self.config.follow(id) for name, id in ids.items()}

    def _take_head(self, ids: dict[str, str], keys: tuple[str, str], cases: Cases) -> list[str]:
        """One map of several: what comes after the network reads all of them, and is left out."""
        head = self.head
        assert head is not None
        left = [part for part in ("postprocessing", "key_metric") if ids.pop(part, None)]
        told = f"the network puts out several maps; {head.key} is audited ({', '.join(head.channels)})"
        notes = [told + (f", and {' and '.join(left)} of all of them left out" if left else "")]
        return notes if self.options.unlabelled else notes + label_on_input(self.config, ids["preprocessing"], keys, cases.items[0])

    def _check(self, ids: dict[str, str]) -> None:
        notes = settle(self.config, ids.values(), self.device, self.options.trust)
        self.made.notes += notes
        require_packages(self.config.needed_imports(ids.values()), self.config.name_of(self.choice.files[0]))
        if self.config.guard is not None:
            self.config.guard(self.config, ids.values(), False)

    def _imports(self, ids: dict[str, str]) -> list[str]:
        """The statements that the parts need; what else a bundle imports is not imported."""
        return [f"${s}" for s in self.config.needed_imports(ids.values())]

    def _deployed(self, ids: dict[str, str], keys: tuple[str, str], cases: Cases, counted: tuple[int, str]) -> dict[str, Any]:
        made, config = self.made, self.config
        (image_key, label_key), (channels, where) = keys, counted
        network = config.value(ids["network"])
        if not isinstance(network, nn.Module):
            raise DataError(f"{config.source(ids['network'])} is a {type(network).__name__}, not a network of torch; correct it")
        weights = self._weights(network)
        post = ids.get("postprocessing")
        if self.head is None:
            kind, kind_from = activation(config, post, channels, self.options)
        else:
            kind, kind_from = self.head.activation, self.head.source
        names, names_from, notes = classes(self.bundle, channels, kind, self.options, self.head.channels if self.head else None)
        made.notes += [*(weights.notes if weights else ()), *notes, *cases.notes]
        items = named(cases.items, image_key)
        if not self.options.unlabelled:
            chains = (ids["preprocessing"], post)
            settled = spread_label(config, chains, keys, items[0], names) if kind == "sigmoid" else []
            made.notes += settled or whole_label(config, chains, keys, items[0])
        found = {"network": (type(network).__name__, config.source(ids["network"]))}
        if weights is not None:
            found["checkpoint"] = (weights.path.name + (f", {weights.key}" if weights.key else ""), weights.source)
        found["channels"] = (f"{channels}, {kind}", f"{where}; {kind_from}")
        found["classes"] = (shortened(names), names_from)
        for name, (value, source) in {**found, **told_parts(config, ids)}.items():
            made.tell(name, value, source)
        made.tell("cases", str(len(items)), cases.source)
        return {
            "name": self.bundle.name,
            "kind": made.kind,
            **self._network(ids, weights),
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

    def _network(self, ids: dict[str, str], weights: Weights | None) -> dict[str, Any]:
        """Network and checkpoint of the socket."""
        network, checkpoint = f"@{ids['network']}", weights.socket(self.options.trust) if weights is not None else None
        if self.head is None:
            return {"network": network, "checkpoint": checkpoint}
        whole = "inferer" not in ids or target(self.config.get(ids["inferer"])) == "SimpleInferer"
        given = {"key": self.head.key, "activation": self.head.activation, "whole": whole, "checkpoint": checkpoint}
        return {"network": {"_target_": f"{OneHead.__module__}.OneHead", "network": network, **given}, "checkpoint": None}

    def _weights(self, network: nn.Module) -> Weights | None:
        if self.network is not None:
            return None
        if self.options.checkpoint:
            notes: list[str] = []
            path, key, source = Path(self.options.checkpoint).expanduser().resolve(), "", "given by --checkpoint"
            if not path.is_file():
                raise DataError(f"checkpoint {path}: no such file; leave --checkpoint away to take those that the bundle names")
        else:
            path, key, source, notes = find_weights(self.config, self.evaluator)
        found = read_weights(path, key, network, source, self.options)
        self.made.notes += notes
        return found
