"""What image files promise in their headers, told before a decoder takes memory for it.

All files of a batch are looked at together, in TensorFlow operations: so the same holds for
records and inside an exported graph.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

TOO_LARGE = "image too large"
_HEAD_BYTES = 32
_GIF = b"GIF8"
_JPEG_SEGMENTS = 4096
_GIF_BLOCKS = 1 << 16
_14_BITS = 1 << 14
_WEBP_ANIMATED = 2
_UNKNOWN_PIXELS = 1 << 62  # of a GIF of too many blocks


def sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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


def decoded_sizes(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sizes, and the pixels that decoders take memory for.

    Args:
        encoded: `[batch]` string.

    Returns:
        Heights and widths as from `sizes`, and pixels, `[batch]` int64; 0 where the header is
        not understood. All frames of a GIF count.
    """
    heights, widths = sizes(encoded)
    tall, wide = (tf.minimum(each, 1 << 31) for each in (heights, widths))
    gif = tf.strings.substr(encoded, 0, len(_GIF)) == _GIF
    frames = tf.cond(tf.reduce_any(gif), lambda: tf.where(gif, _gif_pixels(encoded), 0),
                     lambda: tf.zeros_like(wide))
    pixels = tf.where(wide == 0, wide, tf.maximum(tall * wide, frames))
    return heights, widths, pixels


def refuse_oversized(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """The same bytes, checked before a decoder may take memory for what they promise.

    Args:
        encoded: `[batch]` string.
        max_pixels: Most pixels of one of them.

    Returns:
        `[batch]` string, empty where the header is not understood: no decoder accepts that.

    Raises:
        tf.errors.InvalidArgumentError: One promises more; the message begins with `TOO_LARGE`.
    """
    promised = decoded_sizes(encoded)[2]
    problem = f"{TOO_LARGE}: more than the {max_pixels} pixels that this model reads"
    small = tf.debugging.Assert(tf.reduce_all(promised <= max_pixels), [problem])
    with tf.control_dependencies([] if small is None else [small]):
        return tf.where(promised > 0, encoded, tf.zeros_like(encoded))


def _little(head: tf.Tensor, at: int, size: int) -> tf.Tensor:
    return tf.reduce_sum(head[:, at:at + size] * [1 << 8 * n for n in range(size)], -1)


def _big(head: tf.Tensor, at: int, size: int) -> tf.Tensor:
    return tf.reduce_sum(head[:, at:at + size] * [1 << 8 * n for n in reversed(range(size))], -1)


def _bmp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    height = _little(head, 22, 4)
    return tf.where(height >= 1 << 31, (1 << 32) - height, height), _little(head, 18, 4)


def _lossless_webp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    bits = _little(head, 21, 4)
    return bits // _14_BITS % _14_BITS + 1, bits % _14_BITS + 1


def _extended_webp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """0 for an animation: TensorFlow 2.21 writes all frames into the memory of one."""
    still = tf.cast(head[:, 20] & _WEBP_ANIMATED == 0, tf.int64)
    return still * (_little(head, 27, 3) + 1), still * (_little(head, 24, 3) + 1)


_Size = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
# Magic bytes, their place, and where height and width stand.
_HEADERS: tuple[tuple[bytes, int, _Size], ...] = (
    (b"IHDR", 12, lambda head: (_big(head, 20, 4), _big(head, 16, 4))),
    (_GIF, 0, lambda head: (_little(head, 8, 2), _little(head, 6, 2))),
    (b"BM", 0, _bmp_size),
    (b"WEBPVP8 ", 8,
     lambda head: (_little(head, 28, 2) % _14_BITS, _little(head, 26, 2) % _14_BITS)),
    (b"WEBPVP8L", 8, _lossless_webp_size),
    (b"WEBPVP8X", 8, _extended_webp_size),
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
        bare = (marker == 0x01) | (marker >= 0xD0) & (marker <= 0xD7)  # without a length
        end = (marker == 0x00) | (marker >= 0xD8) & (marker <= 0xDA)  # of what precedes pixels
        frame = (segment[:, 0] == 0xFF) & (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(
            marker[:, None] != [0xC4, 0xC8, 0xCC], -1)
        ended = (segment[:, 0] != 0xFF) | frame | end
        heights = tf.where(frame & (heights == 0), _big(segment, 5, 2), heights)
        widths = tf.where(frame & (widths == 0), _big(segment, 7, 2), widths)
        length = tf.where(fill, tf.ones_like(marker), tf.where(
            bare, 2 * tf.ones_like(marker), 2 + _big(segment, 2, 2)))
        return n + 1, tf.where(ended, total, at + tf.cast(length, tf.int32)), heights, widths

    start = (tf.constant(0), tf.fill(tf.shape(total), 2), zero, zero)
    _, _, heights, widths = tf.while_loop(more, walk, start)
    return heights, widths


def _gif_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Walks the blocks of all files at once as those of GIF, and sums up their frames.

    TensorFlow takes memory for every frame before it looks at the first.
    """
    total = tf.strings.length(encoded)
    start = tf.strings.substr(encoded, 0, 13)
    head = tf.cast(tf.io.decode_raw(start, tf.uint8, fixed_length=13), tf.int32)
    def more(n: tf.Tensor, at: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (n < _GIF_BLOCKS) & tf.reduce_any(at < total)

    def walk(n: tf.Tensor, at: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor
             ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        piece = tf.strings.substr(encoded, tf.minimum(at, total), tf.fill(tf.shape(at), 10))
        block = tf.cast(tf.io.decode_raw(piece, tf.uint8, fixed_length=10), tf.int32)
        kind = block[:, 0]
        frame, extension = ~inside & (kind == 0x2C), ~inside & (kind == 0x21)
        area = tf.cast(_little(block, 5, 2), tf.int64) * tf.cast(_little(block, 7, 2), tf.int64)
        step = tf.where(inside, kind + 1, tf.where(
            frame, 11 + _gif_palette(block[:, 9]), tf.where(extension, 2, total)))
        pixels += tf.where(frame, area, tf.zeros_like(area))
        return n + 1, tf.minimum(at + step, total), tf.where(inside, kind > 0, True), pixels

    first = 13 + _gif_palette(head[:, 10])
    none = tf.zeros_like(total, tf.int64)
    _, at, _, pixels = tf.while_loop(more, walk, (
        tf.constant(0), first, tf.zeros_like(total, tf.bool), none))
    return tf.where(at < total, _UNKNOWN_PIXELS * tf.ones_like(pixels), pixels)


def _gif_palette(packed: tf.Tensor) -> tf.Tensor:
    """Bytes of a colour table."""
    return tf.where(packed >= 0x80, 3 * tf.bitwise.left_shift(2, packed % 8), 0)
