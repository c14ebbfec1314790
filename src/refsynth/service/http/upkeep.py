"""Keeps a running server's folder whole: what somebody removed is made again, and the workers are replaced, one after another.

A worker goes on writing metrics and quotas to files that are gone, so it has to make room for one that opens the new ones.
Where the folder cannot be made again the server goes on without it and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from refsynth.service.http.logs import event
from refsynth.service.http.slot import Slot
from refsynth.service.http.state import ServerState, reachable
from refsynth.service.http.switch import Switcher

PERIOD = 2.0
"""Seconds between two looks at the folder."""
PATIENCE = 120.0
"""Seconds that a worker may take to make room for another."""


class Upkeep:
    """Looks after the folder, and holds the control socket in it.

    Args:
        state: the folder.
        switcher: answers the control socket.
        slots: the workers.
        renew: is called when the folder of the metrics was made again.
    """

    def __init__(self, state: ServerState, switcher: Switcher, slots: Sequence[Slot], *, renew: Callable[[], None]) -> None:
        self._state, self._switcher, self._slots, self._renew = state, switcher, slots, renew
        self._control: asyncio.Server | None = None
        self._failed = False

    async def open(self) -> None:
        """Listen on the control socket.

        Raises:
            OSError: it cannot be made.
        """
        self.close()
        self._state.control.unlink(missing_ok=True)
        with reachable(self._state.control) as address:
            self._control = await asyncio.start_unix_server(self._switcher.attend, address)

    def close(self) -> None:
        """Stop listening."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(PERIOD)
            if not self._state.whole():
                await self._mend()

    async def _mend(self) -> None:
        try:
            await asyncio.to_thread(self._state.restore)
            await self.open()
            self._renew()
        except OSError as error:
            if not self._failed:
                event("state folder lost", level=logging.ERROR, folder=str(self._state.folder), reason=error.strerror)
            self._failed = True
            return
        self._failed = False
        event("state folder made again", level=logging.WARNING, folder=str(self._state.folder))
        for slot in self._slots:
            slot.replace()
            with contextlib.suppress(TimeoutError):  # it is started again and again; the next one need not wait for that
                await asyncio.wait_for(_ready(slot), PATIENCE)


async def _ready(slot: Slot) -> None:
    while not slot.ready:
        await asyncio.sleep(0.05)
