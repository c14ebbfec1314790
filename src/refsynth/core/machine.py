"""The machine that this runs on: its cores and the instructions that decide how fast small models are."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512f", "avx2")
"""What products of 8-bit integers are made with, the fastest first."""

FLAGS = ("avx512_bf16", "amx_bf16", *INT8)


def cores() -> int:
    """Return the cores that this process may use, which in a container can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instructions(source: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return which of `FLAGS` the processor has; none where the system does not tell."""
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return []
    found = set(re.findall(r"\w+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)[:1])))
    return [flag for flag in FLAGS if flag in found]


def describe_machine() -> str:
    """Return a short description of the machine, without its name; what is timed on another is not comparable."""
    fastest = next((flag for flag in INT8 if flag in instructions()), "")
    kind = " ".join(part for part in (platform.machine(), fastest) if part)
    return f"{kind}, {cores()} cores, Python {platform.python_version()}"
