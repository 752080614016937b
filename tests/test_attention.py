"""Attention pictures."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from aocr.config import MAX_PIXELS
from aocr.evaluation.attention import (
    FRAME_MILLISECONDS,
    LARGEST_ANIMATED_SIDE,
    LARGEST_SIDE,
    SMALLEST_HEIGHT,
    centers,
    draw,
)
from aocr.images.transcoding import ORIENTATION_TAG


def _encode(image: Image.Image, name: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, name)
    return out.getvalue()


def _plain(level: int, size: tuple[int, int] = (160, 32)) -> bytes:
    return _encode(Image.new("L", size, level))


def _decode(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"), np.float32)


def _frames(animation: bytes) -> list[np.ndarray]:
    frames = []
    with Image.open(io.BytesIO(animation)) as image:
        for n in range(getattr(image, "n_frames", 1)):
            image.seek(n)
            frames.append(np.asarray(image.convert("RGB"), np.float32))
    return frames


def _one_hot(positions: list[int], columns: int = 40) -> np.ndarray:
    return np.eye(columns)[positions]


@pytest.mark.parametrize("level", [0, 30, 128, 255])
def test_attended_columns_are_brighter(level: int) -> None:
    pictures = draw(_plain(level), _one_hot([5, 30]), 160, "ab")
    for decoded in (list(map(_decode, pictures.stills)), _frames(pictures.animation)):
        for picture, column in zip(decoded, (5, 30), strict=True):
            brightness = picture[:64].mean((0, 2))  # without the strip; 8 pixels a column
            attended = brightness[8 * column:8 * column + 8].mean()
            far = np.delete(brightness, np.s_[8 * column - 16:8 * column + 24])
            assert attended > np.max(far) + 20


@pytest.mark.parametrize("level", [0, 255])
def test_the_curve_peaks_at_the_attended_column(level: int) -> None:
    picture = _decode(draw(_plain(level), _one_hot([12]), 160, "a").stills[0])
    orange = (picture[66:80, :, 0] - picture[66:80, :, 2]).sum(0)
    assert abs(int(np.argmax(orange)) - 8 * 12.5) <= 4


def test_dark_and_light_text_stays_visible() -> None:
    for background, ink in ((255, 0), (0, 255)):
        image = Image.new("L", (160, 32), background)
        image.paste(ink, (80, 8, 88, 24))
        picture = _decode(draw(_encode(image), _one_hot([20]), 160, "i").stills[0])
        row = picture[32].mean(1)
        assert abs(row[165] - row[178]) > 20


def test_brightness_is_proportional_to_the_attention() -> None:
    attention = np.zeros((1, 40))
    attention[0, [4, 20]] = 0.75, 0.25
    row = _decode(draw(_plain(200), attention, 160, "a").stills[0])[20].mean(1)
    strong, weak, none = row[36], row[164], row[260]
    assert strong > weak > none
    assert (weak - none) / (strong - none) == pytest.approx(1 / 3, abs=0.05)


def test_each_character_has_a_still_and_a_frame() -> None:
    attention = _one_hot([1, 7, 7, 7, 20])  # equal pictures must stay separate frames
    pictures = draw(_plain(255), attention, 160, "hällo")
    frames = _frames(pictures.animation)
    assert len(pictures.stills) == len(frames) == 5
    assert all(still.startswith(b"\xff\xd8") for still in pictures.stills)
    for still, frame in zip(pictures.stills, frames, strict=True):
        assert np.abs(_decode(still) - frame).mean() < 4
    with Image.open(io.BytesIO(pictures.animation)) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        assert image.info["duration"] == FRAME_MILLISECONDS


def test_an_empty_text_gives_one_dimmed_frame() -> None:
    for attention in (np.zeros((0, 40)), np.zeros((0, 0))):
        pictures = draw(_plain(200), attention, 160, "")
        (frame,) = _frames(pictures.animation)
        assert pictures.stills == []
        assert np.abs(frame[:64] - 50).max() <= 2


def _sixteen_bit() -> Image.Image:
    return Image.fromarray(np.full((32, 100), 200 << 8, np.uint16))


@pytest.mark.parametrize("image", [
    Image.new("1", (100, 32), 1), Image.new("L", (100, 32), 200),
    Image.new("LA", (100, 32), (200, 255)), Image.new("P", (100, 32), 200),
    Image.new("RGB", (100, 32), (200, 200, 200)), _sixteen_bit(),
    Image.new("RGBA", (100, 32), (200, 200, 200, 255)),
], ids=["1", "L", "LA", "P", "RGB", "16-bit", "RGBA"])
def test_images_of_all_modes_are_drawn(image: Image.Image) -> None:
    if image.mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    pictures = draw(_encode(image), _one_hot([3], 25), 100, "a")
    expected = 0.25 * (255 if image.mode == "1" else 200)
    for picture in (_decode(pictures.stills[0]), *_frames(pictures.animation)):
        assert picture[:64, 100:].mean() == pytest.approx(expected, abs=2)
    with Image.open(io.BytesIO(pictures.stills[0])) as still:
        assert still.mode == "RGB"


@pytest.mark.parametrize(("alpha", "expected"), [("composite", 255), ("drop", 50)])
def test_transparent_pixels_are_drawn_as_the_model_sees_them(alpha: str, expected: int) -> None:
    image = Image.new("RGBA", (100, 32), (50, 50, 50, 0))
    pictures = draw(_encode(image), _one_hot([3], 25), 100, "a", alpha)
    assert _decode(pictures.stills[0])[:64, 100:].mean() == pytest.approx(expected / 4, abs=2)


@pytest.mark.parametrize("name", ["JPEG", "GIF", "BMP", "WEBP"])
def test_files_of_all_formats_are_drawn(name: str) -> None:
    encoded = _encode(Image.new("L", (100, 32), 200), name)
    picture = _decode(draw(encoded, _one_hot([3], 25), 100, "a").stills[0])
    assert picture[:64, 100:].mean() == pytest.approx(50, abs=2)


def test_the_first_frame_of_an_animation_is_drawn() -> None:
    out = io.BytesIO()
    others = [Image.new("L", (100, 32), 20)]
    Image.new("L", (100, 32), 200).save(out, "GIF", save_all=True, append_images=others)
    (frame,) = _frames(draw(out.getvalue(), np.zeros((0, 25)), 100, "").animation)
    assert frame[:64].mean() == pytest.approx(50, abs=2)


def test_the_picture_is_not_rotated_because_the_network_sees_it_so() -> None:
    image = Image.new("RGB", (200, 64), "white")
    exif = image.getexif()
    exif[ORIENTATION_TAG] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    picture = _decode(draw(out.getvalue(), _one_hot([3], 25), 100, "a").stills[0])
    assert picture.shape[1] == 200


def test_images_above_the_default_limit_are_drawn() -> None:
    side = math.isqrt(MAX_PIXELS) + 1
    picture = _decode(draw(_plain(255, (side, side)), _one_hot([3], 25), 100, "a").stills[0])
    assert picture.shape[1] > SMALLEST_HEIGHT


def test_colors_are_kept() -> None:
    encoded = _encode(Image.new("RGB", (100, 64), (20, 40, 200)))
    picture = _decode(draw(encoded, _one_hot([3], 25), 100, "a").stills[0])
    assert picture[:64, 50:].mean((0, 1)) == pytest.approx([5, 10, 50], abs=3)


@pytest.mark.parametrize(("size", "displayed"), [
    ((100, 32), (200, 64)), ((90, 30), (270, 90)), ((300, 64), (300, 64)), ((1, 1), (64, 64)),
    ((2000, 1), (1600, 1)), ((1, 2000), (1, 1548)), ((3200, 100), (1600, 50)),
])
def test_pictures_are_scaled_to_fit_the_limits(size: tuple[int, int], displayed: tuple[int, int]
                                               ) -> None:
    pictures = draw(_plain(255, size), _one_hot([0]), 1, "a")
    still, (frame,) = _decode(pictures.stills[0]), _frames(pictures.animation)
    height, width = still.shape[:2]
    scale = min(1.0, LARGEST_ANIMATED_SIDE / max(height, width))
    assert frame.shape[:2] == pytest.approx((height * scale, width * scale), abs=1)
    assert width == displayed[0]
    assert max(height, width) <= LARGEST_SIDE
    assert 0 < height - displayed[1] <= 52


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
@pytest.mark.parametrize("width", [1, 5, 160])
def test_images_of_extreme_sizes_are_drawn(size: tuple[int, int], width: int) -> None:
    for text in ("", "a", "abc"):
        pictures = draw(_plain(90, size), _one_hot([0] * len(text)), width, text)
        assert len(pictures.stills) == len(text)
        assert _frames(pictures.animation)


def test_attention_on_padding_is_ignored() -> None:
    clean = _one_hot([2, 9])[:, :20]
    padded = np.concatenate([clean, np.full((2, 20), 0.5)], 1)
    encoded = _plain(255, (80, 32))
    assert draw(encoded, clean, 77, "ab") == draw(encoded, padded, 77, "ab")
    assert centers(clean, 77).tolist() == centers(padded, 77).tolist()


def test_attention_on_a_squeezed_image_spans_the_picture() -> None:
    picture = _decode(draw(_plain(255, (1000, 32)), _one_hot([39]), 160, "a").stills[0])
    brightness = picture[10].mean(1)
    assert np.argmax(brightness) >= 0.95 * len(brightness)


def test_centers_are_means_weighted_by_attention() -> None:
    assert centers(_one_hot([0, 20, 39]), 160) == pytest.approx([2 / 160, 82 / 160, 158 / 160])
    split = np.zeros((1, 40), np.float32)
    split[0, [0, 10]] = 0.5
    assert centers(split, 80) == pytest.approx([22 / 80])
    assert centers(_one_hot([0]), 1) == pytest.approx([0.5])
    assert centers(_one_hot([1]), 6) == pytest.approx([5 / 6])  # the last column is narrower
    assert centers(np.zeros((0, 40)), 160).shape == (0,)


def test_no_attention_on_the_image_gives_no_center_and_a_dimmed_picture() -> None:
    attention = _one_hot([30, 0])
    attention[1, 0] = np.nan
    assert np.isnan(centers(attention, 80)).all()
    pictures = draw(_plain(200), attention, 80, "ab")
    assert _decode(pictures.stills[0])[:64].max() <= 52


def test_pictures_are_reproducible() -> None:
    attention = np.random.default_rng(1).dirichlet(np.ones(40), 3).astype(np.float32)
    before = attention.copy()
    assert (draw(_plain(9), attention, 160, "abc")
            == draw(_plain(9), attention, 160, "abc"))
    assert (attention == before).all()


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="for 3 characters, got 2"):
        draw(_plain(0), _one_hot([0, 1]), 160, "abc")
    with pytest.raises(ValueError, match="40 or more columns"):
        draw(_plain(0), _one_hot([0], 39), 160, "a")
    with pytest.raises(ValueError, match="at least 1"):
        centers(_one_hot([0]), 0)
