"""Health that cannot lie: a golden text goes through the real queue every second, and its answer is compared.

Live: the event loop turns; the model is not asked. Ready: the last canary came back right, and new requests are taken. The probes
read what the canary found, so that a probe costs nothing and cannot hurt a busy server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from refsynth.service.http.batching import Batcher, RowError
from refsynth.service.http.engine import Answer, Engine, Question
from refsynth.service.http.logs import event

PERIOD = 1.0
"""Seconds between canaries."""
REMEMBERED = 32
"""Canaries by which the golden texts are judged."""
MOST_OFF = 8
"""How many of them may be off. A sound int8 bundle gives up to a tenth of the golden texts otherwise than fp32, and which ones
depends a little on what shares their batch; a wrong model gives most of them otherwise."""


class Health:
    """The canary and what it found.

    Args:
        batcher: the queue.
        engine: its model.
        patience: seconds after which an unanswered canary means that the model hangs.
        beat: is called while batches come back from the model and canaries are right; the supervisor replaces a worker that is
            silent. In a flood a canary may take seconds to come round the loop; a finished batch is seen at once.
        failing: is called at each canary that is wrong: that is no silence, which on a busy machine may mean no core.
    """

    def __init__(
        self,
        batcher: Batcher[Question, Answer],
        engine: Engine,
        *,
        patience: float,
        beat: Callable[[], None] = lambda: None,
        failing: Callable[[], None] = lambda: None,
    ) -> None:
        self._batcher, self._engine, self._patience, self._beat, self._failing = batcher, engine, patience, beat, failing
        self._loop = asyncio.get_running_loop()
        self._answered: float | None = None
        self._failed: str | None = None
        self._right: deque[bool] = deque(maxlen=REMEMBERED)
        self._turn = 0
        self._version = engine.current.version
        self.draining = False
        self._tasks = [self._loop.create_task(self._watch()), self._loop.create_task(self._report())]

    def problems(self) -> list[str]:
        """Return why this worker is not ready; nothing where it is."""
        found = []
        if self.draining:
            found.append("draining")
        if self._answered is None or self._loop.time() - self._answered > self._patience:
            found.append("the model does not answer")
        if self._failed:
            found.append(self._failed)
        if self._batcher.full:
            found.append("overloaded")
        return found

    async def confirm(self) -> str | None:
        """Ask the model now, and return what is wrong with it."""
        asked = self._loop.time()
        await self._ask()
        if self._answered is None or self._answered < asked:
            return self._failed or "the model does not answer"
        return self._failed

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _report(self) -> None:
        seen = 0
        while True:
            if self._batcher.finished != seen and self._failed is None and self._answered is not None:
                seen = self._batcher.finished
                self._beat()
            await asyncio.sleep(PERIOD / 2)

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
            self._judge(f"the model fails ({answer.reason})")
            return
        self._answered = self._loop.time()
        if answer.version != self._version:  # the bundle was switched
            self._version = answer.version
            self._right.clear()
        if answer.version == loaded.version:  # else it was switched in between
            self._right.append(loaded.agrees(self._turn, answer.prediction))
        self._judge("golden texts are answered wrongly" if self._right.count(False) > MOST_OFF else None)

    def _judge(self, failed: str | None) -> None:
        if failed != self._failed:
            event("canary", problem=failed)
        self._failed = failed
        if failed is not None:
            self._failing()
