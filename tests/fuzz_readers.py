"""A seeded fuzz of the readers: one file of a small data set is spoilt, and the set is checked, listed and loaded.

``python tests/fuzz_readers.py --files 500 --seed 0`` runs over volumes (NIfTI, DICOM), pictures (PNG, JPEG, TIFF), tables (CSV) and
records (parquet), or over some of them (``--kinds nifti dicom``). What must never come: an exception without words that name the
file, a try of more than 20 s, or cases that are gone without a word. A fault is printed with the spoilt file's copy; exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_series import AFFINE
from fuzz_mutators import MUTATORS, PLAIN, truncate

LIMIT = 20  # seconds a try
ROOMS = {"images", "labels", "masks", "dicom", "records"}  # folders whose names say nothing about a case


class Slow(BaseException):
    """A try took more than :data:`LIMIT` seconds; no reader may swallow it."""


@dataclass
class Target:
    """A data set to spoil: its files, how many cases it has, and ``read``, which raises or returns the number of cases and words."""

    kind: str
    root: Path
    files: list[Path]
    cases: int
    read: Callable[[Path], tuple[int, str]]


@dataclass
class Outcome:
    """One try: what was done to which file, the words that came of it, and the fault, empty where all is well."""

    what: str
    seconds: float
    words: str
    fault: str = ""
    refused: bool = False
    content: bytes = field(default=b"", repr=False)


def read_data_set(task: str) -> Callable[[Path], tuple[int, str]]:
    """Check, list and load a data set as the task's bundle does."""
    from monai.bundle import ConfigParser

    from monai_advdef.bundle import bundles
    from monai_advdef.data import TASKS, check_folder, dataset

    config = bundles()[TASKS[task].bundle] / "configs" / "train.yaml"
    parser: ConfigParser | None = None

    def read(root: Path) -> tuple[int, str]:
        nonlocal parser
        if parser is None:
            parser = ConfigParser()
            parser.read_config(str(config))
            parser["dataset_dir"] = str(root)
            parser["bundle_root"] = str(root.parent)
        report = check_folder(root, task=task)
        cases = dataset(task, root, test_only=True)["test"]
        preprocessing = parser.get_parsed_content("validate::preprocessing")
        for case in cases:
            preprocessing(dict(case))
        return min(report.cases, len(cases)), str(report)

    return read


def read_table(root: Path) -> tuple[int, str]:
    from monai_advdef.records import read_records

    return len(read_records(root)), ""


def targets(root: Path, kinds: list[str]) -> Iterator[Target]:
    """The data sets of the kinds, made under ``root``."""
    from mri_files import data_set as subjects

    from monai_advdef.data import write_abdomen_phantoms, write_skin_phantoms

    def files(folder: Path, *suffixes: str) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes))

    if "nifti" in kinds:
        subjects(root / "glioma")
        yield Target("nifti", root / "glioma", files(root / "glioma", ".nii.gz"), 4, read_data_set("glioma"))
        write_abdomen_phantoms(root / "ct", cases=2, spacing=(8, 8, 8))
        yield Target("nifti", root / "ct", files(root / "ct", ".nii.gz"), 2, read_data_set("abdomen"))
    if "dicom" in kinds:
        _series(root / "scans" / "dicom")
        yield Target("dicom", root / "scans", files(root / "scans", ".dcm"), 2, read_data_set("abdomen"))
    if {"png", "jpeg", "tiff", "csv"} & {*kinds}:
        write_skin_phantoms(root / "skin", cases=3)
        _tables(root / "skin")
        for kind, suffix, options in PICTURES:
            if kind in kinds:
                _converted(root / "skin", root / kind, suffix, **options)
                yield Target(kind, root / kind, files(root / kind, suffix), 3, read_data_set("skin"))
        if "csv" in kinds:
            yield Target("csv", root / "skin", files(root / "skin", ".csv"), 3, read_data_set("skin"))
    if "parquet" in kinds:
        yield _records(root / "study")


def _series(root: Path) -> None:
    """Two small CT series, one with its organs in a NIfTI file, one with a DICOM SEG."""
    from monai_advdef.data import organ_map, read_series, write_seg, write_series

    rng, organs = np.random.default_rng(0), organ_map()
    for case in ("a", "b"):
        classes = np.zeros((14, 12, 6), np.uint8)
        classes[3:11, 2:10, 1:5] = rng.integers(0, organs.classes, (8, 8, 4))
        write_series(
            root / case, np.where(classes, rng.integers(-100, 200, classes.shape), -1000), AFFINE, modality="CT", patient=case
        )
        if case == "a":
            values = np.array([0, *(values[0] for values in organs.values.values())], np.uint8)
            nib.save(nib.Nifti1Image(values[classes], AFFINE), root / "a_label.nii.gz")
        else:
            write_seg(root / "b_seg.dcm", classes, series=read_series(root / case), names=organs.names)


def _tables(root: Path) -> None:
    names = sorted(path.stem for path in (root / "images").iterdir())
    (root / "split.csv").write_text("case,section\n" + "".join(f"{n},{s}\n" for n, s in zip(names, ("train", "validation", "test"))))
    (root / "labels.csv").write_text("image,patient\n" + "".join(f"{n},p{n}\n" for n in names))


