"""Keep a running server's folder complete: restore what somebody removed, and replace the workers one after another.

A worker keeps writing metrics and quotas to the deleted files, so a new worker has to open the new ones.
If the folder cannot be restored, the server logs that and goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from refsynth.service.http.logs import event
from refsynth.service.http.slot import Slot
from refsynth.service.http.state import ServerState, control_address
from refsynth.service.http.switch import Switcher

PERIOD = 2.0
"""Seconds between two checks of the folder."""
PATIENCE = 120.0
"""Seconds to wait until a worker is replaced."""


class Upkeep:
    """Checks the folder, and owns the control socket in it.

    Args:
        state: the folder.
        switcher: answers orders on the control socket.
        slots: the workers.
        renew: called when the metrics folder was restored.
    """

    def __init__(self, state: ServerState, switcher: Switcher, slots: Sequence[Slot], *, renew: Callable[[], None]) -> None:
        self._state, self._switcher, self._slots, self._renew = state, switcher, slots, renew
        self._control: asyncio.Server | None = None
        self._failed = False

    async def open(self) -> None:
        """Listen on the control socket.

        Raises:
            OSError: the socket cannot be created.
        """
        self.close()
        self._state.control.unlink(missing_ok=True)
        with control_address(self._state.control) as address:
            self._control = await asyncio.start_unix_server(self._switcher.attend, address)

    def close(self) -> None:
        """Stop listening."""
        if self._control is not None:
            self._control.close()
            self._control = None

    async def run(self) -> None:
        """Check the folder again and again."""
        while True:
            await asyncio.sleep(PERIOD)
            if not self._state.complete():
                await self._restore()

    async def _restore(self) -> None:
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
            with contextlib.suppress(TimeoutError):  # the supervisor keeps restarting it; the next worker need not wait
                await asyncio.wait_for(_ready(slot), PATIENCE)


async def _ready(slot: Slot) -> None:
    while not slot.ready:
        await asyncio.sleep(0.05)
