"""What libraries write to standard error, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aocr
from tests.conftest import World, in_process, messages
from tests.drawing import encoded, word


def told(*lines: str) -> tuple[int, str]:
    """Exit code and standard error of a process that chatters, then runs these lines."""
    code = ["import os, signal, sys", "from aocr.runtime import startup",
            "with startup.native_stderr_hidden():",
            "    for _ in range(20000):", "        try: os.write(2, b'chatter\\n')",
            "        except BlockingIOError: pass", *(f"    {line}" for line in lines)]
    found = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True,
                           cwd=Path(aocr.__file__).parents[1], check=False)
    return found.returncode, found.stderr


def test_libraries_are_not_heard_and_python_is() -> None:
    assert told("print('é told', file=sys.stderr)") == (0, "é told\n")


def test_what_libraries_said_is_shown_after_a_failure() -> None:
    code, said = told("raise ValueError('ours')")
    assert code == 1
    assert said.startswith("chatter\nchatter\n")
    assert said.endswith("ValueError: ours\n")


def test_a_crash_is_told() -> None:
    code, said = told("os.kill(os.getpid(), signal.SIGSEGV)")
    assert code == -11
    assert said.startswith("Fatal Python error: Segmentation fault")


@pytest.mark.slow
def test_decoders_of_images_are_not_heard(world: World, tmp_path: Path) -> None:
    image = encoded(word("A", (40, 30)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(image[:image.index(b"\xff\xda")] + b"\xff\xd9")
    found = in_process("predict", "cut.jpg", str(world.images[0]), "--model-dir",
                       str(world.model_dir), cwd=tmp_path)
    assert found.returncode == 1
    assert len(messages(found.stderr)) == 3
    assert "Result: error while opening file cut.jpg. " in found.stderr