def _converted(source: Path, root: Path, suffix: str, **options: object) -> None:
    from PIL import Image

    shutil.copytree(source, root)
    for path in sorted((root / "images").iterdir()):
        with Image.open(path) as image:
            made = image.convert("RGB").resize((96, 96))
        path.unlink()
        made.save(path.with_suffix(suffix), **options)
    for path in sorted((root / "masks").iterdir()):
        with Image.open(path) as image:
            made = image.resize((96, 96), Image.Resampling.NEAREST)
        made.save(path)


def _records(root: Path) -> Target:
    from synthetic_records import write_study

    rows = len(write_study(root, cases=4))
    return Target("parquet", root / "records", sorted((root / "records").glob("*.parquet")), rows, read_table)


def spoil(target: Target, number: int, seed: int) -> Outcome:
    """Spoil one file of the target, read it, put the file back."""
    rng = np.random.default_rng([seed, number, zlib.crc32(str(target.root.name).encode())])
    path = target.files[int(rng.integers(len(target.files)))]
    before = path.read_bytes()
    choices = MUTATORS.get(target.kind, PLAIN)
    mutator = choices[int(rng.integers(len(choices)))]
    name = mutator.__name__
    try:
        content = mutator(before, rng)
        if rng.random() < 0.04:
            other = target.files[int(rng.integers(len(target.files)))]
            name, content = f"the content of {other.name}", other.read_bytes()
    except Exception:  # a mutator that needs a file which it can read
        name, content = "truncate", truncate(before, rng)
    path.write_bytes(content)
    started = time.monotonic()
    try:
        words, fault, refused = attempt(target, path)
    finally:
        path.write_bytes(before)
    what = f"{target.kind} {number}: {path.relative_to(target.root)}, {name}"
    return Outcome(what, time.monotonic() - started, words, fault, refused, content if fault else b"")


def attempt(target: Target, path: Path) -> tuple[str, str, bool]:
    """Read the spoilt target: the words that came, what is wrong with them, and whether the data set was refused."""
    names = [path.name] + [part.name for part in path.parents if target.root in part.parents and part.name not in ROOMS]

    def late(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        with warnings.catch_warnings(record=True) as said, contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("always")
            cases, words = target.read(target.root)
    except Slow:
        return "", f"took more than {LIMIT} s", True
    except Exception as error:
        return *judge(error, names), True
    finally:
        signal.alarm(0)
    words += " ".join(str(warning.message) for warning in said)
    if cases != target.cases and not any(name in words for name in names):
        return words, f"{cases} of {target.cases} cases are left, and no word about it", False
    return words, "", False


def judge(error: BaseException, names: list[str]) -> tuple[str, str]:
    """An exception must be one of our own, maybe wrapped by MONAI, and name the file, or the folder of its case."""
    from monai_advdef.errors import DataError
    from monai_advdef.records import RecordError

    chain = [error]
    while (below := chain[-1].__cause__) is not None:
        chain.append(below)
    ours = next((link for link in chain if isinstance(link, (DataError, RecordError))), None)
    if ours is None:
        return str(error), "".join(traceback.format_exception(error))[-3000:]
    if not any(name in str(ours) for name in names):
        return str(ours), f"the words do not name the file: {ours}"
    return str(ours), ""


def run(root: Path, kinds: list[str], files: int, seed: int, report: Callable[[Outcome], object] = print) -> list[Outcome]:
    """``files`` tries, as many of each target; the outcomes."""
    made, outcomes = list(targets(root, kinds)), []
    for target in made:
        cases, _ = target.read(target.root)
        assert cases == target.cases, f"{target.root} has {cases} cases before anything was spoilt, not {target.cases}"
    for number in range(files):
        outcomes.append(spoil(made[number % len(made)], number, seed))
        report(outcomes[-1])
    return outcomes


PICTURES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("png", ".png", {}),
    ("jpeg", ".jpg", {"quality": 90}),
    ("tiff", ".tif", {"compression": "tiff_lzw"}),
)
KINDS = ["nifti", "dicom", "png", "jpeg", "tiff", "csv", "parquet"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_faults"), help="where the spoilt files of faults are kept")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    def tell(outcome: Outcome) -> None:
        if outcome.fault:
            options.keep.mkdir(exist_ok=True)
            (options.keep / outcome.what.replace("/", "_").replace(" ", "_")[:120]).write_bytes(outcome.content)
            print(f"FAULT {outcome.what} ({outcome.seconds:.1f} s)\n  {outcome.fault}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(Path(folder), options.kinds, options.files, options.seed, tell)
    faults = [outcome for outcome in outcomes if outcome.fault]
    slowest = max(outcome.seconds for outcome in outcomes)
    refused = sum(outcome.refused for outcome in outcomes)
    print(f"{len(outcomes)} files spoilt: {len(faults)} faults; {refused} refused in words, others read; slowest {slowest:.1f} s")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
