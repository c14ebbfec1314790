"""`refsynth serve`, and its workers, without one thing that it does beyond stock uvicorn: `python -P FILE TRICK BUNDLE ...`.

`none` leaves nothing out. `supervisor` serves with uvicorn's own processes. Texts may break the model, see `meddled`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

BUNDLE = "REFSYNTH_BENCH_BUNDLE"
"""Names the bundle for processes that uvicorn starts."""
DEADLINE = 2.0


class _PoolThread:
    """The standard library's thread, where refsynth has one of its own."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return a future for what the function returns or raises."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)


def _nothing(*_: Any) -> None:
    """Stands where the trick was."""


def leave_out(trick: str) -> None:
    """Take a trick out of this process.

    Raises:
        KeyError: there is no such trick.
    """
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from refsynth.service.http import app, batching, front, progress, protocol, worker

    bounded: Any = protocol.BoundedProtocol
    guards: Any = import_module("refsynth.cli.guards")
    made, limiter = bounded.connection_made, guards.SharedLimiter

    def with_addresses(self: Any, transport: Any) -> None:
        HttpToolsProtocol.connection_made(self, transport)
        made(self, transport)

    changes: dict[str, list[tuple[Any, str, Any]]] = {
        "none": [],
        "scheduler": [(worker, "_be_patient", _nothing)],
        "collector": [(worker, "_settle_memory", _nothing)],
        "early refusal": [(front.Front, "refuse_early", _nothing)],
        "no addresses": [(bounded, "connection_made", with_addresses)],
        "bounded protocol": [(worker, "BoundedProtocol", HttpToolsProtocol)],
        "short way": [(app, "dispatch", lambda api, hot, *call: api(*call))],
        "own thread": [(batching, "ModelThread", _PoolThread)],
        "uvloop": [(worker, "uvloop", asyncio)],
        "packet filter": [(worker, "refuse_new", _nothing)],
        "last accept": [(worker, "refuse_new", _nothing), (worker, "accept_waiting", lambda listener: [])],
        "shared quotas": [(guards, "SharedLimiter", lambda path: limiter(path.with_name(f"quotas-{os.getpid()}")))],
        "own clock": [(progress, "_waited", lambda process: {})],
        "supervisor": [],
    }
    for where, name, instead in changes[trick]:
        getattr(where, name)  # what is stripped has to be there
        setattr(where, name, instead)


def stock() -> Any:
    """Return the application, for a process that uvicorn started; called in its event loop."""
    from refsynth.service.http.app import build_app
    from refsynth.service.http.engine import LoadedBundle
    from refsynth.service.http.interfaces import Guards
    from refsynth.service.http.service import Service
    from refsynth.service.http.settings import Settings

    _meddle()
    settings = Settings.of(bundle=Path(os.environ[BUNDLE]), workers=2, deadline=DEADLINE, log_requests=False)
    return build_app(Service(settings, LoadedBundle.open(settings.bundle, threads=settings.threads_each), Guards()))


def _meddle() -> None:
    from refsynth.bundle.model import Model

    sys.path.append(str(Path(__file__).parent))
    Model.answer = import_module("meddled").answer  # type: ignore[method-assign]


def _serve_stock(bundle: str) -> None:
    import socket

    import uvicorn

    from refsynth.service.http.logs import event
    from refsynth.service.http.protocol import BoundedProtocol

    os.environ[BUNDLE] = bundle
    sys.path.append(str(Path(__file__).parent))
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    event("serving", port=port)
    uvicorn.run(
        "stripped:stock",
        factory=True,
        http=BoundedProtocol,
        ws="none",
        port=port,
        workers=2,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_worker_healthcheck=2,
        timeout_graceful_shutdown=5,
    )


def _serve(trick: str, *options: str) -> None:
    from refsynth.cli.app import app
    from refsynth.service.http import supervisor

    class Stripped(supervisor.Supervisor):
        """Starts workers that lack the trick too."""

        def __init__(self, settings: Any, *, command: Any, **rest: Any) -> None:
            super().__init__(settings, command=(sys.executable, "-P", __file__, trick), **rest)

    supervisor.Supervisor = Stripped  # type: ignore[misc]
    app(["serve", *options])


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from refsynth.service.http.logs import configure

    configure()
    leave_out(sys.argv[1])
    if sys.argv[1] == "supervisor":
        _serve_stock(sys.argv[2])
    elif sys.argv[2].isdecimal():  # a worker
        from refsynth.cli.guards import compose
        from refsynth.service.http.worker import main

        _meddle()
        main(int(sys.argv[2]), int(sys.argv[3]), compose)
    else:
        _serve(*sys.argv[1:])
