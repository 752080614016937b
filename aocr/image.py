"""Encoded bytes → float32 `[32, width, channels]`: the only home of the resizing laws."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig

_HEAD_BYTES = 32
_JPEG_SEGMENTS = 4096
_14_BITS = 1 << 14
_MIDDLE_GREY = 128.0


def load(encoded: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """One image as the network sees it.

    An image is scaled to height 32 with its shape kept when that makes it at most
    `config.input_width` wide; a wider one is squeezed to that width.

    Args:
        encoded: Scalar string: PNG, JPEG, GIF (first frame), BMP or WebP.
        config: Channels, widths and kernel.

    Returns:
        `[32, width, channels]` float32, `(value - 128) / 128`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes cannot be decoded.
    """
    pixels = decode(encoded, config.channels)
    shape = tf.shape(pixels)
    width = own_width(shape[0], shape[1], config.input_width)
    scaled = tf.image.resize(pixels, [IMAGE_HEIGHT, width], "bicubic", antialias=True)
    scaled.set_shape([IMAGE_HEIGHT, None, config.channels])
    return (scaled - _MIDDLE_GREY) / _MIDDLE_GREY


def load_batch(encoded: tf.Tensor, config: ModelConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Several images, padded with zeros to the widest of them.

    Args:
        encoded: `[batch]` string.
        config: Channels, widths and kernel.

    Returns:
        Images `[batch, 32, width, channels]` and their own widths `[batch]` int32.
    """
    size = tf.size(encoded)
    columns = tf.TensorArray(tf.float32, size, infer_shape=False,
                             element_shape=[None, IMAGE_HEIGHT, config.channels])
    widths = tf.TensorArray(tf.int32, size, element_shape=[])

    def one(n: tf.Tensor, columns: tf.TensorArray, widths: tf.TensorArray
            ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        image = tf.transpose(load(encoded[n], config), [1, 0, 2])
        return n + 1, columns.write(n, image), widths.write(n, tf.shape(image)[0])

    start = (tf.constant(0), columns, widths)
    _, columns, widths = tf.while_loop(lambda n, *_: n < size, one, start)
    own = tf.ensure_shape(widths.stack(), [None])
    rows = tf.RaggedTensor.from_row_lengths(columns.concat(), own).to_tensor()
    images = tf.transpose(rows, [0, 2, 1, 3])
    return tf.ensure_shape(images, [None, IMAGE_HEIGHT, None, config.channels]), own


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Pixels `[height, width, channels]` uint8; alpha is dropped, not blended.

    Grey comes from libpng and libjpeg themselves where they offer it (its values differ a
    little from a weighted sum of RGB); GIF, BMP and WebP are decoded as RGB first.
    """
    head = tf.strings.substr(encoded, 0, 2)
    direct = (head == b"\x89P") | (head == b"\xff\xd8")
    return tf.cond(direct, lambda: _decode(encoded, channels), lambda: _convert(encoded, channels))


def own_width(height: tf.Tensor, width: tf.Tensor, widest: int) -> tf.Tensor:
    """Width in the network's input: `ceil(width / height * 32)`, at most `widest`; int32."""
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    scaled = -(-width * IMAGE_HEIGHT // tf.maximum(height, 1))
    return tf.cast(tf.clip_by_value(scaled, 1, widest), tf.int32)


def header_sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sizes in pixels as the headers tell them, without decoding.

    Args:
        encoded: `[batch]` string.

    Returns:
        Heights and widths, `[batch]` int64; 0 where the header is not understood.

    Source: the format specifications (PNG, GIF89a, BMP, RFC 9649 for WebP, ITU T.81 for JPEG).
    """
    head = tf.cast(tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEAD_BYTES), tf.int64)
    whole = tf.strings.length(encoded) > _HEAD_BYTES
    heights = tf.zeros_like(head[:, 0])
    widths = heights
    for magic, at, size in _HEADERS:
        found = whole & tf.reduce_all(head[:, at:at + len(magic)] == list(magic), -1)
        height, width = size(head)
        heights, widths = tf.where(found, height, heights), tf.where(found, width, widths)
    jpeg_heights, jpeg_widths = _jpeg_sizes(encoded)
    jpeg = tf.reduce_all(head[:, :2] == [0xFF, 0xD8], -1)
    return tf.where(jpeg, jpeg_heights, heights), tf.where(jpeg, jpeg_widths, widths)


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels])


def _convert(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """GIF, BMP, WebP: decoders that do not convert between 1, 3 and 4 channels."""
    pixels = tf.io.decode_image(encoded, 0, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, None])
    rgb = tf.cond(tf.shape(pixels)[2] < 3, lambda: tf.repeat(pixels[:, :, :1], 3, axis=2),
                  lambda: pixels[:, :, :3])
    rgb = tf.ensure_shape(rgb, [None, None, 3])
    return rgb if channels == 3 else tf.image.rgb_to_grayscale(rgb)


def _little(head: tf.Tensor, at: int, size: int) -> tf.Tensor:
    return tf.add_n([head[:, at + n] * (1 << 8 * n) for n in range(size)])


def _big(head: tf.Tensor, at: int, size: int) -> tf.Tensor:
    return tf.add_n([head[:, at + n] * (1 << 8 * (size - 1 - n)) for n in range(size)])


def _bmp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    height = _little(head, 22, 4)
    return tf.where(height >= 1 << 31, (1 << 32) - height, height), _little(head, 18, 4)


def _lossless_webp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    bits = _little(head, 21, 4)
    return bits // _14_BITS % _14_BITS + 1, bits % _14_BITS + 1


_Size = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Magic bytes, their place, and where height and width stand.
_HEADERS: tuple[tuple[bytes, int, _Size], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, lambda head: (_big(head, 20, 4), _big(head, 16, 4))),
    (b"GIF8", 0, lambda head: (_little(head, 8, 2), _little(head, 6, 2))),
    (b"BM", 0, _bmp_size),
    (b"WEBPVP8 ", 8,
     lambda head: (_little(head, 28, 2) % _14_BITS, _little(head, 26, 2) % _14_BITS)),
    (b"WEBPVP8L", 8, _lossless_webp_size),
    (b"WEBPVP8X", 8, lambda head: (_little(head, 27, 3) + 1, _little(head, 24, 3) + 1)),
)


def _jpeg_sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Walks the segments of all files at once up to their frame header (SOF)."""
    total = tf.strings.length(encoded)
    zero = tf.zeros_like(total, tf.int64)

    def more(n: tf.Tensor, at: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (n < _JPEG_SEGMENTS) & tf.reduce_any(at < total)

    def walk(n: tf.Tensor, at: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor
             ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        piece = tf.strings.substr(encoded, tf.minimum(at, total), tf.fill(tf.shape(at), 10))
        segment = tf.cast(tf.io.decode_raw(piece, tf.uint8, fixed_length=10), tf.int64)
        marker = segment[:, 1]
        fill = marker == 0xFF
        frame = (segment[:, 0] == 0xFF) & (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(
            marker[:, None] != [0xC4, 0xC8, 0xCC], -1)
        ended = (segment[:, 0] != 0xFF) | frame
        heights = tf.where(frame & (heights == 0), _big(segment, 5, 2), heights)
        widths = tf.where(frame & (widths == 0), _big(segment, 7, 2), widths)
        length = tf.where(fill, tf.ones_like(marker), 2 + _big(segment, 2, 2))
        return n + 1, tf.where(ended, total, at + tf.cast(length, tf.int32)), heights, widths

    start = (tf.constant(0), tf.fill(tf.shape(total), 2), zero, zero)
    _, _, heights, widths = tf.while_loop(more, walk, start)
    return heights, widths
