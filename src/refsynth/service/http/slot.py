"""The place of one worker: its process, the channel to it, and its state. Starts nothing and decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsynth.service.http.link import Link, Message


@dataclass(eq=False)
class Slot:
    """The place of one worker.

    `bundle` is the one that its process was told to open, `ready` whether it serves, `retiring` whether it was told to end.
    `last_healthy` is the time of its last message that did not report a failing model.
    """

    number: int
    bundle: Path
    process: asyncio.subprocess.Process | None = None
    link: Link | None = None
    ready: bool = False
    retiring: bool = False
    answer: asyncio.Future[Message | None] | None = None
    ticket: int = 0
    last_healthy: float = 0.0

    async def ask(self, seconds: float, **order: Any) -> Message | None:
        """Return the worker's reply to an order; None if there is none in time."""
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
        """Send an order that has no reply."""
        if self.link is not None:
            self.link.send(**order)

    def settle(self, answer: Message | None) -> None:
        """Pass on a reply, or None if there will be none. A late reply to an earlier order is dropped."""
        current = answer is None or answer.get("ticket") == self.ticket
        if current and self.answer is not None and not self.answer.done():
            self.answer.set_result(answer)

    def replace(self) -> None:
        """Have a new process take over. A serving worker first answers its requests."""
        if self.ready:
            self.ready, self.retiring = False, True
            self.tell(do="retire")
        else:
            self.kill()

    def kill(self) -> None:
        """Kill the process."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
