"""Reads image headers in TensorFlow operations, before a decoder allocates memory.

TensorFlow's decoders have no limit of their own, so the check must be part of an exported graph.
All files of a batch are read together; records are checked by the same operations.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from aocr.images.headers import TOO_LARGE

_HEAD_BYTES = 32
_WINDOW_BYTES = 10  # of a JPEG segment or a GIF block
_GIF = b"GIF8"
_MAX_JPEG_STEPS = 4096
_MAX_GIF_BLOCKS = 1 << 16
_14_BITS = 1 << 14
_WEBP_ANIMATED = 2
_UNKNOWN_PIXELS = 1 << 62  # of a GIF file with too many blocks


def sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sizes that headers declare, in pixels.

    Args:
        encoded: `[batch]` string.

    Returns:
        Heights and widths, `[batch]` int64; 0 where the header is not understood.

    Source: the specifications of PNG, GIF89a, BMP, WebP (RFC 9649) and JPEG (ITU T.81).
    """
    head = tf.cast(tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEAD_BYTES), tf.int64)
    complete = tf.strings.length(encoded) > _HEAD_BYTES
    heights = tf.zeros_like(head[:, 0])
    widths = heights
    for magic, offset, read_size in _HEADERS:
        matches = complete & tf.reduce_all(
            head[:, offset:offset + len(magic)] == list(magic), -1)
        height, width = read_size(head)
        heights, widths = tf.where(matches, height, heights), tf.where(matches, width, widths)
    is_jpeg = tf.reduce_all(head[:, :2] == [0xFF, 0xD8], -1)
    jpeg_heights, jpeg_widths = _jpeg_sizes(encoded, is_jpeg)
    return tf.where(is_jpeg, jpeg_heights, heights), tf.where(is_jpeg, jpeg_widths, widths)


def decoded_sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the sizes, and the numbers of pixels that decoders allocate memory for.

    Args:
        encoded: `[batch]` string.

    Returns:
        Heights and widths as from `sizes`, and pixels, `[batch]` int64; 0 where the header is
        not understood. All frames of a GIF count.
    """
    heights, widths = sizes(encoded)
    tall, wide = (tf.minimum(size, 1 << 31) for size in (heights, widths))
    is_gif = tf.strings.substr(encoded, 0, len(_GIF)) == _GIF
    frames = tf.cond(tf.reduce_any(is_gif), lambda: tf.where(is_gif, _gif_pixels(encoded), 0),
                     lambda: tf.zeros_like(wide))
    pixels = tf.where(wide == 0, wide, tf.maximum(tall * wide, frames))
    return heights, widths, pixels


def refuse_oversized(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Returns the files unchanged, unless decoding one of them would allocate too much memory.

    Args:
        encoded: `[batch]` string.
        max_pixels: Maximum number of pixels of a file.

    Returns:
        `[batch]` string, empty where the header is not understood: no decoder accepts that.

    Raises:
        tf.errors.InvalidArgumentError: A header declares more pixels; the message begins with
            `TOO_LARGE`.
    """
    pixels = decoded_sizes(encoded)[2]
    message = f"{TOO_LARGE}: more than the {max_pixels} pixels that this model reads"
    assertion = tf.debugging.Assert(tf.reduce_all(pixels <= max_pixels), [message])
    with tf.control_dependencies([] if assertion is None else [assertion]):
        return tf.where(pixels > 0, encoded, tf.zeros_like(encoded))


def _little_endian(head: tf.Tensor, offset: int, size: int) -> tf.Tensor:
    return tf.reduce_sum(
        head[:, offset:offset + size] * [1 << 8 * n for n in range(size)], -1)


def _big_endian(head: tf.Tensor, offset: int, size: int) -> tf.Tensor:
    return tf.reduce_sum(
        head[:, offset:offset + size] * [1 << 8 * n for n in reversed(range(size))], -1)


def _bmp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns height and width; the stored height is negative if rows go from top to bottom."""
    height = _little_endian(head, 22, 4)
    return tf.where(height >= 1 << 31, (1 << 32) - height, height), _little_endian(head, 18, 4)


def _lossless_webp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    bits = _little_endian(head, 21, 4)
    return bits // _14_BITS % _14_BITS + 1, bits % _14_BITS + 1


def _extended_webp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns 0 for an animation: TensorFlow 2.21 writes all frames into the memory of one."""
    still = tf.cast(head[:, 20] & _WEBP_ANIMATED == 0, tf.int64)
    return still * (_little_endian(head, 27, 3) + 1), still * (_little_endian(head, 24, 3) + 1)


