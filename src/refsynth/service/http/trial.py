"""A bundle tried in a process of its own, before any worker opens it. Whatever happens there is a refusal with a reason.

A bundle may come from anywhere: its tokenizer may end a process or never return, its graph may loop or eat all memory. The trial
opens the copy that workers will open, has it give its golden answers and read texts that are hard to read, within limits of
memory, of computing and of time. Its environment and its libraries are those of a worker.
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
"""Seconds of computing for the smallest bundle."""
BYTES_A_SECOND = 50 << 20
"""A larger bundle gets a second more for this much."""
MEMORY = 2 << 30
"""Bytes for the smallest bundle; a larger one gets `TIMES` its size more."""
TIMES = 8
RUNS = ("a", "A", "0", "-", ".", "_", "é", "中", "a ", "a-", "0 ", "0.")
"""What the hard texts are runs of: a pattern that goes back over a text shows it on one of them."""
END = "!"
SHORT = (32, 512)
"""Characters of the runs before the longest: what is beyond the greatest number of tokens is never read."""


class TrialError(BundleError):
    """The bundle was refused. `exit_code` is that of the reason."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


async def tried(folder: Path, settings: Settings) -> str:
    """Return the version of a bundle that is fit to serve.

    Raises:
        TrialError: it is not; the message says why.
    """
    limits = (settings.threads_each, settings.characters)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "refsynth.service.http.trial", str(folder), *map(str, limits)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,  # a library's last words may quote a text
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), settings.start)
    except TimeoutError:
        raise TrialError(f"the bundle was not ready after {settings.start:g} s", 3) from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    found = _read(said)
    if "version" not in found:
        raise TrialError(found.get("refused") or _end(process.returncode), found.get("exit_code", 3))
    return str(found["version"])


def _read(said: bytes) -> dict[str, Any]:
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _end(code: int | None) -> str:
    """Say how a trial ended that has said nothing itself."""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "the bundle was tried in a process of its own and computed without an end"
    how = f"signal {-code} ({signal.Signals(-code).name})" if code is not None and code < 0 else f"exit code {code}"
    return f"the bundle was tried in a process of its own and ended it ({how})"


def hard_texts(characters: int) -> Iterator[str]:
    """Yield texts of the greatest length that a server takes."""
    for run in RUNS:
        yield "".join((run * length)[:length] + END for length in (*SHORT, characters))[:characters]


def _limit(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    seconds = COMPUTING + size // BYTES_A_SECOND
    for what, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, MEMORY + TIMES * size),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(what)
        resource.setrlimit(what, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


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
    except BaseException as error:  # noqa: BLE001 - a panic of a library is no Exception; its message may quote a text
        return {"refused": f"the bundle fails when it is tried ({type(error).__name__})", "exit_code": 3}
    return {"version": loaded.version}


if __name__ == "__main__":
    _limit(Path(sys.argv[1]))
    os.write(1, json.dumps(_try(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))).encode())
    os._exit(0)
