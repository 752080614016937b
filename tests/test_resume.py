"""A killed and resumed training is the uninterrupted one."""

from __future__ import annotations

import os

import pytest

from tests import kills


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_it_had_not_been() -> None:
    wanted = 20 if os.environ.get("AOCR_FULL") else 2
    outcome = kills.run(wanted)
    assert outcome.kills == wanted
    assert outcome.within_checkpoint >= wanted // 2
    assert outcome.steps > kills.STEPS
    assert outcome.largest <= 1e-5
