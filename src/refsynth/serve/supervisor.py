"""The supervisor: holds the listening socket, keeps the workers alive, drains, reloads. It never opens a bundle or a request.

A worker beats while its model answers the canary; one that is silent too long, for whatever reason, is killed and another takes
its place. Connections that no worker has taken wait in the socket meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsynth.core.errors import RefsynthError
from refsynth.core.extras import require
from refsynth.serve.link import Link, Message
from refsynth.serve.listening import listen
from refsynth.serve.logs import event
from refsynth.serve.settings import Settings
from refsynth.serve.state import State, default_folder, reachable
from refsynth.serve.switch import Switcher

GRACE = 0.5
"""A silent worker's last chance, in seconds: perhaps it was this process that slept."""
LONGEST_PAUSE = 10.0
METRICS = "PROMETHEUS_MULTIPROC_DIR"


class StartError(RefsynthError):
    """A worker cannot start. Carries the exit code of what it met."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(eq=False)
class Slot:
    """A place for a worker: `bundle` is what its process was told to open, `ready` whether it serves."""

    number: int
    bundle: Path
    process: asyncio.subprocess.Process | None = None
    link: Link | None = None
    ready: bool = False
    answer: asyncio.Future[Message | None] | None = None
    ticket: int = 0

    async def ask(self, seconds: float, **order: Any) -> Message | None:
        """Return the worker's reply to an order; None where there is none in time."""
        if self.link is None:
            return None
        self.answer = asyncio.get_running_loop().create_future()
        self.ticket += 1
        self.link.send(**order, ticket=self.ticket)
        try:
            return await asyncio.wait_for(self.answer, seconds)
        except TimeoutError:
            return None

    def tell(self, **order: Any) -> None:
        """Give an order that has no reply."""
        if self.link is not None:
            self.link.send(**order)

    def settle(self, answer: Message | None) -> None:
        """Pass on a reply, or that there will be none. A late reply to an earlier order is dropped."""
        current = answer is None or answer.get("ticket") == self.ticket
        if current and self.answer is not None and not self.answer.done():
            self.answer.set_result(answer)

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


class Supervisor:
    """Runs the workers.

    Args:
        settings: the server's.
        command: starts a worker; the descriptors of the listening socket and of the line to us are appended.
        guards: options for the worker's guards, JSON-ready; may hold secrets, so it goes through the line.
        started: is called once with the port, when all workers serve.
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
        self._failure: StartError | None = None
        self._serving = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            RefsynthError: the address is taken, or no worker can start.
        """
        listener = listen(self._settings.host, self._settings.port)
        port = listener.getsockname()[1]
        self._listener = listener
        state = State(self._settings.state or default_folder(port))
        try:
            os.environ[METRICS] = str(state.metrics)
            first = state.copy(self._settings.bundle)
            self._slots = [Slot(number, first) for number in range(self._settings.workers)]
            self._switcher = Switcher(self._settings, state, self._slots, first)
            self._count = _Counters()
            self._shared = str(state.shared)
            await self._serve(port, state)
        finally:
            listener.close()
            state.close()
        if self._failure is not None:
            raise self._failure

    async def _serve(self, port: int, state: State) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._background(self._switcher.reload(self._settings.bundle)))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        with reachable(state.control) as address:
            control = await asyncio.start_unix_server(self._switcher.attend, address)
        keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]
        announce = asyncio.create_task(self._announce(port))
        try:
            await self._ending.wait()
            control.close()
            await self._drain(keepers)
        finally:
            announce.cancel()
            for slot in self._slots:
                slot.kill()
            await asyncio.gather(*keepers, return_exceptions=True)

    def _end(self) -> None:
        if self._ending.is_set():  # asked twice: now
            for slot in self._slots:
                slot.kill()
        self._ending.set()

    def _background(self, work: Any) -> None:
        self._reloading = asyncio.ensure_future(work)

    async def _announce(self, port: int) -> None:
        while not all(slot.ready for slot in self._slots):
            await asyncio.sleep(0.02)
        self._serving = True
        event("serving", port=port, workers=len(self._slots))
        self._started(port)

    async def _drain(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        event("ending")
        self._listener.close()
        for slot in self._slots:
            slot.tell(do="drain")
            if not slot.ready:
                slot.kill()
        _, late = await asyncio.wait(keepers, timeout=self._settings.drain)
        event("ended", killed=len(late))

    async def _keep(self, slot: Slot) -> None:
        """Start a worker again whenever it ends, until the server ends."""
        pause = 0.0
        while not self._ending.is_set():
            reason, served = await self._live(slot)
            if self._ending.is_set():
                return
            if self._failure is not None or not (served or self._serving):
                self._failure = self._failure or StartError(f"a worker did not start: {reason}", 1)
                self._ending.set()
                return
            event("worker lost", worker=slot.number, reason=reason)
            self._count.restart(reason)
            pause = 0.0 if served else min(LONGEST_PAUSE, 2 * pause or 0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause or 1e-3)

    async def _live(self, slot: Slot) -> tuple[str, bool]:
        """Run one process to its end; return why it ended and whether it ever served."""
        await self._spawn(slot)
        assert slot.link is not None
        assert slot.process is not None
        if self._ending.is_set():
            slot.kill()
        reason = "exited"
        while (message := await self._next(slot)) is not None:
            if message.get("event") == "silent":
                reason = "hung" if slot.ready else "slow start"
                break
            if message.get("event") == "failed" and not self._serving:
                self._failure = StartError(message["message"], message["exit_code"])
            slot.ready = slot.ready or message.get("event") == "ready"
            if "reply" in message:
                slot.settle(message)
        if not self._ending.is_set():
            slot.kill()
        served, slot.ready = slot.ready, False
        slot.settle(None)
        await slot.process.wait()
        await slot.link.close()
        slot.link = None
        self._count.gone(slot.process.pid)
        return reason, served

    async def _next(self, slot: Slot) -> Message | None:
        """Return the worker's next message; None at its end."""
        assert slot.link is not None
        for seconds in (self._settings.hang if slot.ready else self._settings.start, GRACE):
            if self._ending.is_set():
                return await slot.link.receive()
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(slot.link.receive(), seconds)
        return {"event": "silent"}

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
        slot.link.send(settings=settings, bundle=str(slot.bundle), guards=self._guards, shared=self._shared)


class _Counters:
    """The supervisor's own metrics, in the folder where the workers' are. Made after the environment names that folder."""

    def __init__(self) -> None:
        prometheus = require("prometheus_client", extra="serve")
        self._multiprocess = require("prometheus_client.multiprocess", extra="serve")
        text = "Workers that were replaced"
        registry = prometheus.CollectorRegistry()
        self._restarts = prometheus.Counter("refsynth_worker_restarts_total", text, ("reason",), registry=registry)

    def restart(self, reason: str) -> None:
        """Count a replaced worker."""
        self._restarts.labels(reason).inc()

    def gone(self, process: int) -> None:
        """Forget what only a living worker has: its requests under way and its queue."""
        self._multiprocess.mark_process_dead(process)
