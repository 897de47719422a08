"""What it takes to live beside other processes and on other people's disks: owners, locks, whole files, signals.

Imports nothing of the house, neither torch nor monai.
"""

from __future__ import annotations

from monai_advdef.neighbours.files import cannot_write, check_writable, clear_leftovers, remedy, whole
from monai_advdef.neighbours.lines import Disturbed, OwnedLines
from monai_advdef.neighbours.locks import Ownership, alone
from monai_advdef.neighbours.processes import Process, me
from monai_advdef.neighbours.signals import Stopped, stoppable

__all__ = [
    "Disturbed",
    "OwnedLines",
    "Ownership",
    "Process",
    "Stopped",
    "alone",
    "cannot_write",
    "check_writable",
    "clear_leftovers",
    "me",
    "remedy",
    "stoppable",
    "whole",
]
