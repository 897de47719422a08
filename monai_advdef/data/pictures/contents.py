"""What stands in a file that is no picture: a web page, the pointer of a large-file store, another format."""

from __future__ import annotations

import os

from monai_advdef.errors import DataError

LENGTH = 1024
FETCH = "fetch its content (git annex get, or datalad get), or remove the link"
KINDS = (
    (0, b"%PDF", "it is a PDF document"),
    (0, b"PK\x03\x04", "it is a ZIP archive or office document"),
    (0, b"\x1f\x8b", "it is a gzip archive"),
    (128, b"DICM", "it is a DICOM file"),
    (4, b"ftyphei", "it is a HEIC photograph"),
    (4, b"ftypmif", "it is a HEIC photograph"),
    (4, b"ftypavi", "it is an AVIF picture"),
    (0, b"II*\0", "it is a TIFF file that is damaged, or of a kind that is not read"),
    (0, b"MM\0*", "it is a TIFF file that is damaged, or of a kind that is not read"),
)


def head_of(path: str) -> bytes:
    """The first bytes of a file.

    Raises:
        DataError: no such file, a link to nowhere, no right to read it, no content, or the pointer of a large-file store.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(LENGTH)
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            raise DataError(f"{path} is a link to {os.readlink(path)}, which is not there; {FETCH}") from error
        raise DataError(
            f"{path} cannot be opened ({error.strerror or error}); give the right path, and the right to read it"
        ) from error
    if not head:
        raise DataError(f"{path} is empty (0 bytes); fetch it again or take it out of the data set")
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer without its content; run git lfs pull in its repository")
    if head.startswith((b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")):
        raise DataError(f"{path} is a git-annex pointer without its content; {FETCH.removesuffix(', or remove the link')}")
    return head


def content(head: bytes) -> str:
    """What a file is, by its first bytes, where it is none of the pictures that are read; empty where that is not known."""
    for place, mark, words in KINDS:
        if head[place : place + len(mark)] == mark:
            return words
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")) or b"<html" in start:
        return "it is a web page"
    return ""
