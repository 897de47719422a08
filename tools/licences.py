"""The licences of what is installed with monai_advdef, from the metadata of the packages themselves.

    python -m tools.licences            # what docs/licences.md lacks; ends with 1 where it lacks something
    python -m tools.licences --write    # write it anew, in an environment with all extras

A licence is what the package states: its licence expression, else its classifiers, else the first words of its licence field.
"""

from __future__ import annotations

import argparse
import configparser
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "licences.md"
ABSENT = "not installed where this page was made"
HEAD = """# Licences

monai_advdef is under the [Apache License 2.0](../LICENSE). It brings no code of others along; what it needs is installed from
its own place, under its own licence. Made by `python -m tools.licences --write` from what each package states; read the packages
themselves where it matters. A GPU build of torch brings NVIDIA's libraries along, whose terms are NVIDIA's own.
"""


def normalised(name: str) -> str:
    """The name of a distribution in the form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> dict[str, list[str]]:
    """The direct requirements by what asks for them: ``""`` for the package itself, else the name of an extra."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {extra: [normalised(Requirement(line).name) for line in lines(text)] for extra, text in listed.items()}


def lines(text: str) -> list[str]:
    """The lines that say something."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def found(name: str) -> Distribution | None:
    """The installed package, if it is installed."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(package: Distribution) -> str:
    """What a package states, in a few words."""
    about = package.metadata
    if about.get("License-Expression"):
        return about["License-Expression"]
    classified = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or () if c.startswith("License :: ")]
    named = [c for c in classified if c != "OSI Approved"]
    field = (about.get("License") or "").strip()
    first = field.splitlines()[0].strip() if field else ""
    return (first if 0 < len(first) <= 40 and "\n" not in field else "") or ", ".join(named) or first[:60] or "not stated"


def needed(names: list[str]) -> list[str]:
    """All packages that these need, themselves left out, as far as they are installed here."""
    seen, new = set(), set(names)
    while new:
        seen |= new
        new = {r for name in new for r in requirements(name)} - seen
    return sorted(name for name in seen - set(names) if found(name))


def requirements(name: str) -> set[str]:
    """What an installed package needs in this environment, without its extras."""
    package = found(name)
    parsed = [Requirement(line) for line in (package.requires if package else None) or ()]
    return {normalised(r.name) for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})}


def rows(names: list[str]) -> str:
    """A table of packages with their versions and licences."""
    made = ["| package | version | licence |", "|---|---|---|"]
    for name in sorted(names):
        package = found(name)
        made.append(f"| {name} | {package.version if package else '–'} | {licence(package) if package else ABSENT} |")
    return "\n".join(made)


def page() -> str:
    """The page."""
    direct = required()
    parts = [HEAD, "## What it needs\n", rows(direct[""]) + "\n"]
    for extra, names in direct.items():
        if extra:
            parts += [f"## Extra `{extra}`\n", rows(names) + "\n"]
    rest = needed(direct[""])
    parts += [
        "## What these need\n",
        f"{len(rest)} packages, on the machine where this page was made (Linux, Python 3.11).\n",
        rows(rest),
    ]
    return "\n".join(parts) + "\n"


def missing() -> list[str]:
    """What is asked for and does not stand in the page, and what of the very version that stands there states another licence."""
    listed = re.findall(r"^\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \|$", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: (version, words) for name, version, words in listed}
    direct = sorted({name for names in required().values() for name in names})
    absent = [f"{name} is not listed" for name in direct if name not in told]
    stated = {name: (package.version, licence(package)) for name in direct if (package := found(name))}
    other = [name for name, now in stated.items() if name in told and now[0] == told[name][0] and now != told[name]]
    return absent + [f"{name} states {stated[name][1]!r}, listed is {told[name][1]!r}" for name in other]


def main() -> int:
    """The command; 0 where the page lists all."""
    options = argparse.ArgumentParser(description="List the licences of what is installed with monai_advdef.")
    options.add_argument("--write", action="store_true", help="write the page anew")
    if options.parse_args().write:
        FILE.write_text(page(), encoding="utf-8")
        return 0
    lacking = missing()
    print("\n".join([*lacking, "run `python -m tools.licences --write`"] if lacking else ["everything is listed"]))
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
