"""The code's form: ruff, mypy, and what the project promises of its own layout."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "aocr").rglob("*.py"))


@pytest.mark.parametrize("words", [["ruff", "check", "."], ["mypy", "aocr", "tests"]])
def test_the_checkers_are_content(words: list[str]) -> None:
    found = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True,
                           text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_rooms_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 9, node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_room_catches_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            quiet_import = path.stem == "quiet" and caught == "BaseException"
            assert quiet_import or caught not in ("everything", "Exception", "BaseException")


def test_imports_only_point_down() -> None:
    order = ["__main__", "cli", "arguments", "train", "folder", "store", "trainer", "averaging",
             "validate", "transfer", "evaluate", "results", "names", "server", "app", "rpc",
             "messages", "guard", "desk", "batching", "versions", "servable", "inspection",
             "monitoring", "rest", "refusal", "export", "warmup", "recognizer", "reader",
             "visualize", "dataset", "shards", "sizes", "annotations", "sets", "skips", "batches",
             "records", "columns", "scan", "examples", "containers", "checkpoint", "configfile",
             "original", "network", "decoder", "encoder", "recurrence", "cnn", "packing", "layers",
             "cluster", "replicas", "adadelta", "scaling", "metrics", "events", "lock",
             "imagefiles", "files", "stopping", "image", "headers", "formats", "glance", "ahead",
             "charmap", "console", "quiet", "config", "options", "errors"]
    for path in MODULES:
        if path.stem == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aocr"):
                rooms = [(node.module or "").split(".")[-1]]
                if rooms[0] in ("aocr", "serve"):
                    rooms = [alias.name for alias in node.names if alias.name in order]
                for room in rooms:
                    if room != "model":
                        assert order.index(path.stem) < order.index(room), (path.stem, room)
