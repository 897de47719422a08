"""What a suite is: a named, versioned list of attacks whose digest says that nobody has changed it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_advdef.attacks import Attack
from monai_advdef.attacks.named import named_attack
from monai_advdef.bundle import workflows
from monai_advdef.defenses.quantiser import STARTS, check_seen_through, way_of
from monai_advdef.errors import DataError, nearest, reading
from monai_advdef.suite.frozen import FROZEN
from monai_advdef.switches import AsWritten, truth
from monai_advdef.threat import ThreatModel

FIELDS = ("name", "version", "digest", "members", "behind")


@dataclass(frozen=True)
class Member:
    """One attack of a suite.

    Args:
        attack: what is run.
        transfer: it is run on another network, the source, and its images are given to the victim.
        label: what its rows in the records are called, no two of a suite alike.
    """

    attack: Attack
    transfer: bool
    label: str


@dataclass(frozen=True)
class Behind(metaclass=AsWritten):
    """How an attacker who knows the defence goes through it, and where the descent begins.

    Args:
        surrogate, smoothness: what stands in for the gradient of its rounding, see :class:`monai_advdef.Victim`; ``None``: what the
            defence itself says.
        begin: ``"own"``, or ``"oblivious"``: at the images of the same attack on the network without its defence.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """

    surrogate: str | None = None
    smoothness: float | None = None
    begin: str = "own"

    def __post_init__(self) -> None:
        check_seen_through(None, self.surrogate, self.smoothness)
        if self.begin not in STARTS:
            raise ValueError(f"begin must be one of {', '.join(STARTS)}, got {self.begin!r}")

    @property
    def words(self) -> str:
        """For the label of a member: ``through smooth 0.95``, ``from the oblivious images``; empty for the defence's own way."""
        return way_of(self.surrogate, self.smoothness, self.begin)


@dataclass(frozen=True)
class Suite:
    """A list of attacks of which each case counts with the worst; made by :func:`load_suite`.

    Args:
        name, version: what it is called.
        digest: of all that decides its numbers, see :func:`digest_of`.
        members: the attacks in order, each a mapping of an attack's name (``attack``) and its options.
        behind: the ways through a defence that every member takes, mappings of the fields of :class:`Behind`; none: once, by the
            surrogate that the defence names.
    """

    name: str
    version: int
    digest: str
    members: tuple[Mapping[str, Any], ...]
    behind: tuple[Mapping[str, Any], ...] = ()

    label = "worst"
    """What the rows of its worst case are called."""
    restarts = 1
    target = None

    @property
    def attacks(self) -> list[Member]:
        """The members as attacks, in order."""
        made = [_member(number, given) for number, given in enumerate(self.members)]
        seen: dict[tuple[Any, ...], int] = {}
        found = []
        for attack, transfer in made:
            name = attack.label + (" transferred" if transfer else "")
            key = (name, getattr(attack, "steps", 0), attack.restarts)
            seen[key] = seen.get(key, 0) + 1
            found.append(Member(attack, transfer, name + (f" no. {seen[key]}" if seen[key] > 1 else "")))
        return found

    @property
    def ways(self) -> list[Behind]:
        """The ways through a defence."""
        return [_way(number, given) for number, given in enumerate(self.behind)] or [Behind()]

    def count(self, threat: ThreatModel) -> int:
        """How many steps all members take together on an undefended network, the transferred ones not counted."""
        return sum(m.attack.count(threat) * m.attack.restarts for m in self.attacks if not m.transfer)

    def to_config(self) -> dict[str, Any]:
        """The suite as plain values."""
        listed = {"members": [dict(m) for m in self.members], "behind": [dict(b) for b in self.behind]}
        return {"name": self.name, "version": self.version, "digest": self.digest, **listed}


