"""One dataset in several files: their names, and which line of the annotations goes to which."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aocr.errors import AocrError

MOST = 99_999  # as many as five digits can name


@dataclass(frozen=True)
class Sharding:
    """How many files, and which of them are made now.

    Lines are dealt in turn by their numbers, whatever becomes of them: a job that makes one
    file reads no image of the others, and their records are mixed.

    Attributes:
        count: Files of the dataset; `None` for one under the name of the output itself.
        index: The only one to make, from 0; `None` for all.

    Raises:
        AocrError: The index does not fit the count.
    """

    count: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MOST:
            raise AocrError(f"--shards must be from 1 to {MOST}, got {self.count}")
        if self.index is not None and self.count is None:
            raise AocrError("--shard-index needs --shards, the number of files in all")
        if self.index is not None and not 0 <= self.index < (self.count or 1):
            raise AocrError(f"--shard-index must be from 0 to {(self.count or 1) - 1} with "
                            f"--shards {self.count}, got {self.index}")

    def paths(self, output: str) -> list[str]:
        """The files to make: `name.tfrecords` → `name-00000-of-00004.tfrecords` and so on."""
        if self.count is None:
            return [output]
        made = range(self.count) if self.index is None else [self.index]
        return [self._named(output, f"{n:05}") for n in made]

    def pattern(self, output: str) -> str:
        """The name or the glob of the whole dataset."""
        return output if self.count is None else self._named(output, "*")

    def takes(self, line: int) -> bool:
        """Whether a line, counted from 1, is made into a record now."""
        return self.index is None or self._shard(line) == self.index

    def place(self, line: int) -> int:
        """Which of `paths` a line that is taken goes to."""
        return 0 if self.index is not None else self._shard(line)

    def _shard(self, line: int) -> int:
        return (line - 1) % (self.count or 1)

    def _named(self, output: str, number: str) -> str:
        stem, ending = os.path.splitext(output)
        return f"{stem}-{number}-of-{self.count:05}{ending}"
