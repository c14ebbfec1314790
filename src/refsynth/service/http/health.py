"""Health checks: every second a golden text, the canary, goes through the real queue, and its answer is compared.

Live means that the event loop runs; the model is not asked. Ready means that the last canaries were answered correctly and that
the worker takes new requests. Probes only read the canary's results, so they cost nothing even on a busy server.
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
"""Number of latest canaries that are counted."""
MOST_WRONG = 8
"""How many of them may be wrong. A sound int8 bundle answers up to a tenth of the golden texts differently from fp32, and which
ones depends slightly on the rest of the batch; a wrong model answers most of them differently."""


class Health:
    """Sends the canary and keeps its results.

    Args:
        batcher: the queue.
        engine: its model.
        patience: seconds after which an unanswered canary means that the model hangs.
        beat: called while the model answers batches and canaries are right; the supervisor replaces a worker that is silent.
            Under heavy load a canary may take seconds to pass the event loop, but a finished batch is seen at once.
        failing: called for each wrong canary. This differs from silence, which may only mean that the worker got no core.
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
        self._index = 0
        self._version = engine.current.version
        self.draining = False
        self._tasks = [self._loop.create_task(self._watch()), self._loop.create_task(self._report())]

    def problems(self) -> list[str]:
        """Return why this worker is not ready; an empty list if it is."""
        problems = []
        if self.draining:
            problems.append("draining")
        if self._answered is None or self._loop.time() - self._answered > self._patience:
            problems.append("the model does not answer")
        if self._failed:
            problems.append(self._failed)
        if self._batcher.full:
            problems.append("overloaded")
        return problems

    async def confirm(self) -> str | None:
        """Send a canary now, and return what is wrong with the model; None if nothing is."""
        start = self._loop.time()
        await self._ask()
        if self._answered is None or self._answered < start:
            return self._failed or "the model does not answer"
        return self._failed

    async def close(self) -> None:
        """Stop sending canaries."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _report(self) -> None:
        seen = 0
        while True:
            if self._batcher.batches != seen and self._failed is None and self._answered is not None:
                seen = self._batcher.batches
                self._beat()
            await asyncio.sleep(PERIOD / 2)

    async def _watch(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(PERIOD)

    async def _ask(self) -> None:
        loaded = self._engine.current
        self._index = (self._index + 1) % len(loaded.golden.texts)
        text = loaded.golden.texts[self._index]
        try:
            (answer,) = await self._batcher.submit(
                [Question(text)], [self._engine.cost(text)], deadline=self._loop.time() + self._patience, urgent=True
            )
        except TimeoutError:
            return
        if isinstance(answer, RowError):
            self._conclude(f"the model fails ({answer.reason})")
            return
        self._answered = self._loop.time()
        if answer.version != self._version:  # the bundle was switched
            self._version = answer.version
            self._right.clear()
        if answer.version == loaded.version:  # otherwise the bundle was switched after the text was chosen
            self._right.append(loaded.agrees(self._index, answer.prediction))
        self._conclude("golden texts are answered wrongly" if self._right.count(False) > MOST_WRONG else None)

    def _conclude(self, failed: str | None) -> None:
        if failed != self._failed:
            event("canary", problem=failed)
        self._failed = failed
        if failed is not None:
            self._failing()
