"""Messages of native libraries on standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aocr
from tests.conftest import World, in_process, messages
from tests.drawing import encoded, word


def run_after_messages(*lines: str) -> tuple[int, str]:
    """Runs lines of Python after many native messages; returns exit code and standard error."""
    code = ["import os, signal, sys", "from aocr.runtime import startup",
            "with startup.native_stderr_hidden():",
            "    for _ in range(20000):", "        try: os.write(2, b'native\\n')",
            "        except BlockingIOError: pass", *(f"    {line}" for line in lines)]
    process = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True,
                             text=True, cwd=Path(aocr.__file__).parents[1], check=False)
    return process.returncode, process.stderr


def test_native_messages_are_hidden_and_those_of_python_are_not() -> None:
    assert run_after_messages("print('é', file=sys.stderr)") == (0, "é\n")


def test_native_messages_are_shown_after_an_error() -> None:
    code, stderr = run_after_messages("raise ValueError('reason')")
    assert code == 1
    assert stderr.startswith("native\nnative\n")
    assert stderr.endswith("ValueError: reason\n")


def test_a_crash_is_reported() -> None:
    code, stderr = run_after_messages("os.kill(os.getpid(), signal.SIGSEGV)")
    assert code == -11
    assert stderr.startswith("Fatal Python error: Segmentation fault")


@pytest.mark.parametrize("code", [
    "from aocr.cli import main; main._check_paths(argparse.Namespace(path='ram://a'))",
    "from aocr.images import files\ntry: files.read_image_file('ram://a', 1)\n"
    "except FileNotFoundError: pass"])
def test_tensorflow_is_imported_for_remote_paths_without_its_messages(code: str) -> None:
    process = subprocess.run([sys.executable, "-c", f"import argparse\n{code}"], check=True,
                             capture_output=True, text=True, cwd=Path(aocr.__file__).parents[1])
    assert process.stderr == ""


@pytest.mark.slow
def test_messages_of_image_decoders_are_hidden(world: World, tmp_path: Path) -> None:
    image = encoded(word("A", (40, 30)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(image[:image.index(b"\xff\xda")] + b"\xff\xd9")
    process = in_process("predict", "cut.jpg", str(world.images[0]), "--model-dir",
                         str(world.model_dir), cwd=tmp_path)
    assert process.returncode == 1
    assert len(messages(process.stderr)) == 3
    assert "Result: error while opening file cut.jpg. " in process.stderr
