"""Loads the newest of the numbered versions in a directory and replaces it by newer ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import tensorflow as tf

from aocr.checkpoints import built_in
from aocr.errors import AocrError, reason
from aocr.inference.saved_model import MAX_VERSION, is_saved_model
from aocr.runtime import filesystem
from aocr.runtime.console import log
from aocr.serving.errors import ErrorCode, RequestError
from aocr.serving.metrics import ServerMetrics
from aocr.serving.servable import Servable

LOADING, AVAILABLE, UNLOADING, END = "LOADING", "AVAILABLE", "UNLOADING", "END"
_MAX_ENDED = 16  # statuses of unloaded and broken versions that are kept
_DRAIN_POLL_SECONDS = 0.01
Fingerprint = tuple[tuple[str, int, int], ...]
_T = TypeVar("_T")


@dataclass(frozen=True)
class VersionStatus:
    """Status of a version.

    Attributes:
        state: `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: Reason why it could not be loaded; empty if there was no error.
    """

    state: str
    error: str = ""


class VersionManager:
    """Serves the newest version of a model that can be loaded.

    Args:
        base: The base directory, which holds the numbered versions.
        name: Name of the model in requests.
        metrics: Receives the served version.

    Attributes:
        statuses: Status of each known version, newest first.
    """

    def __init__(self, base: str, name: str, metrics: ServerMetrics) -> None:
        self.statuses: dict[int, VersionStatus] = {}
        self._base = base
        self._name = name
        self._metrics = metrics
        self._current: Servable | None = None
        self._broken: dict[int, Fingerprint] = {}
        self._ignored: set[int] = set()
        self._thread = ThreadPoolExecutor(1, "versions")

    async def start(self) -> None:
        """Loads the newest version that can be served.

        Raises:
            AocrError: There is none.
        """
        if not await self._in_thread(self._find_versions):
            raise AocrError(_no_version(self._base))
        while self._current is None and await self.poll():
            continue
        if self._current is None:
            newest = max(self.statuses)
            raise AocrError(f"no version in {self._base} can be served; "
                            f"{self.statuses[newest].error}")

    async def watch(self, seconds: float) -> None:
        """Polls for newer versions until it is cancelled.

        Args:
            seconds: Interval between two polls.
        """
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.poll()
            except (AocrError, tf.errors.OpError, OSError) as error:
                log.error(f"cannot check {self._base} for new versions: {error}")

    async def poll(self) -> bool:
        """Tries to load the newest version that is not served and not known to be broken.

        Returns:
            Whether there was such a version, loaded or not.
        """
        paths = await self._in_thread(self._find_versions)
        for version in sorted(paths, reverse=True):
            if self._current is not None and version == self._current.version:
                return False
            if version in self._broken and self._broken[version] == await self._in_thread(
                    _fingerprint, paths[version]):
                continue
            await self._load(paths[version], version)
            return True
        return False

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None) -> Iterator[Servable]:
        """Yields the served version, which stays loaded as long as the context lasts.

        Args:
            name: Requested name of the model.
            version: Requested version; `None` for the one that is served.

        Raises:
            RequestError: Another model or version is requested.
        """
        current = self._current
        if current is None or name != self._name or version not in (None, current.version):
            requested = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(ErrorCode.NOT_FOUND, f"Servable not found for request: {requested}")
        current.users += 1
        try:
            yield current
        finally:
            current.users -= 1

    def find_statuses(self, name: str, version: int | None) -> dict[int, VersionStatus]:
        """Returns the statuses of all known versions, or of one.

        Raises:
            RequestError: The model or the version is unknown.
        """
        known = self.statuses if name == self._name else {}
        if version is None and known:
            return known
        if version in known:
            return {version: known[version]}
        requested = "any versions" if version is None else f"version {version}"
        raise RequestError(ErrorCode.NOT_FOUND, f"Could not find {requested} of model {name}")

    def close(self) -> None:
        """Stops the thread that loads versions."""
        self._thread.shutdown()

    def _find_versions(self) -> dict[int, str]:
        """Returns the path of each version; warns once of a number that cannot be served."""
        paths = find_versions(self._base)
        too_large = {version for version in paths if version > MAX_VERSION}
        for version in sorted(too_large - self._ignored):
            log.warning(f"Ignoring {paths[version]}: expected a version of at most {MAX_VERSION}")
        self._ignored |= too_large
        return {version: path for version, path in paths.items() if version not in too_large}

    async def _load(self, path: str, version: int) -> None:
        self._set_status(version, VersionStatus(LOADING))
        fingerprint = await self._in_thread(_fingerprint, path)
        try:
            loaded = await self._in_thread(Servable, path, version)
        except (AocrError, tf.errors.OpError, OSError, MemoryError) as error:
            problem = reason(error)
            self._broken[version] = fingerprint
            self._set_status(version, VersionStatus(END, problem))
            log.error(f"Version {version} cannot be served: {problem}")
            return
        self._broken.pop(version, None)
        previous, self._current = self._current, loaded
        self._set_status(version, VersionStatus(AVAILABLE))
        self._metrics.version.set(version)
        log.info(f"Serving version {version} from {path}")
        if previous is not None:
            await self._unload(previous)

    async def _unload(self, servable: Servable) -> None:
        """Unloads a version as soon as no request uses it."""
        self._set_status(servable.version, VersionStatus(UNLOADING))
        while servable.users:
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        servable.unload()
        await self._in_thread(gc.collect)  # the objects of a SavedModel form reference cycles
        self._set_status(servable.version, VersionStatus(END))
        log.info(f"Unloaded version {servable.version}")

    def _set_status(self, version: int, status: VersionStatus) -> None:
        statuses = {**self.statuses, version: status}
        newest_first = sorted(statuses, reverse=True)
        ended = [number for number in newest_first if statuses[number].state == END]
        dropped = ended[_MAX_ENDED:]
        self.statuses = {number: statuses[number] for number in newest_first
                         if number not in dropped}

    async def _in_thread(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def find_versions(base: str) -> dict[int, str]:
    """Returns the path of each numbered version in a base directory.

    Raises:
        AocrError: There is no such directory.
    """
    if not tf.io.gfile.isdir(base):
        if base in built_in.names():
            raise AocrError(f"{base} is a built-in model; export it first, with `aocr export "
                            f"DIRECTORY --model-dir {base} --model-version 1`")
        raise AocrError(f"no directory {base}; `aocr export --model-version 1 {base}` creates it")
    return filesystem.numbered_dirs(base)


def _no_version(base: str) -> str:
    if is_saved_model(base):
        return (f"{base} is itself a SavedModel; expected a directory of numbered versions, as "
                "`aocr export --model-version 1` writes it")
    return (f"no version in {base}; expected directories named 1, 2, …, as "
            "`aocr export --model-version 1` writes them")


def _fingerprint(path: str) -> Fingerprint:
    """Returns names, lengths and times of all files; when they change, loading is retried."""
    files = []
    with contextlib.suppress(tf.errors.OpError):  # removed, or not readable, which `_load` reports
        for directory, _, names in tf.io.gfile.walk(path):
            for name in names:
                stat = tf.io.gfile.stat(tf.io.gfile.join(directory, name))
                files.append((f"{directory}/{name}", int(stat.length), int(stat.mtime_nsec)))
    return tuple(sorted(files))
