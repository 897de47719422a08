"""A part of a study for each task of a job array, with no more between them than a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def shard_of(given: str, environment: Mapping[str, str] | None = None) -> tuple[int, int, str] | None:
    """Which of how many shards this process is, counted from 1, and who said so; ``None``: it runs all cells.

    Args:
        given: ``"3/8"``; empty: what Slurm (``SLURM_ARRAY_TASK_ID`` with its ``_MIN``, ``_STEP`` and ``_COUNT``) or LSF
            (``LSB_JOBINDEX`` with its ``_STEP`` and ``_END``) say of a job array.
        environment: default: that of the process.

    Raises:
        ValueError: not two numbers, or the first is not within 1 and the second.
    """
    told = os.environ if environment is None else environment
    if given:
        which, sign, many = given.partition("/")
        if not sign or not which.strip().isdigit() or not many.strip().isdigit():
            raise ValueError(f"shard must be which/how many, as 3/8, got {given!r}")
        return _checked(int(which), int(many), "--shard")
    if "SLURM_ARRAY_TASK_ID" in told and "SLURM_ARRAY_TASK_COUNT" in told:
        number, count = (_number(told, f"SLURM_ARRAY_TASK_{name}", 0) for name in ("ID", "COUNT"))
        low, step = _number(told, "SLURM_ARRAY_TASK_MIN", 0), _number(told, "SLURM_ARRAY_TASK_STEP", 1)
        return _checked((number - low) // step + 1, count, "SLURM_ARRAY_TASK_ID")
    if _number(told, "LSB_JOBINDEX", 0):  # 0: the job is no array
        number, last = _number(told, "LSB_JOBINDEX", 0), _number(told, "LSB_JOBINDEX_END", 0)
        step = _number(told, "LSB_JOBINDEX_STEP", 1)
        return _checked((number - 1) // step + 1, (last - 1) // step + 1, "LSB_JOBINDEX")
    return None


def part_of(items: Sequence[T], shard: tuple[int, int]) -> list[T]:
    """Every so manieth item: neighbours, which take about as long, go to different shards."""
    return list(items[shard[0] - 1 :: shard[1]])


def _number(told: Mapping[str, str], name: str, default: int) -> int:
    value = told.get(name, "") or str(default)
    if not value.isdigit():
        raise ValueError(f"{name} must be a whole number, got {value!r}; say which shard this is with --shard 3/8")
    return int(value)


def _checked(number: int, count: int, source: str) -> tuple[int, int, str]:
    if not 1 <= number <= count:
        remedy = "count shards from 1" if source == "--shard" else "number the tasks of the array 1 to n, or say --shard 3/8"
        raise ValueError(f"shard {number}/{count} (from {source}) is out of range; {remedy}")
    return number, count, source
