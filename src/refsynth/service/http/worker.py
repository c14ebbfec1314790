"""A worker process: opens the bundle, serves on the socket that all workers share, and follows the supervisor's orders.

The supervisor handles signals. A worker ends when the supervisor tells it to or is gone. It first answers accepted requests:

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
"""The garbage collector's thresholds: new objects per collection of the youngest generation, then collections of each generation
per collection of the next."""
LINGER = 1.0
"""Seconds for which an idle connection stays open during a drain, because a request may be on its way."""
SETTLE = 0.2
"""Seconds for TCP handshakes to end, and again for the server to register the connections that were just accepted."""

Compose = Callable[[Mapping[str, Any], Path], Guards]
"""Builds the guards from options, which come from the supervisor, and a folder that all workers share."""


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


async def run_worker(listener: socket.socket, channel: socket.socket, compose: Compose) -> None:
    """Serve until told to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal or service manager sends them to the whole process group
    link = await Link.over(channel)
    start = await link.receive()
    if start is None:
        return
    try:
        settings = Settings.of(**start["settings"])
        loaded = await asyncio.to_thread(_open, Path(start["bundle"]), settings)
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
    """Exempt existing objects from garbage collection, and make it run less often on new ones.

    With half a million objects of libraries, a full collection stops the server for 70 to 150 ms, every few seconds under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Worker:
    """Serves requests and follows the supervisor's orders."""

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
                proxy_headers=False,  # nothing here needs a client's address
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._prepared: LoadedBundle | None = None
        self._kept: LoadedBundle | None = None

    async def run(self) -> None:
        """Serve until the supervisor orders `drain` (all workers end) or `retire` (only this one ends), or is gone."""
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
        """Open another bundle beside the current one. Opening it includes its self-test."""
        try:
            self._prepared = await asyncio.to_thread(_open, folder, self._service.settings)
        except RefsynthError as error:
            self._link.send(reply="refused", ticket=ticket, message=str(error))
        else:
            self._link.send(reply="prepared", ticket=ticket)

    async def _commit(self, bundle: LoadedBundle, ticket: int) -> None:
        """Serve the other bundle; go back if its canary through the queue fails."""
        self._kept, self._prepared = self._service.engine.current, None
        self._service.switch(bundle)
        problem = await self._service.health.confirm()
        if problem is None:
            self._link.send(reply="switched", ticket=ticket)
        else:
            self._service.switch(self._kept)
            self._link.send(reply="refused", ticket=ticket, message=f"a worker rejected the bundle after the switch: {problem}")

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
        """Accept the connections that are open or being opened, each of which may bring a request, and no later ones.

        If this worker is `alone` in ending, they stay in the socket for the other workers.
        """
        loop, server = asyncio.get_running_loop(), self._server
        last: list[socket.socket] = []
        if not alone:
            refuse_new(self._listener)
            await asyncio.sleep(SETTLE)
            last = accept_waiting(self._listener)
        for listener in server.servers:
            listener.close()
        make = partial(BoundedProtocol, config=server.config, server_state=server.server_state, app_state={})
        for connection in last:
            with contextlib.suppress(OSError):  # the client is gone already
                await loop.connect_accepted_socket(make, connection)
        await asyncio.sleep(SETTLE)


def _open(folder: Path, settings: Settings) -> LoadedBundle:
    try:
        return LoadedBundle.open(folder, threads=settings.threads_each, threshold=settings.threshold)
    except RefsynthError:
        raise
    except BaseException as error:  # the bundle passed its trial, but whatever fails here, the current bundle must stay
        raise BundleError(f"the bundle cannot be opened ({type(error).__name__})") from error


def _be_patient() -> None:
    """Make the threads that this process will start wait for the end of each other's time slices on a shared core.

    Otherwise each arriving request interrupts a matrix product and leaves it with cold caches, a thousand times a second under
    load (sched(7): a thread under SCHED_BATCH does not preempt when it wakes).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and the server works without
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(listener: int, channel: int, compose: Compose) -> None:
    """Run a worker on two inherited descriptors: the listening socket and the channel to the supervisor."""
    _be_patient()
    # Not asyncio's own loop: it accepts many connections per iteration, or leaves them to the kernel, and each costs more.
    uvloop.run(run_worker(socket.socket(fileno=listener), socket.socket(fileno=channel), compose))
    logging.shutdown()
    os._exit(0)  # a model that never returns must not keep the process alive
