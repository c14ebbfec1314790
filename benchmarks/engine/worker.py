"""Peers that want other versions than ours: an environment of their own, and a process there that takes turns with this one."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from refsynth.core.errors import RefsynthError

HANDLER = Path(__file__).parent / "handlers" / "theirs.py"
PACKAGES = (
    "transformers<5",
    "huggingface-hub<1",
    "tokenizers<0.23",
    "optimum>=2",
    "optimum-onnx",
    "sentence-transformers<6",
    "datasets<4",
)
"""Without their dependencies: torch, ONNX and ONNX Runtime are ours, so that all sides run the same."""

INSTALL = 900.0

Pass = Callable[[Sequence[str], bool], float]
"""Seconds for texts, together or one at a time."""


class PeerError(RefsynthError):
    """A peer that cannot be had here."""


def environment(folder: Path) -> Path:
    """Return the interpreter of an environment with `PACKAGES`, which is made with pip where it is not there yet.

    Raises:
        PeerError: pip could not install them.
    """
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python.absolute()
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{', '.join(PACKAGES)}: cannot be installed ({type(error).__name__})") from error
    site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")  # comes after its own packages
    (folder / "ready").touch()
    return python.absolute()


@contextmanager
def peers(encoder: Path, work: Path, *, threads: int, max_tokens: int) -> Iterator[dict[str, Pass]]:
    """Yield the sides of the worker, which is up as long as the context is.

    Raises:
        PeerError: it does not come up.
    """
    work.mkdir(parents=True, exist_ok=True)
    command = [str(environment(work / "venv")), str(HANDLER), str(encoder), str(work), str(threads), str(max_tokens)]
    with (work / "worker.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield {name: partial(_pass, process, name) for name in _reply(process, work)["sides"]}
        finally:
            process.kill()
            process.communicate()


def _pass(process: subprocess.Popen[str], side: str, texts: Sequence[str], one: bool) -> float:
    assert process.stdin is not None
    print(json.dumps({"side": side, "texts": list(texts), "one": one}), file=process.stdin, flush=True)
    return float(_reply(process, Path())["seconds"])


def _reply(process: subprocess.Popen[str], work: Path) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise PeerError(f"the worker of the peers ended; its log is {work / 'worker.log'}")
    return json.loads(line)
