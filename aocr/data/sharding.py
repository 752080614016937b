"""Sharding: names the files of a dataset, and assigns annotation lines to them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aocr.errors import AocrError

MAX_SHARDS = 99_999  # file names have five digits


@dataclass(frozen=True)
class Sharding:
    """The number of shards, and which of them to write.

    Lines go to the shards round robin by line number, usable or not. A process that writes one
    shard therefore reads none of the images of the others, and every shard is a sample of the whole
    annotation file.

    Attributes:
        count: Number of shards; `None` for one file with the name of the output itself.
        index: The only shard to write, from 0; `None` for all.

    Raises:
        AocrError: Count or index is out of range.
    """

    count: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_SHARDS:
            raise AocrError(f"--shards must be from 1 to {MAX_SHARDS}, got {self.count}")
        if self.index is not None and self.count is None:
            raise AocrError("--shard-index needs --shards, the total number of files")
        if self.index is not None and not 0 <= self.index < (self.count or 1):
            raise AocrError(f"--shard-index must be from 0 to {(self.count or 1) - 1} with "
                            f"--shards {self.count}, got {self.index}")

    def paths(self, output: str) -> list[str]:
        """Returns the files to write, such as `name-00000-of-00004.tfrecords`."""
        if self.count is None:
            return [output]
        indexes = range(self.count) if self.index is None else [self.index]
        return [self._shard_name(output, f"{index:05}") for index in indexes]

    def pattern(self, output: str) -> str:
        """Returns the name or the glob of the complete dataset."""
        return output if self.count is None else self._shard_name(output, "*")

    def includes(self, line: int) -> bool:
        """Returns whether a line, counted from 1, belongs to a shard that is written."""
        return self.index is None or self._shard_of(line) == self.index

    def file_of(self, line: int) -> int:
        """Returns the position in `paths` of the file that an included line goes to."""
        return 0 if self.index is not None else self._shard_of(line)

    def _shard_of(self, line: int) -> int:
        return (line - 1) % (self.count or 1)

    def _shard_name(self, output: str, index: str) -> str:
        stem, extension = os.path.splitext(output)
        return f"{stem}-{index}-of-{self.count:05}{extension}"
