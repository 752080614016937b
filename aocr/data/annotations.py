"""Annotations: the images of a dataset and their labels, in one of several formats."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from aocr.data.annotation_formats import (
    DELIMITERS,
    LABEL_FILE,
    AnnotationOptions,
    Entry,
    csv_entries,
    find_columns,
    jsonl_entries,
    label_file_entries,
    pair_label_files,
    parse_json,
    read_lines,
    text_entries,
)
from aocr.errors import AocrError, SkipError, reason
from aocr.runtime import filesystem

READERS = {"text": text_entries, "csv": csv_entries, "jsonl": jsonl_entries,
           "gt": label_file_entries}


@dataclass(frozen=True)
class Annotations:
    """Annotations of a known format.

    Attributes:
        path: The file, or the directory of images and label files.
        options: How they are read; the format is not "auto".
        size: Their size in bytes, or the number of images, as `Entry.position` counts them.
    """

    path: str
    options: AnnotationOptions
    size: int

    @property
    def directory(self) -> str:
        """The directory to which paths may be relative."""
        return os.path.dirname(self.path)

    def entries(self) -> Iterator[Entry]:
        """Yields the entries, starting with the first one.

        Raises:
            AocrError: They cannot be read any further, or a table does not name its columns.
        """
        return READERS[self.options.format](self.path, self.options)


def open_annotations(path: str, options: AnnotationOptions) -> Annotations:
    """Checks that annotations can be read, and determines their format.

    Raises:
        AocrError: They cannot be read, or cannot be in the format that the options name.
    """
    if tf.io.gfile.isdir(path):
        if options.format not in ("auto", "gt"):
            raise AocrError(f"{path} is a directory; --format {options.format} needs a file")
        return Annotations(path, options._replace(format="gt"), _count_images(path))
    size = _check_readable(path)
    if options.format == "gt":
        raise AocrError(f"{path} is a file; --format gt needs a directory")
    detected = _detect_format(path, options) if options.format == "auto" else options.format
    return Annotations(path, options._replace(format=detected), size)


def _count_images(directory: str) -> int:
    pairs = pair_label_files(directory)
    if all(label_file is None for _, label_file in pairs):
        raise AocrError(f"{directory} is a directory without {LABEL_FILE} files; expected a file "
                        "of annotations, or a directory with a label file beside each image, such "
                        f"as 1.png and 1{LABEL_FILE}")
    return len(pairs)


def _check_readable(path: str) -> int:
    """Returns the size of an annotation file in bytes, after reading one of them as a check."""
    if filesystem.is_special(path):
        raise AocrError(f"{path} is not a regular file; write the annotations to one")
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.read(1)
        return int(tf.io.gfile.stat(path).length)
    except tf.errors.NotFoundError as error:
        raise AocrError(f"no such annotation file: {path}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the annotations {path}: {reason(error)}") from error


def _detect_format(path: str, options: AnnotationOptions) -> str:
    """Returns the format of a file, by its extension and its first line that is not blank."""
    extension = os.path.splitext(path)[1].lower()
    line = next((line for _, line in read_lines(path) if line.strip()), "")
    if extension in (".jsonl", ".ndjson") or _is_json_object(line):
        return "jsonl"
    is_table = extension in (".csv", ".tsv") and any(mark in line for mark in DELIMITERS)
    return "csv" if is_table or find_columns(line, options) else "text"


def _is_json_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(parse_json(line), dict)
    except SkipError:
        return False
