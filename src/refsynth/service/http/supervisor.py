"""The supervisor: holds the listening socket, keeps the workers alive, drains, reloads. It never opens a bundle or a request.

A worker sends a beat while its model answers the canary. A worker that is silent too long is killed and replaced, one at a time:
while one is missing, the others are spared. Meanwhile, connections that no worker has accepted wait in the socket.

Why not uvicorn's supervisor: it asks a thread of the worker, not its model. A worker whose model hangs still answers that check,
is kept, and accepts requests that it never answers. Eight seconds after a deadlock in one of two workers, uvicorn's supervisor
gave 0.03 of the earlier answers/s, this one 0.87; after SIGSTOP 0.35 and 0.96 (medians of two pairs, design note 027).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from refsynth.core.errors import RefsynthError
from refsynth.service.http.link import Link, Message
from refsynth.service.http.listening import listen
from refsynth.service.http.logs import event
from refsynth.service.http.restarts import Restarts
from refsynth.service.http.settings import Settings
from refsynth.service.http.slot import Slot
from refsynth.service.http.state import ServerState, default_folder
from refsynth.service.http.switch import Switcher
from refsynth.service.http.trial import try_bundle
from refsynth.service.http.upkeep import Upkeep

GRACE = 0.5
"""Seconds of grace for a silent worker: perhaps it was the supervisor that slept."""
PATIENCE = 10.0
"""A silent worker is spared for this many times the limit while another is missing: perhaps no worker can start."""
LONGEST_PAUSE = 10.0
TRIES = 3
"""How often workers may end without a reason before the server has ever served."""
METRICS = "PROMETHEUS_MULTIPROC_DIR"


class StartError(RefsynthError):
    """A worker cannot start. Carries the exit code of the worker's error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Supervisor:
    """Runs the workers.

    Args:
        settings: the server's settings.
        command: starts a worker; the descriptors of the listening socket and of the channel to us are appended.
        guards: JSON-ready options of the worker's guards; they may hold secrets, so they go through the channel.
        started: called once with the port, when all workers serve.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        command: Sequence[str],
        guards: Mapping[str, Any],
        started: Callable[[int], None] = lambda port: None,
    ) -> None:
        self._settings, self._command, self._guards, self._started = settings, tuple(command), dict(guards), started
        self._ending = asyncio.Event()
        self._failure: RefsynthError | None = None
        self._serving = False
        self._failed_starts = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            RefsynthError: the address is taken, the bundle is refused, or no worker can start.
        """
        listener = listen(self._settings.host, self._settings.port)
        port = listener.getsockname()[1]
        self._listener = listener
        self._state = state = ServerState(self._settings.state or default_folder(port))
        try:
            os.environ[METRICS] = str(state.metrics)
            first = state.copy(self._settings.bundle)
            self._slots = [Slot(number, first) for number in range(self._settings.workers)]
            self._switcher = Switcher(self._settings, state, self._slots, first)
            self._restarts = Restarts()
            await self._serve(port)
        finally:
            listener.close()
            state.close()
        if self._failure is not None:
            raise self._failure

    async def _serve(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        if not await self._fit():
            return
        upkeep = Upkeep(self._state, self._switcher, self._slots, renew=self._restarts.renew)
        await upkeep.open()
        keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        background = [asyncio.create_task(self._announce(port)), asyncio.create_task(upkeep.run())]
        try:
            await self._ending.wait()
            upkeep.close()
            await self._drain(keepers)
        finally:
            for task in background:
                task.cancel()
            for slot in self._slots:
                slot.kill()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _fit(self) -> bool:
        """Try the bundle in its own process before any worker opens it; return False if the server was told to end meanwhile."""
        trial = asyncio.create_task(try_bundle(self._switcher.current, self._settings))
        ended = asyncio.create_task(self._ending.wait())
        await asyncio.wait({trial, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not trial.done():
            trial.cancel()
            await asyncio.wait({trial})
            return False
        await trial
        return True

    def _end(self) -> None:
        if self._ending.is_set():  # the second signal ends the workers at once
            for slot in self._slots:
                slot.kill()
        self._ending.set()

    def _reload(self) -> None:
        self._reloading = asyncio.ensure_future(self._switcher.reload(self._settings.bundle))  # a task needs a reference

    async def _announce(self, port: int) -> None:
        while not all(slot.ready for slot in self._slots):
            await asyncio.sleep(0.02)
        self._serving = True
        event("serving", host=self._settings.host, port=port, workers=len(self._slots), tls=False)
        self._started(port)

    async def _drain(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        event("ending")
        self._listener.close()
        for slot in self._slots:
            slot.tell(do="drain")
            if not (slot.ready or slot.retiring):
                slot.kill()
        _, late = await asyncio.wait(keepers, timeout=self._settings.drain)
        event("ended", killed=len(late))

    async def _keep(self, slot: Slot) -> None:
        """Restart a worker whenever it ends, until the server ends."""
        pause = 0.0
        while not self._ending.is_set():
            try:
                reason, served = await self._live(slot)
            except OSError as error:  # the system has no process or file to give now
                reason, served = f"not started: {error.strerror}", False
            if self._ending.is_set():
                return
            if reason != "retired":
                event("worker lost", level=logging.WARNING, worker=slot.number, reason=reason)
                self._restarts.restart(reason.partition(":")[0])
            if not (served or self._serving):
                self._failed_starts += 1
                self._failure = self._failure or (
                    StartError(f"no worker starts: {reason}", 1) if self._failed_starts >= TRIES else None
                )
            if self._failure is not None:
                self._ending.set()
                return
            pause = 0.0 if served else min(LONGEST_PAUSE, 2 * pause or 0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause or 1e-3)

    async def _live(self, slot: Slot) -> tuple[str, bool]:
        """Run one worker process to its end; return why it ended and whether it ever served."""
        await self._spawn(slot)
        assert slot.link is not None
        assert slot.process is not None
        if self._ending.is_set():
            slot.kill()
        reason, served = "exited", False
        while (message := await self._next(slot)) is not None:
            if message.get("event") == "silent":
                reason = "hung" if served else "slow start"
                break
            if self._fails(slot, message):
                reason = "failing"
                break
            if message.get("event") == "failed":
                reason = f"failed: {message['message']}"
                if not self._serving:
                    self._failure = StartError(message["message"], message["exit_code"])
            if message.get("event") == "ready":
                slot.ready = served = True
            if "reply" in message:
                slot.settle(message)
        if not self._ending.is_set():
            slot.kill()
        reason = "retired" if slot.retiring and reason == "exited" else reason
        slot.ready = slot.retiring = False
        slot.settle(None)
        await slot.process.wait()
        await slot.link.close()
        slot.link = None
        self._restarts.gone(slot.process.pid)
        return reason, served

    def _fails(self, slot: Slot, message: Message) -> bool:
        """Tell whether a serving worker has reported a failing model for too long, and can be replaced now."""
        if message.get("event") != "failing":
            slot.last_healthy = monotonic()
        return slot.ready and monotonic() - slot.last_healthy > self._settings.hang and self._dispensable(slot)

    async def _next(self, slot: Slot) -> Message | None:
        """Return the worker's next message; `silent` if it sends none in time, None at its end."""
        assert slot.link is not None
        assert slot.process is not None
        limit = self._settings.hang if slot.ready else self._settings.start
        begun, seconds = monotonic(), limit
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(slot.link.receive(), seconds)
            silent = monotonic() - begun
            if seconds == GRACE and silent >= limit and (self._dispensable(slot) or silent >= PATIENCE * limit):
                return {"event": "silent"}
            seconds = GRACE
        return await slot.link.receive()

    def _dispensable(self, slot: Slot) -> bool:
        """Tell whether a worker may be replaced now: a serving one only while all others serve."""
        return not slot.ready or all(other.ready for other in self._slots if other is not slot)

    async def _spawn(self, slot: Slot) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ends = (self._listener.fileno(), theirs.fileno())
            slot.process = await asyncio.create_subprocess_exec(
                *self._command, *map(str, ends), pass_fds=ends, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
        slot.bundle = self._switcher.current
        slot.link = await Link.over(ours)
        settings = self._settings.model_dump(mode="json")
        slot.link.send(settings=settings, bundle=str(slot.bundle), guards=self._guards, shared=str(self._state.shared))
