"""The start value in the moving averages of the original's checkpoints, and `--debias`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aocr.checkpoints import loader
from aocr.checkpoints.choice import CheckpointChoice
from aocr.errors import AocrError
from tests import originals
from tests.originals import LIMITS, OriginalModel


@pytest.mark.parametrize(("step", "reported"), [(300, True), (100, False), (5000, False),
                                            (None, False)])
def test_averages_that_contain_their_start_value_are_reported(
        tmp_path: Path, logged: list[str], step: int | None, reported: bool) -> None:
    originals.write(tmp_path, originals.variables(OriginalModel(step=step)))
    loader.load(str(tmp_path), LIMITS)
    lines = [line for line in logged if "--debias" in line]
    assert len(lines) == reported
    if reported:
        assert "contain their start value: 0.049 of 1 at step 300" in lines[0]


@pytest.mark.parametrize("counter", [np.int32(-1 << 31), np.float32(9.0), np.array([9], np.int32)])
def test_an_invalid_step_counter_is_ignored(tmp_path: Path, counter: Any, logged: list[str]
                                            ) -> None:
    values = originals.variables(OriginalModel())
    originals.write(tmp_path, {**values, "Variable": np.asarray(counter)})
    loader.load(str(tmp_path), LIMITS)
    assert "no step counter" in logged[-1]


def test_a_64_bit_step_counter_is_read(tmp_path: Path, logged: list[str]) -> None:
    values = originals.variables(OriginalModel())
    originals.write(tmp_path, {**values, "Variable": np.array(900, np.int64)})
    loader.load(str(tmp_path), LIMITS)
    assert "step 900" in logged[0]


@pytest.mark.parametrize("step", [300, 700, 5000])
def test_debias_removes_the_start_value(tmp_path: Path, step: int, logged: list[str]) -> None:
    values = originals.variables(OriginalModel(step=step, norm="batch_normalization"))
    originals.write(tmp_path, values)
    model = loader.load(str(tmp_path), LIMITS, CheckpointChoice(debias=True)).model
    share = 0.99**step
    assert sum("Removed the start value" in line for line in logged) == 1
    for n in (3, 5, 7):
        norm = model.cnn.convs[n - 1].norm
        assert norm is not None
        name = f"conv_conv{n}/batch_normalization/moving"
        np.testing.assert_allclose(norm.moving_mean, values[f"{name}_mean"] / (1 - share),
                                   rtol=1e-5)
        np.testing.assert_allclose(
            norm.moving_variance,
            np.maximum((values[f"{name}_variance"] - share) / (1 - share), 0), rtol=1e-3,
            atol=1e-6)


@pytest.mark.parametrize("step", [None, 0, 100])
def test_debias_is_refused_if_the_step_counter_does_not_fit(tmp_path: Path, step: int | None
                                                          ) -> None:
    originals.write(tmp_path, originals.variables(OriginalModel(step=step)))
    with pytest.raises(AocrError, match="leave --debias out"):
        loader.load(str(tmp_path), LIMITS, CheckpointChoice(debias=True))
