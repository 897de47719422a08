"""Other people's attacks stay in their balls and do what their papers say; rows are never taken for those of other weights."""

from __future__ import annotations

import argparse

import pandas as pd
import pytest
import torch

from benchmarks import published, strength
from monai_advdef import ThreatModel
from monai_advdef.objectives import objective

ATTACKS = {
    "SEA": published.sea,
    "SegPGD": published.descent(published.segpgd, 2.55),
    "CosPGD": published.descent(published.cospgd, 2.55),
}


class Looking(strength.Subject):
    """A subject that needs no bundle."""

    def __init__(self, victim):
        self.victim = victim


@pytest.mark.parametrize("name", ATTACKS)
def test_published_attacks_stay_in_the_ball_and_lower_dice(victim, cases, name):
    image, label = cases[0], cases[1].long()
    threat, subject = ThreatModel(eps=8.0), Looking(victim)
    attacked = ATTACKS[name](subject.look(label), image, label, strength._Ball(threat, image), 30)
    assert float(threat.around(image).size(attacked).max()) <= 8 * (1 + 1e-6)
    assert float(subject.dice(attacked, label).mean()) < float(subject.dice(image, label).mean()) - 0.05


@pytest.mark.parametrize(
    ("theirs", "ours"), [(published.masked, "masked_cross_entropy"), (published.jensen_shannon, "jensen_shannon")]
)
def test_their_losses_are_ours_written_twice(theirs, ours):
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(3, 4, 6, 5, generator=generator), torch.randint(4, (3, 1, 6, 5), generator=generator)
    torch.testing.assert_close(theirs(logits, label, 0.0), objective(ours)(logits, label), atol=1e-5, rtol=1e-5)


def test_rows_of_other_weights_are_measured_anew(victim, cases, tmp_path, monkeypatch, capsys):
    subject = Looking(victim)
    subject.image, subject.label, subject.batch, subject.threat, subject.of = (
        list(cases[0]),
        list(cases[1].long()),
        4,
        ThreatModel(),
        "a",
    )
    monkeypatch.setattr(strength, "Subject", lambda options: subject)
    out = tmp_path / "rows.csv"
    options = argparse.Namespace(
        out=str(out), name="tiny", bundle="b", section="validation", attacks=["pgd", "suite smoke"], passes=[3], batch=4
    )
    for _ in range(2):
        strength.measure(options)
    rows = pd.read_csv(out)
    assert len(rows) == 3 * len(cases[0]) and set(rows["attack"]) == {"clean", "pgd", "suite smoke"}
    subject.of = "b"
    strength.measure(options)
    assert len(pd.read_csv(out)) == 2 * len(rows)
    strength.table([str(out)])
    told = capsys.readouterr().out
    mean = rows.loc[rows["attack"] == "pgd", "dice"].mean()
    assert "tiny (a)" in told and "tiny (b)" in told and f"| pgd | 3 | {mean:.3f} [" in told
