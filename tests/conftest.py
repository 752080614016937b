"""Fixtures: a small dataset and a model, made by the commands themselves."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two libraries would compete for the cores
if "PYTEST_XDIST_WORKER" in os.environ:  # and so would the workers of pytest-xdist
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import hypothesis
import pytest
from PIL import Image, ImageDraw, ImageFont

import aocr
from aocr.cli.main import main
from aocr.runtime.console import log

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

hypothesis.settings.register_profile("any machine", deadline=None)  # on slow machines too
hypothesis.settings.load_profile("any machine")

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} root  (INFO    |WARNING |ERROR   ) "
Command = Callable[..., tuple[int, str]]
WORDS = ("HELLO", "WORLD", "A1", "B22", "C333", "TEN", "42", "X")


@dataclass(frozen=True)
class World:
    """Paths of a small dataset and a model.

    Attributes:
        root: The directory of all files, to which the annotations are relative.
        images: The image files, one for each of `WORDS`.
        annotations: The annotation file.
        records: The TFRecords file, with comments.
        model_dir: A model of two steps on the records.
        log: The log of `dataset` and `train`.
    """

    root: Path
    images: list[Path]
    annotations: Path
    records: Path
    model_dir: Path
    log: Path


def draw(word: str, path: Path, size: tuple[int, int] | None = None) -> Path:
    """Draws a word, dark on light, in the format of the path's extension."""
    font = ImageFont.load_default(24)
    image = Image.new("L", size or (int(font.getlength(word)) + 12, 32), 230)
    ImageDraw.Draw(image).text((6, 2), word, fill=20, font=font)
    image.save(path)
    return path


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Lines logged during a test, without time and level."""
    lines: list[str] = []
    handler, level = _Lines(lines), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Eight images with words, their records, and a model trained for two steps."""
    root = tmp_path_factory.mktemp("world")
    (root / "images").mkdir()
    images = [draw(word, root / "images" / f"{n}{('.png', '.jpg')[n % 2]}")
              for n, word in enumerate(WORDS)]
    lines = [f"images/{path.name} {word}" for path, word in zip(images, WORDS, strict=True)]
    annotations = root / "annotations.txt"
    annotations.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = World(root, images, annotations, root / "words.tfrecords", root / "checkpoints",
                 root / "world.log")
    log = ["--log-path", str(made.log)]
    assert main(["dataset", str(annotations), str(made.records), "--save-filename", *log]) == 0
    assert main(["train", str(made.records), "--model-dir", str(made.model_dir), "--batch-size",
                 "4", "--max-steps", "2", "--steps-per-checkpoint", "1", *log]) == 0
    return made


@pytest.fixture
def command(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; returns its exit code and what it logged."""

    def run(*words: object, model: bool = True) -> tuple[int, str]:
        argv = [str(word) for word in words]
        log = tmp_path / "test.log"
        log.unlink(missing_ok=True)
        if model and argv[0] != "dataset" and "--model-dir" not in argv:
            argv += ["--model-dir", str(world.model_dir)]
        capsys.readouterr()
        code = main([*argv, "--log-path", str(log)])
        logged = log.read_text(encoding="utf-8")
        # The log also goes to standard error; standard output is for results.
        assert capsys.readouterr().err == logged
        return code, logged

    return run


def messages(logged: str) -> list[str]:
    """Returns the lines without time and level, which every line must have."""
    lines = logged.splitlines()
    assert all(re.match(STAMP, line) for line in lines), logged
    return [re.sub(STAMP, "", line) for line in lines]


def in_process(*words: str, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `python -m aocr` in a separate process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, "-m", "aocr", *words], cwd=cwd, input=text,
                          capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="session")
def exported(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an export of the model, as version 3."""
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", str(folder), "--model-dir", str(world.model_dir), "--model-version",
                 "3", "--log-path", str(world.log)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; its tests are skipped where there is none.

    It lives no longer than a module, as playwright's event loop occupies the thread meanwhile.
    """
    pytest.importorskip("playwright")
    from tests.browser import launch

    with launch() as running:
        yield running


@pytest.fixture
def page_problems() -> list[str]:
    """What `tests.browser.watch` has seen; a test removes what it expects."""
    return []


@pytest.fixture
def open_page(browser: Browser, page_problems: list[str]) -> Iterator[Callable[..., Page]]:
    """Opens a URL with options of `Browser.new_context`; no page may have problems at the end."""
    from tests.browser import watch

    def open_url(url: str, **options: Any) -> Page:
        page = browser.new_context(**options).new_page()
        watch(page, page_problems)
        page.goto(url)
        return page

    yield open_url
    for context in browser.contexts:
        context.close()
    assert not page_problems


def file_contents(directory: Path) -> dict[Path, bytes]:
    """Returns the contents of all files in a directory and its subdirectories."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Makes the operating system refuse to write larger files, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
