"""The short form of :mod:`kill_and_restart`; ``python tests/kill_and_restart.py`` is the long one."""

from __future__ import annotations

import pytest
from kill_and_restart import run


@pytest.mark.slow
def test_killed_and_started_together_the_records_are_those_of_an_undisturbed_run(phantom_bundle, tmp_path):
    run(phantom_bundle, tmp_path, kills=2, starts=3)
