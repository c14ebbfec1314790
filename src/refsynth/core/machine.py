"""The machine that this runs on: its cores and the instructions that decide how fast small models are."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512f", "avx2")
"""Instructions for products of 8-bit integers, the fastest first."""

FLAGS = ("avx512_bf16", "amx_bf16", *INT8)


def cores() -> int:
    """Return the number of cores that this process may use; in a container it can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instructions(source: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the `FLAGS` that the processor has; none if the system does not tell."""
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return []
    flags = set(re.findall(r"\w+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)[:1])))
    return [flag for flag in FLAGS if flag in flags]


def describe_machine() -> str:
    """Return a short description of the machine, without its name. Times from different machines are not comparable."""
    fastest = next((flag for flag in INT8 if flag in instructions()), "")
    kind = " ".join(part for part in (platform.machine(), fastest) if part)
    return f"{kind}, {cores()} cores, Python {platform.python_version()}"