def digest_of(members: Sequence[Mapping[str, Any]], behind: Sequence[Mapping[str, Any]], version: int, name: str) -> str:
    """Sixteen hexadecimal digits of all that decides a suite's numbers: every option of every member, those left at their default
    too, in order; the ways behind a defence; version and name. Spelling decides nothing: the order of keys, 40 or 40.0, defaults
    written out or not.

    Raises:
        ValueError: an unknown attack or option, or a value that it cannot have.
    """
    made = Suite(name, version, "", tuple(members), tuple(behind))
    told = {
        "members": [{**m.attack.to_config(), "transfer": m.transfer} for m in made.attacks],
        "behind": [asdict(way) for way in made.ways],
        "version": version,
        "name": name,
    }
    text = json.dumps(_plain(told, "suite"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_suite(given: str | os.PathLike[str] | Mapping[str, Any] | Suite) -> Suite:
    """The suite of a name (``"standard"``), a file, or a mapping of the fields of :class:`Suite`, once its digest is found right.

    Raises:
        DataError: no such suite or file, a field that is missing, unknown or wrong; a digest that is not that of the contents, or
            the name of a published suite with other contents. Says what to do.
    """
    where, made = unchecked(given)
    try:
        found = digest_of(made.members, made.behind, made.version, made.name)
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"{where}: {error}") from error
    _check_digest(where, made, found)
    return made


def unchecked(given: str | os.PathLike[str] | Mapping[str, Any] | Suite) -> tuple[str, Suite]:
    """Where a suite comes from, and the suite, whatever its digest says; to freeze one.

    Raises:
        DataError: as :func:`load_suite`, but for the digest.
    """
    if isinstance(given, Suite):
        given = given.to_config()
    where, told = ("suite_def", given) if isinstance(given, Mapping) else _read(given)
    return where, _made(where, told.get("suite_def", told))


def _check_digest(where: str, suite: Suite, found: str) -> None:
    own = f"own_{suite.name}"
    remedy = (
        "Restore it (take suite_def::... off the command line; monai-advdef list --where workflows names the files' folder), or, "
        f"if it is meant to differ, give it a name of its own and the digest that goes with it, such as name: {own}, digest: "
        f"{digest_of(suite.members, suite.behind, suite.version, own)}"
    )
    versions = FROZEN.get(suite.name)
    if versions is not None and versions.get(suite.version) != found:
        known = " and ".join(f"{suite.name} version {v} has digest {d}" for v, d in versions.items())
        raise DataError(f"{where}: {known}, but what is given as version {suite.version} has {found}: it was changed. {remedy}")
    if suite.digest != found:
        had = f"says digest {suite.digest}" if suite.digest else "has no digest"
        raise DataError(
            f"{where}: suite {suite.name} {had}, but its contents have {found}: it was changed by hand or on the command line, or "
            f"frozen by a package with other defaults. {remedy} ({suite.name} itself, as it now is: {found})"
        )


def _read(given: str | os.PathLike[str]) -> tuple[str, Mapping[str, Any]]:
    """A published suite or a file, and how an error names it."""
    known = {name.removeprefix("suites/"): path for name, path in workflows().items() if name.startswith("suites/")}
    path = known.get(str(given), Path(given))
    if not path.is_file():
        raise DataError(f"suite {str(given)!r} is neither a suite of this package nor a file; {nearest(str(given), known)}")
    with reading(path, "is no suite", "restore it, or write it as workflows/suites/standard.yaml is written"):
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(told, Mapping):
            raise DataError(f"{path} holds no mapping; write it as workflows/suites/standard.yaml is written")
    return str(path), told


def _made(where: str, told: Any) -> Suite:
    if not isinstance(told, Mapping):
        raise DataError(f"{where}: suite_def must be a mapping with {', '.join(FIELDS)}, got a {type(told).__name__}")
    for name in told:
        if name not in FIELDS:
            raise DataError(f"{where}: a suite has no field {name!r}; {nearest(str(name), FIELDS)}")
    name, version, members, behind = (told.get(key) for key in ("name", "version", "members", "behind"))
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: name must be a word, got {name!r}; give the suite one")
    if isinstance(version, bool) or not isinstance(version, (int, float)) or not float(version).is_integer() or version < 1:
        raise DataError(f"{where}: version must be a whole number ≥ 1, got {version!r}; begin with 1")
    for key, value in (("members", members), ("behind", behind or [])):
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
            raise DataError(f"{where}: {key} must be a list of mappings, as - {{attack: AutoPGD, steps: 40}}, got {value!r}")
    if not members:
        raise DataError(f"{where}: suite {name!r} has no members; list at least one attack")
    return Suite(name, int(version), str(told.get("digest") or ""), tuple(map(dict, members)), tuple(map(dict, behind or ())))


def _member(number: int, given: Mapping[str, Any]) -> tuple[Attack, bool]:
    """One entry of ``members``: the attack, and whether it is transferred."""
    options = {key: _number(value) for key, value in given.items() if key not in ("attack", "transfer")}
    try:
        transfer = truth("transfer", given.get("transfer", False))
        if "attack" not in given:
            raise ValueError("no attack is named; write its name as attack: AutoPGD")
        attack = named_attack(str(given["attack"]), options, ["transfer"])
        if attack.target == "other_case":
            raise ValueError("target 'other_case' depends on what other cases there are, and a suite may not; choose another target")
    except (ValueError, TypeError) as error:
        raise ValueError(f"members[{number}]: {error}") from error
    return attack, transfer


def _way(number: int, given: Mapping[str, Any]) -> Behind:
    for name in given:
        if name not in Behind.__dataclass_fields__:
            raise ValueError(f"behind[{number}] has no field {name!r}; {nearest(str(name), Behind.__dataclass_fields__)}")
    try:
        return Behind(**given)
    except ValueError as error:
        raise ValueError(f"behind[{number}]: {error}") from error


def _number(value: Any) -> Any:
    """Whole numbers as such, however they are written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any, at: str) -> Any:
    """A value as JSON has it, numbers in one spelling."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{at}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{at}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return _number(value)
    raise ValueError(f"{at} is {value!r}, which a suite cannot freeze; give numbers, words and lists only")
