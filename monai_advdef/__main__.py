"""The command line: ``monai-advdef VERB``, see ``--help``. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from monai_advdef.bundle import bundles, describe, home, workflows
from monai_advdef.commands import USAGE, parser
from monai_advdef.neighbours import Stopped, stoppable

FINE, SUSPECT, UNFINISHED, PIPE = 0, 1, 3, 141


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


def _audit(args: argparse.Namespace) -> int:
    from monai_advdef.audit import audit

    options = {name: value for name, value in vars(args).items() if name not in ("verb", "model") and value is not None}
    return audit(args.model, **options).code


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


def _sweep(args: argparse.Namespace) -> int:
    from monai_advdef.sweep import Ways, dry_run, status, sweep

    folder = args.output_dir or ""
    if args.status:
        return status(args.study, folder)
    ways = Ways(workers=args.workers, engine=args.engine, settings=args.settings, shard=args.shard)
    return (dry_run if args.dry_run else sweep)(args.study, folder, ways=ways)


def _report(args: argparse.Namespace) -> int:
    from monai_advdef.records import read_provenance, read_records
    from monai_advdef.report import build, build_evidence, doubts, markdown_table

    if not (Path(args.folder) / "records").is_dir():
        raise FileNotFoundError(f"no folder {Path(args.folder) / 'records'}; give the output_dir of an evaluation")
    if (Path(args.folder) / "sweep" / "plan.json").is_file() and not (args.markdown or args.out or args.groups or args.evidence):
        from monai_advdef.sweep import gathered

        for path in gathered(args.folder):
            print(path)
    elif args.markdown:
        records = Path(args.folder) / "records"
        print(markdown_table(read_records(records), read_provenance(records)))
    else:
        print(build(Path(args.folder), args.out or "card.html", groups=args.groups))
        if args.evidence:
            print(build_evidence(Path(args.folder)))
    found = doubts(args.folder)
    for doubt in found:
        print(f"monai-advdef report: {doubt}", file=sys.stderr)
    return SUSPECT if found else FINE


def _compare(args: argparse.Namespace) -> int:
    from monai_advdef.comparison import build_page, compare, markdown_table, text_table

    found = compare(args.folders, metric=args.metric)
    if args.json:
        print(json.dumps(found.plain(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print((markdown_table if args.markdown else text_table)(found), end="")
    if args.out is not None or not (args.json or args.markdown):
        page = build_page(found, args.out or "compare.html")
        print(page, file=sys.stderr if args.json or args.markdown else sys.stdout)
    for doubt in found.doubts:
        print(f"monai-advdef compare: {doubt}", file=sys.stderr)
    return SUSPECT if found.doubts else FINE


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
        args = parser().parse_args(words)
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
            "audit": _audit,
            "sweep": _sweep,
            "list": _list,
            "report": _report,
            "compare": _compare,
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