_ReadSize = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Magic bytes, their offset, and how height and width are read.
_HEADERS: tuple[tuple[bytes, int, _ReadSize], ...] = (
    (b"IHDR", 12, lambda head: (_big_endian(head, 20, 4), _big_endian(head, 16, 4))),
    (_GIF, 0, lambda head: (_little_endian(head, 8, 2), _little_endian(head, 6, 2))),
    (b"BM", 0, _bmp_size),
    (b"WEBPVP8 ", 8, lambda head: (_little_endian(head, 28, 2) % _14_BITS,
                                   _little_endian(head, 26, 2) % _14_BITS)),
    (b"WEBPVP8L", 8, _lossless_webp_size),
    (b"WEBPVP8X", 8, _extended_webp_size),
)


def _windows(encoded: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Returns the bytes from an offset on, `[batch, 10]` int64; 0 beyond the end."""
    starts = tf.minimum(offsets, tf.strings.length(encoded))
    windows = tf.strings.substr(encoded, starts, tf.fill(tf.shape(starts), _WINDOW_BYTES))
    return tf.cast(tf.io.decode_raw(windows, tf.uint8, fixed_length=_WINDOW_BYTES), tf.int64)


def _jpeg_sizes(encoded: tf.Tensor, is_jpeg: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Walks the segments of all JPEG files at once up to their frame headers (SOF).

    Bytes between segments are skipped, as libjpeg does.
    """
    total = tf.strings.length(encoded)
    zero = tf.zeros_like(total, tf.int64)

    def more(n: tf.Tensor, offsets: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (n < _MAX_JPEG_STEPS) & tf.reduce_any(offsets < total)

    def step(n: tf.Tensor, offsets: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor
             ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        segment = _windows(encoded, offsets)
        marker = tf.where(segment[:, 0] == 0xFF, segment[:, 1], -1)
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(
            marker[:, None] != [0xC4, 0xC8, 0xCC], -1)
        heights = tf.where(is_frame & (heights == 0), _big_endian(segment, 5, 2), heights)
        widths = tf.where(is_frame & (widths == 0), _big_endian(segment, 7, 2), widths)
        ends = is_frame | (marker >= 0xD8) & (marker <= 0xDA)  # the pixels follow, or nothing
        return (n + 1, tf.where(ends, total, offsets + _jpeg_step(segment, marker)), heights,
                widths)

    start = tf.where(is_jpeg, 2, total)
    _, _, heights, widths = tf.while_loop(more, step, (tf.constant(0), start, zero, zero))
    return heights, widths


def _jpeg_step(segment: tf.Tensor, marker: tf.Tensor) -> tf.Tensor:
    """Returns the number of bytes to the next marker, or of bytes without a marker, int32."""
    is_marker = tf.concat([segment == 0xFF, tf.ones_like(segment[:, :1], tf.bool)], -1)
    without_length = (marker == 0x00) | (marker == 0x01) | (marker >= 0xD0) & (marker <= 0xD7)
    length = tf.where(marker == 0xFF, tf.ones_like(marker), tf.where(
        without_length, 2 * tf.ones_like(marker), 2 + _big_endian(segment, 2, 2)))
    skipped = tf.argmax(tf.cast(is_marker, tf.int32), -1)
    return tf.cast(tf.where(marker < 0, skipped, length), tf.int32)


def _gif_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Walks the blocks of all files at once as those of GIF, and adds up the frames' pixels.

    TensorFlow allocates memory for every frame before it decodes the first.
    """
    total = tf.strings.length(encoded)
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, 13), tf.uint8, fixed_length=13)

    def more(n: tf.Tensor, offsets: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (n < _MAX_GIF_BLOCKS) & tf.reduce_any(offsets < total)

    def step(n: tf.Tensor, offsets: tf.Tensor, in_data: tf.Tensor, pixels: tf.Tensor
             ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        block = _windows(encoded, offsets)
        kind = block[:, 0]
        is_frame, is_extension = ~in_data & (kind == 0x2C), ~in_data & (kind == 0x21)
        area = _little_endian(block, 5, 2) * _little_endian(block, 7, 2)
        length = tf.where(in_data, kind + 1, tf.where(
            is_frame, 11 + _gif_palette_bytes(block[:, 9]),
            tf.where(is_extension, tf.constant(2, tf.int64), tf.cast(total, tf.int64))))
        pixels += tf.where(is_frame, area, tf.zeros_like(area))
        return (n + 1, tf.minimum(offsets + tf.cast(length, tf.int32), total),
                tf.where(in_data, kind > 0, True), pixels)

    start = 13 + _gif_palette_bytes(tf.cast(head[:, 10], tf.int64))
    _, offsets, _, pixels = tf.while_loop(more, step, (
        tf.constant(0), tf.cast(start, tf.int32), tf.zeros_like(total, tf.bool),
        tf.zeros_like(total, tf.int64)))
    return tf.where(offsets < total, _UNKNOWN_PIXELS * tf.ones_like(pixels), pixels)


def _gif_palette_bytes(packed: tf.Tensor) -> tf.Tensor:
    """Returns the length of the color table that a packed field declares, int64."""
    return tf.where(packed >= 0x80, 3 * tf.bitwise.left_shift(
        tf.constant(2, tf.int64), packed % 8), 0)
