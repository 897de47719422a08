"""The images of a folder, where they alone are audited: by patterns of the user, else of the folder that is called like images."""

from __future__ import annotations

from pathlib import Path

from monai_advdef.audit.bundles.labels import SUFFIXES
from monai_advdef.audit.reading import AuditOptions
from monai_advdef.data.layouts.patterns import as_patterns, images_by_pattern
from monai_advdef.data.layouts.rows import bare, inside

FOLDERS = ("imagesTs", "imagesTr", "imagesVal", "images", "image", "imgs", "img")
ENDINGS = tuple(".nii .nii.gz .nrrd .mha .mhd .jpg .jpeg .png .tif .tiff .bmp .npy".split())
SLICES = (".dcm", ".dicom", ".ima")


def scans_of(options: AuditOptions) -> tuple[list[Path], str]:
    """The files (or folders of DICOM slices), and how they were found; none where nothing is like an image.

    Raises:
        DataError: patterns that fit nothing.
    """
    folder = Path(options.dataset_dir).expanduser().resolve()
    if patterns := as_patterns(options.images):
        return [p for pattern in patterns for p in images_by_pattern(folder, pattern)], f"--images {', '.join(patterns)}"
    for place in (*(folder / name for name in FOLDERS), folder):
        found = [p for p in inside(place) if _is_scan(p)] if place.is_dir() else []
        if found:
            return found, f"the images of {place.name}/"
    return [], ""


def _is_scan(path: Path) -> bool:
    if path.is_dir():
        return any(p.suffix.lower() in SLICES for p in inside(path))
    return path.name.lower().endswith(ENDINGS) and not bare(path).lower().endswith(SUFFIXES)
