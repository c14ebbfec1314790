"""Another bundle for running workers: copied, tried apart, opened and tested by each of them, then used by all, or by none.

Workers open it one after another and switch one after another. If one refuses after all, those that had switched go back.

Asked for by SIGHUP or over the control socket, which only the user who runs the server can open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from refsynth.core.errors import RefsynthError
from refsynth.service.http.link import Link, Message
from refsynth.service.http.logs import event
from refsynth.service.http.settings import Settings
from refsynth.service.http.state import ServerState, reachable
from refsynth.service.http.trial import tried

SECONDS_TO_COMMIT = 10.0


class Seat(Protocol):
    """What switching needs of a worker's place."""

    bundle: Path
    ready: bool

    async def ask(self, seconds: float, **order: Any) -> Message | None:
        """Return the worker's reply to an order; None where there is none in time."""
        ...

    def tell(self, **order: Any) -> None:
        """Give an order that has no reply."""
        ...

    def replace(self) -> None:
        """Have another process, which opens the current bundle, take the place."""
        ...


class SwitchError(RefsynthError):
    """The bundle was not switched; the old one is in use."""

    exit_code = 3


class Switcher:
    """Knows which copy is in use and which one was before."""

    def __init__(self, settings: Settings, state: ServerState, seats: Sequence[Seat], first: Path) -> None:
        self._settings, self._state, self._seats = settings, state, seats
        self._lock = asyncio.Lock()
        self.current = first
        self.previous: Path | None = None

    async def reload(self, bundle: Path) -> Message:
        """Switch to a bundle and say how it went; on any failure the old one stays."""
        return await self._said("reload", lambda: self._state.copy(bundle))

    async def rollback(self) -> Message:
        """Switch back to the bundle before. Done twice, it is where it was."""
        return await self._said("rollback", self._before)

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one order on the control socket."""
        link = Link(reader, writer)
        order = await link.receive() or {}
        match order:
            case {"do": "reload", "bundle": str(bundle)}:
                link.send(**await self.reload(Path(bundle)))
            case {"do": "reload"}:
                link.send(**await self.reload(self._settings.bundle))
            case {"do": "rollback"}:
                link.send(**await self.rollback())
            case _:
                link.send(ok=False, message="no such order")
        await link.close()

    def _before(self) -> Path:
        if self.previous is None:
            raise SwitchError("there is no bundle to go back to", expected="an earlier reload")
        return self.previous

    async def _said(self, what: str, target: Any) -> Message:
        async with self._lock:
            try:
                version = await self._switch(await asyncio.to_thread(target))
            except RefsynthError as error:
                event(f"{what} refused", reason=str(error))
                return {"ok": False, "message": str(error)}
            finally:
                self._state.keep(self.current, *([] if self.previous is None else [self.previous]))
            event(f"{what} done", version=version)
            return {"ok": True, "version": version}

    async def _switch(self, target: Path) -> str:
        version = await tried(target, self._settings)
        seats, done = [seat for seat in self._seats if seat.ready], list[Seat]()
        if not seats:
            raise SwitchError("no worker serves now", remedy="try again")
        try:
            for seat in seats:  # one after another: the others have the cores meanwhile
                _agreed(await seat.ask(self._settings.start, do="prepare", bundle=str(target)))
            for seat in seats:
                done.append(seat)
                _agreed(await seat.ask(self._settings.hang + SECONDS_TO_COMMIT, do="commit"))
        except SwitchError:
            await self._go_back(done)
            raise
        finally:
            for seat in seats:
                seat.tell(do="forget")
        self.previous, self.current = self.current, target
        for seat in self._seats:
            if seat in seats and seat.ready:
                seat.bundle = target
            else:  # it began with the old one while the others switched
                seat.replace()
        return version

    async def _go_back(self, seats: Sequence[Seat]) -> None:
        """Have those that have switched, or may have, serve the old bundle again."""
        for seat in seats:
            reply = await seat.ask(SECONDS_TO_COMMIT, do="revert")
            if reply is None and seat.ready:
                seat.replace()


def _agreed(reply: Message | None) -> None:
    if reply is None:
        raise SwitchError("a worker ended, or did not answer in time, with the new bundle")
    if reply["reply"] == "refused":
        raise SwitchError(reply["message"])


async def order(control: Path, message: Message) -> Message:
    """Send an order to a running server and return its reply.

    Raises:
        OSError: no server listens there.
    """
    with reachable(control) as address:
        link = Link(*await asyncio.open_unix_connection(address))
    link.send(**message)
    reply = await link.receive()
    await link.close()
    return reply or {}
