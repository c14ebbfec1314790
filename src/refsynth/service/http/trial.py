"""Try a bundle in its own process before any worker opens it. Whatever goes wrong there refuses the bundle, with a reason.

A bundle may come from anywhere: its tokenizer may crash the process or never return, its graph may loop or use all memory. The
trial opens the copy that workers will open, checks its golden answers and makes it read hard texts, within limits of memory,
processor time and wall-clock time. It has the environment and the libraries of a worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refsynth.core.errors import BundleError, RefsynthError
from refsynth.core.pair import join_pair
from refsynth.service.http.settings import Settings

COMPUTING = 30
"""Seconds of processor time for every bundle."""
BYTES_A_SECOND = 50 << 20
"""A bundle gets one more second for this many of its bytes."""
MEMORY = 2 << 30
"""Bytes of memory for every bundle; it gets `TIMES` its size more."""
TIMES = 8
RUNS = ("a", "A", "0", "-", ".", "_", "é", "中", "a ", "a-", "0 ", "0.")
"""The hard texts repeat one of these: a pattern that backtracks over a text shows it on one of them."""
END = "!"
SHORT = (32, 512)
"""Characters of the shorter runs, which come before the longest: tokens beyond the maximum are never read."""


class TrialError(BundleError):
    """The bundle was refused. `exit_code` is that of the reason."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


async def try_bundle(folder: Path, settings: Settings) -> str:
    """Try a bundle and return its version.

    Raises:
        TrialError: the bundle is not fit to serve; the message says why.
    """
    limits = (settings.threads_each, settings.characters)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "refsynth.service.http.trial", str(folder), *map(str, limits)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,  # a library's error output may quote a text
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), settings.start)
    except TimeoutError:
        raise TrialError(f"the bundle was not ready after {settings.start:g} s", 3) from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    result = _parse(output)
    if "version" not in result:
        raise TrialError(result.get("refused") or _reason(process.returncode), result.get("exit_code", 3))
    return str(result["version"])


def _parse(output: bytes) -> dict[str, Any]:
    try:
        result = json.loads(output)
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def _reason(code: int | None) -> str:
    """Return why a trial without output ended, by its exit code."""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "the bundle's trial did not end and was killed"
    how = f"signal {-code} ({signal.Signals(-code).name})" if code is not None and code < 0 else f"exit code {code}"
    return f"the bundle crashed its trial process ({how})"


def hard_texts(characters: int) -> Iterator[str]:
    """Yield hard texts of the maximum length that a server takes."""
    for run in RUNS:
        yield "".join((run * length)[:length] + END for length in (*SHORT, characters))[:characters]


def _limit(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = COMPUTING + size // BYTES_A_SECOND
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_DATA: MEMORY + TIMES * size, resource.RLIMIT_CORE: 0}
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _try(folder: Path, threads: int, characters: int) -> dict[str, Any]:
    from refsynth.service.http.engine import LoadedBundle

    try:
        loaded = LoadedBundle.open(folder, threads=threads)
        pairs = loaded.model.manifest.pairs
        for text in hard_texts(characters):
            loaded.model.predict([join_pair(text, text) if pairs else text])
    except RefsynthError as error:
        return {"refused": str(error), "exit_code": error.exit_code}
    except MemoryError:
        return {"refused": "the bundle needs more memory than its size explains", "exit_code": 3}
    except BaseException as error:  # noqa: BLE001 - a library's panic is not an Exception; its message may quote a text
        return {"refused": f"the bundle fails when it is tried ({type(error).__name__})", "exit_code": 3}
    return {"version": loaded.version}


if __name__ == "__main__":
    _limit(Path(sys.argv[1]))
    os.write(1, json.dumps(_try(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))).encode())
    os._exit(0)
