"""Draws in several processes and writes TFRecord shards.

`aocr.data.example` defines the records.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
from tqdm import tqdm

from datasets.drawn.fonts import Face, FontError
from datasets.drawn.sample import Drawer, Sample, Settings
from datasets.drawn.words import Vocabulary

_CHUNK = 128  # images drawn at a time by one process
_PART = ".part"


@dataclass
class Summary:
    """Statistics of the written records.

    Attributes:
        images: Number of images.
        bytes: Size of the image files.
        styles: Images of each style.
        fonts: Images of each font file.
        characters: How often each character was written.
        paths: The shards.
    """

    images: int = 0
    bytes: int = 0
    styles: Counter[str] = field(default_factory=Counter)
    fonts: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    paths: list[Path] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Counts one more image."""
        self.images += 1
        self.bytes += len(sample.image)
        self.styles[sample.style] += 1
        self.fonts[sample.font] += 1
        self.characters.update(sample.label)


def encoded(sample: Sample) -> bytes:
    """Returns the record of an image, as `aocr train` and `aocr test` read it."""
    from aocr.data.example import Record, encode

    return encode(Record(sample.image, sample.label, ""))


def draw_all(count: int, jobs: int, settings: Settings, faces: Sequence[Face],
             vocabulary: Vocabulary) -> Iterator[Sample]:
    """Draws images 0…count - 1 in their order, in as many processes as `jobs`.

    Raises:
        FontError: See `Drawer`.
        ProcessError: A process ended before its time.
    """
    if jobs == 1:
        yield from map(Drawer(settings, faces, vocabulary).draw, range(count))
        return
    context = multiprocessing.get_context("spawn")
    receivers = []
    for job in range(jobs):
        receiver, sender = context.Pipe(duplex=False)
        chunks = [range(count)[start:start + _CHUNK]
                  for start in range(job * _CHUNK, count, jobs * _CHUNK)]
        context.Process(target=_draw_chunks, args=(sender, chunks, settings, faces, vocabulary),
                        daemon=True).start()
        sender.close()  # so that reading ends when the process does
        receivers.append(receiver)
    for chunk in range(-(-count // _CHUNK)):
        try:
            received = receivers[chunk % jobs].recv()
        except EOFError as error:
            raise multiprocessing.ProcessError("a drawing process ended too early") from error
        if isinstance(received, FontError):
            raise received
        yield from received


def _draw_chunks(sender: Connection, chunks: Sequence[range], settings: Settings,
                 faces: Sequence[Face], vocabulary: Vocabulary) -> None:
    """Draws the images of one process and sends them, one chunk at a time, or an error."""
    cv2.setNumThreads(1)
    try:
        drawer = Drawer(settings, faces, vocabulary)
        for numbers in chunks:
            sender.send([drawer.draw(number) for number in numbers])
    except FontError as error:
        sender.send(error)


def shard_paths(output: Path, shards: int) -> list[Path]:
    """Returns the files of a set: the name itself, or `NAME-00000-of-00008.tfrecords` and so on."""
    stem = output.with_suffix("") if output.suffix == ".tfrecords" else output
    if shards == 1:
        return [stem.with_name(stem.name + ".tfrecords")]
    return [stem.with_name(f"{stem.name}-{shard:05d}-of-{shards:05d}.tfrecords")
            for shard in range(shards)]


def write(output: Path, shards: int, count: int, samples: Iterator[Sample]) -> Summary:
    """Writes samples to shards of equal size, each whole or not at all.

    Args:
        output: Name from which the shards make theirs.
        shards: How many.
        count: Number of samples, at least one for each shard.
        samples: The samples.

    Returns:
        What was written.
    """
    from aocr.runtime import startup

    startup.import_tensorflow()
    import tensorflow as tf

    summary = Summary()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=count, unit="image", dynamic_ncols=True) as bar:
        for shard, path in enumerate(shard_paths(output, shards)):
            end = count * (shard + 1) // shards
            with _whole_file(path) as part, tf.io.TFRecordWriter(part) as writer:
                while summary.images < end:
                    sample = next(samples)
                    writer.write(encoded(sample))
                    summary.add(sample)
                    bar.update()
            summary.paths.append(path)
    return summary


@contextmanager
def _whole_file(path: Path) -> Iterator[str]:
    """Yields the name of a file to write, which replaces `path` at the end, or is removed."""
    part = f"{path}{_PART}"
    try:
        yield part
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
