"""Attack files name no head: of a network that was made elsewhere its inferer tells it."""

from __future__ import annotations

import pytest
from monai.inferers import SimpleInferer
from torch import nn

from monai_advdef import PreparedInferer
from monai_advdef.handlers.options import VictimSettings


@pytest.mark.parametrize(("told", "taken"), [("sigmoid", "sigmoid"), ("softmax", "softmax"), (None, "softmax")])
def test_an_attack_takes_the_head_that_the_inferer_tells(told: str | None, taken: str) -> None:
    inferer = PreparedInferer(SimpleInferer(), nn.Identity(), activation=told)
    assert VictimSettings().victim(nn.Conv2d(1, 2, 1), inferer, "cpu").activation == taken


def test_without_one_the_settings_count() -> None:
    assert VictimSettings(activation="sigmoid").victim(nn.Conv2d(1, 2, 1), SimpleInferer(), "cpu").activation == "sigmoid"
