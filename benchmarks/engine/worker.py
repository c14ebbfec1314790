"""Peers that want other versions than ours: an environment of their own, and a process there that takes turns with this one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engine.speeds import Pass
from benchmarks.peer_env import PeerError, environment

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


@contextmanager
def peers(encoder: Path, work: Path, *, threads: int, max_tokens: int) -> Iterator[dict[str, Pass]]:
    """Yield the sides of the worker, which is up as long as the context is.

    Raises:
        PeerError: it does not come up.
    """
    work.mkdir(parents=True, exist_ok=True)
    command = [
        str(environment(work / "venv", PACKAGES, on_ours=True)),
        str(HANDLER),
        str(encoder),
        str(work),
        str(threads),
        str(max_tokens),
    ]
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
