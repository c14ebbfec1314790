"""A bounded queue before a model that answers batches: asyncio in front, one thread behind.

All state belongs to the event loop; the thread sees a list of items and gives back a list of answers: there is nothing to lock.
Every row carries the call that it belongs to, and its answer is put there: what else is queued, cancelled or expired meanwhile
cannot shift it.

The queue never waits to fill a batch: an idle model takes what is there, and what arrives while it works is its next batch.
Knows nothing of texts, HTTP or bundles.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from refsynth.core.errors import RefsynthError
from refsynth.service.http.thread import ModelThread

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MEMORY = 0.8
"""How much of the measured speed is kept at each full batch."""


class QueueFullError(RefsynthError):
    """The queue takes no more now. `wait` is the seconds after which it probably does."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__("the queue is full", remedy=f"try again in {math.ceil(wait)} s")


class AbandonedError(Exception):
    """The caller went before the answer came."""


class RowError(RefsynthError):
    """The model failed on this row, alone. `reason` is the class of what it raised; its message may hold the text."""

    code = "prediction_failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the model failed on this text ({reason})")


class BatchFigures(NamedTuple):
    """What was measured of a batch; seconds."""

    rows: int
    waited: float
    took: float


@dataclass(eq=False, slots=True)
class _Call(Generic[Item, Answer]):
    """One caller's rows. `done` is set when none is left."""

    done: asyncio.Future[None]
    deadline: float
    answers: list[Answer | RowError | None]
    left: int
    rows: list[_QueuedRow[Item, Answer]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _QueuedRow(Generic[Item, Answer]):
    call: _Call[Item, Answer]
    index: int
    item: Item
    cost: int
    queued: float


class Batcher(Generic[Item, Answer]):
    """The queue.

    Args:
        run: N items to N answers; called in a thread of its own, one batch at a time.
        batch_rows: the most rows of a batch.
        batch_cost: the most summed cost of a batch; a row that costs more goes alone.
        queue_rows: the most rows that wait.
        longest_wait: seconds; a call that would probably wait longer is refused at once.
        observe: is told of each batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        batch_rows: int,
        batch_cost: int,
        queue_rows: int,
        longest_wait: float,
        observe: Callable[[BatchFigures], None] = lambda batch: None,
    ) -> None:
        self._run, self._observe = run, observe
        self._batch_rows, self._batch_cost = batch_rows, batch_cost
        self._queue_rows, self._longest_wait = queue_rows, longest_wait
        self._urgent: dict[_QueuedRow[Item, Answer], None] = {}  # dicts are queues from whose middle a row can leave at once
        self._waiting: dict[_QueuedRow[Item, Answer], None] = {}
        self._waiting_cost = 0
        self._running = 0
        self._arrived = asyncio.Event()
        self._thread = ModelThread("refsynth-model")
        self._speed_cost = self._speed_seconds = 0.0
        self._task = asyncio.get_running_loop().create_task(self._work())
        self.finished = 0
        """Batches that came back from the model: while this grows, the model is alive."""

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return len(self._waiting) + len(self._urgent)

    @property
    def running(self) -> int:
        """Rows that the model works on."""
        return self._running

    @property
    def wait(self) -> float:
        """The seconds that a row would wait now, by the speed of the last full batches; 0 while none is known."""
        return self._waiting_cost * self._speed_seconds / self._speed_cost if self._speed_cost else 0.0

    @property
    def pressed(self) -> bool:
        """Whether a row would wait more than half of what is allowed."""
        return self.wait > self._longest_wait / 2

    @property
    def full(self) -> float:
        """The seconds after which a further row would probably be taken, at least 1; 0 where it would be now."""
        if len(self._waiting) < self._queue_rows and self.wait <= self._longest_wait:
            return 0.0
        return max(self.wait, 1.0)

    async def submit(
        self,
        items: Sequence[Item],
        costs: Iterable[int],
        *,
        deadline: float,
        urgent: bool = False,
        gone: asyncio.Future[None] | None = None,
    ) -> list[Answer | RowError]:
        """Return an answer for each item, in their order; a row that the model failed on has a RowError in its place.

        All items are queued, or none. Whoever stops waiting (by cancellation or at the deadline) leaves the queue.

        Args:
            items: what to answer.
            costs: of each item, in the unit of `batch_cost`.
            deadline: on the clock of the event loop.
            urgent: go before all that waits and past the bounds; for the canary.
            gone: is done when the caller has gone.

        Raises:
            QueueFullError: the queue is full.
            TimeoutError: the deadline passed.
            AbandonedError: the caller has gone.
        """
        if not items:
            return []
        loop = asyncio.get_running_loop()
        if not urgent and (self.full or len(self._waiting) + len(items) > self._queue_rows):
            raise QueueFullError(max(self.wait, 1.0))
        call: _Call[Item, Answer] = _Call(loop.create_future(), deadline, [None] * len(items), len(items))
        now, queue_ = time.monotonic(), self._urgent if urgent else self._waiting
        for index, (item, cost) in enumerate(zip(items, costs, strict=True)):
            row = _QueuedRow(call, index, item, cost, now)
            call.rows.append(row)
            queue_[row] = None
        self._waiting_cost += 0 if urgent else sum(row.cost for row in call.rows)
        self._arrived.set()
        try:
            await asyncio.wait(
                (call.done, gone) if gone else (call.done,), timeout=max(0.0, deadline - now), return_when=asyncio.FIRST_COMPLETED
            )
            if not call.done.done():
                raise TimeoutError if gone is None or not gone.done() else AbandonedError
        finally:
            for row in call.rows:
                self._forget(row)
            call.rows.clear()  # a row knows its call: what points in a circle stays until the garbage collector comes by
        return [answer for answer in call.answers if answer is not None]

    async def close(self) -> None:
        """Stop. Whoever still waits gets no answer: let them finish first."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._thread.close()

    def _forget(self, row: _QueuedRow[Item, Answer]) -> None:
        if row in self._waiting:
            del self._waiting[row]
            self._waiting_cost -= row.cost
        else:
            self._urgent.pop(row, None)

    async def _work(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            self._running = len(batch)
            try:
                await self._answer(batch)
            finally:
                self._running = 0

    def _take(self) -> list[_QueuedRow[Item, Answer]]:
        """Take the next batch out of the queue, oldest rows first."""
        batch: list[_QueuedRow[Item, Answer]] = []
        cost = 0
        for row in (*self._urgent, *self._waiting) if self._urgent else self._waiting:
            if batch and (cost + row.cost > self._batch_cost or len(batch) == self._batch_rows):
                break
            batch.append(row)
            cost += row.cost
        for row in batch:
            self._forget(row)
        return batch

    async def _answer(self, batch: list[_QueuedRow[Item, Answer]]) -> None:
        started, full = time.monotonic(), bool(self._waiting)
        answers = await self._outcome([row.item for row in batch])
        took = time.monotonic() - started
        self.finished += 1
        if full and not isinstance(answers, RowError):
            self._speed_cost = MEMORY * self._speed_cost + sum(row.cost for row in batch)
            self._speed_seconds = MEMORY * self._speed_seconds + took
        self._observe(BatchFigures(len(batch), started - min(row.queued for row in batch), took))
        if isinstance(answers, RowError):
            await self._one_by_one(batch, answers)
        else:
            for row, answer in zip(batch, answers, strict=True):
                _deliver(row, answer)

    async def _outcome(self, items: list[Item]) -> Sequence[Answer] | RowError:
        """Return the answers, or why there are none."""
        future: asyncio.Future[Sequence[Answer]] = self._thread.call(partial(self._run, items))
        await asyncio.wait([future])
        error = future.exception()
        if error is not None:
            return RowError(type(error).__name__)
        return future.result() if len(future.result()) == len(items) else RowError("another number of answers")

    async def _one_by_one(self, batch: list[_QueuedRow[Item, Answer]], error: RowError) -> None:
        """Answer the rows of a failed batch apart, so that only the bad one fails."""
        if len(batch) == 1:
            _deliver(batch[0], error)
            return
        for row in batch:
            if row.call.done.done():  # nobody waits for it any more
                continue
            outcome = await self._outcome([row.item])
            self.finished += 1
            _deliver(row, outcome if isinstance(outcome, RowError) else outcome[0])


def _deliver(row: _QueuedRow[Item, Answer], answer: Answer | RowError) -> None:
    call = row.call
    call.answers[row.index] = answer
    call.left -= 1
    if not call.left and not call.done.done():
        call.done.set_result(None)
