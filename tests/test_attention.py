"""Tests of the attention pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from aocr.errors import SkipError
from aocr.evaluation.attention import (
    FRAME_MILLISECONDS,
    LARGEST_ANIMATED_SIDE,
    LARGEST_SIDE,
    centers,
    pictures,
)


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


def _one_hot(places: list[int], columns: int = 40) -> np.ndarray:
    return np.eye(columns)[places]


@pytest.mark.parametrize("level", [0, 30, 128, 255])
def test_attended_place_is_brighter(level: int) -> None:
    made = pictures(_plain(level), _one_hot([5, 30]), 160, "ab")
    for drawn in (list(map(_decode, made.stills)), _frames(made.animation)):
        for picture, place in zip(drawn, (5, 30), strict=True):
            brightness = picture[:64].mean((0, 2))  # the image without the strip; 8 a column
            lit = brightness[8 * place:8 * place + 8].mean()
            far = np.delete(brightness, np.s_[8 * place - 16:8 * place + 24])
            assert lit > np.max(far) + 20


@pytest.mark.parametrize("level", [0, 255])
def test_strip_peaks_at_the_attended_place(level: int) -> None:
    picture = _decode(pictures(_plain(level), _one_hot([12]), 160, "a").stills[0])
    orange = (picture[66:80, :, 0] - picture[66:80, :, 2]).sum(0)
    assert abs(int(np.argmax(orange)) - 8 * 12.5) <= 4


def test_dark_and_light_text_stay_visible() -> None:
    for back, ink in ((255, 0), (0, 255)):
        image = Image.new("L", (160, 32), back)
        image.paste(ink, (80, 8, 88, 24))
        picture = _decode(pictures(_encode(image), _one_hot([20]), 160, "i").stills[0])
        row = picture[32].mean(1)
        assert abs(row[165] - row[178]) > 20


def test_weights_follow_the_attention() -> None:
    attention = np.zeros((1, 40))
    attention[0, [4, 20]] = 0.75, 0.25
    row = _decode(pictures(_plain(200), attention, 160, "a").stills[0])[20].mean(1)
    strong, weak, none = row[36], row[164], row[260]
    assert strong > weak > none
    assert (weak - none) / (strong - none) == pytest.approx(1 / 3, abs=0.05)


def test_one_still_and_one_frame_for_each_character() -> None:
    attention = _one_hot([1, 7, 7, 7, 20])  # equal pictures must not melt into one frame
    made = pictures(_plain(255), attention, 160, "hällo")
    frames = _frames(made.animation)
    assert len(made.stills) == len(frames) == 5
    assert all(still.startswith(b"\xff\xd8") for still in made.stills)
    for still, frame in zip(made.stills, frames, strict=True):
        assert np.abs(_decode(still) - frame).mean() < 4
    with Image.open(io.BytesIO(made.animation)) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        assert image.info["duration"] == FRAME_MILLISECONDS


def test_empty_text_gives_one_dimmed_frame() -> None:
    for attention in (np.zeros((0, 40)), np.zeros((0, 0))):
        made = pictures(_plain(200), attention, 160, "")
        (frame,) = _frames(made.animation)
        assert made.stills == []
        assert np.abs(frame[:64] - 50).max() <= 2


def _sixteen_bit() -> Image.Image:
    return Image.fromarray(np.full((32, 100), 200 << 8, np.uint16))


@pytest.mark.parametrize("image", [
    Image.new("1", (100, 32), 1), Image.new("L", (100, 32), 200),
    Image.new("LA", (100, 32), (200, 0)), Image.new("P", (100, 32), 200),
    Image.new("RGB", (100, 32), (200, 200, 200)), _sixteen_bit(),
    Image.new("RGBA", (100, 32), (200, 200, 200, 0)),
], ids=["1", "L", "LA", "P", "RGB", "16-bit", "RGBA"])
def test_pixel_formats(image: Image.Image) -> None:
    if image.mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
        image.info["transparency"] = bytes(range(256))
    made = pictures(_encode(image), _one_hot([3], 25), 100, "a")
    expected = 0.25 * (255 if image.mode == "1" else 200)
    for picture in (_decode(made.stills[0]), *_frames(made.animation)):
        assert picture[:64, 100:].mean() == pytest.approx(expected, abs=2)
    with Image.open(io.BytesIO(made.stills[0])) as still:
        assert still.mode == "RGB"


@pytest.mark.parametrize("name", ["JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_file_formats(name: str) -> None:
    encoded = _encode(Image.new("L", (100, 32), 200), name)
    picture = _decode(pictures(encoded, _one_hot([3], 25), 100, "a").stills[0])
    assert picture[:64, 100:].mean() == pytest.approx(50, abs=2)


def test_first_frame_of_an_animation_is_shown() -> None:
    out = io.BytesIO()
    others = [Image.new("L", (100, 32), 20)]
    Image.new("L", (100, 32), 200).save(out, "GIF", save_all=True, append_images=others)
    (frame,) = _frames(pictures(out.getvalue(), np.zeros((0, 25)), 100, "").animation)
    assert frame[:64].mean() == pytest.approx(50, abs=2)


def test_colour_is_kept() -> None:
    encoded = _encode(Image.new("RGB", (100, 64), (20, 40, 200)))
    picture = _decode(pictures(encoded, _one_hot([3], 25), 100, "a").stills[0])
    assert picture[:64, 50:].mean((0, 1)) == pytest.approx([5, 10, 50], abs=3)


@pytest.mark.parametrize(("size", "shown"), [
    ((100, 32), (200, 64)), ((90, 30), (270, 90)), ((300, 64), (300, 64)), ((1, 1), (64, 64)),
    ((2000, 1), (1600, 1)), ((1, 2000), (1, 1548)), ((3200, 100), (1600, 50)),
])
def test_sizes(size: tuple[int, int], shown: tuple[int, int]) -> None:
    made = pictures(_plain(255, size), _one_hot([0]), 1, "a")
    still, (frame,) = _decode(made.stills[0]), _frames(made.animation)
    height, width = still.shape[:2]
    shrunk = min(1.0, LARGEST_ANIMATED_SIDE / max(height, width))
    assert frame.shape[:2] == pytest.approx((height * shrunk, width * shrunk), abs=1)
    assert width == shown[0]
    assert max(height, width) <= LARGEST_SIDE
    assert 0 < height - shown[1] <= 52


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
@pytest.mark.parametrize("own_width", [1, 5, 160])
def test_extreme_sizes_work(size: tuple[int, int], own_width: int) -> None:
    for text in ("", "a", "abc"):
        made = pictures(_plain(90, size), _one_hot([0] * len(text)), own_width, text)
        assert len(made.stills) == len(text)
        assert _frames(made.animation)


def test_padding_columns_are_ignored() -> None:
    clean = _one_hot([2, 9])[:, :20]
    padded = np.concatenate([clean, np.full((2, 20), 0.5)], 1)
    encoded = _plain(255, (80, 32))
    assert pictures(encoded, clean, 77, "ab") == pictures(encoded, padded, 77, "ab")
    assert centers(clean, 77).tolist() == centers(padded, 77).tolist()


def test_squeezed_images_span_the_whole_picture() -> None:
    picture = _decode(pictures(_plain(255, (1000, 32)), _one_hot([39]), 160, "a").stills[0])
    brightness = picture[10].mean(1)
    assert np.argmax(brightness) >= 0.95 * len(brightness)


def test_centers() -> None:
    assert centers(_one_hot([0, 20, 39]), 160) == pytest.approx([2 / 160, 82 / 160, 158 / 160])
    split = np.zeros((1, 40), np.float32)
    split[0, [0, 10]] = 0.5
    assert centers(split, 80) == pytest.approx([22 / 80])
    assert centers(_one_hot([0]), 1) == pytest.approx([0.5])
    assert centers(_one_hot([1]), 6) == pytest.approx([5 / 6])  # the last column is cut
    assert centers(np.zeros((0, 40)), 160).shape == (0,)


def test_attention_nowhere_gives_no_center_and_a_dimmed_picture() -> None:
    attention = _one_hot([30, 0])
    attention[1, 0] = np.nan
    assert np.isnan(centers(attention, 80)).all()
    made = pictures(_plain(200), attention, 80, "ab")
    assert _decode(made.stills[0])[:64].max() <= 52


def test_same_input_gives_same_bytes() -> None:
    attention = np.random.default_rng(1).dirichlet(np.ones(40), 3).astype(np.float32)
    before = attention.copy()
    assert (pictures(_plain(9), attention, 160, "abc")
            == pictures(_plain(9), attention, 160, "abc"))
    assert (attention == before).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="for 3 characters, got 2"):
        pictures(_plain(0), _one_hot([0, 1]), 160, "abc")
    with pytest.raises(ValueError, match="40 or more columns"):
        pictures(_plain(0), _one_hot([0], 39), 160, "a")
    with pytest.raises(ValueError, match="at least 1"):
        centers(_one_hot([0]), 0)
    with pytest.raises(SkipError):
        pictures(b"no image", _one_hot([0]), 160, "a")
