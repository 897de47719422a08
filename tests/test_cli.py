"""The command line: light answers, help everywhere, the nearest right word, and exit codes that mean something."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from synthetic_records import write_study

from monai_advdef import __main__ as command_line
from monai_advdef import __version__, commands
from monai_advdef.__main__ import main
from monai_advdef.data import PHANTOMS
from monai_advdef.data.layouts.core import DIRECT, LAYOUTS
from monai_advdef.sweep.ways import ENGINES

VERBS = ("demo", "phantom", "check", "prepare", "audit", "sweep", "list", "report", "compare")
HEAVY = ("torch", "monai", "mlflow", "pandas", "numpy", "matplotlib")


def answer(capsys, *words):
    """Exit code and what was written to the two streams."""
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_list_answers_without_heavy_imports():
    """In a process of its own: nothing but the standard library and this package is loaded."""
    script = "import sys; from monai_advdef.__main__ import main; main(['list', '--json'])"
    script += f"; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    listing = json.loads(done.stdout)
    assert {"bundles", "attacks", "defenses"} <= listing.keys()
    assert all(Path(e["path"]).exists() and e["name"] and e["about"] for entries in listing.values() for e in entries)
    assert {"pgd", "asma", "fgsm", "ifgsm", "tifgsm", "noise"} <= {e["name"] for e in listing["attacks"]}


def test_words_of_the_command_line_are_those_of_the_package():
    assert commands.ENGINES == ENGINES
    assert tuple(PHANTOMS) == commands.TASKS and (*LAYOUTS, *DIRECT) == commands.LAYOUTS and commands.VERBS == VERBS


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "monai_advdef", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == f"monai-advdef {__version__}"


@pytest.mark.parametrize("words", [(), *((v,) for v in VERBS)], ids=lambda w: " ".join(w) or "none")
def test_help_everywhere(capsys, words):
    code, out, _ = answer(capsys, *words, "--help")
    assert code == 0 and "usage: monai-advdef" in out and len(out.splitlines()) > 4
    assert words or all(v in out for v in VERBS)


def test_list_for_people(capsys):
    code, out, _ = answer(capsys, "list")
    assert code == 0 and "skin_lesion_dermoscopy_segmentation" in out and "pgd" in out


@pytest.mark.parametrize("kind", ["bundles", "workflows"])
def test_where_prints_a_folder_for_scripts(capsys, kind):
    code, out, _ = answer(capsys, "list", "--where", kind)
    assert code == 0 and Path(out.strip()).is_dir() and Path(out.strip()).name == kind


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lst"], "unknown word 'lst'; did you mean 'list'?"),
        (["repotr", "x"], "did you mean 'report'?"),
        (["phantom", "skn", "x"], "unknown word 'skn'; did you mean 'skin'?"),
        (["phantom", "fundos", "x"], "unknown word 'fundos'; did you mean 'fundus'?"),
        (["list", "--jsn"], "--jsn; did you mean '--json'?"),
        (["list", "--where", "bundels"], "did you mean 'bundles'?"),
        (["phantom", "skin", "x", "--casse", "3"], "--casse 3; did you mean '--cases'?"),
        (["demo", "--output-dir", "x"], "did you mean '--output_dir'?"),
        (["phantom", "skin", "x", "--cases", "many"], "argument --cases: invalid int value: 'many'"),
        (["phantom", "skin"], "the following arguments are required: DIR"),
        ([], "the following arguments are required"),
    ],
    ids=lambda w: " ".join(w) if isinstance(w, list) else "",
)
def test_wrong_words_get_the_nearest_right_one_and_exit_code_2(capsys, words, told):
    code, out, err = answer(capsys, *words)
    assert code == 2 and told in err and not out


def test_phantom_writes_pairs(capsys, tmp_path):
    code, out, _ = answer(capsys, "phantom", "skin", str(tmp_path / "p"), "--cases", "2", "--seed", "3")
    assert code == 0 and "2" in out and str(tmp_path / "p") in out
    images, masks = (sorted((tmp_path / "p" / part).iterdir()) for part in ("images", "masks"))
    assert [i.stem for i in images] == [m.stem for m in masks] and len(images) == 2
    assert all(Image.open(i).size == Image.open(m).size for i, m in zip(images, masks))


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--cases", "0"], "cases must be at least 1, got 0"), (["--seed", "4"], "holds other phantoms")],
    ids=["none", "another seed"],
)
def test_phantom_tells_what_it_cannot_do(capsys, tmp_path, options, told):
    answer(capsys, "phantom", "skin", str(tmp_path), "--cases", "1")
    code, _, err = answer(capsys, "phantom", "skin", str(tmp_path), "--cases", "1", *options)
    assert code == 2 and err.startswith("monai-advdef phantom:") and told in err


def test_phantom_leaves_foreign_folders_alone(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    code, _, err = answer(capsys, "phantom", "skin", str(tmp_path))
    assert code == 2 and str(tmp_path) in err and [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_phantom_fundus_is_checked(capsys, tmp_path):
    code, out, _ = answer(capsys, "phantom", "fundus", str(tmp_path / "p"), "--cases", "1")
    assert code == 0 and {p.name for p in (tmp_path / "p").iterdir()} > {"images", "masks", "masks_cup", "labels.csv"}
    code, out, err = answer(capsys, "check", str(tmp_path / "p"))
    assert code == 0 and "note: 1 patient is too few to split" in out and "1 too few to split" in out and not err


def isic(folder, cases=12):
    for case in range(cases):
        for part, name in (("Task1-2_Training_Input", f"{case}.jpg"), ("Task1_Training_GroundTruth", f"{case}_segmentation.png")):
            path = folder / f"ISIC2018_{part}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB" if path.suffix == ".jpg" else "L", (9, 6)).save(path)


def test_check_and_prepare_a_distributed_data_set(capsys, tmp_path):
    isic(tmp_path / "source")
    code, out, _ = answer(capsys, "check", str(tmp_path / "source"))
    assert code == 0 and "ISIC 2018 task 1" in out and "12 cases: 12 train" in out and "9x6" in out
    assert "the complete set has 2594 train images, here are 12" in out and "no ISIC2018_Task1-2_Test_Input" in out
    code, out, _ = answer(capsys, "prepare", str(tmp_path / "source"), str(tmp_path / "ours"))
    assert code == 0 and str(tmp_path / "ours") in out and len(list((tmp_path / "ours" / "masks").iterdir())) == 12


def test_check_and_prepare_name_what_is_wrong(capsys, tmp_path):
    isic(tmp_path / "source")
    (tmp_path / "source" / "ISIC2018_Task1_Training_GroundTruth" / "3_segmentation.png").unlink()
    code, out, err = answer(capsys, "check", str(tmp_path / "source"))
    assert code == 2 and "problem: " in out and "3_segmentation.png" in out and "1 problem in" in err
    code, out, err = answer(capsys, "prepare", str(tmp_path / "source"), str(tmp_path / "ours"))
    assert code == 2 and "3_segmentation.png" in err and not (tmp_path / "ours").exists()
    code, _, err = answer(capsys, "check", str(tmp_path), "--layout", "drishti_gs")
    assert code == 2 and "did you mean 'drishti_gs1'?" in err
    code, out, err = answer(capsys, "check", str(tmp_path / "nowhere"))
    assert code == 2 and str(tmp_path / "nowhere") in out + err


@pytest.mark.parametrize("options", [[], ["--markdown"]], ids=["card", "table"])
def test_report_on_a_missing_folder_names_it(capsys, tmp_path, options):
    code, out, err = answer(capsys, "report", str(tmp_path / "nowhere"), *options)
    assert code == 2 and str(tmp_path / "nowhere") in err and not out


def test_report_writes_the_card_and_prints_the_table(capsys, tmp_path):
    write_study(tmp_path)
    code, out, _ = answer(capsys, "report", str(tmp_path))
    assert code == 0 and Path(out.strip()) == tmp_path / "card.html" and (tmp_path / "card.html").exists()
    code, out, _ = answer(capsys, "report", str(tmp_path), "--markdown")
    assert code == 0 and out.count("|") > 10


def test_a_damaged_table_could_not_be_finished(capsys, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "abc.parquet").write_bytes(b"PAR1")
    code, _, err = answer(capsys, "report", str(tmp_path))
    assert code == 3 and "abc.parquet" in err


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["list", "--help"], ["lst"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(words):
    """As ``| head`` does: the pipe is closed before anything is written."""
    receiver, sender = os.pipe()
    os.close(receiver)
    done = subprocess.run([sys.executable, "-m", "monai_advdef", *words], stdout=sender, stderr=subprocess.PIPE, text=True)
    os.close(sender)
    assert (
        done.returncode in ((2,) if words == ["lst"] else (0, 141)) and "roken" not in done.stderr and "Traceback" not in done.stderr
    )


def test_output_that_cannot_be_written_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "monai_advdef", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "No space left on device; free some space" in done.stderr


@pytest.mark.parametrize(("words", "code"), [("list", 0), ("--help", 0), ("nonsense", 2)])
def test_a_closed_output_is_no_error(words, code):
    """As ``>&-`` does, and services without a terminal."""
    for closed in (">&-", ">&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" -m monai_advdef {words} {closed}', sys.executable], stderr=subprocess.PIPE, text=True
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_verb_as_an_interruption_does(capfd, monkeypatch, number):
    def endless(args):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(command_line, "_list", endless)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["list"]) == 3 and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert f"stopped by {number.name}; monai-advdef list: the same command goes on" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_named_with_a_remedy(capsys):
    code, _, err = answer(capsys, "phantom", "skin", "/proc/nowhere", "--cases", "1")
    assert code == 2 and "/proc/nowhere" in err and "or give another folder" in err


def test_report_says_what_it_passes_over(capsys, tmp_path):
    write_study(tmp_path)
    _, whole, _ = answer(capsys, "report", str(tmp_path), "--markdown")
    cell = sorted((tmp_path / "records").glob("*.parquet"))[0]
    shutil.copy(cell, cell.with_name(f"{cell.stem} (1).parquet"))
    with pytest.warns(UserWarning, match=rf"files of .*{cell.stem} \(1\).parquet"):
        code, out, _ = answer(capsys, "report", str(tmp_path), "--markdown")
    assert code == 0 and out == whole


@pytest.mark.parametrize("words", ["demo --output_dir=", "phantom skin", "check", "prepare DATA", "report"])
def test_an_empty_folder_is_refused(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), ""] if not words.endswith("=") else words.split())
    assert stop.value.code == 2 and "it is empty, as where a variable of the shell is not set" in capsys.readouterr().err


def test_the_home_folder_is_known_behind_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert commands.parser().parse_args(["demo", "--output_dir=~/d"]).output_dir == str(tmp_path / "d")
