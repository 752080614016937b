"""Mutations of files of every kind; the same number gives the same file."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from aocr.data import example
from aocr.data.example import Record
from tests.drawing import PNG_MAGIC, encoded, png_chunk, with_orientation, word

REAL_IMAGES = Path(__file__).parents[2] / "shared" / "data"
_REAL_FILES, _REAL_BYTES = 60, 12_000
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 50_000, 0x7FFFFFFF, 0xFFFFFFFF)


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


_CRC_TABLE = [_crc_entry(byte) for byte in range(256)]


def images() -> list[bytes]:
    """Returns undamaged files: drawn ones of all formats, and real ones if there are any."""
    small = {mode: word("Ab", (24, 12), mode)
             for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK")}
    files = [encoded(small[mode]) for mode in small if mode != "CMYK"]
    files += [encoded(small[mode], "JPEG", progressive=progressive)
              for mode in ("L", "RGB", "CMYK") for progressive in (False, True)]
    files += [encoded(small[mode], name)
              for name in ("GIF", "BMP", "TIFF") for mode in ("P", "RGB")]
    files += [encoded(small["RGB"], "TIFF", compression=name)
              for name in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits")]
    files += [encoded(small["RGBA"], "WEBP", lossless=lossless) for lossless in (False, True)]
    files += [encoded(small["RGB"], name, save_all=True, append_images=[word("xy", (24, 12))])
              for name in ("GIF", "WEBP")]
    files += [encoded(small["RGB"], name) for name in ("PPM", "TGA", "PCX", "ICO", "JPEG2000")]
    files += [with_orientation(small["RGB"], 6, name) for name in ("JPEG", "PNG", "WEBP")]
    files.append(encoded(small["P"], "GIF", transparency=0))
    real = [path for path in sorted(REAL_IMAGES.glob("*/images/*"))
            if path.stat().st_size < _REAL_BYTES]
    return files + [path.read_bytes() for path in real[::max(1, len(real) // _REAL_FILES)]]


def damaged(file: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Returns a file with one to four changes; the checksums of a PNG are mostly corrected."""
    changed = bytearray(file)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 4))):
        _damage(changed, others, chance)
    if chance.random() < 0.7 and changed.startswith(PNG_MAGIC):
        return _with_valid_checksums(bytes(changed))
    return bytes(changed)


