"""Drawn images: fonts, sizes, the same seed, shards, the command."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageFont

cv2 = pytest.importorskip("cv2", reason="drawing needs opencv-python-headless")
pytest.importorskip("fontTools", reason="the check of glyphs needs fonttools")

from datasets.drawn import __main__ as command  # noqa: E402
from datasets.drawn import writer  # noqa: E402
from datasets.drawn.alphabet import ALPHABET  # noqa: E402
from datasets.drawn.catalogue import limit_per_family, read_packages  # noqa: E402
from datasets.drawn.fonts import (  # noqa: E402
    Face,
    FontError,
    bits,
    fitting_size,
    load_catalogue,
    save_catalogue,
)
from datasets.drawn.geometry import View, framed  # noqa: E402
from datasets.drawn.glyphs import drawable  # noqa: E402
from datasets.drawn.lettering import Spacing, draw, with_box  # noqa: E402
from datasets.drawn.sample import Drawer, Sample, Settings  # noqa: E402
from datasets.drawn.styles import STYLES  # noqa: E402
from datasets.drawn.words import plain_vocabulary  # noqa: E402
from datasets.drawn.writer import draw_all, shard_paths, write  # noqa: E402

WORDS = plain_vocabulary(("words", "of", "many", "reading", "letters", "street", "number"))


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Face:
    """Pillow's own font, as a file."""
    font = ImageFont.load_default(20)
    if not isinstance(font, ImageFont.FreeTypeFont):
        pytest.skip("this Pillow has no scalable font of its own")
    path = tmp_path_factory.mktemp("fonts") / "pillow.ttf"
    path.write_bytes(font.font_bytes)
    return Face(str(path), "Pillow", "sans", drawable(path, ALPHABET), fitting_size(path))


@pytest.fixture(scope="module")
def drawer(face: Face) -> Drawer:
    return Drawer(Settings(seed=3, longest=32), [face], WORDS)


def test_only_glyphs_that_the_font_has(face: Face) -> None:
    assert set("AZaz09 ,.“”") <= set(face.characters)
    assert "₿" not in face.characters
    assert face.coverage & bits("Az") == bits("Az")
    assert not bits("☃") & bits(ALPHABET)


def test_images_have_the_promised_sizes(drawer: Drawer, face: Face) -> None:
    for number in range(300):
        sample = drawer.draw(number)
        image = Image.open(io.BytesIO(sample.image))
        assert image.mode == "L"
        assert 15 <= image.height <= 48
        assert 8 <= image.width <= 20.5 * image.height
        assert 1 <= len(sample.label) <= 32
        assert set(sample.label) <= set(face.characters)


def test_wide_images_are_replaced_by_narrow_ones(drawer: Drawer, face: Face) -> None:
    narrow = Drawer(Settings(seed=3, longest=32, widest=208), [face], WORDS)

    def width(sample: Sample) -> float:
        image = Image.open(io.BytesIO(sample.image))
        return image.width / image.height * 32

    for number in range(30):
        any_width, limited = drawer.draw(number), narrow.draw(number)
        assert width(limited) <= 208
        assert (limited == any_width) == (width(any_width) <= 208)


def test_a_width_that_no_image_has_is_an_error(face: Face) -> None:
    with pytest.raises(FontError, match="at most 3 pixels wide"):
        Drawer(Settings(widest=3), [face], WORDS).draw(0)


@pytest.mark.parametrize("style", STYLES)
def test_the_ink_is_seen(face: Face, style: str) -> None:
    drawer = Drawer(Settings(seed=1, styles=(style,)), [face], WORDS)
    for number in range(40):
        pixels = np.asarray(Image.open(io.BytesIO(drawer.draw(number).image)))
        assert np.ptp(pixels) > 20, number


def test_another_seed_or_number_is_another_image(drawer: Drawer, face: Face) -> None:
    again = Drawer(Settings(seed=3, longest=32), [face], WORDS)
    other = Drawer(Settings(seed=4, longest=32), [face], WORDS)
    assert again.draw(5) == drawer.draw(5)
    assert other.draw(5).image != drawer.draw(5).image != drawer.draw(6).image


