"""What can be typed behind ``monai-advdef``: the verbs and their options. Imports neither torch nor monai."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from monai_advdef import __version__

USAGE = 2  # exit code of a usage or input error
VERBS = ("demo", "phantom", "check", "prepare", "audit", "sweep", "list", "report", "compare")
TASKS = ("skin", "fundus", "lung", "glioma", "abdomen")
ENGINES = ("process", "slurm", "ray")
LAYOUTS = (
    *("isic2018", "isbi2016", "drishti_gs1", "rim_one_dl", "rim_one_r3", "jsrt"),
    *("nnunet", "msd", "totalsegmentator", "ham10000", "montgomery", "ph2", "sections", "folders", "paired"),
)


class Parser(argparse.ArgumentParser):
    """argparse, with the nearest right word for a wrong one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(c) for c in action.choices or ()]
        if choices and value not in choices:
            near = difflib.get_close_matches(str(value), choices, 1, 0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise argparse.ArgumentError(action, f"unknown word {value!r}; {hint}known: {', '.join(choices)}")

    words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; what was typed tells, after an error, of which verb an option was meant."""
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def options(self) -> list[str]:
        """Every option of this parser and of the verb that was typed, or of all verbs."""
        verbs = {name: p for a in self._actions if isinstance(a.choices, dict) for name, p in a.choices.items()}
        typed = [p for name, p in verbs.items() if name in self.words] or list(verbs.values())
        return [o for a in self._actions for o in a.option_strings] + [o for p in typed for o in p.options()]

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and, for an unknown option, the nearest known one."""
        unknown = message.removeprefix("unrecognized arguments: ").split(" ")[0] if message.startswith("unrecognized") else ""
        options = self.options()
        near = difflib.get_close_matches(unknown, options, 1, 0.4) if unknown else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        self.exit(USAGE, f"{self.prog}: {message}{hint} (--help tells more)\n")


def place(text: str) -> str:
    """A file or folder of the command line; ``~`` is the home folder, which shells leave as it is behind ``=``."""
    if not text.strip():
        raise argparse.ArgumentTypeError(
            "it is empty, as where a variable of the shell is not set; give a folder, or . for this one"
        )
    return os.path.expanduser(text)


def parser() -> Parser:
    """Of the command line."""
    top = Parser(prog="monai-advdef", description="Attacks on, and defences of, medical-image segmentation networks.")
    top.add_argument("--version", action="version", version=f"monai-advdef {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar=" | ".join(VERBS), required=True, parser_class=Parser)
    add = verbs.add_parser("demo", help="phantom images, a small victim, attacks, defences, a card: a few minutes on a CPU")
    add.add_argument("--output_dir", type=place, default="demo", help="where everything goes (default: demo); run again to resume")
    add.add_argument("--epochs", type=int, default=20, help="training epochs of the victim (default: 20)")
    add = verbs.add_parser("phantom", help="write phantom images of a task as real files")
    add.add_argument("task", choices=TASKS, metavar="TASK", help=f"one of: {', '.join(TASKS)}")
    add.add_argument(
        "folder",
        type=place,
        metavar="DIR",
        help="folder that gets images/ and masks/ (gliomas: a folder a subject; CT: images/, labels/)",
    )
    add.add_argument("--cases", type=int, default=72, help="how many (default: 72)")
    add.add_argument("--seed", type=int, default=0, help="another seed, other images (default: 0)")
    spacing = "glioma and abdomen only: voxel size in mm (default: 2 2 2 and 3 3 4; 1 1 5 makes thick slices)"
    add.add_argument("--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help=spacing)
    add.add_argument("--dicom", action="store_true", help="abdomen only: images as DICOM series in place of NIfTI files")
    _add_data_verbs(verbs)
    _add_audit(verbs)
    _add_sweep(verbs)
    add = verbs.add_parser("list", help="bundles, attacks, defences and where they are")
    add.add_argument("--json", action="store_true", help="as JSON")
    add.add_argument(
        "--where", choices=("bundles", "workflows"), metavar="KIND", help="print only the folder of bundles | workflows"
    )
    add = verbs.add_parser("report", help="make the Robustness Card from recorded evaluations")
    add.add_argument("folder", type=place, metavar="OUTPUT_DIR", help="folder with records/ (and gallery/)")
    add.add_argument("--out", default=None, help="file to write (default: OUTPUT_DIR/card.html)")
    add.add_argument("--markdown", action="store_true", help="print the table in Markdown instead")
    add.add_argument("--groups", type=place, metavar="CSV", help="case or patient, and columns to report by")
    add.add_argument("--evidence", action="store_true", help="also write evidence.html, one side of A4, and its twins")
    _add_compare(verbs)
    return top


def _add_data_verbs(verbs: Any) -> None:
    add = verbs.add_parser("check", help="open every file of a data set and tell what it holds, what is wrong and what is missing")
    add.add_argument(
        "folder",
        type=place,
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
        "source", type=place, metavar="SOURCE", help="folder into which its archives were unpacked, or a list (CSV, JSON)"
    )
    add.add_argument(
        "folder", type=place, metavar="DIR", help="new folder for the converted files (linked where they stay as they are)"
    )
    add.add_argument("--layout", choices=LAYOUTS, default="", metavar="NAME", help=f"{' | '.join(LAYOUTS)} (default: recognised)")
    _add_patterns(add)


def _add_audit(verbs: Any) -> None:
    add = verbs.add_parser("audit", help="how robust is a model: attack it as it is deployed, write a card")
    add.add_argument("model", type=place, metavar="MODEL", help="a MONAI bundle, TorchScript file or nnU-Net folder")
    add.add_argument("--dataset_dir", type=place, metavar="DIR", help="folder of the data to audit on")
    add.add_argument(
        "--output_dir",
        type=place,
        default="audit",
        metavar="OUT",
        help="everything goes there; run again to resume",
    )
    add.add_argument("--checkpoint", type=place, metavar="FILE", help="the weights (default: those that the model names)")
    add.add_argument("--suite", default="standard", metavar="NAME", help="smoke | standard | full, or a file (default: standard)")
    add.add_argument("--eps", type=float, nargs="+", metavar="X", help="largest changes, in image units (default: recovered)")
    add.add_argument("--unit", default="", metavar="UNIT", help="of the image: HU, grey level, sigma (default: recovered)")
    add.add_argument(
        "--range", dest="value_range", nargs=2, type=float, metavar=("LO", "HI"), help="of intensities (default: recovered)"
    )
    add.add_argument("--images", nargs="+", default=(), metavar="PATTERN", help="images: 'imagesTr/{case}.nii.gz'")
    add.add_argument(
        "--labels",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="labels; none: stability is reported",
    )
    add.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="of the foreground, in the order of the channels")
    add.add_argument("--activation", choices=("softmax", "sigmoid"), default="", help="of the network's head (default: recovered)")
    add.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="items of a bundle's own files"
    )
    add.add_argument("--trust", action="store_true", help="run code that the model brings (scripts, expressions, whole pickles)")
    add.add_argument("--dry_run", action="store_true", help="say what was recovered and what the audit will cost, and stop")
    add.add_argument("--device", default="", metavar="DEVICE", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    add.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N cases")
    add.add_argument("--no_checks", dest="checks", action="store_false", help="leave the checks of the numbers out")
    add.add_argument("--gate", dest="gates", action="append", default=[], metavar="EXPR", help="must hold: 'dice@5HU >= 0.6'")
    add.add_argument("--baseline", type=place, metavar="RECORDS", help="of an earlier audit, not to be worse than")
    add.add_argument("--margin", type=float, default=0.02, metavar="M", help="to the baseline (default: 0.02)")
    add.add_argument("--groups", type=place, metavar="CSV", help="case or patient, and columns to report by")
    add.add_argument("--junit", type=place, metavar="FILE", help="write gates and checks for a build server")


def _add_sweep(verbs: Any) -> None:
    add = verbs.add_parser("sweep", help="run a study: models x data x attacks x defences, here or on many machines")
    add.add_argument("study", type=place, metavar="STUDY", help="a YAML file, as those of workflows/sweeps")
    add.add_argument("--output_dir", type=place, metavar="OUT", help="where everything goes (default: the study's, or sweep/NAME)")
    add.add_argument("--workers", type=int, default=0, metavar="N", help="local processes, one GPU each (default: in this one)")
    add.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], metavar="NAME", help="process | slurm | ray: what the workers are"
    )
    add.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="of Slurm's jobs or Ray's cluster",
    )
    add.add_argument("--shard", default="", metavar="I/N", help="only this part (default: what a job array of Slurm or LSF says)")
    told = add.add_mutually_exclusive_group()
    told.add_argument("--dry_run", action="store_true", help="say which cells there are and what they will cost, and stop")
    told.add_argument("--status", action="store_true", help="say what is done, running, failed and open, and stop")


def _add_compare(verbs: Any) -> None:
    add = verbs.add_parser("compare", help="compare two or more models, case by case, from their recorded evaluations")
    add.add_argument("folders", type=place, nargs="+", metavar="OUT", help="output folders with records/, two or more")
    add.add_argument("--out", type=place, default=None, metavar="FILE", help="page to write (default: compare.html in this folder)")
    add.add_argument("--metric", default=None, metavar="NAME", help="what is compared (default: dice; stability without labels)")
    printed = add.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print JSON instead; a page is then written with --out only")
    printed.add_argument("--markdown", action="store_true", help="print a Markdown table instead; as with --json")


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
