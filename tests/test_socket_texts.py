"""Texts that MONAI would take for its own language stay texts."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from monai_advdef.audit.socket import as_texts


@pytest.mark.parametrize("text", ["% of range", "% of range, at the network's input", "@home", "$x", "HU", "σ", ""])
def test_a_text_is_read_as_it_is_meant(text: str) -> None:
    parser = ConfigParser({"threat_def": as_texts({"unit": text, "eps": 8.0})})
    assert parser.get_parsed_content("threat_def::unit") == text
    assert parser.get_parsed_content("threat_def::eps") == 8.0
