"""`refsynth serve` with a model that texts can break. Takes the options that `serving` gives and those of `Settings`.

`poison` fails its batch, `exit` ends the process, `hang` never returns, `broken` makes all that follow fail.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from refsynth.bundle.model import Answered, Model

POISON, EXIT, HANG, BROKEN = "poison", "exit", "hang", "broken"

_answer = Model.answer
_broken = False


def answer(model: Model, texts: Sequence[str], *, shallow: bool = False) -> Answered:
    """Do what a text asks for, or answer."""
    global _broken
    if HANG in texts:
        time.sleep(1e6)
    if EXIT in texts:
        os._exit(9)
    _broken = _broken or BROKEN in texts
    if _broken or any(text.startswith(POISON) for text in texts):
        raise RuntimeError
    return _answer(model, texts, shallow=shallow)


def _serve(bundle: str, *options: str) -> None:
    from refsynth.service.http.settings import Settings
    from refsynth.service.http.supervisor import Supervisor

    chosen = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    settings = Settings.of(bundle=Path(bundle), log_requests=False, **chosen)
    asyncio.run(Supervisor(settings, command=(sys.executable, "-P", __file__), guards={}).run())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from refsynth.service.http.interfaces import Guards
    from refsynth.service.http.logs import configure
    from refsynth.service.http.worker import main

    configure()
    if sys.argv[1].isdecimal():  # a worker: the descriptors of its socket and of its line to the supervisor
        Model.answer = answer  # type: ignore[method-assign, assignment]
        main(int(sys.argv[1]), int(sys.argv[2]), lambda options, shared: Guards())
    else:
        _serve(*sys.argv[1:])
