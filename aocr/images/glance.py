"""The usual JPEG and PNG files, known by their headers: Pillow takes seven times as long.

Only what Pillow takes without a complaint, too, and TensorFlow reads as people see it, is known
here; whatever is the least bit unusual is left to Pillow.

Source: ITU T.81 (JPEG), ISO 15948 (PNG).
"""

from __future__ import annotations

import struct
import zlib

Size = tuple[int, int]
_JPEG = b"\xff\xd8"
_APP0, _QUANTIZATION, _HUFFMAN, _SCAN = 0xFFE0, 0xFFDB, 0xFFC4, 0xFFDA
_FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)  # baseline, extended, progressive; all with Huffman codes
_JFIF = b"JFIF\0"
_TABLE_BYTES = 65
_COMPONENTS = (1, 3)
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
# Bit depths of each colour type: grey, RGB, palette, grey with alpha, RGB with alpha.
_DEPTHS = {0: (1, 2, 4, 8), 2: (8,), 3: (1, 2, 4, 8), 4: (8,), 6: (8,)}
_PALETTE, _PIXELS = b"PLTE", b"IDAT"
# Lengths of the other chunks that may stand before the pixels.
_PLAIN_CHUNKS = {b"pHYs": 9, b"sRGB": 1, b"gAMA": 4}
_ORIENTED = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


def header_size(encoded: bytes) -> Size | None:
    """Width and height in pixels of a usual file; `None` for any other."""
    try:
        if encoded.startswith(_JPEG):
            return _jpeg_size(encoded)
        if encoded.startswith(_PNG):
            return _png_size(encoded)
    except struct.error:  # the file ends within its headers
        return None
    return None


def may_be_turned(png: bytes) -> bool:
    """Whether a PNG may tell of an orientation."""
    return any(tag in png for tag in _ORIENTED)


def _jpeg_size(encoded: bytes) -> Size | None:
    """Walks the segments up to the first scan."""
    at, found = len(_JPEG), None
    while True:
        marker, length = struct.unpack_from(">HH", encoded, at)
        if marker == _SCAN:
            return found if at + 2 + length <= len(encoded) else None
        if marker in _FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", encoded, at + 4)
            if found or bits != 8 or components not in _COMPONENTS or (
                    length != 8 + 3 * components) or 0 in (width, height):
                return None
            found = width, height
        elif marker == _QUANTIZATION:
            tables = encoded[at + 4:at + 2 + length:_TABLE_BYTES]
            if length % _TABLE_BYTES != 2 or any(kind > 3 for kind in tables):
                return None
        elif marker == _APP0:
            if length != 16 or not encoded.startswith(_JFIF, at + 4):
                return None
        elif marker != _HUFFMAN or length < 2:
            return None
        at += 2 + length


def _png_size(encoded: bytes) -> Size | None:
    """Walks the chunks up to the first pixels."""
    width, height, depth, colour, *methods = struct.unpack_from(">IIBBBBB", encoded, 16)
    if 0 in (width, height) or depth not in _DEPTHS.get(colour, ()) or methods not in (
            [0, 0, 0], [0, 0, 1]) or may_be_turned(encoded):
        return None
    at, palette = 8, False
    while True:
        length, name = struct.unpack_from(">I4s", encoded, at)
        if name == _PIXELS:
            return (width, height) if palette == (colour == 3) else None
        if name == _PALETTE:
            if palette or length % 3 or not 0 < length <= 3 << depth:
                return None
            palette = True
        elif at > 8 and _PLAIN_CHUNKS.get(name) != length:
            return None
        end = at + 8 + length
        (checksum,) = struct.unpack_from(">I", encoded, end)
        if zlib.crc32(encoded[at + 4:end]) != checksum:
            return None
        at = end + 4
