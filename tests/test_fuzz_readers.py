"""A short form of the fuzz of the readers; the long one is ``python tests/fuzz_readers.py``."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_mutators import MUTATORS, PLAIN
from fuzz_readers import Target, attempt, run

from monai_advdef.data import DataError

SHORT = {"nifti": 18, "dicom": 16, "png": 12, "jpeg": 12, "tiff": 12, "csv": 10, "parquet": 10}


@pytest.mark.parametrize("kind", SHORT)
def test_spoilt_files_are_read_or_refused_in_words(tmp_path, kind):
    outcomes = run(tmp_path, [kind], SHORT[kind], seed=15, report=lambda outcome: None)
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    assert any(outcome.refused for outcome in outcomes)


@pytest.mark.parametrize("mutator", {m.__name__: m for m in [*PLAIN, *MUTATORS["nifti"][:14]]}.values(), ids=lambda m: m.__name__)
def test_mutators_do_the_same_for_the_same_seed(mutator):
    content = bytes(range(256)) * 4
    spoilt = [mutator(content, np.random.default_rng(3)) for _ in range(2)]
    assert spoilt[0] == spoilt[1] != content


def test_the_fuzz_sees_tracebacks_hidden_names_and_lost_cases(tmp_path):
    def target(read):
        return Target("made up", tmp_path, [], 2, read)

    def raising(error):
        def read(root):
            raise error

        return read

    path = tmp_path / "a.nii.gz"
    assert "ZeroDivisionError" in attempt(target(raising(ZeroDivisionError("1 / 0"))), path)[1]
    assert "do not name the file" in attempt(target(raising(DataError("something is wrong"))), path)[1]
    assert not attempt(target(raising(DataError(f"{path} is cut short; fetch it again"))), path)[1]
    assert "1 of 2 cases are left" in attempt(target(lambda root: (1, "")), path)[1]
    assert not attempt(target(lambda root: (1, "a.nii.gz is left out")), path)[1]
