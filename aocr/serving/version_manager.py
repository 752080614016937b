"""The numbered folders under a base path: the newest is served, and a newer one takes its place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aocr.errors import AocrError
from aocr.runtime import filesystem
from aocr.runtime.console import log
from aocr.serving.errors import ErrorCode, RequestError
from aocr.serving.metrics import ServerMetrics
from aocr.serving.servable import Servable

LOADING, AVAILABLE, UNLOADING, END = "LOADING", "AVAILABLE", "UNLOADING", "END"
_REMEMBERED = 16
_DRAIN_STEP = 0.01
Print = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Status:
    """What is told of a version.

    Attributes:
        state: `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: Why it could not be loaded; empty if all is well.
    """

    state: str
    error: str = ""


class VersionManager:
    """Which version is served, and the way from one to the next.

    Args:
        base: The base path.
        name: The model's name, for error texts.
        monitoring: Where the version is told.

    Attributes:
        statuses: What became of each version, newest first.
    """

    def __init__(self, base: str, name: str, monitoring: ServerMetrics) -> None:
        self.statuses: dict[int, Status] = {}
        self._base = base
        self._name = name
        self._monitoring = monitoring
        self._current: Servable | None = None
        self._broken: dict[int, Print] = {}
        self._thread = ThreadPoolExecutor(1, "versions")

    async def start(self) -> None:
        """Loads the newest version that can be served.

        Raises:
            AocrError: There is none.
        """
        numbers = await self._in_thread(find_versions, self._base)
        if not numbers:
            raise AocrError(_no_version(self._base))
        while self._current is None and await self.look():
            continue
        if self._current is None:
            newest = max(self.statuses)
            raise AocrError(f"no version in {self._base} can be served; "
                            f"{self.statuses[newest].error}")

    async def watch(self, seconds: float) -> None:
        """Looks for newer versions until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except (AocrError, tf.errors.OpError, OSError) as error:
                log.error(f"cannot look for versions in {self._base}: {error}")

    async def look(self) -> bool:
        """Takes one step towards the newest version; tells whether there was one to take."""
        folders = await self._in_thread(find_versions, self._base)
        for number in sorted(folders, reverse=True):
            if self._current is not None and number == self._current.version:
                return False
            if number in self._broken and self._broken[number] == await self._in_thread(
                    _print, folders[number]):
                continue
            await self._switch(folders[number], number)
            return True
        return False

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None) -> Iterator[Servable]:
        """The served version, kept in memory for as long as the lease lasts.

        Raises:
            RefusalError: Another model or version is not served here.
        """
        current = self._current
        if current is None or name != self._name or version not in (None, current.version):
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(ErrorCode.NOT_FOUND, f"Servable not found for request: {asked}")
        current.users += 1
        try:
            yield current
        finally:
            current.users -= 1

    def told(self, name: str, version: int | None) -> dict[int, Status]:
        """Statuses of all versions, or of one.

        Raises:
            RefusalError: Nothing is known of the model or version.
        """
        known = self.statuses if name == self._name else {}
        if version is None and known:
            return known
        if version in known:
            return {version: known[version]}
        asked = "any versions" if version is None else f"version {version}"
        raise RequestError(ErrorCode.NOT_FOUND, f"Could not find {asked} of model {name}")

    def close(self) -> None:
        """Ends the thread that loads."""
        self._thread.shutdown()

    async def _switch(self, folder: str, number: int) -> None:
        self._tell(number, Status(LOADING))
        before = await self._in_thread(_print, folder)
        try:
            loaded = await self._in_thread(Servable, folder, number)
        except AocrError as error:
            self._broken[number] = before
            self._tell(number, Status(END, str(error)))
            log.error(f"Version {number} cannot be served: {error}")
            return
        self._broken.pop(number, None)
        old, self._current = self._current, loaded
        self._tell(number, Status(AVAILABLE))
        self._monitoring.version.set(number)
        log.info(f"Serving version {number} from {folder}")
        if old is not None:
            await self._retire(old)

    async def _retire(self, old: Servable) -> None:
        self._tell(old.version, Status(UNLOADING))
        while old.users:
            await asyncio.sleep(_DRAIN_STEP)
        old.unload()
        await self._in_thread(gc.collect)  # a SavedModel's objects refer to each other
        self._tell(old.version, Status(END))
        log.info(f"Unloaded version {old.version}")

    def _tell(self, number: int, status: Status) -> None:
        statuses = {**self.statuses, number: status}
        kept = sorted(statuses, reverse=True)
        ended = [each for each in kept if statuses[each].state == END][_REMEMBERED:]
        self.statuses = {each: statuses[each] for each in kept if each not in ended}

    async def _in_thread(self, function: Any, *args: object) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def find_versions(base: str) -> dict[int, str]:
    """The numbered folders in a base path.

    Raises:
        AocrError: There is no such folder.
    """
    if not tf.io.gfile.isdir(base):
        raise AocrError(f"no folder {base}; `aocr export --model-version 1 {base}` makes one")
    return filesystem.numbered_dirs(base)


def _no_version(base: str) -> str:
    if tf.io.gfile.exists(tf.io.gfile.join(base, "saved_model.pb")):
        return (f"{base} is itself a SavedModel; a server takes a folder with numbered versions, "
                "as `aocr export --model-version 1` writes it")
    return (f"no version in {base}: expected folders named 1, 2, …, as "
            "`aocr export --model-version 1` writes them")


def _print(folder: str) -> Print:
    """Names, lengths and times of the files; another print means another try is worth it."""
    found = []
    for path, _, names in tf.io.gfile.walk(folder):
        for name in names:
            stat = tf.io.gfile.stat(tf.io.gfile.join(path, name))
            found.append((f"{path}/{name}", int(stat.length), int(stat.mtime_nsec)))
    return tuple(sorted(found))
