"""Formats of annotations: text, CSV and JSON Lines files, and directories of label files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from aocr.errors import AocrError, SkipError, reason
from aocr.images.transcoding import has_image_extension
from aocr.runtime import filesystem
from aocr.tokenizer import normalize

LABEL_FILE = ".gt.txt"
# Usual names of CSV columns and JSON keys: of Hugging Face datasets, of the ICDAR and IIIT sets, of
# PaddleOCR and docTR.
_PATH_COLUMNS = ("file_name", "filename", "file", "image_path", "path", "image_name", "image",
                 "img_path", "img")
_LABEL_COLUMNS = ("text", "words", "word", "label", "labels", "transcription", "transcript",
                  "ground_truth", "gt")
DELIMITERS = (",", ";", "\t")
_SEPARATOR = re.compile(r"[ \t\v\f]+")
_QUOTED = re.compile(r"""(["'])(?P<path>.+?)\1[ \t\v\f]*(?P<label>.*)""", re.DOTALL)
_MAX_LINE_CHARACTERS = 1 << 20
_SHOWN_CHARACTERS = 80


class AnnotationOptions(NamedTuple):
    """Options for reading annotations.

    Attributes:
        format: "auto", or a key of `aocr.data.annotations.READERS`.
        path_column: Column or JSON key of the paths; `None` for the usual names.
        label_column: Column or JSON key of the labels; `None` for the usual names.
    """

    format: str = "auto"
    path_column: str | None = None
    label_column: str | None = None


class Annotation(NamedTuple):
    """Path of an image, and its label in NFC without surrounding white space."""

    path: str
    label: str


class Entry(NamedTuple):
    """One line or row of annotations, or one image with its label file, before it is parsed.

    Attributes:
        number: Number of the line, or of the image, from 1.
        position: Number of bytes of the file, or of images, up to the end of the entry.
        parse: Returns the possible interpretations, the most likely first, of which the first
            whose image exists is used. Raises `SkipError` if there are none.
    """

    number: int
    position: int
    parse: Callable[[], list[Annotation]]


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yields the position after each line of a file, and the line without its end.

    Lines end with LF, CR LF or CR. A line that is too long is truncated to one character more than
    `parse_line` accepts. Bytes that are not UTF-8 become surrogates.

    Raises:
        AocrError: The file cannot be read any further.
    """
    position = 0
    try:
        with (tf.io.gfile.GFile(path, "rb") as file,
              io.TextIOWrapper(filesystem.buffered(file), "utf-8-sig", "surrogateescape") as text):
            while line := text.readline(_MAX_LINE_CHARACTERS + 1):
                part = line
                position += _byte_count(part)
                while part and not part.endswith("\n"):
                    part = text.readline(_MAX_LINE_CHARACTERS)
                    position += _byte_count(part)
                yield position, line.removesuffix("\n")
    except tf.errors.OpError as error:
        raise AocrError(f"cannot continue to read {path}: {reason(error)}") from error


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def text_entries(path: str, _options: AnnotationOptions) -> Iterator[Entry]:
    """Yields the entries of a file with one `path label` per line."""
    for number, (position, line) in enumerate(read_lines(path), 1):
        yield Entry(number, position, partial(parse_line, line))


def parse_line(line: str) -> list[Annotation]:
    """Returns the possible interpretations of a line `path label`, the most likely first.

    The path ends at the first tab if there is one, otherwise at the first white space; it may also
    be in quotes. The label is the remainder, which may be empty.

    Raises:
        SkipError: The line has no label field, is not UTF-8, contains NUL, or is too long.
    """
    if len(line) > _MAX_LINE_CHARACTERS:
        raise SkipError("line too long", f"more than {_MAX_LINE_CHARACTERS} characters, starting "
                        f"with {line[:_SHOWN_CHARACTERS]!a}")
    text = _storable(line).lstrip()
    if not text:
        raise SkipError("blank line")
    pairs = [text.split("\t", 1), _SEPARATOR.split(text, maxsplit=1)]
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        pairs.append([quoted["path"], quoted["label"]])
    annotations = [annotation for pair in pairs if len(pair) > 1
                   for annotation in _annotations(pair[0].rstrip(), pair[1])]
    if not annotations:
        raise SkipError("no label field", f"expected `path label`, got {shorten(text)!r}")
    return list(dict.fromkeys(annotations))


def csv_entries(path: str, options: AnnotationOptions) -> Iterator[Entry]:
    """Yields the entries of a CSV file whose first line names its columns; a row is one line.

    Raises:
        AocrError: The first line names no columns of paths and labels.
    """
    lines = enumerate(read_lines(path), 1)
    header = next((line for _, (_, line) in lines if line.strip()), "")
    columns = find_columns(header, options)
    if columns is None:
        raise AocrError(f"the first line of {path} must name the columns of paths and labels, as "
                        f"in `file_name,text`, got {shorten(header.strip())!r}; name them there, "
                        "or with --path-column and --label-column")
    for number, (position, line) in lines:
        yield Entry(number, position, partial(_parse_row, line, columns))


class Columns(NamedTuple):
    """Delimiter of a table, and the positions of its paths and labels in a row."""

    delimiter: str
    path: int
    label: int


def find_columns(header: str, options: AnnotationOptions) -> Columns | None:
    """Returns the columns that the first line of a table names; `None` if it does not."""
    for delimiter in DELIMITERS:
        try:
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        except csv.Error:
            continue
        path, label = _find_names(names, options)
        if path is not None and label is not None:
            return Columns(delimiter, names.index(path), names.index(label))
    return None


def _find_names(names: Sequence[str], options: AnnotationOptions) -> tuple[str | None, str | None]:
    """Returns the names of the path and the label among those of columns or JSON keys."""
    return (_find_name(names, options.path_column, _PATH_COLUMNS),
            _find_name(names, options.label_column, _LABEL_COLUMNS))


def _find_name(names: Sequence[str], chosen: str | None, usual: Sequence[str]) -> str | None:
    if chosen is not None:
        return chosen if chosen in names else None
    by_usual_name = {re.sub(r"[\s-]", "_", name.lower()): name for name in reversed(names)}
    return next((by_usual_name[name] for name in usual if name in by_usual_name), None)


def _parse_row(line: str, columns: Columns) -> list[Annotation]:
    """Parses a line on its own: a quote without its end must not take in the lines that follow."""
    try:
        row = next(csv.reader([line], delimiter=columns.delimiter, strict=True), [])
    except csv.Error as error:
        _refuse_nul(line)  # csv of Python 3.10 refuses NUL, with a message of its own
        raise SkipError("malformed row", f"{error}, in {shorten(line)!r}") from error
    if not any(row):
        raise SkipError("blank line")
    expected = max(columns.path, columns.label) + 1
    if len(row) < expected:
        raise SkipError("missing column", f"expected at least {expected} columns, got {len(row)}")
    return _annotations(row[columns.path].strip(), row[columns.label])


def jsonl_entries(path: str, options: AnnotationOptions) -> Iterator[Entry]:
    """Yields the entries of a file with a JSON object per line."""
    for number, (position, line) in enumerate(read_lines(path), 1):
        yield Entry(number, position, partial(_parse_object, line, options))


def _parse_object(line: str, options: AnnotationOptions) -> list[Annotation]:
    if not line.strip():
        raise SkipError("blank line")
    value = parse_json(line)
    if not isinstance(value, dict):
        raise SkipError("not a JSON object", shorten(ascii(line)))
    path_name, label_name = _find_names(list(value), options)
    if path_name is None or label_name is None:
        raise SkipError("missing key", "expected a path and a label, such as `file_name` and "
                        f"`text`, got {shorten(ascii(', '.join(value)))}")
    path, label = value[path_name], value[label_name]
    if not isinstance(path, str) or not isinstance(label, str):
        raise SkipError("not text", f"expected text for {path_name} and {label_name}, got "
                        f"{shorten(ascii(path))} and {shorten(ascii(label))}")
    return _annotations(path, label)


def parse_json(text: str) -> Any:  # noqa: ANN401  # any JSON value
    """Returns the value of a JSON text.

    Raises:
        SkipError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SkipError("not JSON", str(error)) from error


def label_file_entries(directory: str, _options: AnnotationOptions) -> Iterator[Entry]:
    """Yields the images of a directory with their label files, and files without counterpart."""
    for number, (image, label_file) in enumerate(pair_label_files(directory), 1):
        if image is None:
            parse = partial(_refuse, "missing file", f"no image beside {label_file}")
        elif label_file is None:
            parse = partial(_refuse, "no label file", f"no {LABEL_FILE} file beside {image}")
        else:
            parse = partial(_parse_label_file, tf.io.gfile.join(directory, image),
                            tf.io.gfile.join(directory, label_file))
        yield Entry(number, number, parse)


def pair_label_files(directory: str) -> list[tuple[str | None, str | None]]:
    """Returns each image of a directory and its label file, then the label files without image."""
    names = sorted(name for name in tf.io.gfile.listdir(directory) if not name.startswith("."))
    label_files = {name for name in names if name.endswith(LABEL_FILE)}
    pairs: list[tuple[str | None, str | None]] = []
    for image in filter(has_image_extension, names):
        base = os.path.splitext(image)[0]
        # OCRopus and Calamari name a binarized image 1.bin.png, and its label file 1.gt.txt.
        candidates = (base + LABEL_FILE, os.path.splitext(base)[0] + LABEL_FILE)
        pairs.append((image, next((name for name in candidates if name in label_files), None)))
    unused = label_files - {label_file for _, label_file in pairs}
    return pairs + [(None, label_file) for label_file in sorted(unused)]


def _parse_label_file(image: str, label_file: str) -> list[Annotation]:
    try:
        with tf.io.gfile.GFile(label_file, "rb") as file:
            label = file.read(_MAX_LINE_CHARACTERS).decode("utf-8-sig").strip()
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise SkipError("unreadable label file", f"{label_file}: {reason(error)}") from error
    if len(re.split(r"\r\n|\r|\n", label)) > 1:
        raise SkipError("several lines", f"expected one line in {label_file}")
    return [Annotation(_storable(image), normalize(_storable(label)))]


def _annotations(path: str, label: str) -> list[Annotation]:
    """Returns path and label; on POSIX systems, also with `/` in place of backslashes."""
    paths = dict.fromkeys((path, path.replace("\\", "/") if os.sep == "/" else path))
    label = normalize(_storable(label).strip())
    return [Annotation(_storable(path), label) for path in paths]


def _storable(text: str) -> str:
    """Returns a text unchanged; raises `SkipError` if it is not UTF-8 or contains NUL."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SkipError("not UTF-8", f"character {error.start} of {shorten(ascii(text))}"
                        ) from error
    _refuse_nul(text)
    return text


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        raise SkipError("NUL character", f"in {shorten(text)!r}; annotations are UTF-8 text")


def _refuse(reason: str, detail: str) -> list[Annotation]:
    raise SkipError(reason, detail)


def shorten(text: str) -> str:
    """Returns a text, or the start of a long one with its length."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"
