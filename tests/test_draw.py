"""Tests of the generator of word images, ``datasets/draw.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageFont

from tests import draw_script

ROOT = Path(__file__).resolve().parents[1]
draw = draw_script.load()


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty directory the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> int:
    status: int = draw.main(arguments)
    return status


def _pairs(directory: str, part: str) -> list[tuple[str, str]]:
    text = Path(directory, f"annotations-{part}.txt").read_text(encoding="utf-8")
    pairs = []
    for line in text.splitlines():
        path, label = line.split(" ")
        pairs.append((path, label))
    return pairs


def _labels(directory: str, part: str) -> list[str]:
    return [label for _, label in _pairs(directory, part)]


def _contents(directory: str) -> dict[str, bytes]:
    files = (path for path in Path(directory).rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    return printed.err


# Images


@pytest.mark.parametrize(("color", "mode"), [(False, "L"), (True, "RGB")])
def test_an_image_has_the_expected_mode_size_and_contrast(color: bool, mode: str) -> None:
    for number in range(40):
        image = draw.draw_word("W0RD", Random(number), color)
        assert image.mode == mode
        assert 24 <= image.height <= 48
        assert image.height < image.width < 6 * image.height
        low, high = image.convert("L").getextrema()
        assert high - low >= 60


def test_the_state_of_the_generator_determines_the_image() -> None:
    first = draw.draw_word("ABC", Random(1))
    assert draw.draw_word("ABC", Random(1)).tobytes() == first.tobytes()
    assert draw.draw_word("ABC", Random(2)).tobytes() != first.tobytes()
    assert draw.draw_word("ABD", Random(1)).tobytes() != first.tobytes()


def test_some_images_are_dark_on_light_and_some_the_reverse() -> None:
    corners = [draw.draw_word("X", Random(number)).getpixel((0, 0)) for number in range(60)]
    dark = sum(corner < 128 for corner in corners)
    assert 5 <= dark <= 30


@pytest.mark.parametrize("text", ["I", ".", "gjpqy", "W" * 64, "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"])
def test_any_text_of_known_characters_can_be_drawn(text: str) -> None:
    image = draw.draw_word(text, Random(0))
    low, high = image.getextrema()
    assert high - low >= 40


# The set


def test_both_lists_and_readable_images_are_written(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("some/set", "--count", "12", "--test-count", "5") == 0
    assert capsys.readouterr().out == "some/set: 12 images to train on, 5 to test on\n"
    training, testing = _pairs("some/set", "training"), _pairs("some/set", "testing")
    assert (len(training), len(testing)) == (12, 5)
    paths = [path for path, _ in training + testing]
    assert len(set(paths)) == 17
    assert paths[0] == "some/set/images/000001.png"
    assert paths[4] == "some/set/images/000005.jpg"
    assert set(_contents("some/set")) == {
        "annotations-training.txt",
        "annotations-testing.txt",
        *(Path(path).relative_to("some/set").as_posix() for path in paths),
    }
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.format == ("JPEG" if path.endswith(".jpg") else "PNG")


def test_an_absolute_directory_gives_absolute_paths(workdir: Path) -> None:
    directory = (workdir / "set").as_posix()
    assert _run(directory, "--count", "1", "--test-count", "0") == 0
    assert _pairs(directory, "training")[0][0] == f"{directory}/images/000001.png"
    assert _pairs(directory, "testing") == []


def test_words_follow_the_options(workdir: Path) -> None:
    options = ("--charset", "abC", "--min-length", "2", "--max-length", "4")
    assert _run("set", "--count", "20", "--test-count", "10", *options) == 0
    labels = _labels("set", "training") + _labels("set", "testing")
    assert set("".join(labels)) == set("abC")
    assert {len(label) for label in labels} == {2, 3, 4}


def test_default_words_are_upper_case_and_digits() -> None:
    words = list(draw.choose_words(draw.build_parser().parse_args(["x"])))
    assert len(words) == 3300
    assert set("".join(words)) == set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert {len(word) for word in words} == {3, 4, 5, 6}


def test_testing_words_are_not_in_training(workdir: Path) -> None:
    options = ("--charset", "aAb", "--min-length", "1", "--max-length", "3")
    assert _run("set", "--count", "10", "--test-count", "4", *options) == 0
    labels = _labels("set", "training") + _labels("set", "testing")
    assert len({label.upper() for label in labels}) == 14


def test_the_test_part_has_the_same_share_of_every_length(workdir: Path) -> None:
    options = ("--charset", "abcdefgh", "--min-length", "1", "--max-length", "3")
    assert _run("set", "--count", "300", "--test-count", "60", *options) == 0
    training, testing = (_labels("set", part) for part in ("training", "testing"))
    assert (len(training), len(testing)) == (300, 60)
    for length in (1, 2, 3):
        tested = sum(len(label) == length for label in testing)
        trained = sum(len(label) == length for label in training)
        assert tested == pytest.approx((tested + trained) * 60 / 360, abs=1)


def test_the_last_words_of_one_length_are_the_test_part(workdir: Path) -> None:
    options = ("--min-length", "4", "--max-length", "4", "--shared", "2")
    assert _run("set", "--count", "8", "--test-count", "5", *options) == 0
    numbers = [
        [int(Path(path).stem) for path, _ in _pairs("set", part)]
        for part in ("training", "testing")
    ]
    assert numbers == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 9, 10, 11]]


def test_the_seed_determines_the_files(workdir: Path) -> None:
    size = ("--count", "6", "--test-count", "3")
    for _ in range(2):  # the second run overwrites what the first one wrote
        assert _run("one", *size, "--seed", "7") == 0
    first = _contents("one")
    assert _run("one", *size, "--seed", "7") == 0
    assert _contents("one") == first
    assert _run("one", *size, "--seed", "8") == 0
    second = _contents("one")
    assert second.keys() == first.keys()
    assert all(second[name] != first[name] for name in first)


def test_an_image_does_not_depend_on_the_number_of_images(workdir: Path) -> None:
    assert _run("few", "--count", "3", "--test-count", "2") == 0
    assert _run("many", "--count", "8", "--test-count", "4") == 0
    few, many = _contents("few"), _contents("many")
    for name in filter(lambda name: name.startswith("images/"), few):
        assert few[name] == many[name]


# Words from a file


def test_words_file(workdir: Path) -> None:
    text = "\ufeffone\ntwo\n\n  three \nOne\nfour\r\nfive\n"
    Path("words.txt").write_text(text, encoding="utf-8", newline="")
    options = ("--words", "words.txt", "--names", "word", "--shared", "2")
    assert _run("set", "--count", "4", "--test-count", "3", *options) == 0
    training, testing = _pairs("set", "training"), _pairs("set", "testing")
    assert training[:2] == [("set/images/one.png", "one"), ("set/images/two.png", "two")]
    assert testing[:2] == training[:2]
    labels = _labels("set", "training") + _labels("set", "testing")[2:]
    assert sorted(labels) == ["five", "four", "one", "three", "two"]


def test_the_committed_set_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    training, testing = _pairs("datasets", "training"), _pairs("datasets", "testing")
    assert (len(training), len(testing)) == (30, 12)
    both = [("datasets/images/hello.png", "hello"), ("datasets/images/world.png", "world")]
    assert training[:2] == testing[:2] == both
    assert len({*training, *testing}) == 40
    for path, label in training + testing:
        assert Path(path).stem == label
        with Image.open(path) as image:
            image.load()


def test_the_documented_command_gives_the_annotations_of_the_committed_set(workdir: Path) -> None:
    assert draw.__doc__ is not None
    command = draw.__doc__.split("python datasets/draw.py datasets ")[1].split("\n\n")[0]
    os.mkdir("datasets")
    Path("datasets/words.txt").write_bytes((ROOT / "datasets/words.txt").read_bytes())
    assert _run("datasets", *command.replace("\\\n", " ").split()) == 0
    for part in ("training", "testing"):
        name = f"datasets/annotations-{part}.txt"
        assert Path(name).read_bytes() == (ROOT / name).read_bytes()


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a file"], "white space"),
        (["file"], "file is not a directory"),
        (["file/set"], "file"),
        (["set", "--count", "0"], "--count"),
        (["set", "--count", str(10**30)], "--count"),
        (["set", "--test-count", "-1"], "--test-count"),
        (["set", "--shared", "301"], "--shared"),
        (["set", "--min-length", "0"], "--min-length"),
        (["set", "--min-length", "5", "--max-length", "4"], "--max-length"),
        (["set", "--max-length", "65"], "--max-length"),
        (["set", "--charset", ""], "--charset must not be empty"),
        (["set", "--charset", "a b"], "--charset holds white space"),
        (["set", "--charset", "ab\u4e2d"], "'\\u4e2d'"),
        (["set", "--charset", "ab", "--max-length", "3"], "only 8 were found"),
        (["set", "--words", "missing.txt"], "missing.txt"),
        (["set", "--words", "empty.txt"], "only 0 were found"),
        (["set", "--words", "latin.txt"], "latin.txt is not UTF-8"),
        (["set", "--words", "spaced.txt"], "white space"),
        (["set", "--words", "long.txt"], "longer than 64"),
        (
            ["set", "--words", "dots.txt", "--names", "word", "--count", "1", "--test-count", "0"],
            "'../up'",
        ),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    workdir: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    for name, content in {
        "file": b"mine",
        "empty.txt": b"\n",
        "latin.txt": b"caf\xe9\n",
        "spaced.txt": b"two words\n",
        "long.txt": b"x" * 65,
        "dots.txt": b"../up\n",
    }.items():
        Path(name).write_bytes(content)
    assert _run(*options) == 1
    assert message in _error(capsys)
    assert Path("file").read_bytes() == b"mine"
    assert not Path("set").exists()


@pytest.mark.parametrize("fault", [TypeError("takes no size"), ImportError("no FreeType"), None])
def test_pillow_without_a_scalable_font_is_an_error(
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception | None,
) -> None:
    def load_default(size: float) -> ImageFont.ImageFont:
        if fault is not None:
            raise fault
        return ImageFont.ImageFont()

    font_module = sys.modules["word_image"]
    font_module.load_font.cache_clear()
    font_module.has_glyph.cache_clear()
    monkeypatch.setattr(ImageFont, "load_default", load_default)
    assert _run("set") == 1
    assert "Pillow 10.1" in _error(capsys)
