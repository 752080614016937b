"""Describes the machine: processor, cores, versions, load."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def facts() -> dict[str, Any]:
    """Processor, cores, instruction sets, versions, and how busy the machine is."""
    lines = _lines("/proc/cpuinfo")
    flags = set(lines.get("flags", "").split())
    return {
        "processor": lines.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "instruction_sets": [name for name in _TELLING if name in flags],
        "tensorflow": metadata.version("tensorflow"), "python": platform.python_version(),
        "load": os.getloadavg()[0]}


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return _kibibytes("VmRSS")


def peak() -> int:
    """Most bytes of memory that this process has held."""
    return _kibibytes("VmHWM")


def _kibibytes(name: str) -> int:
    return 1024 * int(_lines("/proc/self/status")[name].split()[0])


def _lines(path: str) -> dict[str, str]:
    """The first value of each name in a file of `name: value` lines; none where it is not there."""
    found: dict[str, str] = {}
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found
