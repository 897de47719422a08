"""The tidy table: one row per case x class x metric x attack x threat x defence x adaptivity x seed.

A *cell* is one evaluation run, named by the fingerprint of its configuration. A folder of cells is one table::

    records/<fingerprint>.parquet               finished cells; ``pandas.read_parquet("records")`` reads them all
    records/_provenance/<fingerprint>.json      configuration, versions, command, weights and data of each finished cell
    records/_unfinished/<fingerprint>.part.jsonl   rows of a cell that is running or was killed, beside it a lock and its owner

Parquet readers pass over names that begin with an underscore, so the two sub-folders do not disturb them. Copies that a file-sync
service leaves among the cells (``<fingerprint> (conflicted copy).parquet``) are passed over by :func:`read_records`, with a word;
``pandas.read_parquet`` would count them twice.
"""

from __future__ import annotations

from monai_advdef.records.files import RecordError
from monai_advdef.records.rows import COLUMNS, EXTRAS, LABELS, OWN_PREDICTION, REFERENCES, check_row
from monai_advdef.records.table import finished, read_provenance, read_records, unfinished
from monai_advdef.records.verdicts import add_verdicts, read_verdicts
from monai_advdef.records.writer import RecordWriter, fingerprint

__all__ = [
    "COLUMNS",
    "EXTRAS",
    "LABELS",
    "OWN_PREDICTION",
    "REFERENCES",
    "RecordError",
    "RecordWriter",
    "add_verdicts",
    "check_row",
    "fingerprint",
    "finished",
    "read_provenance",
    "read_records",
    "read_verdicts",
    "unfinished",
]
