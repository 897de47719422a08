"""One explicit setting of the C allocator that makes attacks on a CPU cheaper."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def tune_allocator() -> bool:
    """Keep freed blocks in the process instead of returning them to the system after every step.

    glibc maps every block above 32 MiB afresh, so each step of an attack faults all its pages in again. Raising both thresholds
    saves that (``make bench`` prints how much) and costs resident memory: freed blocks stay with the process. Nothing calls
    this for you except ``monai-advdef demo``; call it once, before the first attack.

    Returns:
        True when the thresholds were raised, False where the C library is not glibc (nothing is changed there).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
