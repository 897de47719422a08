"""The command line: ``monai-advdef VERB``, see ``--help``. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from monai_advdef import __version__
from monai_advdef.bundle import bundles, describe, home, workflows
from monai_advdef.neighbours import Stopped, stoppable

FINE, SUSPECT, USAGE, UNFINISHED, PIPE = 0, 1, 2, 3, 141
VERBS = ("demo", "phantom", "check", "prepare", "list", "report")
TASKS = ("skin", "fundus", "lung", "glioma", "abdomen")
LAYOUTS = (
    *("isic2018", "isbi2016", "drishti_gs1", "rim_one_dl", "rim_one_r3", "jsrt"),
    *("nnunet", "msd", "totalsegmentator", "ham10000", "montgomery", "ph2", "sections", "folders", "paired"),
)


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest right word for a wrong one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(c) for c in action.choices or ()]
        if choices and value not in choices:
            near = difflib.get_close_matches(str(value), choices, 1, 0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise argparse.ArgumentError(action, f"unknown word {value!r}; {hint}known: {', '.join(choices)}")

    def options(self) -> list[str]:
        """Every option of this parser and of its verbs."""
        below = [p for a in self._actions if isinstance(a.choices, dict) for p in a.choices.values()]
        return [o for a in self._actions for o in a.option_strings] + [o for p in below for o in p.options()]

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split(" ")[0] if message.startswith("unrecognized") else ""
        options = self.options()
        near = difflib.get_close_matches(unknown, options, 1, 0.4) if unknown else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        self.exit(USAGE, f"{self.prog}: {message}{hint} (--help tells more)\n")


def _place(text: str) -> str:
    """A file or folder of the command line; ``~`` is the home folder, which shells leave as it is behind ``=``."""
    if not text.strip():
        raise argparse.ArgumentTypeError(
            "it is empty, as where a variable of the shell is not set; give a folder, or . for this one"
        )
    return os.path.expanduser(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="monai-advdef", description="Attacks on, and defences of, medical-image segmentation networks.")
    parser.add_argument("--version", action="version", version=f"monai-advdef {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar=" | ".join(VERBS), required=True, parser_class=_Parser)
    add = verbs.add_parser("demo", help="phantom images, a small victim, attacks, defences, a card: a few minutes on a CPU")
    add.add_argument("--output_dir", type=_place, default="demo", help="where everything goes (default: demo); run again to resume")
    add.add_argument("--epochs", type=int, default=20, help="training epochs of the victim (default: 20)")
    add = verbs.add_parser("phantom", help="write phantom images of a task as real files")
    add.add_argument("task", choices=TASKS, metavar="TASK", help=f"one of: {', '.join(TASKS)}")
    add.add_argument(
        "folder",
        type=_place,
        metavar="DIR",
        help="folder that gets images/ and masks/ (gliomas: a folder a subject; CT: images/, labels/)",
    )
    add.add_argument("--cases", type=int, default=72, help="how many (default: 72)")
    add.add_argument("--seed", type=int, default=0, help="another seed, other images (default: 0)")
    spacing = "glioma and abdomen only: voxel size in mm (default: 2 2 2 and 3 3 4; 1 1 5 makes thick slices)"
    add.add_argument("--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help=spacing)
    add.add_argument("--dicom", action="store_true", help="abdomen only: images as DICOM series in place of NIfTI files")
    _add_data_verbs(verbs)
    add = verbs.add_parser("list", help="bundles, attacks, defences and where they are")
    add.add_argument("--json", action="store_true", help="as JSON")
    add.add_argument(
        "--where", choices=("bundles", "workflows"), metavar="KIND", help="print only the folder of bundles | workflows"
    )
    add = verbs.add_parser("report", help="make the Robustness Card from recorded evaluations")
    add.add_argument("folder", type=_place, metavar="OUTPUT_DIR", help="folder with records/ (and gallery/)")
    add.add_argument("--out", default=None, help="file to write (default: OUTPUT_DIR/card.html)")
    add.add_argument("--markdown", action="store_true", help="print the table in Markdown instead")
    return parser


def _add_data_verbs(verbs: Any) -> None:
    add = verbs.add_parser("check", help="open every file of a data set and tell what it holds, what is wrong and what is missing")
    add.add_argument(
        "folder",
        type=_place,
        metavar="DIR",
        help="folder with images and masks, MRI subjects or CT volumes, a public data set as distributed, or a list (CSV, JSON)",
    )
    known = (*LAYOUTS, "plain")
    add.add_argument(
        "--layout", choices=known, default="", metavar="NAME", help=f"{' | '.join(known)} (default: what it looks like)"
    )
    _add_patterns(add)
    add = verbs.add_parser("prepare", help="convert a data set into images/, masks/, labels.csv, split.csv (volumes: labels/)")
    add.add_argument(
        "source", type=_place, metavar="SOURCE", help="folder into which its archives were unpacked, or a list (CSV, JSON)"
    )
    add.add_argument(
        "folder", type=_place, metavar="DIR", help="new folder for the converted files (linked where they stay as they are)"
    )
    add.add_argument("--layout", choices=LAYOUTS, default="", metavar="NAME", help=f"{' | '.join(LAYOUTS)} (default: recognised)")
    _add_patterns(add)


def _add_patterns(add: argparse.ArgumentParser) -> None:
    """The options that say what the files of a data set are; the same words as a bundle takes."""
    add.add_argument("--task", choices=TASKS, default="", metavar="TASK", help="what it is for (default: what it looks like)")
    add.add_argument(
        "--images",
        nargs="+",
        action="extend",
        metavar="PATTERN",
        help="which files are images: 'CXR_png/{case}.png', with {patient} and {section} where names tell them; of gliomas four, "
        "one a series (t1, t1ce, t2, flair)",
    )
    several = "several are united, or one a structure: 'liver=seg/{case}/liver.nii.gz'"
    add.add_argument(
        "--masks", nargs="+", action="extend", metavar="PATTERN", help=f"which files are masks: 'mask/{{case}}_mask.png'; {several}"
    )
    add.add_argument("--values", nargs="+", metavar="VALUE=CLASS", help="what masks store, as class numbers: 0=2,128=1,255=0")
    add.add_argument("--multi", action="store_true", help="lung only: the single structures (left lung, right lung, heart)")


def _list(args: argparse.Namespace) -> None:
    if args.where:
        print(home(args.where))
        return
    listing: dict[str, list[dict[str, str]]] = {"bundles": []}
    for name, folder in bundles().items():
        about = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        listing["bundles"].append({"name": name, "about": about["task"], "path": str(folder)})
    for name, path in workflows().items():
        kind, _, short = name.partition("/")
        listing.setdefault(kind, []).append({"name": short, "about": describe(path), "path": str(path)})
    if args.json:
        print(json.dumps(listing, indent=2))
        return
    for kind, entries in listing.items():
        print(kind)
        for entry in entries:
            print(f"  {entry['name']:<38} {entry['about']}")
    print(f"\noverlays are in {home('workflows')}\nbundles are in  {home('bundles')}")


def _phantom(args: argparse.Namespace) -> None:
    from monai_advdef.data import write_phantoms

    if args.spacing and args.task not in ("glioma", "abdomen"):
        raise ValueError(f"--spacing is for the volumes of glioma and abdomen, got it with {args.task}; leave it away")
    if args.dicom and args.task != "abdomen":
        raise ValueError(f"--dicom is for the CT of abdomen, got it with {args.task}; leave it away")
    options = {"spacing": args.spacing} if args.spacing else {}
    options |= {"dicom": True} if args.dicom else {}
    write_phantoms(args.task, args.folder, cases=args.cases, seed=args.seed, **options)
    print(f"{args.cases} cases with their masks in {Path(args.folder).resolve()}")


def _check(args: argparse.Namespace) -> None:
    from monai_advdef.data import DataError, check_folder

    report = check_folder(args.folder, layout=args.layout, **_told(args))
    print(report)
    if report.problems:
        raise DataError(f"{len(report.problems)} problem{'s' * (len(report.problems) > 1)} in {args.folder}")


def _told(args: argparse.Namespace) -> dict[str, Any]:
    """What the command says of the files of a data set."""
    return {name: getattr(args, name) for name in ("task", "images", "masks", "values", "multi")}


def _prepare(args: argparse.Namespace) -> None:
    from monai_advdef.data import prepare

    print(prepare(args.source, args.folder, layout=args.layout, **_told(args)))
    print(f"converted into {Path(args.folder).resolve()}; give it as --dataset_dir")


def _report(args: argparse.Namespace) -> int:
    from monai_advdef.records import read_provenance, read_records
    from monai_advdef.report import build, doubts, markdown_table

    if not (Path(args.folder) / "records").is_dir():
        raise FileNotFoundError(f"no folder {Path(args.folder) / 'records'}; give the output_dir of an evaluation")
    if args.markdown:
        records = Path(args.folder) / "records"
        print(markdown_table(read_records(records), read_provenance(records)))
    else:
        print(build(Path(args.folder), args.out or "card.html"))
    found = doubts(args.folder)
    for doubt in found:
        print(f"monai-advdef report: {doubt}", file=sys.stderr)
    return SUSPECT if found else FINE


def _demo(args: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: threads that wait do not burn a core

    from monai_advdef.demo import demo

    demo(args.output_dir, epochs=args.epochs)


def main(words: Sequence[str] | None = None) -> int:
    """Run a verb.

    Returns 0 (fine), 1 (checks doubt what is shown), 2 (usage or input error), 3 (it could not finish) or 141 (nobody reads its
    output any more).
    """
    _open_what_is_closed()
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read has seen enough (list | head)
        _drop(sys.stdout, sys.stderr)
        return PIPE
    except OSError as error:
        print(f"monai-advdef: its output cannot be written: {_words(error)}", file=sys.stderr)
        _drop(sys.stdout)
        return UNFINISHED


def _run(words: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(words)
    except SystemExit:  # after --help
        sys.stdout.flush()
        raise
    told = "the same command goes on from here"
    try:
        verbs: dict[str, Any] = {
            "demo": _demo,
            "phantom": _phantom,
            "check": _check,
            "prepare": _prepare,
            "list": _list,
            "report": _report,
        }
        with stoppable(f"monai-advdef {args.verb}: {told}"):
            return verbs[args.verb](args) or FINE
    except BrokenPipeError:
        raise
    except Stopped:
        return UNFINISHED
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"monai-advdef {args.verb}: {_words(error)}", file=sys.stderr)
        return USAGE
    except (OSError, RuntimeError) as error:
        print(f"monai-advdef {args.verb}: {_words(error)}", file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt:
        print(f"monai-advdef {args.verb}: interrupted; {told}", file=sys.stderr)
        return UNFINISHED


def _words(error: Exception) -> str:
    """The message, with a remedy where it is the system's own and has none."""
    bare = isinstance(error, OSError) and error.errno is not None and error.strerror == os.strerror(error.errno)
    full = bare and error.errno == errno.ENOSPC  # type: ignore[attr-defined]
    remedy = "free some space" if full else "check that path and who may read and write there"
    return f"{error}; {remedy}, or give another folder" if bare else str(error)


def _open_what_is_closed() -> None:
    """Where the caller closed an output (``>&-``), what is printed goes nowhere, not into the next file that is opened."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _drop(*streams: TextIO) -> None:
    """What a stream still holds back and cannot write goes nowhere, in place of an error when the interpreter ends."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
