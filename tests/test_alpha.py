"""Transparent images are seen as people see them, on every way in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aocr.checkpoints import config_file
from aocr.config import ModelConfig
from aocr.errors import AocrError
from aocr.images import preprocessing, transcoding
from aocr.inference.graph import RecognitionGraph
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from tests.drawing import encoded, opened, png, word

SIZE = (60, 24)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
CONFIG = ModelConfig(attn_num_hidden=8, attn_num_layers=1, alphabet="AB")
Color = tuple[int, int, int]


def text(color: Color, smooth: bool = True) -> Image.Image:
    """A word on a transparent background, whose invisible pixels have the color of the letters."""
    mask = Image.new("L" if smooth else "1", SIZE)
    ImageDraw.Draw(mask).text((2, 1), "Ab1", 255, ImageFont.load_default(16))
    image = Image.new("RGBA", SIZE, color)
    image.putalpha(mask.convert("L"))
    return image


def flat(color: Color, smooth: bool = True) -> NDArray[np.int64]:
    """The same word as people see it: on white, or on black if it is light."""
    background = Image.new("RGBA", SIZE, BLACK if color == WHITE else WHITE)
    return np.asarray(Image.alpha_composite(background, text(color, smooth)).convert("L"), np.int64)


def with_clear_palette_color(color: Color, name: str) -> bytes:
    """A palette file: color 0 is transparent, and as dark or light as the letters."""
    image = text(color, smooth=False)
    indexed = image.getchannel("A").point(lambda value: value // 255).convert("P")
    indexed.putpalette([*color, *color])
    return encoded(indexed, name, transparency=0)


# Files that TensorFlow decodes with their alpha, so that exported models see them alike.
DECODED: dict[str, Callable[[Color], bytes]] = {
    "RGBA": lambda color: encoded(text(color)),
    "LA": lambda color: encoded(text(color).convert("LA")),
    "palette": lambda color: with_clear_palette_color(color, "PNG"),
    "16 bits": lambda color: png(np.asarray(text(color)).astype(np.uint16) * 257),
    "WebP": lambda color: encoded(text(color), "WEBP", lossless=True, exact=True),
}
# Files that are re-encoded first.
TRANSCODED: dict[str, Callable[[Color], bytes]] = {
    "GIF": lambda color: with_clear_palette_color(color, "GIF"),
    "TIFF": lambda color: encoded(text(color), "TIFF"),
    "animated WebP": lambda color: encoded(
        text(color), "WEBP", lossless=True, save_all=True, append_images=[text(color)]),
    "Pillow": lambda color: transcoding.from_pillow(text(color)),
    "premultiplied": lambda color: transcoding.from_pillow(text(color).convert("RGBa")),
    "array": lambda color: transcoding.from_array(np.asarray(text(color))),
    "gray array": lambda color: transcoding.from_array(np.asarray(text(color).convert("LA"))),
}
BINARY = ("palette", "GIF")
all_files = pytest.mark.parametrize("name", [*DECODED, *TRANSCODED])
both_colors = pytest.mark.parametrize("color", [BLACK, WHITE], ids=["black", "white"])
both_channels = pytest.mark.parametrize("channels", [1, 3])


def decode(file: bytes, channels: int, alpha: str = "composite") -> NDArray[np.int64]:
    pixels: NDArray[Any] = preprocessing.decode(tf.constant(file), channels, alpha).numpy()
    return pixels.astype(np.int64)


def assert_seen(file: bytes, channels: int, color: Color, smooth: bool) -> None:
    expected = np.repeat(flat(color, smooth)[:, :, None], channels, 2)
    np.testing.assert_allclose(decode(file, channels), expected, atol=1)


@all_files
@both_colors
@both_channels
def test_text_on_a_transparent_background_contrasts_with_it(
        name: str, color: Color, channels: int) -> None:
    file = {**DECODED, **TRANSCODED}[name](color)
    assert_seen(transcoding.to_decodable(file)[0], channels, color, name not in BINARY)


@pytest.mark.parametrize("name", DECODED)
@both_colors
@both_channels
def test_exported_models_see_the_files_as_they_are(
        name: str, color: Color, channels: int) -> None:
    assert_seen(DECODED[name](color), channels, color, name not in BINARY)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_color_is_composited(mode: str) -> None:
    image = Image.new(mode, (4, 4), "black")
    image.putpixel((1, 1), 40 if mode == "L" else (40, 40, 40))
    file = encoded(image, transparency=0 if mode == "L" else BLACK)
    expected = np.full((4, 4, 1), 255)
    expected[1, 1] = 40
    np.testing.assert_array_equal(decode(file, 1), expected)


@pytest.mark.parametrize(("gray", "background"), [(0, 255), (127, 255), (128, 0), (255, 0)])
def test_the_background_is_black_where_visible_pixels_are_lighter_than_mid_gray(
        gray: int, background: int) -> None:
    image = Image.new("LA", (4, 4), (255 - gray, 0))
    image.putpixel((0, 0), (gray, 255))
    assert decode(encoded(image), 1)[1, 1] == background


def test_an_invisible_image_is_white() -> None:
    assert (decode(encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0))), 3) == 255).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("name", ["PNG", "WEBP"])
@both_channels
def test_opaque_images_keep_bytes_and_pixels(mode: str, name: str, channels: int) -> None:
    image = word("Ab1", SIZE, mode)
    image.putalpha(255)
    file = encoded(image, name, **({"lossless": True} if name == "WEBP" else {}))
    assert transcoding.to_decodable(file)[0] == file
    np.testing.assert_array_equal(decode(file, channels), decode(file, channels, "drop"))


def test_an_opaque_gif_that_declares_a_transparent_color_keeps_its_bytes() -> None:
    indexed = Image.new("P", SIZE, 1)
    indexed.putpalette([*BLACK, *WHITE])
    file = encoded(indexed, "GIF", transparency=0)
    assert transcoding.to_decodable(file)[0] == file


@pytest.mark.parametrize("image", [word("A", SIZE, "RGBA"), word("A", SIZE, "LA")])
def test_opaque_pillow_images_are_stored_without_alpha(image: Image.Image) -> None:
    image.putalpha(255)
    assert opened(transcoding.from_pillow(image)).mode == image.mode[:-1]


@all_files
@both_channels
def test_models_that_drop_alpha_see_the_colors(name: str, channels: int) -> None:
    file = transcoding.to_decodable({**DECODED, **TRANSCODED}[name]((0, 0, 0)))[0]
    assert (decode(file, channels, "drop") == 0).all()


def test_a_transparent_gif_is_black_to_models_that_drop_alpha_as_tensorflow_decodes_it() -> None:
    file = with_clear_palette_color((90, 90, 90), "GIF")
    stored, _ = transcoding.to_decodable(file)
    assert stored != file
    np.testing.assert_array_equal(decode(stored, 3, "drop"), decode(file, 3, "drop"))
    assert {0, 90} == set(decode(stored, 3, "drop").flat)


def test_a_recognizer_gives_the_prediction_of_the_flat_image() -> None:
    recognizer = CheckpointRecognizer("", RecognitionGraph(CONFIG, AttentionOCR(CONFIG)))
    for color in (BLACK, WHITE):
        expected = recognizer.predict(flat(color).astype(np.uint8))
        for image in (text(color), np.asarray(text(color)), encoded(text(color), "TIFF")):
            result = recognizer.predict(image)
            assert result.text == expected.text  # type: ignore[union-attr]
            assert abs(result.probability - expected.probability) < 1e-3  # type: ignore[union-attr]


def test_new_models_composite_and_directories_without_the_setting_drop(tmp_path: Path) -> None:
    config_file.save(str(tmp_path), ModelConfig())
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    assert content["model"].pop("alpha") == "composite"
    path.write_text(json.dumps(content))
    assert config_file.load(str(tmp_path)) == dataclasses.replace(ModelConfig(), alpha="drop")


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(AocrError, match="--alpha must be one of composite, drop, got 'blend'"):
        ModelConfig(alpha="blend")