def test_any_number_of_processes_draws_the_same(face: Face) -> None:
    one, two = (list(draw_all(8, jobs, Settings(seed=2), [face], WORDS)) for jobs in (1, 2))
    assert one == two


def test_no_fonts_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FontError, match="no fonts"):
        Drawer(Settings(), [], WORDS)
    with pytest.raises(FontError, match="install_fonts"):
        load_catalogue(tmp_path)
    assert command.main(["--sheet", str(tmp_path / "x.png"), "--fonts", str(tmp_path)]) == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_drawing_process_is_reported(face: Face, tmp_path: Path, jobs: int) -> None:
    pytest.importorskip("tensorflow")
    settings = Settings(widest=3, styles=("captcha",))
    with pytest.raises(FontError, match="larger --max-width"):
        write(tmp_path / "set", 1, 2, draw_all(2, jobs, settings, [face], WORDS))
    assert not list(tmp_path.iterdir())


def test_the_catalogue_is_read_as_written(face: Face) -> None:
    folder = Path(face.path).parent
    save_catalogue(folder, [face])
    assert load_catalogue(folder) == [face]


def test_packages_and_the_limit_of_a_family() -> None:
    packages = read_packages("# comment\ndebian fonts-x sans A*,B*\n\nnpm y serif\n")
    assert [package.patterns for package in packages] == [("A*", "B*"), ("*",)]
    faces = [Face(f"{n}.ttf", "x", "sans", "a", 20) for n in range(30)]
    assert len(limit_per_family(faces)) == 8


def test_spacing_widens(face: Face) -> None:
    plain, wide = (draw("wide", face, spacing, Random(0))
                   for spacing in (Spacing(), Spacing(letters=0.5)))
    assert wide.box.width > plain.box.width * 1.3
    assert len(wide.spans) == 4


def test_a_frame_shows_all_ink(face: Face) -> None:
    line = draw("Frame", face, Spacing(), Random(0))
    for view in (View(), View(angle=5), View(slant=0.3), View(bend=0.4), View(bend=-0.4)):
        ink = framed(line.mask, line.box, view, 40, Random(0))
        edges = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert edges.max() < 0.1
        assert ink.max() > 0.9


def test_a_box_surrounds_the_ink_without_touching_it(face: Face) -> None:
    line = draw("Box", face, Spacing(), Random(0))
    left, top, right, bottom = (round(side) for side in line.box)
    for seed in range(50):
        boxed = with_box(line, Random(seed))
        added = boxed.mask != line.mask
        assert not added[top - 1:bottom + 1, left - 1:right + 1].any()
        outside = (added[:top], added[bottom:], added[:, :left], added[:, right:])
        assert all(part.any() for part in outside)
        assert boxed.box.width >= line.box.width


def test_shards_hold_all_images(face: Face, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    summary = write(tmp_path / "set", 3, 10, draw_all(10, 1, Settings(), [face], WORDS))
    assert summary.images == 10
    assert summary.paths == shard_paths(tmp_path / "set", 3)
    assert sorted(tmp_path.iterdir()) == summary.paths
    labels = []
    for path in summary.paths:
        for record in tf.data.TFRecordDataset(str(path)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            assert features["image"].bytes_list.value[0][:2] == b"\xff\xd8"
            labels.append(features["label"].bytes_list.value[0].decode())
    assert labels == [sample.label for sample in draw_all(10, 1, Settings(), [face], WORDS)]


def test_one_file_has_a_plain_name() -> None:
    assert shard_paths(Path("a/set.tfrecords"), 1) == shard_paths(Path("a/set"), 1)
    assert writer.shard_paths(Path("a/set"), 2)[1].name == "set-00001-of-00002.tfrecords"


def test_the_command(face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "load_vocabulary", lambda seed: WORDS)
    save_catalogue(Path(face.path).parent, [face])
    fonts = ["--fonts", str(Path(face.path).parent), "--jobs", "1", "--count", "6"]
    assert command.main([str(tmp_path / "set"), *fonts]) == 0
    assert "6 images of 1 fonts in 1 files" in capsys.readouterr().out
    assert command.main(["--sheet", str(tmp_path / "sheet.png"), *fonts]) == 0
    assert Image.open(tmp_path / "sheet.png").width > 1000
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / "set"), "--shards", "9", *fonts])
