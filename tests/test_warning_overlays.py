"""The overlays of certificates and detection on the phantom bundle, as a user lists them."""

from __future__ import annotations

import pytest
from phantom_bundle import PhantomBundle

from monai_advdef.records import read_records

SMALL = {"certificate_def::n": 60, "certificate_def::n0": 10, "certificate_def::sigma": 4, "certificate_def::tau": [0.6, 0.75]}


@pytest.mark.slow
def test_overlays_record_what_they_promise_and_the_card_shows_it(phantom_bundle: PhantomBundle, tmp_path):
    phantom_bundle.evaluate(tmp_path, "certificates/smoothing", **{**SMALL, "image_size": 32})
    both = ("detection/confidence", "detection/disagreement")
    phantom_bundle.evaluate(tmp_path, *both, image_size=32)
    phantom_bundle.evaluate(tmp_path, *both, "attacks/fgsm", image_size=32)
    evading = {"attack_def::steps": 2, "attack_def::eps": 4}
    phantom_bundle.evaluate(tmp_path, *both, "detection/evasion", **{**evading, "image_size": 32})
    table = read_records(tmp_path / "records")
    assert table["fingerprint"].nunique() == 4
    metrics = set(table["metric"])
    assert {"certified_dice_r2.698", "abstained_r1.013", "smoothed_dice", "certificate_sigma", "ece_foreground"} <= metrics
    assert {"confidence_alarm", "disagreement_alarm", "dice_goal"} <= metrics
    card = (tmp_path / "card.html").read_text()
    for words in ("Certified by randomised smoothing", "Does the detector see it?", "Does confidence warn?", "evading 3", "FGSM"):
        assert words in card
    assert "NaN" not in card and "nan" not in card.split("<main>")[1].lower().replace("nano", "")
