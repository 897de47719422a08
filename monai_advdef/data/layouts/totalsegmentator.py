"""TotalSegmentator: a folder a subject, a mask file an organ, and the official sections in ``meta.csv``.

::

    s0001/ct.nii.gz (or mri.nii.gz), s0001/segmentations/liver.nii.gz, ...      meta.csv: image_id;age;...;split

Source: Wasserthal et al., "TotalSegmentator", Radiology: Artificial Intelligence 2023, and the archives on Zenodo.
"""

from __future__ import annotations

from pathlib import Path

from monai_advdef.data.columns import SECTION_WORDS
from monai_advdef.data.layouts.rows import Listed, Row, bare, inside, is_volume, settle
from monai_advdef.data.layouts.tables import rows_of
from monai_advdef.data.notes import some

SCANS = {"ct": "CT", "mri": "MRI"}


def reason(root: Path) -> str:
    """Why a folder is one of TotalSegmentator; empty where it is none."""
    for subject in inside(root):
        scan = _scan(subject)
        if scan is not None and (subject / "segmentations").is_dir():
            return f"{subject.name}/ holds {scan.name} and segmentations/ with a mask an organ"
    return ""


def read(root: Path) -> Listed:
    """Every subject; the sections are those of ``meta.csv``, where there is one."""
    listed = Listed()
    section_of = _sections(root, listed)
    kinds = set()
    for subject in [path for path in inside(root) if path.is_dir()]:
        scan = _scan(subject)
        organs = [path for path in inside(subject / "segmentations") if is_volume(path)]
        if scan is None or not organs:
            lack = "no ct.nii.gz" if scan is None else "no mask in segmentations/"
            listed.problems.append(f"subject {subject.name} has {lack} in {subject}; fetch it again, or move it away")
            continue
        kinds.add(SCANS[bare(scan)])
        names = tuple(bare(path) for path in organs)
        section = section_of.get(subject.name, "")
        listed.rows.append(Row(subject.name, subject.name, (scan,), tuple(organs), section, names))
    listed.channels = tuple(sorted(kinds))[:1]
    if len(kinds) > 1:
        listed.problems.append(f"{root} mixes CT and MRI; move the subjects of one kind away")
    absent = sorted(section_of.keys() - {row.case for row in listed.rows})
    if absent:
        listed.notes.append(f"meta.csv names {len(absent)} subjects that are not here ({some(absent)})")
    return settle(listed)


def _scan(subject: Path) -> Path | None:
    return next((path for path in inside(subject) if is_volume(path) and bare(path) in SCANS), None)


def _sections(root: Path, listed: Listed) -> dict[str, str]:
    """The section of each subject by ``meta.csv``."""
    table = root / "meta.csv"
    rows = rows_of(table) if table.is_file() else []
    if rows and not {"imageid", "split"} <= rows[0].keys():
        listed.notes.append(f"{table} has no columns image_id and split: no official sections")
        return {}
    odd = [row for row in rows if row["split"].lower() not in SECTION_WORDS]
    if odd:
        listed.problems.append(f"{table}: {odd[0]['imageid']} has the split {odd[0]['split']!r}; known: train, val, test")
    return {row["imageid"]: SECTION_WORDS.get(row["split"].lower(), "") for row in rows}
