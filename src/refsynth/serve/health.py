"""Health that cannot lie: a golden text goes through the real queue every second, and its answer is compared.

Live: the event loop turns; the model is not asked. Ready: the last canary came back right, and new requests are taken. The probes
read what the canary found, so that a probe costs nothing and cannot hurt a busy server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from refsynth.bundle.golden import TOLERATED
from refsynth.serve.batching import Batcher, RowError
from refsynth.serve.engine import Answer, Engine, Question

PERIOD = 1.0
"""Seconds between canaries."""
REMEMBERED = 20
"""Canaries by which the golden texts are judged."""


class Health:
    """The canary and what it found.

    Args:
        batcher: the queue.
        engine: its model.
        patience: seconds after which an unanswered canary means that the model hangs.
        beat: is called after each good canary; the supervisor replaces a worker that does not.
    """

    def __init__(
        self,
        batcher: Batcher[Question, Answer],
        engine: Engine,
        *,
        patience: float,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._batcher, self._engine, self._patience, self._beat = batcher, engine, patience, beat
        self._loop = asyncio.get_running_loop()
        self._answered: float | None = None
        self._failed: str | None = None
        self._right: deque[bool] = deque(maxlen=REMEMBERED)
        self._turn = 0
        self._version = engine.current.version
        self.draining = False
        self._task = self._loop.create_task(self._watch())

    def problems(self) -> list[str]:
        """Return why this worker is not ready; nothing where it is."""
        found = []
        if self.draining:
            found.append("draining")
        if self._answered is None or self._loop.time() - self._answered > self._patience:
            found.append("the model does not answer")
        if self._failed:
            found.append(self._failed)
        if self._batcher.overloaded:
            found.append("overloaded")
        return found

    async def close(self) -> None:
        """Stop asking."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(PERIOD)

    async def _ask(self) -> None:
        loaded = self._engine.current
        self._turn = (self._turn + 1) % len(loaded.golden.texts)
        text = loaded.golden.texts[self._turn]
        try:
            (answer,) = await self._batcher.submit(
                [Question(text)], [self._engine.cost(text)], deadline=self._loop.time() + self._patience, urgent=True
            )
        except TimeoutError:
            return
        if isinstance(answer, RowError):
            self._failed = f"the model fails ({answer.reason})"
            return
        self._answered = self._loop.time()
        if answer.version != self._version:  # the bundle was switched
            self._version = answer.version
            self._right.clear()
        if answer.version == loaded.version:  # else it was switched in between
            self._right.append(loaded.agrees(self._turn, answer.prediction))
        off = self._right.count(False)
        # One miss is no verdict: a text near a boundary may turn by rounding, as `TOLERATED` says.
        self._failed = "golden texts are answered wrongly" if off > 1 and off > TOLERATED * len(self._right) else None
        if self._failed is None:
            self._beat()
