"""The columns of an index of records: what is kept of each of what may be millions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aocr import scan
from aocr.containers import BYTES_AROUND, BYTES_BEFORE, Container
from aocr.scan import Scan

TYPES = {"file": np.int32, "number": np.int32, "offset": np.int64, "length": np.int32,
         "width": np.int32, "bucket": np.int16}


class Columns:
    """The columns of an index, filled in while several files are read at a time.

    Attributes:
        done: Records of each file that have been added.
    """

    def __init__(self, files: Sequence[Container]) -> None:
        self._files = files
        self._begins = np.cumsum([0, *(file.records for file in files)])
        self.done, self._bytes = [0] * len(files), [0] * len(files)
        self._columns = {name: np.zeros(self._begins[-1], kind)
                         for name, kind in TYPES.items()}
        self._used = np.zeros(self._begins[-1], bool)

    def add(self, one: Scan, widths: np.ndarray, used: np.ndarray) -> None:
        """Takes in the next records of a file, of which some may be used."""
        file, places = int(one.file), np.arange(1, len(used) + 1)
        after = one.lengths.astype(np.int64).cumsum() + BYTES_AROUND * places
        begin = self._begins[file] + self.done[file]
        here = slice(begin, begin + len(used))
        if here.stop > self._begins[file + 1]:
            raise scan.changed([self._files[file]])
        for name, values in {
                "file": file, "number": self.done[file] + places, "length": one.lengths,
                "offset": self._bytes[file] + after - one.lengths - (BYTES_AROUND - BYTES_BEFORE),
                "width": widths, "bucket": one.buckets}.items():
            self._columns[name][here] = values
        self._used[here] = used
        self.done[file] += len(used)
        self._bytes[file] += int(after[-1])

    def used(self) -> dict[str, np.ndarray]:
        """The columns of what may be used; they are given away."""
        gone = [file for file, done in zip(self._files, self.done, strict=True)
                if done < file.records]
        if gone:
            raise scan.changed(gone)
        if not self._used.all():
            for name in TYPES:
                self._columns[name] = self._columns[name][self._used]
        return self._columns
