"""Confidence, entropy and calibration error against closed forms and loops; the handler's alarms on clean and attacked images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import blobs
from engines import evaluator, items, network
from monai.data import Dataset

from monai_advdef import ThreatModel, Victim
from monai_advdef.detection import ConfidenceHandler, SignalHandler, calibration_error, confidence
from monai_advdef.handlers import AttackHandler, RecordHandler
from monai_advdef.records import read_records


def logits_of_probabilities(p):
    """(B, 2, *S) softmax logits whose foreground has probability p (B, *S)."""
    return torch.stack([torch.zeros_like(p), (p / (1 - p)).log()], 1)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2)])
def test_confidence_of_known_probabilities(shape):
    p = 0.02 + 0.96 * torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    softmax, sigmoid = confidence(logits_of_probabilities(p)), confidence((p / (1 - p)).log()[:, None], "sigmoid")
    flat = p.flatten(1).numpy()
    entropy = -(flat * np.log2(flat) + (1 - flat) * np.log2(1 - flat)).mean(1)
    for found in (softmax, sigmoid):
        np.testing.assert_allclose(found["confidence"], np.maximum(flat, 1 - flat).mean(1), rtol=1e-5)
        np.testing.assert_allclose(found["confidence_foreground"], [row[row > 0.5].mean() for row in flat], rtol=1e-5)
        np.testing.assert_allclose(found["entropy"], entropy, rtol=1e-5)


def test_extreme_logits_and_an_empty_prediction():
    z = torch.tensor([[1e4, -1e4]]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    found = confidence(z)
    assert found["confidence"] == 1 and found["entropy"] == 0 and math.isnan(found["confidence_foreground"])
    assert confidence(torch.full((1, 2, 3, 3), -1e4), "sigmoid")["entropy"] == 0
    uniform = confidence(torch.zeros(1, 4, 2, 2))
    assert uniform["confidence"] == pytest.approx(0.25) and uniform["entropy"] == pytest.approx(1)


def test_calibration_error_is_that_of_a_loop():
    rng = np.random.default_rng(1)
    sure, right, where = rng.uniform(0.5, 1, (3, 400)), rng.random((3, 400)) < 0.8, rng.random((3, 400)) < 0.5
    sure[0, :2] = (1.0, 0.5)
    for mask in (None, where):
        found = calibration_error(torch.from_numpy(sure), torch.from_numpy(right), None if mask is None else torch.from_numpy(mask))
        for case in range(3):
            use = np.ones(400, bool) if mask is None else mask[case]
            s, r = sure[case][use], right[case][use]
            expected = 0.0
            for b in range(15):
                inside = (s > b / 15) & (s <= (b + 1) / 15)
                expected += abs(r[inside].mean() - s[inside].mean()) * inside.mean() if inside.any() else 0
            assert float(found[case]) == pytest.approx(expected)
    assert math.isnan(calibration_error(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 2)))


def test_a_calibrated_and_an_overconfident_network():
    p = torch.rand(1, 100_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 2 + 0.5
    right = torch.rand(1, 100_000, generator=torch.Generator().manual_seed(3)) < p
    assert calibration_error(p, right) < 0.01
    assert calibration_error(torch.full_like(p, 0.99), right) == pytest.approx(0.99 - right.double().mean().item())


def readings(folder, trained, attack=None, **options):
    told = {"calibration": Dataset(items(8, seed=5)), "rate": 0.25, "goal": 0.8, **options}
    handlers = [RecordHandler(folder, ["lesion"], attack=attack, gallery=False, card=True), ConfidenceHandler(**told)]
    evaluator(network(trained), [*handlers, *([attack] if attack else [])], data=items(4), batch_size=3).run()
    return handlers[1]


def test_the_handler_records_signals_alarms_and_its_settings(tmp_path, trained):
    handler = readings(tmp_path, trained)
    readings(tmp_path, trained, AttackHandler("PGD", ThreatModel(eps=8.0), steps=5))
    table = read_records(tmp_path / "records")
    wide = table[table["class"] == "image"].pivot_table(index=["attack", "case"], columns="metric", values="value")
    victim, image = Victim(network(trained)), blobs(6, seed=2)[0][:4]
    with torch.no_grad():
        clean = confidence(victim(image))
        calibration = confidence(victim(blobs(8, seed=5)[0]))
    np.testing.assert_allclose(wide.loc["none", "confidence"], clean["confidence"], atol=1e-6)
    for name in handler.names:
        sign = 1 if name == "entropy" else -1
        values = np.sort(sign * calibration[name].numpy())[::-1]
        assert handler.thresholds[name] == pytest.approx(values[2], abs=1e-6), "2 of 8 may raise a false alarm"
        alarm = sign * clean[name].numpy() > handler.thresholds[name]
        assert wide.loc["none", f"{name}_alarm"].tolist() == alarm.astype(float).tolist()
    assert (wide["dice_goal"] == 0.8).all() and (wide["alarm_rate"] == 0.25).all()
    assert wide.loc["PGD dice", "ece_foreground"].mean() > wide.loc["none", "ece_foreground"].mean()
    card = (tmp_path / "card.html").read_text()
    assert "Does confidence warn?" in card and "false alarms on clean validation cases" in card
    readings(tmp_path, trained, goal=0.5)
    assert read_records(tmp_path / "records")["fingerprint"].nunique() == 3, "another goal is another evaluation"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "rate must lie above 0 and below 1, got 0"),
        ({"goal": 70}, "goal must lie above 0 and below 1, got 70"),
        ({"gaol": 0.7}, "ConfidenceHandler has no option 'gaol'"),
    ],
)
def test_options_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        ConfidenceHandler(calibration=[], **options)


def test_no_case_to_calibrate_on_and_no_signal(trained):
    with pytest.raises(ValueError, match="a threshold needs clean cases"):
        evaluator(network(trained), [ConfidenceHandler(calibration=[])], data=items(1)).run()
    with pytest.raises(TypeError, match="SignalHandler reads no signal"):
        SignalHandler(calibration=[]).signals(None, None)  # type: ignore[arg-type]


def test_a_sigmoid_head(trained):
    class OneChannel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(trained)

        def forward(self, x):
            z = self.inner(x)
            return z[:, 1:] - z[:, :1]

    image, label = blobs(2, seed=2)
    victim, handler = Victim(OneChannel(), activation="sigmoid"), ConfidenceHandler(calibration=[], activation="sigmoid")
    with torch.no_grad():
        found = handler.readings(victim, image, label)
        same = ConfidenceHandler(calibration=[]).readings(Victim(network(trained)), image, label)
    for name, values in found.items():
        torch.testing.assert_close(values, same[name], rtol=1e-4, atol=1e-5)
