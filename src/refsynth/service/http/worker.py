"""A worker process: opens the bundle, serves on the socket that all workers share, and does what the supervisor says.

Signals are the supervisor's business; a worker ends when it is told to, or when the supervisor is gone. Accepted requests are
answered first:

    not ready -> (notice) -> no new connections -> every reply closes its connection -> nothing under way -> end
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from refsynth.core.errors import BundleError, RefsynthError
from refsynth.service.http.app import build_app
from refsynth.service.http.engine import LoadedBundle
from refsynth.service.http.front import Front
from refsynth.service.http.interfaces import Guards
from refsynth.service.http.link import Link, Message
from refsynth.service.http.listening import BACKLOG, accept_waiting, refuse_new
from refsynth.service.http.logs import event
from refsynth.service.http.protocol import KEEP_ALIVE, BoundedProtocol
from refsynth.service.http.service import Service
from refsynth.service.http.settings import Settings

THRESHOLDS = (20_000, 20, 100)
"""Of the garbage collector's generations: new objects until it looks at the youngest, and looks at each until the next is due."""
LINGER = 1.0
"""Seconds for which an idle connection stays open in a drain: a request may be on its way."""
SETTLE = 0.2
"""Seconds for a handshake to end, and again for a connection that was just taken to be known to the server."""

Compose = Callable[[Mapping[str, Any], Path], Guards]
"""Options, as the supervisor passed them on, and a folder that all workers share, to guards."""


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def run_worker(listener: socket.socket, channel: socket.socket, compose: Compose) -> None:
    """Serve until told to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal or a service manager sends them to the whole group
    link = await Link.over(channel)
    start = await link.receive()
    if start is None:
        return
    try:
        settings = Settings.of(**start["settings"])
        loaded = await asyncio.to_thread(_opened, Path(start["bundle"]), settings)
        options = {**start["guards"], "language": loaded.model.manifest.language}
        guards = compose(options, Path(start["shared"]))
        service = Service(
            settings, loaded, guards, beat=lambda: link.send(event="beat"), failing=lambda: link.send(event="failing")
        )
    except RefsynthError as error:
        link.send(event="failed", message=str(error), exit_code=error.exit_code)
        await link.close()
        return
    worker = Worker(service, link, listener)
    _settle_memory()
    await worker.run()
    await link.close()


def _settle_memory() -> None:
    """Take what is there to stay out of the garbage collector's sight, and have it look at the rest less often.

    Among half a million objects of libraries a full collection stops the server for 70 to 150 ms, in a flood every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Worker:
    """Serves, and obeys."""

    def __init__(self, service: Service, link: Link, listener: socket.socket) -> None:
        self._service, self._link, self._listener = service, link, listener
        self._front: Front = build_app(service)
        self._server = _Server(
            uvicorn.Config(
                self._front,
                http=BoundedProtocol,
                ws="none",
                loop="none",  # it runs in ours
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here asks for a client's address
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._prepared: LoadedBundle | None = None
        self._kept: LoadedBundle | None = None

    async def run(self) -> None:
        """Serve until the supervisor says `drain` (all workers end) or `retire` (this one does), or is gone."""
        while self._service.health.problems():  # the first canary
            await asyncio.sleep(0.01)
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.01)
        event("worker ready", version=self._service.engine.current.version)
        self._link.send(event="ready", version=self._service.engine.current.version)
        while (order := await self._link.receive()) is not None and order["do"] not in ("drain", "retire"):
            await self._obey(order)
        await self._drain(alone=order is not None and order["do"] == "retire")
        await serving
        await self._service.close()

    async def _obey(self, order: Message) -> None:
        match order["do"]:
            case "prepare":
                await self._prepare(Path(order["bundle"]), order["ticket"])
            case "commit" if self._prepared is not None:
                await self._commit(self._prepared, order["ticket"])
            case "revert" if self._kept is not None:
                self._service.switch(self._kept)
                self._link.send(reply="reverted", ticket=order["ticket"])
            case "forget":
                self._prepared = self._kept = None

    async def _prepare(self, folder: Path, ticket: int) -> None:
        """Open another bundle beside the one in use; opening it tests it."""
        try:
            self._prepared = await asyncio.to_thread(_opened, folder, self._service.settings)
        except RefsynthError as error:
            self._link.send(reply="refused", ticket=ticket, message=str(error))
        else:
            self._link.send(reply="prepared", ticket=ticket)

    async def _commit(self, bundle: LoadedBundle, ticket: int) -> None:
        """Serve the other bundle, and go back unless it answers through the queue as it should."""
        self._kept, self._prepared = self._service.engine.current, None
        self._service.switch(bundle)
        problem = await self._service.health.confirm()
        if problem is None:
            self._link.send(reply="switched", ticket=ticket)
        else:
            self._service.switch(self._kept)
            self._link.send(reply="refused", ticket=ticket, message=f"a worker that served the bundle went back: {problem}")

    async def _drain(self, *, alone: bool) -> None:
        loop, settings = asyncio.get_running_loop(), self._service.settings
        end = loop.time() + 0.9 * settings.drain  # the supervisor kills at the limit
        self._service.health.draining = True
        event("draining", inflight=self._front.inflight)
        await asyncio.sleep(0 if alone else settings.notice)
        await self._stop_accepting(alone=alone)
        linger = loop.time() + LINGER
        while loop.time() < end and (self._front.inflight or (self._server.server_state.connections and loop.time() < linger)):
            await asyncio.sleep(0.01)
        event("drained", inflight=self._front.inflight)
        self._server.should_exit = True

    async def _stop_accepting(self, *, alone: bool) -> None:
        """Take the connections that are made or in the making, and none after them: each may bring a request.

        Where this worker is `alone` in ending they wait in the socket, which others share.
        """
        loop, server = asyncio.get_running_loop(), self._server
        last: list[socket.socket] = []
        if not alone:
            refuse_new(self._listener)
            await asyncio.sleep(SETTLE)
            last = accept_waiting(self._listener)
        for each in server.servers:
            each.close()
        make = partial(BoundedProtocol, config=server.config, server_state=server.server_state, app_state={})
        for connection in last:
            with contextlib.suppress(OSError):  # it is gone already
                await loop.connect_accepted_socket(make, connection)
        await asyncio.sleep(SETTLE)


def _opened(folder: Path, settings: Settings) -> LoadedBundle:
    try:
        return LoadedBundle.open(folder, threads=settings.threads_each, threshold=settings.threshold)
    except RefsynthError:
        raise
    except BaseException as error:  # it passed its trial, and yet: whatever it is, the bundle in use stays
        raise BundleError(f"the bundle cannot be opened ({type(error).__name__})") from error


def _be_patient() -> None:
    """Let the threads of this process, all still to come, wait for the end of each other's time slices where they share a core.

    Otherwise each request that arrives takes the core from the middle of a matrix product and leaves it with cold caches, in a
    flood a thousand times a second (sched(7): a thread under SCHED_BATCH does not preempt when it wakes).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(listener: int, channel: int, compose: Compose) -> None:
    """Run a worker on two inherited descriptors: the listening socket and the line to the supervisor."""
    _be_patient()
    # Not asyncio's own loop: it takes many connections in a turn, or leaves them to the kernel, and each costs more.
    uvloop.run(run_worker(socket.socket(fileno=listener), socket.socket(fileno=channel), compose))
    logging.shutdown()
    os._exit(0)  # a model that never returns must not keep the process
