"""Switch running workers to another bundle. All of them switch, or none.

The bundle is copied and tried in its own process. Then the workers open it one after another, and switch one after another. If
one refuses, those that had switched go back.

SIGHUP or an order on the control socket starts it; only the user who runs the server can open that socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from refsynth.core.errors import RefsynthError
from refsynth.service.http.link import Link, Message
from refsynth.service.http.logs import event
from refsynth.service.http.settings import Settings
from refsynth.service.http.slot import Slot
from refsynth.service.http.state import ServerState, control_address
from refsynth.service.http.trial import try_bundle

SECONDS_TO_COMMIT = 10.0


class SwitchError(RefsynthError):
    """The bundle was not switched; the old one stays in use."""

    exit_code = 3


class Switcher:
    """Switches bundles, and knows the copy in use and the one before."""

    def __init__(self, settings: Settings, state: ServerState, workers: Sequence[Slot], first: Path) -> None:
        self._settings, self._state, self._workers = settings, state, workers
        self._lock = asyncio.Lock()
        self.current = first
        self.previous: Path | None = None

    async def reload(self, bundle: Path) -> Message:
        """Switch to a bundle and return the outcome. On any failure the old bundle stays."""
        return await self._report("reload", lambda: self._state.copy(bundle))

    async def rollback(self) -> Message:
        """Switch back to the previous bundle and return the outcome. Two rollbacks cancel out."""
        return await self._report("rollback", self._before)

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

    async def _report(self, what: str, find_target: Callable[[], Path]) -> Message:
        async with self._lock:
            try:
                version = await self._switch(await asyncio.to_thread(find_target))
            except RefsynthError as error:
                event(f"{what} refused", reason=str(error))
                return {"ok": False, "message": str(error)}
            finally:
                self._state.keep(self.current, *([] if self.previous is None else [self.previous]))
            event(f"{what} done", version=version)
            return {"ok": True, "version": version}

    async def _switch(self, target: Path) -> str:
        version = await try_bundle(target, self._settings)
        workers, switched = [worker for worker in self._workers if worker.ready], list[Slot]()
        if not workers:
            raise SwitchError("no worker serves now", remedy="try again")
        try:
            for worker in workers:  # one after another, so that the others have the cores meanwhile
                _check_reply(await worker.ask(self._settings.start, do="prepare", bundle=str(target)))
            for worker in workers:
                switched.append(worker)
                _check_reply(await worker.ask(self._settings.hang + SECONDS_TO_COMMIT, do="commit"))
        except SwitchError:
            await self._go_back(switched)
            raise
        finally:
            for worker in workers:
                worker.tell(do="forget")
        self.previous, self.current = self.current, target
        for worker in self._workers:
            if worker in workers and worker.ready:
                worker.bundle = target
            else:  # it started with the old bundle while the others switched
                worker.replace()
        return version

    async def _go_back(self, workers: Sequence[Slot]) -> None:
        """Make workers that have switched, or may have, serve the old bundle again."""
        for worker in workers:
            reply = await worker.ask(SECONDS_TO_COMMIT, do="revert")
            if reply is None and worker.ready:
                worker.replace()


def _check_reply(reply: Message | None) -> None:
    if reply is None:
        raise SwitchError("a worker ended, or did not answer in time, with the new bundle")
    if reply["reply"] == "refused":
        raise SwitchError(reply["message"])


async def order(control: Path, message: Message) -> Message:
    """Send an order to a running server and return its reply.

    Raises:
        OSError: no server listens there.
    """
    with control_address(control) as address:
        link = Link(*await asyncio.open_unix_connection(address))
    link.send(**message)
    reply = await link.receive()
    await link.close()
    return reply or {}
