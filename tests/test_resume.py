"""Training that is killed or stopped, and resumed, equals uninterrupted training."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests import kills


@pytest.mark.slow
def test_killed_and_resumed_training_equals_uninterrupted_training() -> None:
    count = 20 if os.environ.get("AOCR_FULL") else 2
    outcome = kills.run(count)
    assert outcome.kills == count
    assert outcome.within_checkpoint >= count // 2
    assert outcome.steps > kills.STEPS
    assert outcome.largest <= 1e-5


@pytest.mark.slow
def test_repeated_sigterms_do_not_cost_the_final_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = kills.start(kills.dataset(tmp_path), tmp_path / "m", log, "--max-steps", "1000",
                          "--steps-per-checkpoint", "1000")

    def wait_for(text: str) -> None:
        while not log.exists() or text not in log.read_text(encoding="utf-8"):
            assert process.poll() is None

    wait_for("Step 10:")  # with 8 batches, batch norm is recalibrated, which takes a while
    process.send_signal(signal.SIGTERM)
    wait_for("Global step ")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    text = log.read_text(encoding="utf-8")
    assert "SIGTERM: stopping after this step." in text
    assert text.count("SIGTERM again: waiting up to 10 seconds for the checkpoint") == 1
    last_step = len(re.findall(r" Step \d+:", text))
    assert f"Saving the model at step {last_step}." in text
    assert (tmp_path / "m" / f"model.ckpt-{last_step}.index").exists()