def _damage(file: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    # Decoders make most of their decisions by the first bytes.
    end = len(file) if chance.random() < 0.7 else min(len(file), 64)
    at, length = chance.randint(0, end), chance.randint(1, 40)
    kind = chance.randrange(8)
    if kind == 0 and at < len(file):
        file[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        size = chance.choice("BHI")
        number = chance.choice(_NUMBERS) % (1 << 8 * struct.calcsize(size))
        file[at:at + struct.calcsize(size)] = struct.pack(chance.choice("<>") + size, number)
    elif kind == 2:
        del file[at:at + length]
    elif kind == 3:
        file[at:at] = file[at:at + length]
    elif kind == 4:
        file[at:at] = chance.randbytes(length)
    elif kind == 5:
        file[at:at + length] = bytes(length)
    elif kind == 6:
        del file[chance.randint(0, len(file)):]
    else:
        other = chance.choice(others)
        file[at:] = other[chance.randint(0, len(other)):]


def _with_valid_checksums(file: bytes) -> bytes:
    """Returns a PNG with recomputed checksums of its chunks."""
    result, at = PNG_MAGIC, len(PNG_MAGIC)
    while at + 8 <= len(file):
        (length,) = struct.unpack_from(">I", file, at)
        result += png_chunk(file[at + 4:at + 8], file[at + 8:at + 8 + length])
        at += 12 + length
    return result


def record_file(number: int, seed: int, files: Sequence[bytes]) -> bytes:
    """Returns a file of a few records with one kind of damage."""
    chance = random.Random(f"records {seed} {number}")
    labels = ("", "A", "AB", "\u00e9", "\u65e5", "A" * 300)
    records = [example.encode(Record(chance.choice(files), chance.choice(labels), ""))
               for _ in range(chance.randint(1, 4))]
    kind = chance.random()
    if kind < 0.35:  # valid records of damaged images
        records = [example.encode(Record(damaged(chance.choice(files), files, chance),
                                         chance.choice(labels), "")) for _ in records]
    elif kind < 0.7:  # valid framing of damaged examples
        records = [damaged(record, files, chance) for record in records]
    file = b"".join(map(_frame, records))
    if kind > 0.9:  # damage that the checksums reveal
        file = damaged(file, files, chance)
    elif kind > 0.7:  # wrong lengths, a truncated file
        file = _with_wrong_framing(file, len(records[0]), chance)
    return _compress(file, chance) if chance.random() < 0.1 else file


def _with_wrong_framing(file: bytes, first: int, chance: random.Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return file[:chance.randint(0, len(file))]
    if kind == 1:
        return file + chance.randbytes(chance.randint(1, 40))
    at = 0 if kind == 2 else 16 + first
    length = struct.pack("<Q", chance.choice((0, 1, first + 1, 1 << 31, 1 << 40, (1 << 64) - 1)))
    return file[:at] + length + struct.pack("<I", checksum(length)) + file[at + 12:]


def _compress(file: bytes, chance: random.Random) -> bytes:
    compressed = gzip.compress(file, 1)
    return damaged(compressed, [file], chance) if chance.random() < 0.5 else compressed


def _frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return (length + struct.pack("<I", checksum(length)) + record
            + struct.pack("<I", checksum(record)))


def checksum(data: bytes) -> int:
    """Returns the masked CRC-32C that TFRecords files use."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


_ANNOTATION_LINES = {
    b"": (b"a.png A", b"a.png", b"", b" \t", b"none.png B", b"\xff\xfe", b"a.png \0",
          b"'a.png' x", b'"a.png" y', b"a.png\tT", b". dot", b"a.png " + b"L" * 9_000,
          b"x" * 9_000 + b" P"),
    b"file,text": (b"a.png,A", b"a.png", b"", b",", b"none.png,B", b"a.png,\xff", b"a.png,\0",
                   b'a.png,"A', b'"a.png","A\nB"', b"a.png," + b"L" * 140_000),
    b'{"file": "a.png", "text": "A"}': (
        b'{"text": "A", "file": "a.png"}', b'{"file": "a.png"}', b"", b"{}", b"[]", b"[" * 5_000,
        b'{"file": 1, "text": []}', b'{"file": "a.png", "text": "\\ud800"}', b'{"file": "a.png",')}


def annotation_file(number: int, seed: int) -> bytes:
    """Returns valid and invalid annotations as text, CSV or JSON Lines, often damaged."""
    chance = random.Random(f"annotations {seed} {number}")
    first = chance.choice(list(_ANNOTATION_LINES))
    lines = [first] * bool(first)
    lines += [chance.choice(_ANNOTATION_LINES[first]) for _ in range(chance.randint(0, 6))]
    file = chance.choice((b"\n", b"\r\n", b"\r")).join(lines)
    return damaged(file, [file], chance) if chance.random() < 0.7 else file


def config(number: int, seed: int, original: bytes) -> bytes:
    """Returns a damaged `config.json`."""
    chance = random.Random(f"config {seed} {number}")
    if chance.random() < 0.4:
        return damaged(original, [original], chance)
    text = original.decode()
    old = chance.choice(["160", "60", "8", "false", '"skip"', "{", "1", '"model"', "null", '"'])
    new = chance.choice(["-1", "1e999", "NaN", "true", "[]", "{}", '""', "null", "9" * 400, "0.5",
                         "[" * 3000, "12345678901234567890"])
    return text.replace(old, new, chance.choice((1, -1))).encode()
