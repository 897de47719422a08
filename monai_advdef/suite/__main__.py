"""``python -m monai_advdef.suite FILE ...``: the digest of the suite in each file, as it stands there; what freezing one needs.

``--write`` puts it into the file.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from monai_advdef.errors import DataError
from monai_advdef.neighbours import whole
from monai_advdef.suite.definition import digest_of, unchecked

LINE = re.compile(r"^(\s*digest:)[^#\n]*?(\s*(?:#.*)?)$", re.MULTILINE)


def main(words: list[str] | None = None) -> int:
    """Print name, version and digest of every suite; 2 where a file holds none."""
    parser = argparse.ArgumentParser(prog="python -m monai_advdef.suite", description="Digest of a suite, to freeze it.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="a suite as workflows/suites/standard.yaml is written, or its name")
    parser.add_argument("--write", action="store_true", help="put the digest into the file")
    args = parser.parse_args(words)
    for file in args.files:
        try:
            path, suite = unchecked(file)
            found = digest_of(suite.members, suite.behind, suite.version, suite.name)
            if args.write:
                _write(Path(path), found)
        except ValueError as error:
            print(f"python -m monai_advdef.suite: {error}", file=sys.stderr)
            return 2
        print(f"{suite.name} version {suite.version} digest: {found}")
    return 0


def _write(path: Path, found: str) -> None:
    text, times = LINE.subn(rf"\g<1> '{found}'\g<2>", path.read_text(encoding="utf-8"))
    if times != 1:
        raise DataError(f"{path} has {times} lines digest:, of which one is needed to write {found} into; add or remove them")
    with whole(path) as new:
        new.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
