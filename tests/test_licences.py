"""Every package that is asked for stands with its licence in docs/licences.md."""

from __future__ import annotations

from email.message import Message

import pytest

from tools import licences


def test_everything_that_is_asked_for_is_listed():
    direct = licences.required()
    assert {"monai", "torch", "mlflow"} <= set(direct[""]) and "dev" in direct
    assert licences.missing() == [], "run `python -m tools.licences --write`"


def test_what_is_not_listed_is_told(tmp_path, monkeypatch):
    text = licences.FILE.read_text(encoding="utf-8")
    short = tmp_path / "licences.md"
    short.write_text("\n".join(line for line in text.splitlines() if not line.startswith("| monai ")), encoding="utf-8")
    monkeypatch.setattr(licences, "FILE", short)
    assert licences.missing() == ["monai is not listed"]


class Package:
    def __init__(self, **headers: str | list[str]) -> None:
        self.metadata = Message()
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.metadata[name.replace("_", "-")] = one


MIT = ["Programming Language :: Python", "License :: OSI Approved :: MIT License"]


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (Package(License_Expression="MIT", License="other"), "MIT"),
        (Package(License="BSD-3-Clause", Classifier=MIT), "BSD-3-Clause"),
        (Package(License="Copyright (c) 2020\nPermission is hereby granted ...", Classifier=MIT), "MIT License"),
        (Package(Classifier=MIT), "MIT License"),
        (Package(), "not stated"),
    ],
)
def test_a_licence_is_what_the_package_states(package, told):
    assert licences.licence(package) == told
