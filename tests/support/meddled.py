"""A server whose model can be broken from outside: the text `hang` never returns, `exit` ends the process, `broken` fails.

`python meddled.py BUNDLE STATE` is the server, `python meddled.py LISTENER CHANNEL` (two numbers) one of its workers.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from refsynth.bundle.model import Model
from refsynth.cli.guards import compose
from refsynth.service.http.logs import configure
from refsynth.service.http.settings import Settings
from refsynth.service.http.supervisor import Supervisor
from refsynth.service.http.worker import main

broken = False
answer = Model.answer


def meddled(model, texts, **options):
    global broken
    if "hang" in texts:
        time.sleep(1000)
    if "exit" in texts:
        os._exit(9)
    broken = broken or "broken" in texts
    if broken:
        raise RuntimeError
    return answer(model, texts, **options)


if __name__ == "__main__":
    configure()
    if sys.argv[1].isdecimal():
        Model.answer = meddled
        main(int(sys.argv[1]), int(sys.argv[2]), compose)
    bundle, state = map(Path, sys.argv[1:])
    settings = Settings.of(bundle=bundle, state=state, port=0, hang=2, deadline=1.5, log_requests=False)
    asyncio.run(Supervisor(settings, command=(sys.executable, __file__), guards={}).run())
